//! Which bytes of an entry are here: pure bookkeeping, no file and no clock.
//!
//! An entry is cut into blocks of [`BLOCK`] bytes, the last one possibly short. Of each block a
//! prefix is filled, and the CRC-32 of that prefix is known; a block is *full* when its prefix
//! reaches its end. Thirty-two blocks make a stretch, the unit in which full blocks are written to
//! the index; prefixes of other blocks are lost with the process, by design.
//!
//! A writer claims the block it appends to, writes without any lock held, and then finishes or
//! abandons the claim. Only a finished claim counts, so bytes that a failed write left on disk are
//! invisible.

use std::{collections::BTreeMap, ops::Range};

/// Bytes in a block: the unit in which bytes are checked and handed out.
///
/// The smallest piece of Dragonfly (4 MiB) is a whole number of blocks.
pub const BLOCK: u64 = 128 * 1024;

/// The blocks of one entry.
#[derive(Debug, Default)]
pub(crate) struct BlockMap {
    stretches: BTreeMap<u64, Stretch>,
    total: Option<u64>,
    /// Sum of all prefixes.
    present: u64,
    /// Everything below is full; a short cut for [`Self::contiguous_from`].
    prefix: u64,
}

/// What the index keeps of a stretch: which blocks are full, and the CRCs of those, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) full: u32,
    pub(crate) crcs: Vec<u32>,
}

/// What is to be done with the next bytes.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// So many of them are here already.
    Skip(u64),
    /// Write, then [`BlockMap::finish`] or [`BlockMap::abandon`] the claim.
    Write(Claim),
    /// Another writer is at this block; ask again when it has finished.
    Busy,
    /// They do not continue the block, whose prefix ends at `expected`.
    Gap { expected: u64 },
    /// They end behind `total`.
    Beyond { end: u64, total: u64 },
}

/// The right to append to one block.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Claim {
    block: u64,
    /// Where in the entry to write.
    pub(crate) offset: u64,
    /// Bytes at the front of the given ones that are here already.
    pub(crate) skip: u64,
    /// Bytes to write behind those.
    pub(crate) len: u64,
    /// CRC-32 of the prefix so far, to be continued.
    pub(crate) crc: u32,
}

/// The present part of one block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct View {
    /// Where the block begins.
    pub(crate) start: u64,
    /// Bytes of it that are here, from its start.
    pub(crate) filled: u64,
    /// CRC-32 of those.
    pub(crate) crc: u32,
    /// Whether those are all.
    pub(crate) full: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    filled: u32,
    crc: u32,
}

#[derive(Debug, Default)]
struct Stretch {
    blocks: [Block; BLOCKS as usize],
    /// One bit per full block.
    full: u32,
    /// One bit per block that a writer has claimed.
    claimed: u32,
    /// The index does not know the present `full` and CRCs.
    changed: bool,
}

// === impl BlockMap ===

impl BlockMap {
    /// No block yet.
    pub(crate) fn new(total: Option<u64>) -> Self {
        Self { total, ..Self::default() }
    }

    /// The length of the entry, if known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Bytes that are here.
    pub(crate) fn present(&self) -> u64 {
        self.present
    }

