use proptest::prelude::*;

use super::*;

/// Appends `len` bytes at `offset`, whatever their CRC.
fn append(map: &mut BlockMap, mut offset: u64, mut len: u64) -> Result<(), Step> {
    while len > 0 {
        let taken = match map.begin(offset, len) {
            Step::Skip(taken) => taken,
            Step::Write(claim) => {
                map.finish(&claim, crc(claim.block));
                claim.skip + claim.len
            }
            other => return Err(other),
        };
        offset += taken;
        len -= taken;
    }
    Ok(())
}

fn crc(block: u64) -> u32 {
    block as u32 ^ 0xabcd
}

#[test]
fn a_claim_keeps_others_out_until_it_ends() {
    let mut map = BlockMap::new(None);
    let Step::Write(claim) = map.begin(0, 100) else { panic!("an empty block is free") };
    assert_eq!(map.begin(0, 50), Step::Busy);
    assert_eq!(map.begin(100, 50), Step::Busy, "it may end there");
    assert_eq!(map.contiguous_from(0), 0, "not before it is finished");
    map.abandon(&claim);
    assert_eq!(map.contiguous_from(0), 0);
    assert!(matches!(map.begin(100, 50), Step::Gap { expected: 0 }));
    append(&mut map, 0, 100).unwrap();
    let Step::Write(claim) = map.begin(60, 50) else { panic!("it continues") };
    assert_eq!((claim.offset, claim.skip, claim.len), (100, 40, 10));
    assert_eq!(map.begin(60, 40), Step::Skip(40), "what is here needs no claim");
    map.finish(&claim, 1);
    assert_eq!(map.contiguous_from(7), 110);
}

#[test]
fn bytes_behind_an_end_that_became_known_meanwhile_do_not_count() {
    let mut map = BlockMap::new(None);
    let Step::Write(claim) = map.begin(0, 100) else { panic!("an empty block is free") };
    map.set_total(50).unwrap();
    map.finish(&claim, 1);
    assert_eq!(map.present(), 0);
    append(&mut map, 0, 50).unwrap();
    assert!(map.is_whole());
    assert_eq!(map.begin(0, 51), Step::Beyond { end: 51, total: 50 });
}

#[test]
fn the_end_makes_the_last_block_full() {
    let mut map = BlockMap::new(None);
    append(&mut map, 0, BLOCK + 9).unwrap();
    assert_eq!(map.take_changed(), [(0, Row { full: 1, crcs: vec![crc(0)] })]);
    assert_eq!(map.set_total(BLOCK + 8), Err(BLOCK + 9));
    map.set_total(BLOCK + 9).unwrap();
    assert_eq!(map.take_changed(), [(0, Row { full: 3, crcs: vec![crc(0), crc(1)] })]);
    assert_eq!(map.take_changed(), []);
    assert!(map.is_whole());
}

#[test]
fn an_end_at_the_end_of_a_stretch_is_found() {
    for total in [STRETCH - 10, STRETCH, STRETCH + 10, 2 * STRETCH] {
        let mut map = BlockMap::new(Some(total));
        append(&mut map, 0, total).unwrap();
        assert!(map.is_whole());
        for from in [0, 1, total - 1, total, total + 5, STRETCH] {
            assert_eq!(map.contiguous_from(from), total.max(from), "{total} {from}");
        }
        assert_eq!(map.gaps(0..u64::MAX), []);
    }
}

#[test]
fn gaps_of_an_unknown_end_reach_as_far_as_asked() {
    let mut map = BlockMap::new(None);
    append(&mut map, BLOCK, BLOCK).unwrap();
    append(&mut map, 2 * BLOCK, 5).unwrap();
    assert_eq!(map.gaps(0..u64::MAX), [0..BLOCK, 2 * BLOCK..u64::MAX]);
    assert_eq!(map.gaps(3..4), std::slice::from_ref(&(0..BLOCK)));
    assert_eq!(map.gaps(BLOCK + 1..2 * BLOCK + 1), std::slice::from_ref(&(2 * BLOCK..3 * BLOCK)));
    assert_eq!(map.gaps(7..7), []);
}

