//! What may be sent without being read, and what comes out of the socket then.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read},
    os::{
        fd::AsFd,
        unix::{fs::FileExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{at, content, open};
use crate::{BLOCK, Entry, EntryKey};

const LEN: u64 = 3 * BLOCK + 100;

/// A complete entry.
fn stored(dir: &Path) -> (crate::Store, Arc<Entry>) {
    let (store, _) = open(dir);
    let entry = store.create(EntryKey::from("a"), vec![], Some(LEN), at(0)).unwrap();
    entry.append(0, &content(1, 0, LEN)).unwrap();
    store.publish(&entry, EntryKey::from("a"), vec![]).unwrap();
    (store, entry)
}

fn data_file(dir: &Path) -> PathBuf {
    let tasks = dir.join("store/tasks");
    let below = |dir: &Path| fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect::<Vec<_>>();
    below(&tasks).iter().flat_map(|dir| below(dir)).next().unwrap()
}

/// Waits until the times of the file are old enough to tell a later change.
fn settle() {
    std::thread::sleep(Duration::from_millis(1100));
}

fn read_all(entry: &Entry, now: Instant) {
    let mut next = 0;
    while next < LEN {
        next += entry.read_noting(next, false, now).unwrap().len() as u64;
    }
}

#[test]
fn what_was_read_and_found_right_can_be_sent_for_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, entry) = stored(dir.path());
    let now = Instant::now();
    read_all(&entry, now);
    assert!(entry.sendable(0, LEN, now).is_none(), "written too lately to tell a change");
    settle();
    assert_eq!(entry.read_noting(BLOCK, false, now).unwrap().len() as u64, BLOCK);
    assert!(entry.sendable(0, LEN, now).is_none(), "not read since");
    assert_eq!(entry.sendable(BLOCK + 5, LEN, now).unwrap().len(), BLOCK - 5, "and the next one neither");
    read_all(&entry, now);
    assert_eq!(entry.sendable(0, LEN, now).unwrap().len(), LEN);
    assert_eq!(entry.sendable(7, 10, now).unwrap().len(), 10);
    assert!(entry.sendable(0, LEN, now + Duration::from_secs(61)).is_none());

    let (mut here, there) = UnixStream::pair().unwrap();
    let (from, len) = (BLOCK - 3, BLOCK + 50);
    let mut part = entry.sendable(from, len, now).unwrap();
    let mut got = vec![0; len as usize];
    while !part.is_empty() {
        let sent = part.send(there.as_fd()).unwrap();
        let before = got.len() - part.len() as usize - sent;
        here.read_exact(&mut got[before..before + sent]).unwrap();
    }
    assert!(got == content(1, from, len), "the very bytes");
}

#[test]
fn what_was_written_since_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, entry) = stored(dir.path());
    settle();
    let now = Instant::now();
    read_all(&entry, now);
    assert!(entry.sendable(0, LEN, now).is_some());
    let mut queued = entry.sendable(0, LEN, now).unwrap();
    let file = OpenOptions::new().write(true).open(data_file(dir.path())).unwrap();
    file.write_all_at(b"rot", 5).unwrap();
    assert!(entry.sendable(0, LEN, now).is_none(), "even what is right still");
    let (mut here, there) = UnixStream::pair().unwrap();
    assert_eq!(queued.send(there.as_fd()).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    drop(there);
    assert_eq!(here.read(&mut [0; 1]).unwrap(), 0, "nothing of it was sent");
    entry.read_noting(0, false, now).unwrap_err();
}

#[test]
fn what_was_evicted_meanwhile_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, entry) = stored(dir.path());
    settle();
    let now = Instant::now();
    read_all(&entry, now);
    let mut part = entry.sendable(0, BLOCK, now).unwrap();
    fs::remove_file(data_file(dir.path())).unwrap();
    let (_here, there) = UnixStream::pair().unwrap();
    assert!(part.send(there.as_fd()).unwrap() > 0);
}
