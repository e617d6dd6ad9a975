//! Values that have an effect, as the file writes them and as the daemon sees them.

use std::num::NonZeroU64;

use dfget_core::{RateLimits, Share};

use super::{GOOD, good_and, load_text};
use crate::Config;

/// What [`GOOD`] and these lines make, nothing being said about it.
fn config(lines: &str) -> Config {
    let loaded = load_text(format!("{GOOD}{lines}")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

#[test]
fn rates_limit_all_downloads_or_each_and_none_is_no_limit() {
    let limits = |lines: &str| config(&format!("download: {{{lines}}}")).download.rate_limits;
    assert_eq!(limits(""), RateLimits::default());
    assert_eq!(limits("totalRateLimit: 0, trafficShaperType: plain"), RateLimits::default());
    let expected = RateLimits {
        total: NonZeroU64::new(100 << 20),
        per_task: NonZeroU64::new(5 << 20),
        share: Share::Need,
    };
    assert_eq!(
        limits("totalRateLimit: 100M, perTaskRateLimit: 5242880, trafficShaperType: sampling"),
        expected
    );
}

#[test]
fn rates_that_cannot_be_meant_are_said() {
    assert_eq!(
        good_and("download: {totalRateLimit: 100}"),
        [
            "3:28: download.totalRateLimit: so little that a pull takes very long, in bytes a second (got `100`); \
          write the unit, for example `totalRateLimit: 100Mi`"
        ]
    );
    assert_eq!(
        good_and("download: {trafficShaperType: fair}"),
        ["3:31: download.trafficShaperType: there is no such way to share a rate (got `fair`); \
          write `plain` or `sampling`, for example `trafficShaperType: sampling`"]
    );
    let peers = good_and("download: {perPeerRateLimit: 512Mi}");
    assert!(peers.len() == 1 && peers[0].contains("write `perTaskRateLimit`"), "{peers:?}");
}
