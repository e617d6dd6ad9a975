//! The digest of a content while its bytes arrive, in whatever order.

use dfget_core::{Digest, Hasher};
use dfget_storage::{Entry, ReadError};

/// Hashes a content from its start on. Bytes that arrive at the end of what is hashed are taken
/// from memory; those that came earlier, or by another connection, are read back from the store.
#[derive(Debug)]
pub(crate) struct PrefixHasher {
    hasher: Hasher,
    hashed: u64,
}

impl PrefixHasher {
    pub(crate) fn like(digest: &Digest) -> Self {
        Self { hasher: Hasher::like(digest), hashed: 0 }
    }

    /// How many bytes from the start are hashed.
    pub(crate) const fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Takes bytes that were just stored at `offset`, if they are the next to be hashed.
    pub(crate) fn feed(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if offset <= self.hashed && self.hashed < end {
            let known = usize::try_from(self.hashed - offset).unwrap_or(bytes.len());
            self.hasher.update(&bytes[known..]);
            self.hashed = end;
        }
    }

    /// Reads on in the store, up to the first byte that is not there or `until`. Blocking.
    ///
    /// # Errors
    /// Those of the read; what is hashed by then stays right.
    pub(crate) fn catch_up(&mut self, entry: &Entry, until: u64) -> Result<(), ReadError> {
        while self.hashed < until && entry.contiguous_from(self.hashed) > self.hashed {
            let mut bytes = entry.read(self.hashed, false)?;
            bytes.truncate(usize::try_from(until - self.hashed).unwrap_or(usize::MAX));
            self.hasher.update(&bytes);
            self.hashed += bytes.len() as u64;
        }
        Ok(())
    }

    /// The digest of what is hashed.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// The hash itself, to be continued elsewhere.
    pub(crate) fn into_hasher(self) -> Hasher {
        self.hasher
    }
}
