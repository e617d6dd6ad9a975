//! Buffers of one block, lent out and taken back, so that a busy reader allocates nothing.
//!
//! A buffer stays initialised for life: it is neither cleared nor grown between two uses, and only
//! the bytes that a read filled can be seen. At most [`SPARE`] idle buffers are kept.

use std::{mem, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::blocks::BLOCK;

/// Idle buffers, ready for the next read.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan: `len` bytes to fill, then to hand on.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Arc<Pool>,
}

impl Pool {
    /// A buffer of `len` bytes with unspecified content.
    ///
    /// Short ones are made to measure: a config blob of 2 bytes must not hold 128 KiB for as long
    /// as its client takes to read it.
    #[must_use]
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let bytes = if len <= SHORT || len > BLOCK as usize {
            vec![0; len].into_boxed_slice()
        } else {
            let spare = self.spare.lock().pop();
            spare.unwrap_or_else(|| vec![0; BLOCK as usize].into_boxed_slice())
        };
        Buffer { bytes, len, pool: Arc::clone(self) }
    }
}

impl Buffer {
    /// The filled bytes, to be handed on without a copy.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsMut<[u8]> for Buffer {
    /// The bytes, to be filled.
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == BLOCK as usize {
            let mut spare = self.pool.spare.lock();
            if spare.len() < SPARE {
                spare.push(mem::take(&mut self.bytes));
            }
        }
    }
}

/// Up to this many bytes a buffer is made to measure.
const SHORT: usize = 16 * 1024;
/// Idle buffers kept: 8 MiB.
const SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_gone() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(BLOCK as usize - 1);
        buffer.as_mut().fill(7);
        let bytes = buffer.freeze();
        let part = bytes.slice(10..20);
        drop(bytes);
        assert!(pool.spare.lock().is_empty(), "a slice still reads it");
        assert_eq!(part, [7; 10].as_slice());
        drop(part);
        assert_eq!(pool.spare.lock().len(), 1);
        assert_eq!(pool.take(SHORT + 1).as_ref().len(), SHORT + 1);
    }

    #[test]
    fn a_short_read_holds_little() {
        let pool = Arc::new(Pool::default());
        drop(pool.take(2).freeze());
        assert!(pool.spare.lock().is_empty());
    }
}
