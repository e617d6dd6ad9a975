//! The integrity gate: how much of a content may leave before its digest is known to be right.
//!
//! A short body is held whole, so that a mismatch can still be answered by an error status. Of a
//! longer one the tail is held: a mismatch then ends in a broken body, never in one that ends
//! well. Bytes of a content that no digest names are not held; nothing could prove them.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bodies up to this length are held whole, head included: 64 KiB.
pub(crate) const HOLD_WHOLE: u64 = 64 << 10;

/// Of longer bodies so many last bytes are held: 16 KiB.
pub(crate) const HOLD_TAIL: u64 = 16 << 10;

/// The offset up to which bytes may leave of a content that is not verified yet, of which
/// `present` bytes from its start are here.
#[must_use]
pub(crate) const fn release_limit(present: u64, total: Option<u64>) -> u64 {
    match total {
        Some(total) if total <= HOLD_WHOLE => 0,
        Some(total) => {
            let last = total - HOLD_TAIL;
            if present < last { present } else { last }
        }
        // It may end at any byte, so the latest are always held.
        None if present <= HOLD_WHOLE => 0,
        None => present - HOLD_TAIL,
    }
}

/// The gate for bytes that pass through memory only.
#[derive(Debug, Default)]
pub(crate) struct Holdback {
    held: VecDeque<Bytes>,
    /// Offset of the first held byte.
    released: u64,
    /// Offset just past the last held byte.
    taken: u64,
}

impl Holdback {
    /// A gate for a stream that begins at `position`; what comes before it has left already.
    pub(crate) const fn starting_at(position: u64) -> Self {
        Self { held: VecDeque::new(), released: position, taken: position }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.taken += bytes.len() as u64;
        self.held.push_back(bytes);
    }

    /// Hands out what may leave, if anything: all of it once `verified`.
    pub(crate) fn pop(&mut self, total: Option<u64>, verified: bool) -> Option<Bytes> {
        let limit = if verified { self.taken } else { release_limit(self.taken, total) };
        let room = usize::try_from(limit.saturating_sub(self.released)).unwrap_or(usize::MAX);
        let front = self.held.front_mut().filter(|_| room > 0)?;
        let out = if front.len() > room { front.split_to(room) } else { self.held.pop_front()? };
        self.released += out.len() as u64;
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_bodies_are_held_whole_and_long_ones_by_their_tail() {
        assert_eq!(release_limit(HOLD_WHOLE, Some(HOLD_WHOLE)), 0);
        assert_eq!(release_limit(10, Some(HOLD_WHOLE + 1)), 10);
        assert_eq!(release_limit(HOLD_WHOLE + 1, Some(HOLD_WHOLE + 1)), HOLD_WHOLE + 1 - HOLD_TAIL);
        assert_eq!(release_limit(HOLD_WHOLE, None), 0);
        assert_eq!(release_limit(HOLD_WHOLE + 1, None), HOLD_WHOLE + 1 - HOLD_TAIL);
    }

    proptest! {
        #[test]
        fn no_unverified_content_leaves_whole(total in 1..1_u64 << 20, present in 0..1_u64 << 20) {
            let present = present.min(total);
            for known in [Some(total), None] {
                let limit = release_limit(present, known);
                prop_assert!(limit <= present && limit < total);
                prop_assert!(total > HOLD_WHOLE || limit == 0);
            }
        }

        #[test]
        fn what_goes_in_comes_out_in_order(sizes in prop::collection::vec(1..9000_usize, 0..40), known: bool) {
            let total: usize = sizes.iter().sum();
            let content: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
            let known = known.then_some(total as u64);
            let (mut gate, mut out, mut at) = (Holdback::starting_at(0), Vec::new(), 0);
            for size in sizes {
                gate.push(Bytes::copy_from_slice(&content[at..at + size]));
                at += size;
                while let Some(bytes) = gate.pop(known, false) {
                    out.extend_from_slice(&bytes);
                }
                prop_assert_eq!(out.len() as u64, release_limit(at as u64, known));
            }
            while let Some(bytes) = gate.pop(known, true) {
                out.extend_from_slice(&bytes);
            }
            prop_assert!(out == content);
        }
    }
}
