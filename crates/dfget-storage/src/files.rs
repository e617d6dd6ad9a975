//! The data files: `tasks/<2 hex>/<16 hex>`, one per entry, readable by their owner alone.
//!
//! A file is created once, under a name never used before, and never renamed. What the index does
//! not know is an orphan and is removed when the store opens; so the order of an unlink and of the
//! commit that forgets the entry does not matter, and files are unlinked at once, when their space
//! is wanted.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rustix::{
    fs::OFlags,
    io::{Errno, ReadWriteFlags},
};

use crate::{error::StoreError, home, key::FileId};

/// The directory of the data files.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    open: Arc<AtomicUsize>,
    /// Files without a name that were open when they lost it, and the bytes they take.
    unlinked: Mutex<Vec<(Weak<DataFile>, u64)>>,
}

/// An open data file. It can be read for as long as it is open, unlinked or not.
#[derive(Debug)]
pub(crate) struct DataFile {
    fd: OwnedFd,
    open: Arc<AtomicUsize>,
}

/// What changes with a file: times since 1970, and its length in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stamp {
    modified: Duration,
    changed: Duration,
    size: u64,
}

// === impl Stamp ===

impl Stamp {
    /// Whether nothing was written in between: a name that was taken from the file changes it, too, but no byte.
    pub(crate) fn is_of_same_content(&self, other: &Self) -> bool {
        (self.modified, self.size) == (other.modified, other.size)
    }

    /// Whether the last change was at least so long before `now`.
    pub(crate) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(age).is_some_and(|limit| self.modified.max(self.changed) <= limit)
    }
}

// === impl Files ===

impl Files {
    /// Makes the directories below `dir` that are missing.
    ///
    /// # Errors
    /// They cannot be made, or others could write into them.
    pub(crate) fn prepare(dir: &Path) -> Result<Self, StoreError> {
        let root = dir.join("tasks");
        home::make_private(&root)?;
        for byte in 0..=u8::MAX {
            let path = root.join(format!("{byte:02x}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", path)(error));
                }
                _ => (),
            }
        }
        sync_dir(&root).map_err(StoreError::io("flush", &root))?;
        Ok(Self { root, open: Arc::default(), unlinked: Mutex::default() })
    }

    /// Files that are open at this moment.
    pub(crate) fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Creates the file of a new entry.
    ///
    /// # Errors
    /// No space, no permission, or no random bytes.
    pub(crate) fn create(&self) -> Result<(FileId, DataFile), StoreError> {
        loop {
            let id = FileId::random().map_err(StoreError::io("name a file in", &self.root))?;
            let path = self.path(id);
            match private().create_new(true).open(&path) {
                Ok(file) => return Ok((id, self.wrap(file))),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
                Err(error) => return Err(StoreError::io("create", path)(error)),
            }
        }
    }

    /// Opens the file of an entry.
    ///
    /// # Errors
    /// It is gone, or the process has too many files open.
    pub(crate) fn open(&self, id: FileId) -> Result<DataFile, StoreError> {
        let path = self.path(id);
        let file = private().open(&path).map_err(StoreError::io("open", path))?;
        Ok(self.wrap(file))
    }

    /// Unlinks the file of an entry; one that is gone already is no error.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn unlink(&self, id: FileId) -> Result<(), StoreError> {
        remove(&self.path(id))
    }

    /// Notes that `file` was unlinked: its `bytes` are free when its last user has closed it.
    pub(crate) fn note_unlinked(&self, file: &Arc<DataFile>, bytes: u64) {
        let mut unlinked = self.unlinked.lock();
        unlinked.retain(|(file, _)| file.strong_count() > 0);
        unlinked.push((Arc::downgrade(file), bytes));
    }

    /// Bytes that are going to be free without anybody's doing: those of unlinked files that are
    /// still open.
    pub(crate) fn freeing_bytes(&self) -> u64 {
        let unlinked = self.unlinked.lock();
        let open = unlinked.iter().filter(|(file, _)| file.strong_count() > 0);
        open.map(|(_, bytes)| bytes).sum()
    }

    /// Makes the name of a new file durable.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn sync_name(&self, id: FileId) -> Result<(), StoreError> {
        let dir = self.root.join(id.names().0);
        sync_dir(&dir).map_err(StoreError::io("flush", dir))
    }

    /// All data files with the bytes they take on disk. What is not one is removed; the count of
    /// what was removed comes second.
    ///
    /// # Errors
    /// A directory cannot be read, or something in it not removed.
    pub(crate) fn list(&self) -> Result<(Vec<(FileId, u64)>, u64), StoreError> {
        let mut files = Vec::new();
        let mut foreign = 0;
        for byte in 0..=u8::MAX {
            let dir = self.root.join(format!("{byte:02x}"));
            for item in fs::read_dir(&dir).map_err(StoreError::io("read", &dir))? {
                let item = item.map_err(StoreError::io("read", &dir))?;
                let path = item.path();
                let meta = item.metadata().map_err(StoreError::io("read", &path))?;
                let id = item.file_name().to_str().and_then(FileId::parse);
                match id.filter(|&id| meta.is_file() && self.path(id) == path) {
                    Some(id) => files.push((id, meta.blocks() * 512)),
                    None if meta.is_dir() => (),
                    None => {
                        remove(&path)?;
                        foreign += 1;
                    }
                }
            }
        }
        Ok((files, foreign))
    }

    /// Where the file of an entry lies.
    pub(crate) fn path(&self, id: FileId) -> PathBuf {
        let (dir, file) = id.names();
        self.root.join(dir).join(file)
    }

    /// Counts an open file.
    pub(crate) fn wrap(&self, file: File) -> DataFile {
        self.open.fetch_add(1, Ordering::Relaxed);
        DataFile { fd: file.into(), open: Arc::clone(&self.open) }
    }
}

