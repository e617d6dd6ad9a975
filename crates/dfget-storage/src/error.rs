//! What can go wrong, one enum per kind of call, each variant a thing the caller can act on.
//!
//! The texts name the file or directory and the next step to type. Nothing a client sent, and so
//! no credential, is part of them.

use std::{io, ops::Range, path::PathBuf};

use rustix::io::Errno;

use crate::key::EntryKey;

/// Why the store cannot be opened, or an entry not made, named or flushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another daemon has this store open.
    #[error(
        "the store in {} is in use by {}; stop that one, or set `dataDir` to another directory",
        dir.display(), holder(host.as_deref(), *pid)
    )]
    Locked {
        /// The directory of the store.
        dir: PathBuf,
        /// The host on which that one runs, if it left its name and is not on this host: the
        /// directory lies on a file system that both mount.
        host: Option<String>,
        /// The process that holds the lock, if it left its number; it counts on that host.
        pid: Option<u32>,
    },
    /// The directory belongs to somebody else, who could change what we serve.
    #[error(
        "{} belongs to uid {owner}, but this daemon runs as uid {own}; type `chown -R {own} {}`, \
         or set `dataDir` to another directory",
        path.display(), path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective uid of this process.
        own: u32,
    },
    /// Others may write into the directory, and so change what we serve.
    #[error(
        "{} can be written by others (mode {mode:04o}); type `chmod go-w {}`, or set `dataDir` to \
         another directory",
        path.display(), path.display()
    )]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something else than a directory stands where the store keeps one.
    #[error(
        "{} is not a directory of its own (a file or a link); remove it, or set `dataDir` to \
         another directory",
        path.display()
    )]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The index was written by a newer version of this program.
    #[error(
        "{} was written by a newer dfget (layout {found}; this one knows {known}); install that \
         version, set `dataDir` to another directory, or give up the cache with `rm {}`",
        path.display(), path.display()
    )]
    Newer {
        /// The index file.
        path: PathBuf,
        /// The layout it has.
        found: u32,
        /// The newest layout this version reads.
        known: u32,
    },
    /// The index cannot be read or written.
    #[error("the index {} cannot be used: {source}; check the disk and its free space", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// The cause, from the index.
        #[source]
        source: Box<redb::Error>,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `read`, `lock`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The content is larger than the quota, or than what is free on the disk and what may be
    /// evicted for it. Nothing was.
    #[error(
        "a content of {total} bytes is too large for the store, which has room for {room}; free some \
         on the disk of `dataDir`, or raise `diskGCThreshold` if that is set"
    )]
    TooLarge {
        /// The length of the content.
        total: u64,
        /// The greatest length that would have been taken.
        room: u64,
    },
    /// The entry was evicted, replaced or removed meanwhile; begin a new one.
    #[error("{key} was removed from the store meanwhile")]
    Removed {
        /// The entry's key.
        key: EntryKey,
    },
    /// An entry with holes, or one of unknown length, cannot be published.
    #[error("{key} is not whole: {present} of {} bytes are here", total.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string()))]
    Incomplete {
        /// The entry's key.
        key: EntryKey,
        /// Bytes that are here.
        present: u64,
        /// Bytes that should be, if known.
        total: Option<u64>,
    },
    /// Two different lengths were given for one entry, or more bytes are here than it may have.
    #[error("{key} cannot be {asked} bytes long: it is {known}")]
    Total {
        /// The entry's key.
        key: EntryKey,
        /// The length that holds, or the bytes already here.
        known: u64,
        /// The length that was asked for.
        asked: u64,
    },
}

