//! When one stream is not enough: a large content that comes slowly is fetched by several ranges.
//!
//! Many origins bound what one connection gets; several then bring several times as much. It is
//! decided while the first stream runs, from what that shows, so short and fast contents cost the
//! origin one request as before. Pure: figures in, boundaries out.

use std::time::Duration;

use dfget_storage::BLOCK;

/// How a content may be split (`download.concurrent`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SplitOptions {
    /// Streams of one content at most, the first included (`goroutineCount`); 1 = never split.
    pub most: usize,
    /// What is still to come must be at least so many bytes (`thresholdSize`).
    pub least_bytes: u64,
    /// The first stream must be slower than this, in bytes a second (`thresholdSpeed`).
    pub below_speed: u64,
}

/// What the only stream of a content has done so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Where it began.
    pub(crate) start: u64,
    /// Its next byte.
    pub(crate) position: u64,
    /// Where it will end.
    pub(crate) end: u64,
    /// How long it has run.
    pub(crate) elapsed: Duration,
}

/// A stream shows its speed only after a while.
const AFTER: Duration = Duration::from_millis(500);

/// What would be done by then is not worth further requests.
const WORTH: Duration = Duration::from_secs(1);

/// A part is not shorter than this.
const LEAST_PART: u64 = 4 << 20;

impl Default for SplitOptions {
    fn default() -> Self {
        Self { most: 4, least_bytes: 16 << 20, below_speed: 100 << 20 }
    }
}

/// Where to cut what is still to come: each boundary begins a further stream, and the first one
/// ends the running stream. Empty: it goes on alone.
pub(crate) fn boundaries(options: &SplitOptions, progress: &Progress) -> Vec<u64> {
    let Progress { start, position, end, elapsed } = *progress;
    let left = end.saturating_sub(position);
    let done = u128::from(position.saturating_sub(start));
    let millis = elapsed.as_millis().max(1);
    let speed = u64::try_from(done * 1000 / millis).unwrap_or(u64::MAX).max(1);
    let worth = u128::from(left) * 1000 / u128::from(speed) >= WORTH.as_millis();
    if elapsed < AFTER || left < options.least_bytes || speed >= options.below_speed || !worth {
        return Vec::new();
    }
    let parts = (options.most as u64).min(left / LEAST_PART).max(1);
    let boundary = |part: u64| (position + left / parts * part).next_multiple_of(BLOCK);
    (1..parts).map(boundary).filter(|&boundary| boundary < end).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn cut(position: u64, end: u64, millis: u64) -> Vec<u64> {
        let progress = Progress { start: 0, position, end, elapsed: Duration::from_millis(millis) };
        boundaries(&SplitOptions::default(), &progress)
    }

    #[test]
    fn a_slow_stream_of_a_large_content_is_split_once_it_has_shown_its_speed() {
        assert_eq!(cut(16 * MIB, 256 * MIB, 500), [76 * MIB, 136 * MIB, 196 * MIB]);
        assert!(cut(16 * MIB, 256 * MIB, 499).is_empty(), "too early");
        assert!(cut(60 * MIB, 256 * MIB, 500).is_empty(), "fast enough");
        assert!(cut(40 * MIB, 72 * MIB, 500).is_empty(), "done in a moment");
        assert!(cut(MIB, 16 * MIB, 5000).is_empty(), "short");
        assert_eq!(cut(0, 16 * MIB, 60_000), [4 * MIB, 8 * MIB, 12 * MIB], "nothing has come yet");
    }

    proptest! {
        #[test]
        fn boundaries_lie_in_order_within_what_is_left(
            start in 0..1000 * MIB, done in 0..1000 * MIB, left in 0..5000 * MIB, millis in 0..100_000_u64, most in 1..9_usize,
        ) {
            let options = SplitOptions { most, ..SplitOptions::default() };
            let (position, end) = (start + done, start + done + left);
            let progress = Progress { start, position, end, elapsed: Duration::from_millis(millis) };
            let cuts = boundaries(&options, &progress);
            prop_assert!(cuts.len() < most);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(cuts.iter().all(|&cut| cut > position && cut < end && cut % BLOCK == 0));
        }
    }
}
