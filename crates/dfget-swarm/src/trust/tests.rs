use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::words::HostInfo;

fn parent(peer: &str, complete: bool) -> Parent {
    let host = HostInfo {
        id: "host".into(),
        hostname: "host".to_owned(),
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 65000,
        idc: String::new(),
        location: String::new(),
        uplink: 0,
        keyed: true,
        disable_shared: false,
    };
    Parent { peer: peer.into(), host: Arc::new(host), complete }
}

#[test]
fn everything_is_taken_until_something_was_wrong() {
    let trust = Trust::default();
    assert_eq!(trust.of(&parent("a", false)), Take::Pieces);
    assert_eq!(trust.of(&parent("a", true)), Take::Pieces);
    assert!(trust.takes_round(0) && !trust.wants_proof());
}

#[test]
fn what_may_still_be_wrong_does_not_come_back() {
    let mut trust = Trust::default();
    assert!(!trust.meet(&parent("a", false)));
    trust.begin_anew(false);
    assert_eq!(trust.of(&parent("a", false)), Take::Nothing, "it is the very peer that was asked before");
    assert_eq!(trust.of(&parent("b", false)), Take::Pieces, "it has begun anew as well, or says so");
    assert_eq!(trust.of(&parent("a", true)), Take::AfterHashes);
    assert!(!trust.takes_round(0) && trust.takes_round(1) && trust.takes_round(2));
    assert!(!trust.meet(&parent("b", false)) && trust.meet(&parent("c", false)));
    trust.begin_anew(false);
    assert_eq!(trust.of(&parent("c", false)), Take::Nothing);
    assert!(!trust.takes_round(1), "its neighbour may have been fed in the round before");
}

#[test]
fn hashes_that_are_believed_open_the_door_again_until_they_are_not() {
    let mut trust = Trust::default();
    trust.begin_anew(false);
    trust.begin_anew(true);
    assert_eq!(trust.of(&parent("a", true)), Take::Pieces);
    assert!(trust.takes_round(1) && !trust.takes_round(0));
    trust.believe(false);
    assert_eq!(trust.of(&parent("a", true)), Take::AfterHashes);
    assert!(!trust.takes_round(1));
}

#[test]
fn in_the_end_nothing_is_taken_without_proof_and_it_is_not_waited_for_without_end() {
    let mut trust = Trust::default();
    for _ in 0..=MOST_ROUNDS {
        assert!(!trust.wants_proof());
        trust.begin_anew(false);
    }
    assert!(trust.wants_proof() && !trust.takes_round(9));
    assert_eq!(trust.of(&parent("a", false)), Take::Nothing);
    assert_eq!(trust.of(&parent("a", true)), Take::AfterHashes);
    let wait = |seconds, chance| trust.patience(Duration::from_secs(seconds), chance).as_secs();
    assert_eq!([wait(1, 0.0), wait(60, 0.0), wait(60, 0.5), wait(60, 7.0)], [10, 60, 120, 180]);
    assert_eq!(wait(1 << 40, 1.0), 900);
    trust.believe(true);
    assert!(!trust.wants_proof() && trust.takes_round(1));
}
