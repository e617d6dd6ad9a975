//! The store against a plain model: random appends, reads, flushes, crashes, evictions.
//!
//! What is read always equals what was written. After a crash nothing is present that was not
//! written, and what a flush covered is still there.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{at, content, open_with, options};
use crate::{BLOCK, Entry, EntryKey, Options, Store};

const BLOCKS: u64 = 5;
const LEN: u64 = (BLOCKS - 1) * BLOCK + 1_000;
const NAMES: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    Create { name: u64 },
    Append { name: u64, block: u64, len: u64 },
    Publish { name: u64 },
    Drop { name: u64, block: u64 },
    Touch { name: u64 },
    Remove { name: u64 },
    Flush,
    Crash,
    Sweep,
}

/// What the model knows of one entry.
#[derive(Clone, Debug)]
struct Known {
    /// The content; another one for each entry made under a name.
    seed: u64,
    /// Bytes written of each block.
    written: Vec<u64>,
    /// Blocks that were full at the last flush.
    durable: Vec<bool>,
    complete: bool,
    complete_durable: bool,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Known>,
    /// The entries as the last flush made them durable: what a crash may bring back.
    flushed: BTreeMap<u64, Known>,
    seeds: u64,
}

fn block_len(block: u64) -> u64 {
    BLOCK.min(LEN - block * BLOCK)
}

fn key(name: u64) -> EntryKey {
    EntryKey::from(format!("content {name}"))
}

fn op() -> impl Strategy<Value = Op> {
    let (name, block) = (0..NAMES, 0..BLOCKS);
    let len = prop_oneof![Just(BLOCK), 1..BLOCK, BLOCK..2 * BLOCK];
    prop_oneof![
        2 => name.clone().prop_map(|name| Op::Create { name }),
        10 => (name.clone(), block.clone(), len)
            .prop_map(|(name, block, len)| Op::Append { name, block, len }),
        3 => name.clone().prop_map(|name| Op::Publish { name }),
        1 => (name.clone(), block).prop_map(|(name, block)| Op::Drop { name, block }),
        1 => name.clone().prop_map(|name| Op::Touch { name }),
        1 => name.prop_map(|name| Op::Remove { name }),
        3 => Just(Op::Flush),
        2 => Just(Op::Crash),
        1 => Just(Op::Sweep),
    ]
}

impl Model {
    fn append(&mut self, store: &Store, name: u64, block: u64, len: u64) {
        let Some(known) = self.entries.get_mut(&name) else { return };
        let entry = store.get(&key(name)).expect("known");
        let offset = block * BLOCK + known.written[block as usize];
        let end = LEN.min(offset + len);
        entry.append(offset, &content(known.seed, offset, end - offset)).unwrap();
        for at in block..BLOCKS {
            let here = end.saturating_sub(at * BLOCK).min(block_len(at));
            let written = &mut known.written[at as usize];
            *written = here.max(*written);
        }
    }

    fn publish(&mut self, store: &Store, name: u64, now: u64) {
        let Some(known) = self.entries.get_mut(&name) else { return };
        let entry = store.get(&key(name)).expect("known");
        let whole = (0..BLOCKS).all(|block| known.written[block as usize] == block_len(block));
        let published = store.publish_at(&entry, key(name), vec![1], at(now));
        assert_eq!(published.is_ok(), whole);
        known.complete = whole;
    }

    fn drop_block(&mut self, store: &Store, name: u64, block: u64) {
        let Some(known) = self.entries.get_mut(&name) else { return };
        let entry = store.get(&key(name)).expect("known");
        let full = known.written[block as usize] == block_len(block);
        let dropped = entry.drop_block(block * BLOCK).is_ok();
        assert_eq!(dropped, full && !known.complete);
        if dropped {
            known.written[block as usize] = 0;
            known.durable[block as usize] = false;
            if let Some(flushed) = self.flushed.get_mut(&name) {
                flushed.durable[block as usize] = false;
            }
        }
    }

    fn flush(&mut self, store: &Store) {
        store.flush().unwrap();
        for known in self.entries.values_mut() {
            for block in 0..BLOCKS {
                known.durable[block as usize] = known.written[block as usize] == block_len(block);
            }
            known.complete_durable = known.complete;
        }
        self.flushed.clone_from(&self.entries);
    }