    /// Whether every byte up to a known end is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.total == Some(self.present)
    }

    /// Sets the length.
    ///
    /// # Errors
    /// Another length is known, or bytes are here up to the offset that is returned.
    pub(crate) fn set_total(&mut self, total: u64) -> Result<(), u64> {
        if let Some(known) = self.total {
            return if known == total { Ok(()) } else { Err(known) };
        }
        let extent = self.extent();
        if extent > total {
            return Err(extent);
        }
        self.total = Some(total);
        let short = (total % BLOCK) as u32;
        if short > 0
            && let Some(stretch) = self.stretches.get_mut(&(total / STRETCH))
        {
            let at = in_stretch(total / BLOCK);
            if stretch.blocks[at].filled == short {
                stretch.full |= 1 << at;
                stretch.changed = true;
            }
        }
        Ok(())
    }

    /// Decides about the next `len` bytes at `offset`; `len` is cut at the end of the block.
    pub(crate) fn begin(&mut self, offset: u64, len: u64) -> Step {
        let block = offset / BLOCK;
        let start = block * BLOCK;
        let len = len.min(BLOCK - (offset - start));
        let end = offset.saturating_add(len);
        if let Some(total) = self.total
            && end > total
        {
            return Step::Beyond { end, total };
        }
        let (filled, crc, claimed) = self.stretches.get(&(block / BLOCKS)).map_or((0, 0, false), |stretch| {
            let Block { filled, crc } = stretch.blocks[in_stretch(block)];
            (u64::from(filled), crc, stretch.claimed & bit(block) != 0)
        });
        let here = start + filled;
        if end <= here {
            return Step::Skip(len);
        }
        if claimed {
            return Step::Busy;
        }
        if offset > here {
            return Step::Gap { expected: here };
        }
        self.stretches.entry(block / BLOCKS).or_default().claimed |= bit(block);
        let skip = here - offset;
        Step::Write(Claim { block, offset: here, skip, len: len - skip, crc })
    }

    /// The claimed bytes are on their way to the disk; `crc` is that of the prefix with them.
    pub(crate) fn finish(&mut self, claim: &Claim, crc: u32) {
        let full_len = self.block_len(claim.block);
        let Some(stretch) = self.release(claim) else { return };
        let block = &mut stretch.blocks[in_stretch(claim.block)];
        let filled = u64::from(block.filled) + claim.len;
        if filled > full_len {
            return; // the end became known meanwhile and lies before these bytes
        }
        *block = Block { filled: filled as u32, crc };
        if filled == full_len {
            stretch.full |= bit(claim.block);
            stretch.changed = true;
        }
        self.present += claim.len;
    }

    /// The claimed bytes could not be written.
    pub(crate) fn abandon(&mut self, claim: &Claim) {
        self.release(claim);
    }

    /// The present part of the block that `offset` lies in, if `offset` is present.
    pub(crate) fn view(&self, offset: u64) -> Option<View> {
        let view = self.block(offset / BLOCK)?;
        (offset < view.start + view.filled).then_some(view)
    }

    /// The full block that begins at `start`.
    pub(crate) fn full_block(&self, start: u64) -> Option<View> {
        let view = self.block(start / BLOCK)?;
        (view.full && view.start == start).then_some(view)
    }

    /// The CRC of a range of full blocks; `None` if it is something else.
    pub(crate) fn crc_of(&self, range: Range<u64>) -> Option<u32> {
        let mut crc = crc32fast::Hasher::new();
        let mut at = range.start;
        while at < range.end {
            let view = self.full_block(at)?;
            crc.combine(&crc32fast::Hasher::new_with_initial_len(view.crc, view.filled));
            at += view.filled;
        }
        (at == range.end).then(|| crc.finalize())
    }

    /// The end of the stretch of present bytes that begins at `offset`.
    pub(crate) fn contiguous_from(&mut self, offset: u64) -> u64 {
        let mut at = offset.max(self.prefix);
        'walk: while let Some(stretch) = self.stretches.get(&(at / STRETCH)) {
            let next = (at / STRETCH + 1) * STRETCH;
            if stretch.full == u32::MAX {
                at = at.max(self.ends(next));
                if at < next {
                    break;
                }
                continue;
            }
            for block in at / BLOCK..next / BLOCK {
                let Block { filled, .. } = stretch.blocks[in_stretch(block)];
                at = at.max(block * BLOCK + u64::from(filled));
                if stretch.full & bit(block) == 0 || u64::from(filled) < BLOCK {
                    break 'walk;
                }
            }
        }
        if offset <= self.prefix {
            self.prefix = at / BLOCK * BLOCK;
        }
        at
    }

    /// The stretches of `range` that are not in full blocks, each from the start of a block to the
    /// end of one, clipped to the length of the entry.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let end = self.ends(range.end);
        let mut at = range.start / BLOCK * BLOCK;
        let mut gaps = Vec::new();
        if range.start >= end {
            return gaps;
        }
        for (&index, stretch) in self.stretches.range(at / STRETCH..=(end - 1) / STRETCH) {
            for i in (0..BLOCKS).filter(|i| stretch.full & (1 << i) != 0) {
                let start = index * STRETCH + i * BLOCK;
                if start >= end {
                    break;
                }
                if start > at {
                    gaps.push(at..start);
                }
                at = at.max(start.saturating_add(BLOCK));
            }
        }
        if at < end {
            let end = self.ends(end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX));
            gaps.push(at..end);
        }
        gaps
    }

    /// Forgets the full block that begins at `start`; its length, or `None` if there is none.
    pub(crate) fn drop_block(&mut self, start: u64) -> Option<u64> {
        let view = self.full_block(start)?;
        let stretch = self.stretches.get_mut(&(start / STRETCH))?;
        let block = start / BLOCK;
        stretch.blocks[in_stretch(block)] = Block::default();
        stretch.full &= !bit(block);
        stretch.changed = true;
        self.present -= view.filled;
        self.prefix = self.prefix.min(start);
        Some(view.filled)
    }

    /// Takes what the index does not know yet.
    pub(crate) fn take_changed(&mut self) -> Vec<(u64, Row)> {
        let changed = self.stretches.iter_mut().filter(|(_, stretch)| stretch.changed);
        changed
            .map(|(&index, stretch)| {
                stretch.changed = false;
                (index, stretch.row())
            })
            .collect()
    }

    /// Gives back what [`Self::take_changed`] took, because the index refused it.
    pub(crate) fn mark_changed(&mut self, stretches: impl IntoIterator<Item = u64>) {
        for index in stretches {
            if let Some(stretch) = self.stretches.get_mut(&index) {
                stretch.changed = true;
            }
        }
    }

    /// Adds a stretch from the index. One that is in memory already is newer and stays.
    pub(crate) fn load(&mut self, index: u64, row: &Row) {
        if self.stretches.contains_key(&index) {
            return;
        }
        let mut stretch = Stretch::default();
        let blocks = (0..BLOCKS).filter(|i| row.full & (1 << i) != 0);
        for (i, &crc) in blocks.zip(&row.crcs) {
            let len = self.block_len(index * BLOCKS + i);
            if len > 0 {
                stretch.blocks[i as usize] = Block { filled: len as u32, crc };
                stretch.full |= 1 << i;
                self.present += len;
            }
        }
        self.stretches.insert(index, stretch);
    }

    /// The CRC of an absent or present block, its place and its length.
    fn block(&self, block: u64) -> Option<View> {
        let stretch = self.stretches.get(&(block / BLOCKS))?;
        let Block { filled, crc } = stretch.blocks[in_stretch(block)];
        let full = stretch.full & bit(block) != 0;
        Some(View { start: block * BLOCK, filled: filled.into(), crc, full })
    }

    /// The length of a full block; 0 behind the end.
    fn block_len(&self, block: u64) -> u64 {
        let start = block.saturating_mul(BLOCK);
        self.ends(start.saturating_add(BLOCK)).saturating_sub(start)
    }

    /// `offset`, or the end of the entry if that comes before.
    fn ends(&self, offset: u64) -> u64 {
        self.total.map_or(offset, |total| total.min(offset))
    }

    /// Where the last present byte ends.
    fn extent(&self) -> u64 {
        let ends = self.stretches.iter().rev().filter_map(|(index, stretch)| {
            let last = stretch.blocks.iter().rposition(|block| block.filled > 0)?;
            let filled = u64::from(stretch.blocks[last].filled);
            Some(index * STRETCH + last as u64 * BLOCK + filled)
        });
        ends.max().unwrap_or(0)
    }

    fn release(&mut self, claim: &Claim) -> Option<&mut Stretch> {
        let stretch = self.stretches.get_mut(&(claim.block / BLOCKS))?;
        debug_assert!(stretch.claimed & bit(claim.block) != 0, "a claim ends once");
        stretch.claimed &= !bit(claim.block);
        Some(stretch)
    }
}

