//! Buffers for what comes, lent out and taken back, so that a busy reader neither allocates nor clears memory.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a buffer: a block of the storage, which is small enough to stay in the processor's cache from the
/// socket to the CRC.
pub(crate) const BUFFER: usize = 128 << 10;

/// Idle buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Arc<Buffers>,
}

// === impl Buffers ===

impl Buffers {
    /// A buffer of `len` bytes, at most [`BUFFER`], whose content means nothing.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let len = len.min(BUFFER);
        let bytes = if len <= SHORT {
            vec![0; len].into_boxed_slice()
        } else {
            let spare = self.spare.lock().pop();
            spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
        };
        Buffer { bytes, len, pool: Arc::clone(self) }
    }
}

// === impl Buffer ===

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// The bytes, to be handed on without a copy.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == BUFFER {
            let mut spare = self.pool.spare.lock();
            if spare.len() < SPARE {
                spare.push(mem::take(&mut self.bytes));
            }
        }
    }
}

/// Up to this many bytes a buffer is made to measure.
const SHORT: usize = 16 << 10;
/// Idle buffers kept: 16 MiB, four pieces.
const SPARE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_short_ones_are_made_to_measure() {
        let buffers = Arc::new(Buffers::default());
        let bytes = buffers.take(BUFFER).freeze();
        let part = bytes.slice(5..);
        drop(bytes);
        assert!(buffers.spare.lock().is_empty(), "somebody reads it");
        drop(part);
        assert_eq!(buffers.spare.lock().len(), 1);
        assert_eq!(buffers.take(BUFFER * 2).as_mut().len(), BUFFER);
        drop(buffers.take(7).freeze());
        assert_eq!(buffers.spare.lock().len(), 1);
    }
}
