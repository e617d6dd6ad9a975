//! Bytes that the kernel takes from the page cache to a socket, without a copy of ours.
//!
//! What is sent like that is not read here, so it must have been before: a block goes this way only if it was
//! compared with its CRC within the last minute, and the file has not been written since. A change of the file is
//! seen by its times; what a disk gives back wrongly can only come in once the block has left the page cache, and
//! is found by the next comparison.

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    blocks::BLOCK,
    entry::Entry,
    files::{DataFile, Stamp},
};

/// How long a comparison counts.
const COUNTS_FOR: Duration = Duration::from_secs(60);

/// A file that was written more lately may be written again within the same tick of its times.
const SETTLED: Duration = Duration::from_secs(1);

/// A stretch of a content, to be sent once.
pub struct FilePart {
    file: Arc<DataFile>,
    /// Of the file, when its bytes were compared.
    stamp: Stamp,
    offset: u64,
    len: u64,
}

/// Which blocks of an entry were compared, and when.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Of the file, as it was before.
    stamp: Stamp,
    base: Instant,
    /// For each block: seconds from `base` to its last comparison, and one; 0 = none.
    seconds: Vec<u32>,
}

// === impl Checked ===

impl Checked {
    fn new(stamp: Stamp, now: Instant) -> Self {
        Self { stamp, base: now, seconds: Vec::new() }
    }

    fn note(&mut self, block: usize, now: Instant) {
        if self.seconds.len() <= block {
            self.seconds.resize(block + 1, 0);
        }
        let seconds = now.saturating_duration_since(self.base).as_secs();
        self.seconds[block] = u32::try_from(seconds).unwrap_or(u32::MAX - 1) + 1;
    }

    fn counts(&self, block: usize, now: Instant) -> bool {
        let Some(seconds) = self.seconds.get(block).and_then(|seconds| seconds.checked_sub(1)) else {
            return false;
        };
        now.saturating_duration_since(self.base + Duration::from_secs(seconds.into())) < COUNTS_FOR
    }
}

impl Entry {
    /// The bytes from `offset` on that may be sent as they lie on disk, at most `most`; `None` if they must be read,
    /// by [`Self::read_noting`] so that they need not be the next time.
    pub fn sendable(&self, offset: u64, most: u64, now: Instant) -> Option<FilePart> {
        let total = self.total().filter(|_| self.is_complete())?;
        let checked = self.checked.lock();
        let checked = checked.as_ref()?;
        let first = usize::try_from(offset / BLOCK).ok()?;
        let blocks = (first..).take_while(|block| checked.counts(*block, now));
        let wanted = (offset % BLOCK + most).div_ceil(BLOCK);
        let count = blocks.take(usize::try_from(wanted).ok()?).count() as u64;
        let end = ((offset / BLOCK + count) * BLOCK).min(total).min(offset + most);
        let len = end.checked_sub(offset).filter(|len| *len > 0)?;
        let file = self.open_file()?;
        let stamp = file.stamp().ok().filter(|stamp| *stamp == checked.stamp)?;
        Some(FilePart { file, stamp, offset, len })
    }

    /// Notes that the block at `offset` was read and found right from a file that was as `stamp` says before.
    pub(crate) fn note_checked(&self, offset: u64, stamp: Stamp, now: Instant) {
        if !stamp.is_older_than(SETTLED, SystemTime::now()) {
            return;
        }
        let mut checked = self.checked.lock();
        if checked.as_ref().is_none_or(|checked| checked.stamp != stamp) {
            *checked = Some(Checked::new(stamp, now));
        }
        if let (Some(checked), Ok(block)) = (&mut *checked, usize::try_from(offset / BLOCK)) {
            checked.note(block, now);
        }
    }
}

// === impl FilePart ===

impl FilePart {
    /// How many bytes are still to be sent.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether all is sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sends what the socket takes of it, and returns how much that was.
    ///
    /// # Errors
    /// That of the socket, `WouldBlock` among them; `UnexpectedEof` if the file was written since.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // A slow client may come to it long after it was looked at.
        if !self.file.stamp()?.is_of_same_content(&self.stamp) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sent = self.file.send_to(socket, self.offset, self.len)?;
        if sent == 0 && self.len > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += sent as u64;
        self.len -= sent as u64;
        Ok(sent)
    }
}

impl fmt::Debug for FilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilePart({} bytes from {})", self.len, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_counts_for_a_minute() {
        let start = Instant::now();
        let mut checked = Checked::new(Stamp::default(), start);
        checked.note(3, start + Duration::from_secs(5));
        let counts = |block, seconds| checked.counts(block, start + Duration::from_secs(seconds));
        assert!(counts(3, 5) && counts(3, 64) && !counts(3, 65));
        assert!(!counts(2, 5) && !counts(4, 5));
    }
}
