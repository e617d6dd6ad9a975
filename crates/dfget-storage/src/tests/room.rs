use std::{sync::Barrier, thread};

use super::*;
use crate::{
    Options, Store,
    tests::{at, open, open_with, options},
    time::to_unix,
};

/// A published entry that takes `len` bytes on disk, last used at second `used`.
fn published(store: &Store, name: &str, len: usize, used: u64) -> Arc<Entry> {
    let entry = store.create(EntryKey::from(name), vec![], Some(len as u64), at(used)).unwrap();
    entry.append(0, &vec![1; len]).unwrap();
    store.publish_at(&entry, EntryKey::from(name), vec![], at(used)).unwrap()
}

fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = store.entries().iter().map(|entry| entry.key().to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn two_writers_on_a_full_disk_evict_once_and_both_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    // more than one eviction takes, so that a second one would be seen
    let _entries: Vec<_> = (0..9).map(|n| published(&store, &n.to_string(), 16 << 20, n)).collect();
    let writers = ["a", "b"].map(|name| store.create(EntryKey::from(name), vec![], None, at(20)).unwrap());
    let both_failed = Barrier::new(2);
    thread::scope(|scope| {
        for writer in &writers {
            let (store, both_failed) = (&store, &both_failed);
            scope.spawn(move || {
                let _pin = writer.pin();
                let mut calls = 0;
                let done = store.shared().write_with_room(writer, 1, || {
                    calls += 1;
                    let full = names(store).contains(&"3".to_owned());
                    if calls == 1 {
                        assert!(full);
                        both_failed.wait();
                    }
                    if full { Err(Errno::NOSPC) } else { Ok(()) }
                });
                assert_eq!(done, Ok(()));
            });
        }
    });
    assert_eq!(names(&store), ["4", "5", "6", "7", "8", "a", "b"]);
}

#[test]
fn other_errors_cost_nobody_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    published(&store, "old", 10, 0);
    let writer = store.create(EntryKey::from("new"), vec![], None, at(1)).unwrap();
    for error in [Errno::IO, Errno::FBIG] {
        let mut calls = 0;
        let failed = store.shared().write_with_room(&writer, 1, || {
            calls += 1;
            Err(error)
        });
        assert_eq!((failed, calls), (Err(error), 1));
    }
    assert_eq!(names(&store), ["new", "old"]);
}

#[test]
fn a_quota_of_the_user_costs_one_writer_three_quarters_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in 0..8 {
        published(&store, &n.to_string(), 2 << 20, n);
    }
    let writer = store.create(EntryKey::from("new"), vec![], Some(1 << 40), at(20));
    let writer = writer.or_else(|_| store.create(EntryKey::from("new"), vec![], None, at(20))).unwrap();
    let _pin = writer.pin();
    // makes it an image, so that it is the last one
    writer.append(0, &vec![1; 1 << 20]).unwrap();
    for _ in 0..5 {
        let failed = store.shared().write_with_room(&writer, 1, || Err(Errno::DQUOT));
        assert_eq!(failed, Err(Errno::DQUOT));
        assert_eq!(names(&store), ["6", "7", "new"]);
    }
}

#[test]
fn what_can_never_fit_is_refused_before_anything_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in 0..4 {
        published(&store, &n.to_string(), 2 << 20, n);
    }
    let shared = store.shared();
    let held = store.usage().bytes;
    let (total, free) = (10 << 20, 1 << 20);
    let refused = shared.check_room(total, 9, Some(free)).unwrap_err();
    let StoreError::TooLarge { total: told, room } = refused else { panic!("{refused}") };
    assert_eq!((told, room), (total, free + held / 4 * 3));
    assert!(shared.check_room(room, 9, Some(free)).is_ok());
    assert!(shared.check_room(total, 9, Some(total)).is_ok());
    assert!(shared.check_room(u64::MAX, 9, None).is_ok(), "nobody knows");
    assert_eq!(names(&store).len(), 4);
}

#[test]
fn what_is_larger_than_the_quota_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(Options { quota_bytes: Some(1_000), ..options(dir.path()) });
    let create = |total| store.create(EntryKey::from("a"), vec![], Some(total), at(0));
    let partial = create(1_000).unwrap();
    let refused = create(1_001).unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { total: 1_001, room: 1_000 }), "{refused}");
    assert!(refused.to_string().contains("`diskGCThreshold`"), "{refused}");
    assert!(!partial.is_removed(), "the older one stays");
}

#[test]
fn bytes_that_readers_still_hold_count_as_freed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(Options { disk_percent: Some(50), ..options(dir.path()) });
    let mut entries: Vec<_> = (0..8).map(|n| published(&store, &n.to_string(), 2 << 20, n)).collect();
    let one = entries[0].allocated_bytes();
    // too full by the bytes of one entry, and it stays so while that one is read
    let disk = Disk { total: 100 * one, free: 49 * one };
    let sweep = |now| store.shared().sweep(Some(disk), to_unix(at(now))).len();
    assert_eq!(sweep(100), 1);
    assert_eq!((sweep(160), sweep(220)), (0, 0));
    assert!(entries[0].is_removed());
    entries.remove(0);
    assert_eq!(sweep(280), 1, "its reader has left, and the disk is as full as before");
}

#[test]
fn with_nothing_to_evict_there_is_no_third_try() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let writer = store.create(EntryKey::from("a"), vec![], None, at(0)).unwrap();
    let _pin = writer.pin();
    let mut calls = 0;
    let failed = store.shared().write_with_room(&writer, 1, || {
        calls += 1;
        Err(Errno::NOSPC)
    });
    assert_eq!((failed, calls), (Err(Errno::NOSPC), 2));
}
