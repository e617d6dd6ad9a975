//! CRCs of stretches, put together from those of blocks.

use super::{at, content, open};
use crate::{BLOCK, EntryKey, ReadError};

const LEN: u64 = 5 * BLOCK + 77;

#[test]
fn the_crc_of_a_stretch_is_that_of_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
    entry.append(0, &content(1, 0, LEN)).unwrap();
    for (start, end) in
        [(0, LEN), (0, BLOCK), (2 * BLOCK, 4 * BLOCK), (4 * BLOCK, LEN), (5 * BLOCK, LEN), (0, 0)]
    {
        let bytes = content(1, start, end - start);
        assert_eq!(entry.crc_of(start..end, true).unwrap(), crc32fast::hash(&bytes), "{start}..{end}");
    }
    for (start, end) in [(1, BLOCK), (0, BLOCK - 1), (0, LEN + 1), (5 * BLOCK, 6 * BLOCK)] {
        let crc = entry.crc_of(start..end, true);
        assert!(matches!(crc, Err(ReadError::Absent)), "{start}..{end} is no stretch of blocks");
    }
}

#[test]
fn a_stretch_that_is_not_here_has_no_crc() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
    entry.append(0, &content(1, 0, 2 * BLOCK + 5)).unwrap();
    assert!(entry.crc_of(0..2 * BLOCK, true).is_ok());
    assert!(matches!(entry.crc_of(0..3 * BLOCK, true), Err(ReadError::Absent)));
    entry.drop_block(BLOCK).unwrap();
    assert!(matches!(entry.crc_of(0..2 * BLOCK, true), Err(ReadError::Absent)));
}

#[test]
fn after_a_restart_the_crc_comes_from_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
    entry.append(0, &content(1, 0, LEN)).unwrap();
    store.publish(&entry, EntryKey::from("a"), vec![]).unwrap();
    store.flush().unwrap();
    drop((entry, store));
    let (store, _) = open(dir.path());
    let entry = store.get(&EntryKey::from("a")).unwrap();
    assert!(matches!(entry.crc_of(0..LEN, true), Err(ReadError::WouldBlock)));
    assert_eq!(entry.crc_of(0..LEN, false).unwrap(), crc32fast::hash(&content(1, 0, LEN)));
}