    /// After a crash: learns what is there, and that it may be there.
    fn reopen(&mut self, store: &Store) {
        let before = std::mem::take(&mut self.entries);
        for name in 0..NAMES {
            let Some(flushed) = self.flushed.get(&name) else {
                assert!(store.get(&key(name)).is_none(), "{name} was never flushed");
                continue;
            };
            // its file went with the entry, flushed or not
            let gone = before.get(&name).is_none_or(|last| last.seed != flushed.seed);
            let entry = store.get(&key(name));
            assert_eq!(entry.is_none(), gone, "{name}");
            let Some(entry) = entry else { continue };
            let mut known = flushed.clone();
            assert_eq!(entry.is_complete(), known.complete_durable, "{name}");
            known.complete = known.complete_durable;
            for block in 0..BLOCKS {
                let end = entry.contiguous_from(block * BLOCK).min((block + 1) * BLOCK);
                let here = end - block * BLOCK;
                assert!(here == 0 || here == block_len(block), "no block comes back in part");
                let must = known.durable[block as usize];
                assert!(!must || here > 0, "{name}: block {block} was flushed");
                assert!(here == 0 || known.written[block as usize] == here, "{name}: {block}");
                known.written[block as usize] = here;
            }
            self.entries.insert(name, known);
        }
        self.flushed.clone_from(&self.entries);
    }

    fn check(&self, store: &Store) {
        assert_eq!(store.usage().entries, self.entries.len());
        for (&name, known) in &self.entries {
            let entry: Arc<Entry> = store.get(&key(name)).expect("known");
            assert_eq!(entry.is_complete(), known.complete);
            let mut gaps = Vec::new();
            for block in 0..BLOCKS {
                let (start, written) = (block * BLOCK, known.written[block as usize]);
                if written > 0 {
                    let bytes = entry.read(start + written / 2, false).unwrap();
                    assert_eq!(bytes, content(known.seed, start + written / 2, written - written / 2));
                } else {
                    assert!(entry.read(start, false).is_err());
                }
                if written < block_len(block) {
                    gaps.push(start..start + block_len(block));
                }
            }
            let told = entry.gaps(0..u64::MAX);
            assert!(told.iter().all(|gap| gap.start % BLOCK == 0));
            let cut: Vec<_> = (0..BLOCKS)
                .map(|block| block * BLOCK..block * BLOCK + block_len(block))
                .filter(|range| told.iter().any(|gap| gap.contains(&range.start)))
                .collect();
            assert_eq!(cut, gaps);
        }
    }
}

fn apply(model: &mut Model, store: Store, options: &Options, op: Op, now: u64) -> Store {
    match op {
        Op::Create { name } => {
            model.seeds += 1;
            let seed = model.seeds;
            store.create(key(name), vec![], Some(LEN), at(now)).unwrap();
            let known = Known {
                seed,
                written: vec![0; BLOCKS as usize],
                durable: vec![false; BLOCKS as usize],
                complete: false,
                complete_durable: false,
            };
            model.entries.insert(name, known);
        }
        Op::Append { name, block, len } => model.append(&store, name, block, len),
        Op::Publish { name } => model.publish(&store, name, now),
        Op::Drop { name, block } => model.drop_block(&store, name, block),
        Op::Touch { name } => {
            if let Some(entry) = store.get(&key(name)) {
                store.touch(&entry, at(now));
            }
        }
        Op::Remove { name } => {
            if let Some(entry) = store.get(&key(name)) {
                store.remove(&entry);
                model.entries.remove(&name);
            }
        }
        Op::Flush => model.flush(&store),
        Op::Crash => {
            drop(store);
            let store = open_with(options.clone());
            model.reopen(&store);
            return store;
        }
        Op::Sweep => {
            for evicted in store.sweep(at(now)).evicted {
                model.entries.retain(|&name, _| key(name) != evicted.key);
            }
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_is_read_was_written_whatever_happened(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { quota_bytes: Some(2 * LEN), ..options(dir.path()) };
        let mut store = open_with(options.clone());
        let mut model = Model::default();
        for (now, op) in ops.into_iter().enumerate() {
            store = apply(&mut model, store, &options, op, now as u64);
            model.check(&store);
        }
    }
}
