//! Bytes in and out of an entry.
//!
//! Writing: claim a block, write without a lock, then count the bytes. What a failed write left on
//! disk is never counted, and a full disk first costs the least recently used entries.
//!
//! Reading: a full block is read whole and its CRC compared before any of it is handed out, and
//! what was compared is what is handed out. A block that is still being filled was written by this
//! very process a moment ago and is handed out as it is.

use std::{
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use rustix::io::Errno;

use crate::{
    blocks::{Claim, Step, View},
    entry::Entry,
    error::{ReadError, RepairError, StoreError, WriteError, into_io},
    files::DataFile,
    shared::Shared,
};

impl Entry {
    /// Writes `data` at `offset` and counts it as present; blocks until the kernel has it.
    ///
    /// `offset` must be the start of an empty block or continue the filled part of one; bytes that
    /// are here already are skipped, not rewritten. Several threads may append, each to its own
    /// blocks; two at one block take turns.
    ///
    /// # Errors
    /// See [`WriteError`]. Blocks before the one that failed are kept, so the same call can be
    /// made again.
    pub fn append(self: &Arc<Self>, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        self.append_parts(offset, &[data]).map(|_| ())
    }

    /// As [`Self::append`], for bytes that lie in several places: each block is written by one call
    /// of the kernel, however many parts it is made of. Returns how many bytes were written: fewer than
    /// were given if some were here already, which may be others.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_parts(self: &Arc<Self>, offset: u64, parts: &[&[u8]]) -> Result<u64, WriteError> {
        let shared = self.shared.upgrade().ok_or(WriteError::Removed)?;
        let file = self.file().map_err(write_error)?;
        let _not_evicted_for_its_own_bytes = self.pin();
        let mut offset = offset;
        let mut rest = Parts::new(parts);
        let mut written = 0;
        while rest.len > 0 {
            let (taken, claim) = self.claim(offset, rest.len)?;
            let taken_parts = rest.take(taken);
            if let Some(claim) = claim {
                written += claim.len;
                self.write(&shared, &file, claim, taken_parts)?;
            }
            offset += taken;
        }
        Ok(written)
    }

    /// Reads from `offset` to the end of what is present of its block: at most
    /// [`BLOCK`](crate::BLOCK) bytes, at least one.
    ///
    /// With `nowait` only what is in memory is read; where the file system cannot tell, the call
    /// waits for the disk all the same.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, offset: u64, nowait: bool) -> Result<Bytes, ReadError> {
        self.read_and(offset, nowait, None)
    }

    /// As [`Self::read`]; and a whole block that was found right can be [sent](Self::sendable) as it lies on disk, for
    /// a while from `now` on.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_noting(&self, offset: u64, nowait: bool, now: Instant) -> Result<Bytes, ReadError> {
        self.read_and(offset, nowait, Some(now))
    }

    fn read_and(&self, offset: u64, nowait: bool, note: Option<Instant>) -> Result<Bytes, ReadError> {
        if nowait && !self.is_warm() {
            return Err(ReadError::WouldBlock);
        }
        let (view, complete) = {
            let state = self.loaded().map_err(read_error)?;
            (state.blocks.view(offset), state.complete)
        };
        let Some(view) = view else {
            // a complete entry has all its bytes, so one without its CRC has lost it
            let lost = complete.then(|| self.block_at(offset)).flatten();
            return Err(lost.map_or(ReadError::Absent, |block| ReadError::Rotten { block }));
        };
        let file = self.file().map_err(read_error)?;
        // Before the bytes: whoever changes them from now on changes it.
        let note = note.filter(|_| view.full && complete).and_then(|now| Some((now, file.stamp().ok()?)));
        let from = if view.full { view.start } else { offset };
        let len = view.start + view.filled - from;
        let mut buffer = self.pool.take(len as usize);
        let got = if nowait {
            file.read_cached(buffer.as_mut(), from).map_err(failed)?.ok_or(ReadError::WouldBlock)?
        } else {
            file.read_at(buffer.as_mut(), from).map_err(failed)?
        };
        let bytes = buffer.freeze();
        if (got as u64) < len || (view.full && crc32fast::hash(&bytes) != view.crc) {
            return Err(ReadError::Rotten { block: view.start..view.start + view.filled });
        }
        if let Some((now, stamp)) = note {
            self.note_checked(view.start, stamp, now);
        }
        Ok(bytes.slice((offset - from) as usize..))
    }

    /// The CRC-32 of `range`, put together from those of its blocks; no byte of it is read.
    ///
    /// `range` begins where a block does and ends where one does, or at the end of the entry, and all of it
    /// is here. With `nowait` no index is asked for what a restart or an idle time has left there only.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if a block of it is not here as a whole, [`ReadError::WouldBlock`] with `nowait`,
    /// [`ReadError::Io`] if the index cannot be read.
    pub fn crc_of(&self, range: Range<u64>, nowait: bool) -> Result<u32, ReadError> {
        if nowait && !self.is_warm() {
            return Err(ReadError::WouldBlock);
        }
        let state = self.loaded().map_err(read_error)?;
        state.blocks.crc_of(range).ok_or(ReadError::Absent)
    }

    /// Rewrites a rotten block with `data`, if that is what once stood there.
    ///
    /// If a complete entry cannot be repaired, because the origin has other bytes now or the CRC
    /// was lost, what is left is to remove it.
    ///
    /// # Errors
    /// [`RepairError::Mismatch`] if it is not, [`RepairError::NoBlock`] if no finished block begins
    /// at `block_start`, [`RepairError::Write`] if it cannot be written.
    pub fn repair(self: &Arc<Self>, block_start: u64, data: &[u8]) -> Result<(), RepairError> {
        let shared = self.shared.upgrade().ok_or(WriteError::Removed)?;
        let file = self.file().map_err(write_error)?;
        let _not_evicted_for_its_own_bytes = self.pin();
        let view = self.full_block(block_start)?;
        if data.len() as u64 != view.filled || crc32fast::hash(data) != view.crc {
            return Err(RepairError::Mismatch { block_start });
        }
        self.write_at(&shared, &file, &[data], view.filled, block_start)?;
        self.state().blocks.mark_changed([block_start / crate::blocks::STRETCH]);
        self.mark_dirty(view.filled);
        Ok(())
    }

    /// Forgets a rotten block of a partial entry, so that it is missing and can be appended again.
    ///
    /// # Errors
    /// [`RepairError::Complete`] for a complete entry, [`RepairError::NoBlock`] if no finished
    /// block begins at `block_start`.
    pub fn drop_block(self: &Arc<Self>, block_start: u64) -> Result<(), RepairError> {
        let mut state = self.loaded().map_err(write_error)?;
        if state.complete {
            return Err(RepairError::Complete);
        }
        let dropped = state.blocks.drop_block(block_start);
        drop(state);
        let len = dropped.ok_or(RepairError::NoBlock { block_start })?;
        self.allocated.fetch_sub(len.min(self.allocated_bytes()), Ordering::Relaxed);
        self.mark_dirty(0);
        Ok(())
    }

    /// Claims the block at `offset`, after any other writer has left it.
    ///
    /// Tells how many of the `len` bytes it takes or has already, and the claim if it takes some.
    fn claim(&self, offset: u64, len: u64) -> Result<(u64, Option<Claim>), WriteError> {
        let mut state = self.loaded().map_err(write_error)?;
        loop {
            if state.removed {
                return Err(WriteError::Removed);
            }
            match state.blocks.begin(offset, len) {
                Step::Busy => self.block_left.wait(&mut state),
                Step::Skip(len) => return Ok((len, None)),
                Step::Write(claim) => return Ok((claim.skip + claim.len, Some(claim))),
                Step::Gap { expected } => return Err(WriteError::Gap { offset, expected }),
                Step::Beyond { end, total } => return Err(WriteError::Beyond { end, total }),
            }
        }
    }

    fn write(
        self: &Arc<Self>,
        shared: &Shared,
        file: &DataFile,
        claim: Claim,
        mut data: Vec<&[u8]>,
    ) -> Result<(), WriteError> {
        let claim = Claimed { entry: self, claim: Some(claim) };
        let (at, crc) = claim.cut(&mut data);
        let len = data.iter().map(|part| part.len() as u64).sum();
        self.write_at(shared, file, &data, len, at)?;
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        data.iter().for_each(|part| hasher.update(part));
        claim.finish(hasher.finalize());
        self.allocated.fetch_add(len, Ordering::Relaxed);
        self.mark_dirty(len);
        Ok(())
    }

    /// Writes; where the disk is full, old entries may leave for it.
    fn write_at(
        &self,
        shared: &Shared,
        file: &DataFile,
        parts: &[&[u8]],
        len: u64,
        offset: u64,
    ) -> Result<(), WriteError> {
        let write = || {
            let _turn = self.writing.lock();
            file.write_parts_at(parts, offset)
        };
        shared.write_with_room(self, len, write).map_err(|error| {
            let kind = if is_full(error) { WriteError::Full } else { WriteError::Io };
            kind(error.into())
        })
    }

    fn full_block(&self, block_start: u64) -> Result<View, RepairError> {
        let state = self.loaded().map_err(write_error)?;
        state.blocks.full_block(block_start).ok_or(RepairError::NoBlock { block_start })
    }

    /// The bounds of the block that `offset` lies in, if the entry has one there.
    fn block_at(&self, offset: u64) -> Option<Range<u64>> {
        let total = self.total().filter(|&total| offset < total)?;
        let start = offset / crate::BLOCK * crate::BLOCK;
        Some(start..total.min(start + crate::BLOCK))
    }
}

