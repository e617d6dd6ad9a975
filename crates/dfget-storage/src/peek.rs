//! A look at a store that no daemon has open. Nothing is written, made or mended by it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::index::Index;
use crate::key::EntryKey;
use crate::time::from_unix;

/// An entry as the index knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peeked {
    /// All of it is there.
    pub complete: bool,
    /// Its bytes, if known.
    pub total: Option<u64>,
    /// When it was last used.
    pub accessed: SystemTime,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeekError {
    /// A daemon has it open.
    #[error("a daemon holds the store in {}", .0.display())]
    Held(PathBuf),
    /// This user may not look.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The index is damaged, or was not closed; the next start of the daemon mends it.
    #[error("the index of the store in {} cannot be read without a daemon", .0.display())]
    Index(PathBuf),
}

/// What the store in `dir` has of these names, in their order.
///
/// # Errors
/// [`PeekError`] by cause. A store that is not there has nothing, which is no error.
pub fn peek(dir: &Path, keys: &[EntryKey]) -> Result<Vec<Option<Peeked>>, PeekError> {
    let nothing = || vec![None; keys.len()];
    let path = dir.join("lock");
    // Held until the look is over: no daemon starts meanwhile.
    let lock = match OpenOptions::new().read(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(nothing()),
        Err(source) => return Err(PeekError::Unreadable { path, source }),
    };
    if let Err(Errno::WOULDBLOCK) = flock(&lock, FlockOperation::NonBlockingLockShared) {
        return Err(PeekError::Held(dir.to_owned()));
    }
    let index = dir.join("index.redb");
    match std::fs::File::open(&index) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(nothing()),
        Err(source) => return Err(PeekError::Unreadable { path: index, source }),
    }
    let rows = Index::look(&index, keys).map_err(|_| PeekError::Index(dir.to_owned()))?;
    let peeked = |row: Option<crate::index::EntryRow>| {
        row.map(|row| Peeked { complete: row.complete, total: row.total, accessed: from_unix(row.accessed) })
    };
    Ok(rows.into_iter().map(peeked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store};

    #[test]
    fn a_look_changes_nothing_and_respects_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let keys = [EntryKey::new("there"), EntryKey::new("gone")];
        assert_eq!(peek(&dir, &keys).unwrap(), [None, None]);
        assert!(!dir.exists());
        let options = Options { dir: dir.clone(), quota_bytes: None, disk_percent: None, expire: None };
        let (store, _) = Store::open(options, SystemTime::now()).unwrap();
        store.create(keys[0].clone(), Vec::new(), Some(7), SystemTime::now()).unwrap();
        assert!(matches!(peek(&dir, &keys), Err(PeekError::Held(_))));
        store.flush().unwrap();
        drop(store);
        let seen = peek(&dir, &keys).unwrap();
        assert_eq!(seen[0].map(|entry| (entry.complete, entry.total)), Some((false, Some(7))));
        assert_eq!(seen[1], None);
        std::fs::write(dir.join("index.redb"), b"nonsense").unwrap();
        assert!(matches!(peek(&dir, &keys), Err(PeekError::Index(_))));
    }
}
