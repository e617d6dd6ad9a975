//! Where the key of a cluster lies, as munge keeps its own: one file, the same on all nodes, that
//! nobody but its owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::key::{ClusterKey, KeyError};

/// Why there is no key. Every text names the file and the remedy, none a part of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It is not there.
    #[error(
        "there is no cluster key at {}: make one with `dfget cluster key > FILE` on one node and copy it to all (mode 0600)",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the cluster key {}: {source}; it must be a file of the user that the daemon runs as", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("the cluster key {} is no regular file: name one that `dfget cluster key` filled", path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("others can read the cluster key {0} (mode {mode:04o}): run `chmod 600 {0}`", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the cluster key {0} belongs to user {owner}: run `chown root {0}`, or have a copy of your own", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It holds no key.
    #[error("the cluster key {} is unusable: {source}; make one with `dfget cluster key > FILE` and copy it to all nodes", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        source: KeyError,
    },
    /// It cannot be made.
    #[error("cannot make the cluster key {}: {source}; make one with `dfget cluster key > FILE` (mode 0600)", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads the key file.
///
/// # Errors
/// [`KeyFileError`]: it is missing, others can read it, it is another user's, or holds no key.
pub fn read_key(path: &Path) -> Result<ClusterKey, KeyFileError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Unreadable { path: path.to_owned(), source },
    };
    // A pipe without a writer must not hold up the start.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NoFile { path: path.to_owned() });
    }
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyFileError::Owner { path: path.to_owned(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut content = Vec::new();
    file.take(LIMIT_BYTES).read_to_end(&mut content).map_err(unreadable)?;
    ClusterKey::parse(&content).map_err(|source| KeyFileError::Content { path: path.to_owned(), source })
}

/// Reads the key file; where it is missing it is made, and whoever makes it at the same time, on
/// this node or another one of the same file system, reads the one that came first.
///
/// # Errors
/// As [`read_key`], and [`KeyFileError::Unwritable`].
pub fn read_or_make_key(path: &Path) -> Result<ClusterKey, KeyFileError> {
    match read_key(path) {
        Err(KeyFileError::Missing { .. }) => {}
        other => return other,
    }
    let key =
        ClusterKey::generate().map_err(|source| KeyFileError::Content { path: path.to_owned(), source })?;
    place(path, &key).map_err(|source| KeyFileError::Unwritable { path: path.to_owned(), source })?;
    read_key(path)
}

/// Puts the key where no file is yet, whole or not at all; one that is there stays.
fn place(path: &Path, key: &ClusterKey) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let name = format!(".cluster.key.{}.{:016x}", std::process::id(), fastrand::u64(..));
    let temporary = directory.join(name);
    let linked = write_new(&temporary, key).and_then(|()| match fs::hard_link(&temporary, path) {
        // NFS may also say so of a link that was made, and whose answer was lost.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = fs::remove_file(&temporary);
    linked?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, key: &ClusterKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.to_text().as_bytes())?;
    file.sync_all()
}

/// More than any key file holds.
const LIMIT_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Arc, Barrier};

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn refused(content: &[u8], mode: u32) -> String {
        let (_directory, path) = file(content, mode);
        let text = read_key(&path).unwrap_err().to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        text
    }

    #[test]
    fn a_key_file_that_others_can_read_or_that_holds_none_is_refused_with_the_remedy() {
        let key = ClusterKey::generate().unwrap();
        for mode in [0o600, 0o400] {
            let (_directory, path) = file(key.to_text().as_bytes(), mode);
            assert_eq!(read_key(&path).unwrap(), key);
        }
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let text = refused(key.to_text().as_bytes(), mode);
            assert!(text.contains(&format!("(mode {mode:04o}): run `chmod 600 ")), "{text}");
        }
        assert!(refused(b"", 0o600).contains("it is empty; make one with `dfget cluster key"));
        assert!(refused(&[b'a'; 40], 0o600).contains("it holds 40 bytes"));
        assert!(refused(&[7; 100_000], 0o600).contains("it holds 4096 bytes"));
    }

    #[test]
    fn what_is_no_file_is_told_without_waiting_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let text = read_key(directory.path()).unwrap_err().to_string();
        assert!(text.contains("is no regular file"), "{text}");
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(matches!(read_key(&pipe).unwrap_err(), KeyFileError::NoFile { .. }));
    }

    #[test]
    fn a_missing_key_is_told_with_the_command_that_makes_one() {
        let directory = tempfile::tempdir().unwrap();
        let text = read_key(&directory.path().join("cluster.key")).unwrap_err().to_string();
        assert!(text.contains("make one with `dfget cluster key > FILE` on one node"), "{text}");
    }

    #[test]
    fn many_that_start_at_once_agree_on_one_key_and_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config/dragonfly/cluster.key");
        let together = Arc::new(Barrier::new(50));
        let starters: Vec<_> = (0..50)
            .map(|_| {
                let (path, together) = (path.clone(), Arc::clone(&together));
                std::thread::spawn(move || {
                    together.wait();
                    read_or_make_key(&path).unwrap()
                })
            })
            .collect();
        let keys: Vec<_> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(read_or_make_key(&path).unwrap(), keys[0], "a key that is there stays");
    }

    #[test]
    fn a_key_that_is_broken_is_never_replaced() {
        let (_directory, path) = file(b"broken", 0o600);
        assert!(matches!(read_or_make_key(&path).unwrap_err(), KeyFileError::Content { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"broken");
    }

    #[test]
    fn a_place_where_none_can_be_made_is_told() {
        let (_directory, path) = file(b"", 0o600);
        let text = read_or_make_key(&path.join("below/cluster.key")).unwrap_err().to_string();
        assert!(text.contains("the cluster key") && text.contains("below/cluster.key"), "{text}");
    }
}
