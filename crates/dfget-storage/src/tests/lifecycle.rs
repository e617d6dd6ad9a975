//! Making, filling, reading, publishing, evicting.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use super::{at, content, open, open_with, options};
use crate::{BLOCK, Entry, EntryKey, ReadError, Store, StoreError, Usage, WriteError};

fn key(name: &str) -> EntryKey {
    EntryKey::from(name)
}

fn create(store: &Store, name: &str, total: Option<u64>) -> Arc<Entry> {
    store.create(key(name), b"meta".to_vec(), total, at(0)).unwrap()
}

/// A published entry of `len` bytes of content `seed`.
fn published(store: &Store, name: &str, seed: u64, len: u64) -> Arc<Entry> {
    let entry = create(store, name, Some(len));
    entry.append(0, &content(seed, 0, len)).unwrap();
    store.publish_at(&entry, key(name), Vec::new(), at(0)).unwrap()
}

fn read_all(entry: &Entry, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        let part = entry.read(at, false).unwrap();
        at += part.len() as u64;
        bytes.extend_from_slice(&part);
    }
    bytes
}

#[test]
fn what_is_appended_is_read_while_it_comes_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let len = 3 * BLOCK + 777;
    let all = content(1, 0, len);
    {
        let (store, _) = open(dir.path());
        let entry = create(&store, "a", None);
        let mut written = 0;
        for part in all.chunks(50_000) {
            entry.append(written, part).unwrap();
            written += part.len() as u64;
            assert_eq!(entry.contiguous_from(0), written);
            assert_eq!(entry.read(written - 1, false).unwrap(), part[part.len() - 1..]);
        }
        assert!(matches!(entry.read(len, false), Err(ReadError::Absent)));
        entry.set_total(len).unwrap();
        let entry = store.publish(&entry, key("a"), b"more".to_vec()).unwrap();
        assert_eq!(read_all(&entry, 0, len), all);
        store.flush().unwrap();
    }
    let (store, report) = open(dir.path());
    assert_eq!((report.complete, report.partial, report.orphans), (1, 0, 0));
    let entry = store.get(&key("a")).unwrap();
    assert!(entry.is_complete());
    assert_eq!(&*entry.meta(), b"more");
    assert_eq!(entry.total(), Some(len));
    assert_eq!(entry.contiguous_from(5), len);
    assert_eq!(entry.gaps(0..len), []);
    assert_eq!(read_all(&entry, 12_345, len), all[12_345..]);
    assert!(matches!(entry.read(len, false), Err(ReadError::Absent)));
}

#[test]
fn a_closed_store_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(options(dir.path()), at(0)).unwrap();
    let entry = create(&store, "a", Some(2 * BLOCK));
    entry.append(BLOCK, &content(1, BLOCK, BLOCK)).unwrap();
    drop(store);
    assert!(matches!(entry.append(0, b"late"), Err(WriteError::Removed)));
    drop(entry);
    let (store, report) = open(dir.path());
    assert_eq!((report.complete, report.partial), (0, 1));
    let entry = store.get(&key("a")).unwrap();
    assert_eq!(entry.gaps(0..2 * BLOCK), std::slice::from_ref(&(0..BLOCK)));
    assert_eq!(read_all(&entry, BLOCK, 2 * BLOCK), content(1, BLOCK, BLOCK));
}

#[test]
fn facts_are_read_once_until_they_are_others() {
    use std::cell::Cell;

    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = create(&store, "a", Some(1));
    let reads = Cell::new(0);
    let facts = || {
        let read = entry.read_meta(|meta| {
            reads.set(reads.get() + 1);
            String::from_utf8(meta.to_vec()).ok()
        });
        read.map(|facts| String::clone(&facts))
    };
    entry.set_meta(b"one".to_vec());
    assert_eq!([facts(), facts(), facts()], ["one"; 3].map(|text| Some(text.to_owned())));
    assert_eq!(reads.get(), 1);
    entry.set_meta(b"two".to_vec());
    assert_eq!([facts(), facts()], ["two"; 2].map(|text| Some(text.to_owned())));
    entry.set_meta(b"two".to_vec());
    assert_eq!((facts().as_deref(), reads.get()), (Some("two"), 3));
    entry.append(0, b"x").unwrap();
    store.publish(&entry, key("b"), b"three".to_vec()).unwrap();
    assert_eq!((facts().as_deref(), facts().as_deref(), reads.get()), (Some("three"), Some("three"), 4));
    assert_eq!(entry.read_meta(|meta| Some(meta.len())).as_deref(), Some(&5), "as another type");
    entry.set_meta(vec![0xff]);
    assert_eq!((facts(), facts()), (None, None), "what cannot be read is never what it was before");
}

