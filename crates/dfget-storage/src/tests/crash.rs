//! A process that is killed at a random moment, twenty times over one store.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
    thread,
};

use super::{at, child, child_dir, content, open, options};
use crate::{BLOCK, EntryKey, Store, key::random_bytes};

const ROUNDS: u64 = 20;

/// The length of content `seed`: some blocks and a bit.
fn len(seed: u64) -> u64 {
    (seed % 9) * BLOCK + seed * 131
}

fn key(seed: u64) -> EntryKey {
    EntryKey::from(seed.to_string())
}

/// Fills and publishes entries, flushing all the while, until it is killed.
#[test]
#[ignore = "run and killed by a_killed_process_leaves_only_good_bytes"]
fn writer_that_will_be_killed() {
    let (store, _) = Store::open(options(&child_dir()), at(0)).unwrap();
    let flushing = store.clone();
    thread::spawn(move || {
        loop {
            flushing.flush().unwrap();
        }
    });
    let mut random = u64::from_le_bytes(random_bytes().unwrap());
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let seed = 1 + (random >> 33) % 30;
        let total = len(seed);
        let entry = store
            .get(&key(seed))
            .unwrap_or_else(|| store.create(key(seed), vec![], Some(total), at(0)).unwrap());
        if entry.is_complete() {
            if random.is_multiple_of(5) {
                store.remove(&entry);
            }
        } else if let Some(gap) = entry.gaps(0..total).into_iter().next_back() {
            let from = entry.contiguous_from(gap.start);
            let more = (total - from).min(1 + (random >> 20) % (3 * BLOCK));
            entry.append(from, &content(seed, from, more)).unwrap();
        } else {
            store.publish(&entry, key(seed), vec![]).unwrap();
        }
        println!("step");
    }
}

#[test]
fn a_killed_process_leaves_only_good_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut survived = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut writer = child(&[], "tests::crash::writer_that_will_be_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let steps = 1 + u64::from(random_bytes::<1>().unwrap()[0]);
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // libtest writes the name of the test in front of the first step
        let seen = lines.map_while(Result::ok).filter(|line| line.ends_with("step"));
        assert_eq!(seen.take(steps as usize).count() as u64, steps, "the writer ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();

        let (store, report) = open(dir.path());
        assert_eq!(report.rebuilt, None, "round {round}, after {steps} steps");
        for entry in store.entries() {
            let name = entry.key();
            let seed: u64 = name.as_str().parse().unwrap();
            assert_eq!(entry.total(), Some(len(seed)));
            if entry.is_complete() {
                assert_eq!(entry.contiguous_from(0), len(seed));
            }
            for start in (0..len(seed)).step_by(BLOCK as usize) {
                let end = entry.contiguous_from(start).min(start + BLOCK);
                if end > start {
                    let bytes = entry.read(start, false).unwrap();
                    assert_eq!(bytes, content(seed, start, end - start), "{name}: {start}");
                    survived.insert((seed, start));
                }
            }
        }
    }
    assert!(survived.len() > 20, "only {} blocks outlived a kill", survived.len());
}
