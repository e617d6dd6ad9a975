//! What a task keeps of its swarm.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use dfget_core::{UNITS, piece_count, piece_range, unit_length};

use dfget_swarm::{Disputes, HostInfo};

use super::network::PieceHashes;
use crate::error::ContentError;

/// Parents that are named at the end of a download.
const SHOWN_PARENTS: usize = 5;

/// Pieces that were not what was expected and are looked at again in the end.
const MOST_REJECTED: usize = 64;

/// A task's part in its swarm.
#[derive(Debug, Default)]
pub(crate) struct Swarm {
    /// The conductor runs.
    pub(crate) active: bool,
    /// What this node is to fetch from the origin, in bytes.
    pub(crate) granted: Vec<Range<u64>>,
    /// There is no scheduler, or no help: everything from the origin.
    pub(crate) alone: bool,
    /// The origin gave nothing more.
    pub(crate) origin_failed: Option<Arc<ContentError>>,
    /// Who sent a piece.
    pub(crate) senders: HashMap<u32, Sender>,
    /// Bytes that came from peers.
    pub(crate) from_peers: u64,
    /// Parents; those first that have verified the content.
    pub(crate) parents: Vec<Arc<HostInfo>>,
    /// Hosts that were found to have sent wrong bytes, still to be told of.
    pub(crate) wrong: Vec<Arc<str>>,
    /// Peers are asked no more: what they sent was wrong too often.
    pub(crate) closed: bool,
    /// What the pieces are, as far as somebody is believed.
    pub(crate) expected: Option<Expected>,
    /// Hashes of pieces as the origin sent them, when it was asked who is right.
    pub(crate) truths: HashMap<u32, [u8; 32]>,
    /// Hosts that say that they have verified the content, and of which a piece was held against the origin's and
    /// was right.
    pub(crate) tested: HashSet<Arc<str>>,
    /// What came and was not what was expected.
    pub(crate) rejected: Vec<Rejected>,
}

/// Who sent a piece, as it was known then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sender {
    pub(crate) host: Arc<str>,
    /// It had said that it has verified the whole: what it sends is its own word.
    pub(crate) complete: bool,
}

/// The hashes that the pieces have by the word of a host that has verified the content.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) hashes: Arc<PieceHashes>,
    pub(crate) by: Arc<str>,
    pub(crate) disputes: Disputes,
}

/// A piece that was not what was expected, and the SHA-256 that it had.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) number: u32,
    pub(crate) sender: Sender,
    pub(crate) hash: [u8; 32],
}

/// How a content of known length is cut: into units, which are what is called its pieces here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) total: u64,
    pub(crate) piece: u64,
    pub(crate) count: u32,
}

// === impl Swarm ===

impl Swarm {
    /// What of `wanted` is to be fetched from the origin.
    pub(crate) fn allowed(&self, wanted: &[Range<u64>]) -> Vec<Range<u64>> {
        if self.origin_failed.is_some() {
            return Vec::new();
        }
        if self.alone {
            return wanted.to_vec();
        }
        let meet = |one: &Range<u64>, other: &Range<u64>| one.start.max(other.start)..one.end.min(other.end);
        let granted = self.granted.iter();
        granted
            .flat_map(|granted| wanted.iter().map(move |wanted| meet(granted, wanted)))
            .filter(|range| range.start < range.end)
            .collect()
    }

    /// Who sent most, for the log: a few hosts with their bytes of a content of `total` bytes, and how
    /// many more there are. Empty if nobody sent anything.
    pub(crate) fn named_senders(&self, total: u64) -> String {
        let parents = self.senders(total);
        let more = parents.len().saturating_sub(SHOWN_PARENTS);
        let shown = parents.iter().take(SHOWN_PARENTS).map(|(host, bytes)| format!("{host} {bytes}"));
        let more = (more > 0).then(|| format!("{more} more"));
        shown.chain(more).collect::<Vec<_>>().join(", ")
    }

    /// Who sent what of a content of `total` bytes: hosts with their bytes, who sent most first.
    pub(crate) fn senders(&self, total: u64) -> Vec<(&str, u64)> {
        let Some(layout) = Layout::of(total) else { return Vec::new() };
        let mut bytes: HashMap<&str, u64> = HashMap::new();
        for (number, sender) in &self.senders {
            *bytes.entry(&sender.host).or_default() += layout.length(*number);
        }
        let mut parents: Vec<_> = bytes.into_iter().collect();
        parents.sort_unstable_by_key(|&(host, bytes)| (std::cmp::Reverse(bytes), host));
        parents
    }

