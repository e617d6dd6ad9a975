//! Bits that change on disk.

use std::{
    fs::{OpenOptions, remove_file},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use super::{at, content, open};
use crate::{BLOCK, Entry, EntryKey, ReadError, RepairError, Store};

const LEN: u64 = 20 * BLOCK + 4_321;

/// A published entry of content 1, and the path of its file.
fn published(store: &Store) -> (Arc<Entry>, PathBuf) {
    let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
    entry.append(0, &content(1, 0, LEN)).unwrap();
    let entry = store.publish(&entry, EntryKey::from("a"), vec![]).unwrap();
    let path = store.shared().files.path(entry.id);
    (entry, path)
}

/// Flips one bit of the file.
fn flip(path: &PathBuf, offset: u64, bit: u32) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
}

fn block_of(offset: u64) -> std::ops::Range<u64> {
    let start = offset / BLOCK * BLOCK;
    start..LEN.min(start + BLOCK)
}

#[test]
fn each_flipped_bit_is_noticed_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        published(&store);
        store.flush().unwrap();
    }
    let (store, _) = open(dir.path());
    let entry = store.get(&EntryKey::from("a")).unwrap();
    let path = store.shared().files.path(entry.id);
    for n in 0..200_u64 {
        let offset = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LEN;
        flip(&path, offset, (n % 8) as u32);
        let block = block_of(offset);
        // asked for at its start, at its end, and from memory
        for (from, nowait) in [(block.start, false), (block.end - 1, false), (offset, true)] {
            match entry.read(from, nowait) {
                Err(ReadError::Rotten { block: told }) => assert_eq!(told, block),
                other => panic!("bit {n} at {offset}: {other:?}"),
            }
        }
        let mut wrong = content(1, block.start, block.end - block.start);
        wrong[0] ^= 1;
        let refused = entry.repair(block.start, &wrong);
        assert!(matches!(refused, Err(RepairError::Mismatch { .. })), "{refused:?}");
        wrong[0] ^= 1;
        entry.repair(block.start, &wrong).unwrap();
        assert_eq!(entry.read(offset, false).unwrap()[0], content(1, offset, 1)[0]);
    }
    assert!(matches!(entry.repair(7, &[0]), Err(RepairError::NoBlock { block_start: 7 })));
    assert!(matches!(entry.drop_block(0), Err(RepairError::Complete)));
}

#[test]
fn a_file_cut_short_is_rotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (entry, path) = published(&store);
    OpenOptions::new().write(true).open(path).unwrap().set_len(3 * BLOCK + 5).unwrap();
    assert_eq!(entry.read(0, false).unwrap(), content(1, 0, BLOCK));
    for (from, nowait) in [(3 * BLOCK, false), (10 * BLOCK, false)] {
        let rotten = entry.read(from, nowait).unwrap_err();
        assert!(matches!(rotten, ReadError::Rotten { block } if block == block_of(from)));
    }
    assert!(entry.read(10 * BLOCK, true).is_err(), "from memory neither");
}

#[test]
fn a_deleted_file_is_a_lasting_error() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        published(&store);
        store.flush().unwrap();
    }
    let (store, _) = open(dir.path());
    let entry = store.get(&EntryKey::from("a")).unwrap();
    remove_file(store.shared().files.path(entry.id)).unwrap();
    let gone = entry.read(0, false).unwrap_err();
    assert!(gone.is_lasting(), "{gone}");
}

#[test]
fn a_rotten_block_of_a_partial_entry_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
        entry.append(0, &content(1, 0, 3 * BLOCK)).unwrap();
        store.flush().unwrap();
        flip(&store.shared().files.path(entry.id), BLOCK + 9, 3);
        assert!(matches!(entry.read(BLOCK, false), Err(ReadError::Rotten { .. })));
        entry.drop_block(BLOCK).unwrap();
        assert!(matches!(entry.drop_block(BLOCK), Err(RepairError::NoBlock { .. })));
        store.flush().unwrap();
    }
    let (store, _) = open(dir.path());
    let entry = store.get(&EntryKey::from("a")).unwrap();
    assert_eq!(entry.gaps(0..3 * BLOCK), std::slice::from_ref(&(BLOCK..2 * BLOCK)));
    assert!(matches!(entry.read(BLOCK, false), Err(ReadError::Absent)));
    entry.append(BLOCK, &content(1, BLOCK, BLOCK)).unwrap();
    assert_eq!(entry.contiguous_from(0), 3 * BLOCK);
    assert_eq!(entry.read(BLOCK, false).unwrap(), content(1, BLOCK, BLOCK));
}