/// Why bytes were not taken. Nothing of the block that failed counts as present.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No space, quota of the user or file size limit: old entries were evicted and it was not
    /// enough, or none were, because all that may leave for one content would not have been.
    #[error(
        "no space for the store ({0}); free some on its disk, or lower `diskGCThreshold` so that \
         old entries leave earlier"
    )]
    Full(#[source] io::Error),
    /// The bytes do not continue what is there.
    #[error("bytes at {offset} leave a gap: their block has bytes up to {expected}")]
    Gap {
        /// Where the bytes should have gone.
        offset: u64,
        /// Where the next bytes of that block belong.
        expected: u64,
    },
    /// The bytes lie behind the end of the entry.
    #[error("bytes up to {end} lie behind the end ({total})")]
    Beyond {
        /// End of the bytes that were given.
        end: u64,
        /// The length of the entry.
        total: u64,
    },
    /// The entry was evicted, replaced or removed, or the store is closed.
    #[error("the entry was removed from the store meanwhile")]
    Removed,
    /// The disk, or the index on it, failed.
    #[error("the store cannot be written: {0}; check the disk")]
    Io(#[source] io::Error),
}

/// Why no bytes came back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not in memory; ask again where waiting for the disk is allowed.
    #[error("the bytes must come from the disk first")]
    WouldBlock,
    /// There is no byte at this offset (not yet, or the entry ends before).
    #[error("no byte is there yet")]
    Absent,
    /// What the disk gave is not what was written. It is not handed out; fetch the block again.
    #[error("bytes {} to {} changed on disk since they were written", block.start, block.end)]
    Rotten {
        /// The stretch to fetch again: one block, the last one possibly short.
        block: Range<u64>,
    },
    /// The disk, or the index on it, failed.
    #[error("the store cannot be read: {0}; check the disk")]
    Io(#[source] io::Error),
}

/// Why a block could not be put right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The bytes are not those that stood there once.
    #[error("these are not the bytes that were stored at {block_start}")]
    Mismatch {
        /// Where the block begins.
        block_start: u64,
    },
    /// The block is not one that was finished, or the offset is not the start of a block.
    #[error("no finished block begins at {block_start}")]
    NoBlock {
        /// The offset that was given.
        block_start: u64,
    },
    /// A block of a complete entry can only be rewritten or the entry removed.
    #[error("a complete entry keeps its blocks; repair the block or remove the entry")]
    Complete,
    /// The bytes could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The other daemon, in words.
fn holder(host: Option<&str>, pid: Option<u32>) -> String {
    let process = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    match host {
        Some(host) => format!("{process} on host {host}"),
        None => process,
    }
}

// === impl ReadError ===

impl ReadError {
    /// Whether the bytes will not come back by asking again: they changed on disk
    /// ([`Self::Rotten`]), their file is gone or replaced by something else, or the disk cannot
    /// read it (`EIO`, or a file system that found itself damaged). Then they have to be fetched
    /// again; what cannot be repaired is to be removed.
    ///
    /// All other errors pass: too many open files, too little memory, an index that is busy or
    /// does not open. The entry is to be kept, whatever becomes of this one read.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Rotten { .. } => true,
            Self::Io(error) => is_gone(error) || is_damaged(error),
            Self::WouldBlock | Self::Absent => false,
        }
    }
}

// === conversions ===

impl StoreError {
    /// An I/O error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// The plain I/O error of a failure inside a read or append, where no path helps the caller.
pub(crate) fn into_io(error: StoreError) -> io::Error {
    match error {
        StoreError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// Whether the error says that a file of ours is not there any more: deleted (here, or by another
/// node of a network file system), or something else stands in its place.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE))
}

/// Whether the error says that the disk, or the file system on it, has lost what it should read:
/// `EIO`, and the names that ext4 and XFS give to damage they find (`EUCLEAN`, `EBADMSG`).
fn is_damaged(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_data_last() {
        let io = |code: Errno| ReadError::Io(code.into());
        for code in [Errno::NOENT, Errno::STALE, Errno::LOOP, Errno::IO, Errno::UCLEAN, Errno::BADMSG] {
            assert!(io(code).is_lasting(), "{code}");
        }
        for code in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::ACCESS] {
            assert!(!io(code).is_lasting(), "{code}");
        }
        assert!(ReadError::Rotten { block: 0..1 }.is_lasting());
        assert!(!ReadError::WouldBlock.is_lasting());
        assert!(!ReadError::Absent.is_lasting());
    }

    #[test]
    fn an_index_that_fails_says_nothing_of_the_data() {
        let source = Box::new(redb::Error::Io(Errno::IO.into()));
        let index = StoreError::Index { path: "/store/index.redb".into(), source };
        assert!(!ReadError::Io(into_io(index)).is_lasting());
    }
}