    /// Notes a piece that was not what was expected; the first ones are enough.
    pub(crate) fn reject(&mut self, rejected: Rejected) {
        if self.rejected.len() < MOST_REJECTED {
            self.rejected.push(rejected);
        }
    }

    /// Where a fetch that has come to `position` is to end.
    pub(crate) fn end_of(&self, position: u64, end: u64) -> u64 {
        if self.alone {
            return end;
        }
        let within = self.granted.iter().find(|granted| granted.contains(&position));
        within.map_or(position, |granted| granted.end.min(end))
    }
}

// === impl Layout ===

impl Layout {
    /// Of a content of `total` bytes; `None` if it has more pieces than can be numbered.
    pub(crate) fn of(total: u64) -> Option<Self> {
        let piece = unit_length(total);
        let count = u32::try_from(piece_count(total, piece)).ok()?;
        Some(Self { total, piece, count })
    }

    /// The bytes of a piece.
    pub(crate) fn range(&self, number: u32) -> Range<u64> {
        piece_range(u64::from(number), self.total, self.piece).map_or(0..0, |range| range.start..range.end)
    }

    /// How many bytes a piece has.
    pub(crate) fn length(&self, number: u32) -> u64 {
        let range = self.range(number);
        range.end - range.start
    }

    /// The bytes of several; the end `u32::MAX` = to the last.
    pub(crate) fn bytes(&self, pieces: &Range<u32>) -> Range<u64> {
        let end = u64::from(pieces.end).saturating_mul(self.piece).min(self.total);
        (u64::from(pieces.start) * self.piece).min(end)..end
    }

    /// The units that a piece is cut in.
    pub(crate) fn units_of(&self, piece: u32) -> Range<u32> {
        let first = piece.saturating_mul(UNITS).min(self.count);
        first..first.saturating_add(UNITS).min(self.count)
    }

    /// The piece that a byte is in.
    pub(crate) fn piece_at(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.piece).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_granted_is_fetched_from_the_origin() {
        let mut swarm = Swarm { granted: vec![4..8, 12..20], ..Swarm::default() };
        assert_eq!(swarm.allowed(&[0..6, 7..15]), [4..6, 7..8, 12..15]);
        assert_eq!((swarm.end_of(5, 100), swarm.end_of(9, 100), swarm.end_of(13, 15)), (8, 9, 15));
        swarm.alone = true;
        assert_eq!(swarm.allowed(&[0..6, 7..15]), [0..6, 7..15]);
        assert_eq!(swarm.end_of(9, 100), 100);
    }

    #[test]
    fn those_are_named_who_sent_most() {
        const UNIT: u64 = 512 << 10;
        let mut swarm = Swarm::default();
        assert_eq!(swarm.named_senders(8 * UNIT), "");
        for (number, host) in ["a", "b", "b", "c", "d", "e", "f", "b"].into_iter().enumerate() {
            let sender = Sender { host: host.into(), complete: true };
            swarm.senders.insert(u32::try_from(number).unwrap(), sender);
        }
        // The last unit has one byte.
        let told = swarm.named_senders(7 * UNIT + 1);
        assert_eq!(told, "b 1048577, a 524288, c 524288, d 524288, e 524288, 1 more");
        swarm.senders.retain(|number, _| *number == 7);
        assert_eq!(swarm.named_senders(7 * UNIT + 1), "b 1");
    }

    #[test]
    fn pieces_cover_the_content() {
        let layout = Layout::of((9 << 20) + 1).expect("it has pieces");
        assert_eq!((layout.piece, layout.count), (512 << 10, 19));
        assert_eq!(layout.range(18), 9 << 20..(9 << 20) + 1);
        assert_eq!(layout.bytes(&(1..u32::MAX)), 512 << 10..(9 << 20) + 1);
        assert_eq!(layout.bytes(&(0..1)), 0..512 << 10);
        assert_eq!(layout.piece_at(8 << 20), 16);
        assert_eq!((layout.units_of(1), layout.units_of(2), layout.units_of(3)), (8..16, 16..19, 19..19));
        assert_eq!(Layout::of(0).map(|layout| layout.count), Some(0));
    }
}
