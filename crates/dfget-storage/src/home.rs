//! The directory of the store: made private, locked against a second daemon, and looked at for
//! network file systems.
//!
//! A directory that somebody else owns or may write into is refused: who can swap a file there
//! decides what every later pull gets. One that others may merely read is accepted, since the data
//! lies in `tasks/`, which only its owner enters.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process,
};

use rustix::{
    fs::{FlockOperation, flock, statfs, statvfs},
    io::Errno,
    process::geteuid,
    system::uname,
};

use crate::{error::StoreError, evict::Disk, files::private};

/// Something to tell the administrator when the store opens; it works all the same.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OpenWarning {
    /// The store lies on a network or parallel file system.
    NetworkFileSystem {
        /// The directory of the store.
        dir: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// The file system has no locks, so a second daemon on this store would not be noticed.
    NoLock {
        /// The directory of the store.
        dir: PathBuf,
    },
}

impl fmt::Display for OpenWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkFileSystem { dir, kind } => write!(
                f,
                "{} is on {kind}: slow for many small writes, and not every lock and flush holds \
                 there; set `dataDir` to a disk of this node",
                dir.display()
            ),
            Self::NoLock { dir } => write!(
                f,
                "{} cannot be locked, so a second daemon there would not be noticed; set `dataDir` \
                 to a disk of this node",
                dir.display()
            ),
        }
    }
}

/// Makes `dir` and what is missing above it, mode 0700, or checks the one that is there.
///
/// # Errors
/// [`StoreError::NotOurs`], [`StoreError::OpenToOthers`], or the file system refuses.
pub(crate) fn make_store_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("create", dir))?;
    let meta = fs::metadata(dir).map_err(StoreError::io("read", dir))?;
    check(dir, &meta)
}

/// Makes one directory of the store, or checks the one that is there; a link is refused.
///
/// # Errors
/// As [`make_store_dir`], and [`StoreError::NotADirectory`].
pub(crate) fn make_private(dir: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    let meta = match (made, fs::symlink_metadata(dir)) {
        (_, Ok(meta)) => meta,
        (Err(error), Err(_)) => return Err(StoreError::io("create", dir)(error)),
        (Ok(()), Err(error)) => return Err(StoreError::io("read", dir)(error)),
    };
    if !meta.is_dir() {
        return Err(StoreError::NotADirectory { path: dir.to_owned() });
    }
    check(dir, &meta)
}

fn check(path: &Path, meta: &fs::Metadata) -> Result<(), StoreError> {
    let own = geteuid().as_raw();
    let path = path.to_owned();
    let mode = meta.mode() & 0o7777;
    if meta.uid() != own {
        return Err(StoreError::NotOurs { path, owner: meta.uid(), own });
    }
    if mode & 0o022 != 0 {
        return Err(StoreError::OpenToOthers { path, mode });
    }
    Ok(())
}

/// Takes the lock of the store, for as long as the returned file is open.
///
/// # Errors
/// [`StoreError::Locked`] if another process has it.
pub(crate) fn lock(dir: &Path) -> Result<(File, Option<OpenWarning>), StoreError> {
    let path = dir.join("lock");
    let mut file =
        private().create(true).truncate(false).open(&path).map_err(StoreError::io("open", &path))?;
    let warning = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => None,
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // name and number help the reader of the message; without them there is still one
            let _ = file.take(HOLDER_BYTES).read_to_string(&mut text);
            let (host, pid) = parse_holder(&text);
            let host = host.filter(|host| *host != own_host()).map(str::to_owned);
            return Err(StoreError::Locked { dir: dir.to_owned(), host, pid });
        }
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => {
            Some(OpenWarning::NoLock { dir: dir.to_owned() })
        }
        Err(error) => return Err(StoreError::io("lock", path)(error.into())),
    };
    // a full disk must not keep the daemon from starting, and the lock holds without its text
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{} {}", own_host(), process::id()));
    Ok((file, warning))
}

/// The host and the process that the text of a lock names. Of a name only what host names are made
/// of is taken, since it will be printed.
fn parse_holder(text: &str) -> (Option<&str>, Option<u32>) {
    let mut words = text.split_whitespace().rev();
    let pid = words.next().and_then(|pid| pid.parse().ok());
    let host = words.next().filter(|host| {
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    });
    (host, pid)
}

/// The name of this host, as `uname -n` tells it.
fn own_host() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// The kind of network or parallel file system that `dir` is on; `None` for a disk of this node.
#[must_use]
pub fn network_file_system(dir: &Path) -> Option<&'static str> {
    let magic = statfs(dir).ok()?.f_type;
    // the width and sign of the field differ by architecture; the magic numbers have 32 bits
    kind_of(magic as u32)
}

/// The warning due if `dir` is not on a disk of this node.
pub(crate) fn network_warning(dir: &Path) -> Option<OpenWarning> {
    let kind = network_file_system(dir)?;
    Some(OpenWarning::NetworkFileSystem { dir: dir.to_owned(), kind })
}

/// The disk that `dir` is on, as `df` counts it: space kept for root is neither used nor free.
///
/// # Errors
/// The file system does not answer.
pub(crate) fn disk(dir: &Path) -> Result<Disk, StoreError> {
    let stat = statvfs(dir).map_err(|error| StoreError::io("measure", dir)(error.into()))?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let total = used.saturating_add(stat.f_bavail).saturating_mul(stat.f_frsize);
    Ok(Disk { total, free: stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// The name of a file system of many nodes, by its number in `statfs(2)`.
fn kind_of(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x0000_517b => "CIFS",
        0x00c3_6400 => "CephFS",
        0x2003_0528 => "OrangeFS",
        0xaad7_aaea => "PanFS",
        0x5346_414f => "AFS",
        0x0102_1997 => "9p",
        _ => return None,
    })
}

/// More than the text of a lock has: a host name has 64 bytes at most.
const HOLDER_BYTES: u64 = 128;

#[cfg(test)]
#[path = "tests/home.rs"]
mod tests;