#[test]
fn bytes_go_only_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = create(&store, "a", Some(BLOCK + 10));
    assert!(matches!(entry.append(5, b"x"), Err(WriteError::Gap { offset: 5, expected: 0 })));
    entry.append(0, &content(1, 0, 100)).unwrap();
    entry.append(40, &content(1, 40, 100)).unwrap();
    assert_eq!(entry.contiguous_from(0), 140);
    entry.append(0, b"not these again").unwrap();
    assert_eq!(read_all(&entry, 0, 140), content(1, 0, 140));
    let end = BLOCK + 11;
    let beyond = entry.append(BLOCK, &[0; 11]).unwrap_err();
    assert!(matches!(beyond, WriteError::Beyond { end: e, total } if (e, total) == (end, end - 1)));
    let far = entry.append(u64::MAX - 1, &[0; 9]).unwrap_err();
    assert!(matches!(far, WriteError::Beyond { .. }));
    let nowhere = create(&store, "b", None);
    assert!(matches!(nowhere.append(u64::MAX, &[0; 9]), Err(WriteError::Gap { .. })));
}

#[test]
fn the_length_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = create(&store, "a", None);
    entry.append(0, &content(1, 0, 500)).unwrap();
    let short = entry.set_total(499).unwrap_err();
    assert!(matches!(short, StoreError::Total { known: 500, asked: 499, .. }));
    let early = store.publish(&entry, key("a"), Vec::new()).unwrap_err();
    assert!(matches!(early, StoreError::Incomplete { present: 500, total: None, .. }));
    entry.set_total(500).unwrap();
    entry.set_total(500).unwrap();
    assert!(matches!(entry.set_total(501), Err(StoreError::Total { known: 500, .. })));
    store.publish(&entry, key("a"), Vec::new()).unwrap();
}

#[test]
fn an_empty_content_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        published(&store, "empty", 1, 0);
        store.flush().unwrap();
    }
    let (store, _) = open(dir.path());
    let entry = store.get(&key("empty")).unwrap();
    assert!(entry.is_complete());
    assert_eq!(entry.contiguous_from(0), 0);
    assert!(matches!(entry.read(0, false), Err(ReadError::Absent)));
}

#[test]
fn the_first_of_two_publishers_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let both = Barrier::new(2);
    let published: Vec<_> = thread::scope(|scope| {
        let publishers = [1, 2].map(|n| {
            let (store, both) = (store.clone(), &both);
            scope.spawn(move || {
                let own = create(&store, &format!("attempt {n}"), Some(10));
                own.append(0, &content(n, 0, 10)).unwrap();
                both.wait();
                let winner = store.publish(&own, key("blob"), Vec::new()).unwrap();
                (own, winner)
            })
        });
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    let winner = store.get(&key("blob")).unwrap();
    assert!(published.iter().all(|(_, won)| Arc::ptr_eq(won, &winner)));
    let losers: Vec<_> = published.iter().filter(|(own, _)| !Arc::ptr_eq(own, &winner)).collect();
    assert_eq!(losers.len(), 1);
    assert!(losers[0].0.is_removed());
    assert_eq!(losers[0].0.read(0, false).unwrap().len(), 10, "its readers read on");
    assert_eq!(store.usage().entries, 1);
}

#[test]
fn a_published_entry_takes_the_place_of_a_partial_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let partial = create(&store, "blob", Some(10));
    let whole = create(&store, "attempt", Some(10));
    whole.append(0, &[7; 10]).unwrap();
    let winner = store.publish(&whole, key("blob"), Vec::new()).unwrap();
    assert!(Arc::ptr_eq(&winner, &whole));
    assert!(matches!(partial.append(0, b"x"), Err(WriteError::Removed)));
    assert!(store.get(&key("attempt")).is_none());
    let again = store.publish(&partial, key("other"), Vec::new()).unwrap_err();
    assert!(matches!(again, StoreError::Removed { .. }));
}

