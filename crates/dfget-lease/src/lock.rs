//! Locks that end with their process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped, or its process ends, however that happens.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

// === impl Lock ===

impl Lock {
    /// Waits for the lock at `path`, at most `patience`; `None` if somebody else kept it.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(lock) = try_lock(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Takes the lock at `path` if nobody has it.
///
/// # Errors
/// The file cannot be made or locked.
pub fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left_of_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = try_lock(&path).unwrap().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        assert!(Lock::take(&path, Duration::from_millis(20)).unwrap().is_none());
        drop(first);
        assert!(
            Lock::take(&path, Duration::ZERO).unwrap().is_some(),
            "the file that is left holds nobody up"
        );
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::os::unix::fs::symlink(&target, directory.path().join("lock")).unwrap();
        assert!(try_lock(&directory.path().join("lock")).is_err());
        assert!(!target.exists());
    }
}
