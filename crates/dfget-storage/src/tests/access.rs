//! The secret and the remembered permissions.

use std::time::Duration;

use super::{at, open};

#[test]
fn the_secret_is_random_and_stays() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = *open(one.path()).0.secret();
    assert_ne!(secret, *open(other.path()).0.secret());
    assert_eq!(secret, *open(one.path()).0.secret());
    assert_ne!(secret, [0; 32]);
    let (store, _) = open(one.path());
    let shown = format!("{store:?} {:?}", store.shared());
    assert!(!shown.contains(&format!("{secret:?}")));
}

#[test]
fn permissions_are_remembered_over_a_restart_and_age() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        store.grant([1; 32], at(100));
        store.grant([2; 32], at(200));
        store.grant([3; 32], at(300));
        store.flush().unwrap();
        store.revoke(&[3; 32]);
        assert_eq!(store.granted(&[3; 32]), None);
        store.flush().unwrap();
        store.grant([4; 32], at(200));
    }
    let (store, _) = open(dir.path());
    assert_eq!(store.granted(&[1; 32]), Some(at(100)));
    assert_eq!(store.granted(&[3; 32]), None);
    assert_eq!(store.granted(&[4; 32]), None, "not flushed before the crash");
    store.prune_grants(at(250), Duration::from_secs(149));
    assert_eq!(store.granted(&[1; 32]), None);
    assert_eq!(store.granted(&[2; 32]), Some(at(200)));
    store.flush().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.granted(&[1; 32]), None);
    store.prune_grants(at(199), Duration::from_secs(1_000));
    assert_eq!(store.granted(&[2; 32]), None, "from the future: its age is unknown");
}

#[test]
fn permissions_are_bounded_and_the_oldest_leave() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = |n: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        id
    };
    for n in 0..70_000 {
        store.grant(id(n), at(n));
    }
    store.prune_grants(at(70_000), Duration::from_secs(100_000));
    assert_eq!(store.granted(&id(70_000 - 65_536 - 1)), None);
    assert!(store.granted(&id(70_000 - 65_536)).is_some());
    assert!(store.granted(&id(69_999)).is_some());
}