#[test]
fn a_row_that_is_none_is_not_read() {
    let row = Row { full: 0b101, crcs: vec![1, 2] };
    assert_eq!(Row::decode(&row.encode()), Some(row.clone()));
    for bytes in [&[][..], &[0; 3], &[1, 0, 0, 0], &row.encode()[..11], &[0; 8]] {
        assert_eq!(Row::decode(bytes), None, "{bytes:?}");
    }
}

/// The plain way: for each block, how many bytes of it are here.
#[derive(Debug)]
struct Model {
    filled: Vec<u64>,
    total: u64,
}

impl Model {
    fn len(&self, block: usize) -> u64 {
        BLOCK.min(self.total - block as u64 * BLOCK)
    }

    fn contiguous_from(&self, offset: u64) -> u64 {
        let mut at = offset;
        while at < self.total {
            let block = (at / BLOCK) as usize;
            let end = block as u64 * BLOCK + self.filled[block];
            if end <= at {
                break;
            }
            at = end;
        }
        at
    }

    fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps: Vec<Range<u64>> = Vec::new();
        for block in 0..self.filled.len() {
            let start = block as u64 * BLOCK;
            let end = start + self.len(block);
            let asked =
                range.start < range.end.min(self.total) && start < range.end && range.start < start + BLOCK;
            if !asked || self.filled[block] == self.len(block) {
                continue;
            }
            match gaps.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => gaps.push(start..end),
            }
        }
        gaps
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append { block: u64, share: u64, more: u64 },
    Drop { block: u64 },
    Reload,
}

fn op(blocks: u64) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..blocks, 0..=4_u64, 1..3 * BLOCK)
            .prop_map(|(block, share, more)| Op::Append { block, share, more }),
        1 => (0..blocks).prop_map(|block| Op::Drop { block }),
        1 => Just(Op::Reload),
    ]
}

proptest! {
    #[test]
    fn the_map_agrees_with_a_plain_list(
        short in 1..=BLOCK,
        ops in prop::collection::vec(op(70), 1..60),
        probes in prop::collection::vec((0..71 * BLOCK, 0..71 * BLOCK), 8),
    ) {
        let total = 69 * BLOCK + short;
        let mut map = BlockMap::new(Some(total));
        let mut model = Model { filled: vec![0; 70], total };
        let mut rows = BTreeMap::new();
        for op in ops {
            match op {
                Op::Append { block, share, more } => {
                    let filled = model.filled[block as usize];
                    let offset = block * BLOCK + filled * share / 4;
                    let len = more.min(total - offset);
                    let mut end = offset + len;
                    let mut at = block as usize;
                    // what follows a block is taken only if the block becomes full
                    while at < 70 && end > at as u64 * BLOCK {
                        let here = (end - at as u64 * BLOCK).min(model.len(at));
                        model.filled[at] = model.filled[at].max(here);
                        at += 1;
                    }
                    end = end.min(total);
                    prop_assert_eq!(append(&mut map, offset, end - offset), Ok(()));
                }
                Op::Drop { block } => {
                    let at = block as usize;
                    let is_full = model.filled[at] == model.len(at);
                    let dropped = map.drop_block(block * BLOCK);
                    prop_assert_eq!(dropped, is_full.then(|| model.len(at)));
                    if is_full {
                        model.filled[at] = 0;
                    }
                }
                Op::Reload => {
                    rows.extend(map.take_changed());
                    map = BlockMap::new(Some(total));
                    for (index, row) in &rows {
                        map.load(*index, &Row::decode(&row.encode()).unwrap());
                    }
                    for at in 0..70 {
                        if model.filled[at] < model.len(at) {
                            model.filled[at] = 0;
                        }
                    }
                }
            }
            prop_assert_eq!(map.present(), model.filled.iter().sum::<u64>());
            for (a, b) in &probes {
                prop_assert_eq!(map.contiguous_from(*a), model.contiguous_from(*a));
                let range = *a.min(b)..*a.max(b);
                prop_assert_eq!(map.gaps(range.clone()), model.gaps(range));
                let here = model.contiguous_from(*a) > *a;
                prop_assert_eq!(map.view(*a).is_some(), here);
            }
        }
    }
}
