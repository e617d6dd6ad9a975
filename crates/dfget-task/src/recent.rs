//! The bytes that a download has stored last, for those who follow it closely.
//!
//! Readers follow the file; this only spares those at its end the way through it. What is here is
//! what was written, and is handed out under the same rules: never before it is counted as present.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dfget_storage::Entry;

/// Bytes kept: what is read from the network while a batch is handed out.
const KEPT: usize = 512 << 10;

/// A short window of one entry, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    entry: Option<Arc<Entry>>,
    start: u64,
    chunks: VecDeque<Bytes>,
    len: usize,
}

// === impl Recent ===

impl Recent {
    /// Adds what was stored at `start`; what is not joined to it goes.
    pub(crate) fn put(&mut self, entry: &Arc<Entry>, start: u64, chunks: &[Bytes]) {
        let same = self.entry.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, entry));
        if !same || self.start + self.len as u64 != start {
            *self = Self { entry: Some(Arc::clone(entry)), start, ..Self::default() };
        }
        for chunk in chunks {
            self.len += chunk.len();
            self.chunks.push_back(chunk.clone());
        }
        while let Some(first) = self.chunks.front().filter(|first| self.len - first.len() >= KEPT) {
            self.start += first.len() as u64;
            self.len -= first.len();
            self.chunks.pop_front();
        }
    }

    /// Bytes of `entry` from `offset` on, if they are here.
    pub(crate) fn get(&self, entry: &Arc<Entry>, offset: u64) -> Option<Bytes> {
        if !self.entry.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, entry)) {
            return None;
        }
        let mut before = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        for chunk in &self.chunks {
            if before < chunk.len() {
                return Some(chunk.slice(before..));
            }
            before -= chunk.len();
        }
        None
    }
}
