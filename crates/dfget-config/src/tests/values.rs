//! Values that have an effect, as the file writes them and as the daemon sees them.

use std::num::NonZeroU64;
use std::time::Duration;

use dfget_core::{RateLimits, Share};

use super::{GOOD, good_and, load_text};
use crate::{Config, LogFiles, PemSource};

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

#[test]
fn a_broken_download_goes_on_as_the_file_says() {
    let concurrent = config("download: {concurrent: {initBackoff: 0.5, maxBackoff: 3, maxAttempts: 0}}");
    let concurrent = concurrent.download.concurrent;
    let backoff = (concurrent.init_backoff, concurrent.max_backoff);
    assert_eq!(backoff, (Duration::from_millis(500), Duration::from_secs(3)));
    assert_eq!(concurrent.max_attempts, 1, "the first try is one");
    assert_eq!(
        good_and("download: {concurrent: {initBackoff: -1}}"),
        ["3:38: download.concurrent.initBackoff: no wait that is meant (got `-1`); \
          write seconds, from 0 to 3600, for example `initBackoff: 0.5`"]
    );
}

#[test]
fn log_files_are_bound_as_the_file_says_and_zero_is_no_bound() {
    let files = config("logMaxSize: 10\nlogMaxAge: 1\nlogMaxBackups: 2\n").log_files;
    let day = Some(Duration::from_secs(24 * 60 * 60));
    assert_eq!(files, LogFiles { max_bytes: 10 << 20, max_age: day, max_backups: Some(2) });
    let files = config("logMaxAge: 0\nlogMaxBackups: 0\n").log_files;
    assert_eq!((files.max_age, files.max_backups), (None, None));
    let said = good_and("logMaxSize: 0");
    assert!(said.len() == 1 && said[0].contains("out of range, 1 to"), "{said:?}");
}

#[test]
fn the_mode_of_the_store_is_octal_and_lets_nobody_else_write() {
    assert_eq!(config("dataDirMode: 0700").data_dir_mode, 0o700);
    assert_eq!(config("dataDirMode: 448").data_dir_mode, 0o700);
    assert_eq!(
        good_and("dataDirMode: '0755'"),
        ["3:14: dataDirMode: others see the names of files in `dataDir`, not the blobs (got `0755`); \
          write `dataDirMode: 0700` unless they are meant to"]
    );
    for wrong in ["0775", "0600", "0o722"] {
        let said = good_and(&format!("dataDirMode: {wrong}"));
        assert!(said.len() == 1 && said[0].contains("who can swap a file there"), "{said:?}");
    }
    for wrong in ["755", "0798", "rwx", "01777"] {
        let said = good_and(&format!("dataDirMode: {wrong}"));
        assert!(said.len() == 1 && said[0].contains("no mode of a directory"), "{said:?}");
    }
}

#[test]
fn both_names_of_the_layout_are_taken_and_a_dot_too_many_is_said() {
    config("storage: {strategy: io.d7y.storage.v2.advance}");
    assert_eq!(
        good_and("storage: {strategy: io.d7y.storage.v2.simple.}"),
        ["3:21: storage.strategy: a dot too many, taken for `io.d7y.storage.v2.simple`; \
          write `strategy: io.d7y.storage.v2.simple`"]
    );
    let said = good_and("storage: {strategy: fast}");
    assert!(said.len() == 1 && said[0].contains("there is no such layout"), "{said:?}");
}

#[test]
fn switches_of_this_node_are_read() {
    let config = config("network: {enableIPv6: true}\nproxy: {dumpHTTPContent: true, defaultPriority: 3}\n");
    assert!(config.prefer_ipv6 && config.proxy.dump_headers);
    assert_eq!(config.proxy.default_priority, 3);
}

#[test]
fn the_port_speaks_tls_where_a_pair_is_named() {
    let tls = |lines: &str| config(&format!("security: {{{lines}}}")).proxy.tls;
    assert_eq!(tls(""), None);
    assert_eq!(tls("insecure: true"), None);
    assert_eq!(tls("insecure: true, cert: '', tlsVerify: false"), None);
    let pair = tls("cert: ca.crt, key: ca.key").unwrap();
    assert_eq!(pair.key, PemSource::File("/etc/dragonfly/ca.key".into()));
    assert_eq!(pair.clients, None);
    let both = tls("insecure: false, cert: ca.crt, key: ca.key, caCert: here.crt, tlsVerify: true").unwrap();
    assert_eq!(both.clients, Some(PemSource::File("/site/here.crt".into())));
}

#[test]
fn tls_that_cannot_work_or_does_nothing_is_said() {
    let said = |lines: &str| good_and(&format!("security: {{{lines}}}"));
    assert_eq!(
        said("insecure: false, cert: ca.crt"),
        ["3:1: security.key: the key is missing; add `key: /etc/dragonfly/proxy.pem`"]
    );
    assert_eq!(
        said("cert: ca.crt, key: ca.key, tlsVerify: true"),
        ["3:1: security.caCert: the key is missing; add `caCert: /etc/dragonfly/clients.pem`"]
    );
    let unused = "the proxy's port speaks plain HTTP, so it has no effect";
    assert!(said("insecure: true, cert: ca.crt, key: ca.key")[0].contains(unused));
    assert!(said("cert: ca.crt, key: ca.key, caCert: here.crt")[0].contains("no client is asked"));
    let guarded = "tcpListen: {listen: 0.0.0.0}\nbasicAuth: {username: u, password: p}\n";
    let lines = format!("{guarded}security: {{cert: ca.crt, key: ca.key}}");
    assert_eq!(good_and(&lines), [""; 0], "the password is not readable on the network");
}