// === impl DataFile ===

impl DataFile {
    /// Writes all of `parts` at `offset`, one behind the other.
    ///
    /// # Errors
    /// As the kernel says; some of the bytes may be on disk then.
    pub(crate) fn write_parts_at(&self, parts: &[&[u8]], mut offset: u64) -> Result<(), Errno> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let most = rest.len().min(MOST_SLICES);
            match rustix::io::pwritev(&self.fd, &rest[..most], offset) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(n) => {
                    IoSlice::advance_slices(&mut rest, n);
                    offset += n as u64;
                }
                Err(Errno::INTR) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As [`Self::write_parts_at`].
    #[cfg(test)]
    pub(crate) fn write_all_at(&self, data: &[u8], offset: u64) -> Result<(), Errno> {
        self.write_parts_at(&[data], offset)
    }

    /// Fills `buffer` from `offset`; fewer bytes mean that the file ends there.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let mut have = 0;
        while have < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(Errno::INTR) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(have)
    }

    /// As [`Self::read_at`], but only from memory: `None` if the disk would have to be waited for.
    ///
    /// Where the file system cannot tell, it waits.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<Option<usize>, Errno> {
        if !CANNOT_TELL.load(Ordering::Relaxed) {
            let mut parts = [IoSliceMut::new(buffer)];
            match rustix::io::preadv2(&self.fd, &mut parts, offset, ReadWriteFlags::NOWAIT) {
                Ok(n) if n == buffer.len() => return Ok(Some(n)),
                // a short read means either that the rest is not in memory or that the file ends
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    CANNOT_TELL.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        self.read_at(buffer, offset).map(Some)
    }

    /// What tells whether the file was changed.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn stamp(&self) -> Result<Stamp, Errno> {
        let stat = rustix::fs::fstat(&self.fd)?;
        let time = |seconds: i64, nanoseconds: u64| {
            let seconds = Duration::from_secs(seconds.unsigned_abs());
            seconds + Duration::from_nanos(nanoseconds)
        };
        Ok(Stamp {
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            size: stat.st_size.unsigned_abs(),
        })
    }

    /// Gives `len` bytes from `offset` on to a socket, from the page cache; returns how many it took.
    ///
    /// # Errors
    /// As the kernel says, of the file or of the socket.
    pub(crate) fn send_to(&self, socket: BorrowedFd<'_>, offset: u64, len: u64) -> Result<usize, Errno> {
        let mut from = offset;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        rustix::fs::sendfile(socket, &self.fd, Some(&mut from), len)
    }

    /// Makes the bytes written so far durable.
    ///
    /// # Errors
    /// As the kernel says; what was lost is then unknown.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.fd))
    }

    /// Bytes the file takes on disk.
    ///
    /// # Errors
    /// As the kernel says.
    pub(crate) fn allocated(&self) -> Result<u64, Errno> {
        Ok(rustix::fs::fstat(&self.fd)?.st_blocks.unsigned_abs() * 512)
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// To open a file to read and write that nobody else can read, and that is no link of somebody else.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW.bits() as i32;
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    options
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Parts that the kernel takes at once (IOV_MAX).
const MOST_SLICES: usize = 1024;
/// Set once the file system has shown that it cannot read from memory only. A store lies on one
/// file system, so once is enough.
static CANNOT_TELL: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_and_directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::prepare(dir.path()).unwrap();
        let (id, _file) = files.create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = files.path(id);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&files.root), 0o700);
    }

    #[test]
    fn what_is_no_data_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::prepare(dir.path()).unwrap();
        let (id, file) = files.create().unwrap();
        file.write_all_at(&[1; 8192], 0).unwrap();
        file.sync().unwrap();
        let stray = dir.path().join("tasks/00/note.txt");
        fs::write(&stray, "x").unwrap();
        let (found, foreign) = files.list().unwrap();
        assert_eq!(found.iter().map(|file| file.0).collect::<Vec<_>>(), [id]);
        assert!(found[0].1 >= 8192);
        assert_eq!(foreign, 1);
        assert!(!stray.exists());
    }

    #[test]
    fn an_unlinked_file_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::prepare(dir.path()).unwrap();
        let (id, file) = files.create().unwrap();
        file.write_all_at(b"abc", 5).unwrap();
        files.unlink(id).unwrap();
        files.unlink(id).unwrap();
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(&mut buffer, 5), Ok(3));
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(files.open_count(), 1);
        drop(file);
        assert_eq!(files.open_count(), 0);
    }
}