/// Bytes in several places, taken from the front.
struct Parts<'d> {
    parts: &'d [&'d [u8]],
    /// How much of the first part is taken.
    taken: usize,
    len: u64,
}

impl<'d> Parts<'d> {
    fn new(parts: &'d [&'d [u8]]) -> Self {
        Self { parts, taken: 0, len: parts.iter().map(|part| part.len() as u64).sum() }
    }

    /// The next `len` bytes; there must be so many.
    fn take(&mut self, len: u64) -> Vec<&'d [u8]> {
        let mut wanted = len as usize;
        let mut out = Vec::with_capacity(self.parts.len().min(16));
        while let (Some((first, others)), true) = (self.parts.split_first(), wanted > 0) {
            let part = &first[self.taken..];
            if part.len() <= wanted {
                out.push(part);
                wanted -= part.len();
                (self.parts, self.taken) = (others, 0);
            } else {
                out.push(&part[..wanted]);
                self.taken += wanted;
                wanted = 0;
            }
        }
        self.len -= len;
        out
    }
}

/// A claim that is given back if it is not finished.
struct Claimed<'a> {
    entry: &'a Entry,
    claim: Option<Claim>,
}

impl Claimed<'_> {
    /// Takes from the front what is here already; where to write the rest, and the CRC it continues.
    fn cut(&self, data: &mut Vec<&[u8]>) -> (u64, u32) {
        let claim = self.claim.as_ref().expect("present until finish() takes it");
        let mut skip = claim.skip as usize;
        data.retain_mut(|part| {
            let cut = skip.min(part.len());
            *part = &part[cut..];
            skip -= cut;
            !part.is_empty()
        });
        (claim.offset, claim.crc)
    }

    fn finish(mut self, crc: u32) {
        if let Some(claim) = self.claim.take() {
            self.entry.state().blocks.finish(&claim, crc);
            self.entry.block_left.notify_all();
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.entry.state().blocks.abandon(&claim);
            self.entry.block_left.notify_all();
        }
    }
}

/// No space, no quota, or a limit on the size of a file (`ulimit -f`). The last is not cured by
/// evicting others, but for the caller it is the same: go on without the store.
fn is_full(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

fn failed(error: Errno) -> ReadError {
    ReadError::Io(error.into())
}

fn read_error(error: StoreError) -> ReadError {
    ReadError::Io(into_io(error))
}

fn write_error(error: StoreError) -> WriteError {
    match error {
        StoreError::Removed { .. } => WriteError::Removed,
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => WriteError::Removed,
        other => WriteError::Io(into_io(other)),
    }
}