#[test]
fn an_entry_on_its_way_out_gets_no_name_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = create(&store, "attempt", Some(10));
    entry.append(0, &[7; 10]).unwrap();
    // a removal that has not come to the file and the index yet
    assert!(store.shared().take_out(&entry));
    let late = store.publish(&entry, key("blob"), Vec::new()).unwrap_err();
    assert!(matches!(late, StoreError::Removed { .. }));
    assert!(store.get(&key("blob")).is_none());
    assert!(!store.shared().take_out(&entry), "it leaves once");
    store.shared().forget(&entry, true);
    assert_eq!(entry.read(0, false).unwrap(), [7; 10].as_slice());
}

#[test]
fn removal_and_publication_at_once_leave_no_removed_entry_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for _ in 0..200 {
        let entry = create(&store, "attempt", Some(10));
        entry.append(0, &[7; 10]).unwrap();
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                store.remove(&entry);
            });
            both.wait();
            let published = store.publish(&entry, key("blob"), Vec::new());
            assert!(matches!(published, Ok(_) | Err(StoreError::Removed { .. })));
        });
        assert!(entry.is_removed());
        assert!(store.get(&key("blob")).is_none() && store.get(&key("attempt")).is_none());
    }
}

#[test]
fn a_reader_reads_on_after_replacement_and_removal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        published(&store, "a", 1, BLOCK + 5);
        store.flush().unwrap();
    }
    // opened again, so that neither the file nor the blocks are at hand yet
    let (store, _) = open(dir.path());
    let first = store.get(&key("a")).unwrap();
    let second = published(&store, "a", 2, 20);
    assert!(store.get(&key("a")).is_some_and(|now| Arc::ptr_eq(&now, &second)));
    store.remove(&second);
    assert!(store.get(&key("a")).is_none());
    store.flush().unwrap();
    assert_eq!(read_all(&first, 0, BLOCK + 5), content(1, 0, BLOCK + 5));
    assert_eq!(read_all(&second, 0, 20), content(2, 0, 20));
    assert_eq!(store.usage(), Usage::default());
    drop((first, second, store));
    let (_, report) = open(dir.path());
    assert_eq!((report.complete, report.orphans, report.lost), (0, 0, 0));
}

#[test]
fn a_sweep_evicts_what_was_not_used_for_longest() {
    let dir = tempfile::tempdir().unwrap();
    let quota_bytes = Some(5 * BLOCK / 2);
    let store = open_with(crate::Options { quota_bytes, ..options(dir.path()) });
    let entries = ["a", "b", "c", "d"].map(|name| published(&store, name, 1, BLOCK));
    for (seconds, i) in [(1, 2), (2, 0), (3, 1), (4, 3)] {
        store.touch(&entries[i], at(seconds));
    }
    let pin = entries[2].pin();
    let report = store.sweep(at(10));
    let evicted: Vec<_> = report.evicted.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(evicted, ["a", "b"], "c is pinned");
    assert_eq!(report.over_quota_bytes, 0);
    assert_eq!(read_all(&entries[0], 0, BLOCK), content(1, 0, BLOCK), "its reader reads on");
    drop(pin);
    assert_eq!(store.sweep(at(10)).evicted, []);
    assert_eq!(store.usage(), Usage { bytes: 2 * BLOCK, entries: 2 });
}

#[test]
fn a_content_is_as_old_as_the_end_of_its_download() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(crate::Options { expire: Some(Duration::from_secs(100)), ..options(dir.path()) });
    let slow = create(&store, "slow", Some(10));
    let pin = slow.pin();
    slow.append(0, &[1; 10]).unwrap();
    store.publish_at(&slow, key("slow"), Vec::new(), at(1_200)).unwrap();
    drop(pin);
    assert_eq!(slow.accessed(), at(1_200));
    assert_eq!(store.sweep(at(1_299)).evicted, []);
    assert_eq!(store.sweep(at(1_300)).evicted.len(), 1);
}

#[test]
fn an_expired_entry_leaves_and_a_touched_one_stays_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::Options { expire: Some(Duration::from_secs(100)), ..options(dir.path()) };
    {
        let store = open_with(options.clone());
        published(&store, "old", 1, 10);
        let used = published(&store, "used", 1, 10);
        store.touch(&used, at(60));
        store.flush().unwrap();
    }
    let (store, _) = Store::open_quiet(options, at(99)).unwrap();
    assert_eq!(store.sweep(at(99)).evicted.len(), 0);
    let report = store.sweep(at(100));
    assert_eq!(report.evicted.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["old"]);
    assert!(store.get(&key("used")).is_some());
    assert_eq!(store.sweep(at(160)).evicted.len(), 1);
}