// === impl Stretch ===

impl Stretch {
    fn row(&self) -> Row {
        let full = (0..self.blocks.len()).filter(|i| self.full & (1 << i) != 0);
        Row { full: self.full, crcs: full.map(|i| self.blocks[i].crc).collect() }
    }
}

// === impl Row ===

impl Row {
    /// As the index stores it: the bits, then the CRCs, all little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let words = std::iter::once(self.full).chain(self.crcs.iter().copied());
        words.flat_map(u32::to_le_bytes).collect()
    }

    /// Reads [`Self::encode`] back; `None` if it is nothing that was encoded here.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let (&full, crcs) = words.split_first()?;
        let row = Self {
            full: u32::from_le_bytes(full),
            crcs: crcs.iter().map(|&crc| u32::from_le_bytes(crc)).collect(),
        };
        (row.full.count_ones() as usize == row.crcs.len()).then_some(row)
    }
}

/// The place of a block in its stretch.
fn in_stretch(block: u64) -> usize {
    (block % BLOCKS) as usize
}

/// The bit of a block in the masks of its stretch.
fn bit(block: u64) -> u32 {
    1 << (block % BLOCKS)
}

/// Blocks in a stretch; one bit each in a `u32`.
const BLOCKS: u64 = u32::BITS as u64;
/// Bytes in a stretch: 4 MiB.
pub(crate) const STRETCH: u64 = BLOCKS * BLOCK;

#[cfg(test)]
#[path = "tests/blocks.rs"]
mod tests;
