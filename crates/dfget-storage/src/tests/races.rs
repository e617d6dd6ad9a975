//! Readers, writers and the sweep at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{at, content, open_with, options};
use crate::{BLOCK, EntryKey, Options};

#[test]
fn eviction_never_tears_a_read() {
    const ROUNDS: u64 = 400;
    const LEN: u64 = BLOCK + 100;
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(Options { quota_bytes: Some(4 * LEN), ..options(dir.path()) });
    let contents: Vec<_> = (0..4).map(|seed| content(seed, 0, LEN)).collect();
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ROUNDS {
                let key = EntryKey::from((n % 8).to_string());
                let entry = store.create(key.clone(), vec![], Some(LEN), at(n)).unwrap();
                let _pin = entry.pin();
                entry.append(0, &contents[(n % 4) as usize]).unwrap();
                store.publish_at(&entry, key, vec![], at(n)).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.sweep(at(0));
                store.flush().unwrap();
                for entry in store.shared().entries.lock().values() {
                    if Arc::strong_count(entry) == 1 {
                        entry.rest();
                    }
                }
            }
        });
        for reader in 0..2 {
            let (store, contents, done, reads) = (&store, &contents, &done, &reads);
            scope.spawn(move || {
                let mut n = reader;
                while !done.load(Ordering::SeqCst) {
                    n += 1;
                    let Some(entry) = store.get(&EntryKey::from((n % 8).to_string())) else {
                        continue;
                    };
                    let end = entry.contiguous_from(0);
                    let mut from = 0;
                    while from < end {
                        let bytes = entry.read(from, false).unwrap();
                        let to = from as usize + bytes.len();
                        assert!(bytes == contents[n % 4][from as usize..to]);
                        from = to as u64;
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(reads.load(Ordering::Relaxed) > 100, "the readers found too little to read");
    store.sweep(at(ROUNDS));
    assert!(store.usage().bytes <= 4 * (LEN + BLOCK));
}