#[test]
fn idle_entries_hold_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(options(dir.path()), at(0)).unwrap();
    for n in 0..200 {
        published(&store, &n.to_string(), n, 10);
    }
    let held = store.get(&key("7")).unwrap();
    drop(store);
    let (store, _) = Store::open_quiet(options(dir.path()), at(0)).unwrap();
    for n in 0..200 {
        store.get(&key(&n.to_string())).unwrap().read(0, false).unwrap();
    }
    let shared = store.shared();
    assert!(shared.files.open_count() >= 200);
    shared.rest_idle();
    assert_eq!(shared.files.open_count(), 0);
    let entry = store.get(&key("9")).unwrap();
    assert!(matches!(entry.read(0, true), Err(ReadError::WouldBlock)));
    assert_eq!(entry.read(0, false).unwrap(), content(9, 0, 10));
    assert_eq!(entry.read(0, true).unwrap(), content(9, 0, 10));
    drop(held);
}

#[test]
fn many_entries_open_without_their_blocks() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        for n in 0..2_000 {
            create(&store, &n.to_string(), Some(1));
        }
        store.flush().unwrap();
    }
    let (store, report) = open(dir.path());
    assert_eq!(report.partial, 2_000);
    assert_eq!(store.shared().files.open_count(), 0);
    assert_eq!(store.entries().len(), 2_000);
}

#[test]
fn several_threads_fill_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(options(dir.path()), at(0)).unwrap();
    let len = 40 * BLOCK + 99;
    let entry = create(&store, "a", Some(len));
    let all = content(5, 0, len);
    thread::scope(|scope| {
        for start in 0..4 {
            let (entry, all) = (&entry, &all);
            scope.spawn(move || {
                // each starts elsewhere and all write everything, so they meet in many blocks
                let blocks = all.chunks(BLOCK as usize).enumerate();
                for (n, block) in blocks.cycle().skip(start * 10).take(41) {
                    for (i, part) in block.chunks(30_000).enumerate() {
                        entry.append(n as u64 * BLOCK + i as u64 * 30_000, part).unwrap();
                    }
                }
            });
        }
    });
    let entry = store.publish(&entry, key("b"), Vec::new()).unwrap();
    assert_eq!(read_all(&entry, 0, len), all);
}

#[test]
fn uses_are_counted_over_restarts_and_begin_anew_with_a_new_entry() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        let entry = published(&store, "a", 1, 10);
        assert_eq!(entry.uses(), 0);
        store.touch(&entry, at(1));
        store.touch(&entry, at(1));
        store.flush().unwrap();
        store.touch(&entry, at(1));
        store.flush().unwrap();
    }
    let (store, _) = open(dir.path());
    let entry = store.get(&key("a")).unwrap();
    assert_eq!(entry.uses(), 3);
    store.remove(&entry);
    assert_eq!(published(&store, "a", 1, 10).uses(), 0);
}

#[test]
fn a_store_shrinks_by_hand_as_it_would_by_itself_and_tells_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entries: Vec<_> = (0..4).map(|i| published(&store, &i.to_string(), i, 8 * BLOCK)).collect();
    for (i, seconds) in [(0, 10), (1, 30), (2, 20), (3, 40)] {
        store.touch(&entries[i], at(seconds));
    }
    let one = entries[0].allocated_bytes();
    let names = |report: &crate::SweepReport| {
        report.evicted.iter().map(|gone| gone.key.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&store.shrink(None, false, at(50))), "", "there is no limit");
    let told = store.shrink(Some(2 * one), true, at(50));
    assert_eq!((names(&told).as_str(), told.over_quota_bytes, store.usage().entries), ("0 2", 0, 4));
    assert_eq!(store.shrink(Some(2 * one), false, at(50)), told);
    assert_eq!(store.usage().entries, 2);
    let rest = store.shrink(Some(0), false, at(50));
    assert_eq!((names(&rest).as_str(), rest.over_quota_bytes), ("1", one), "the image used last stays");
}

#[test]
fn what_is_being_written_is_not_removed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = create(&store, "a", Some(10));
    let pin = entry.pin();
    assert!(!store.remove_idle(&entry) && store.get(&key("a")).is_some());
    drop(pin);
    assert!(store.remove_idle(&entry) && store.get(&key("a")).is_none());
    assert!(!store.remove_idle(&entry), "once is enough");
}
