//! The unfinished file beside an output: begun private, gone on with by the next try, and renamed only when
//! everything in it is right.
//!
//! Its name tells what it is a part of, so parts of different contents never mix. Whoever writes it holds a
//! lock; a second process that wants the same writes another one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dfget_core::Hasher;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::error::GetError;
use crate::name;

/// Read at once to hash what is here.
const READ: usize = 1 << 20;

/// An unfinished file. Dropped before [`Part::publish`], it stays if it can be gone on with.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    /// A later try can go on with it.
    keep: bool,
    published: bool,
}

// === impl Part ===

impl Part {
    /// The part for `target` of the content that `key` tells; with what an earlier try has left, if `keep`.
    ///
    /// # Errors
    /// The directory cannot be written, in words.
    pub(crate) fn open(target: &Path, key: &str, keep: bool) -> Result<Self, GetError> {
        let directory = directory_of(target);
        make_directory(&directory)?;
        let name = file_name(target);
        let path = directory.join(name::part(&name, key));
        let opened = match Self::lock(&path) {
            Ok(Some(file)) => Ok((file, path)),
            // Somebody else is at it.
            Ok(None) => Self::own(&path),
            Err(error) => Err(error),
        };
        let (file, path) = opened.map_err(|error| refused(&directory, &error, None))?;
        remove_others(&directory, &name, &path);
        let part = Self { file, path, target: target.to_owned(), keep, published: false };
        if !keep {
            part.cut(0)?;
        }
        Ok(part)
    }

    fn lock(path: &Path) -> io::Result<Option<File>> {
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(NO_FOLLOW).open(path)?;
            // Some network file systems have no locks, which is another error.
            if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
                return Ok(None);
            }
            // Whoever held the lock may have renamed the file meanwhile.
            let (ours, there) = (file.metadata()?, fs::symlink_metadata(path));
            if there.is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev()) {
                return Ok(Some(file));
            }
        }
    }

    /// One of this process alone.
    fn own(path: &Path) -> io::Result<(File, PathBuf)> {
        let mut own = path.as_os_str().to_owned();
        own.push(format!(".{}", std::process::id()));
        let own = PathBuf::from(own);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.custom_flags(NO_FOLLOW).open(&own)?;
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok((file, own))
    }

    /// How many bytes are here.
    pub(crate) fn len(&self) -> Result<u64, GetError> {
        self.file.metadata().map(|found| found.len()).map_err(|error| self.failed(&error))
    }

    /// Throws away what is past `len`.
    pub(crate) fn cut(&self, len: u64) -> Result<(), GetError> {
        self.file.set_len(len).map_err(|error| self.failed(&error))
    }

    /// Hashes the bytes from `start` to `end`, which must be here. It may take long.
    pub(crate) fn hash(&self, mut hasher: Hasher, start: u64, end: u64) -> Result<Hasher, GetError> {
        let mut read = || -> io::Result<()> {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(start))?;
            let mut rest = file.take(end.saturating_sub(start));
            let mut buffer = vec![0; READ];
            loop {
                match rest.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => hasher.update(&buffer[..read]),
                }
            }
        };
        read().map_err(|error| self.failed(&error))?;
        Ok(hasher)
    }

    /// The file, to be written from `at` on.
    pub(crate) fn writer(&self, at: u64) -> Result<File, GetError> {
        let open = || {
            let mut file = self.file.try_clone()?;
            file.seek(SeekFrom::Start(at))?;
            Ok(file)
        };
        open().map_err(|error: io::Error| self.failed(&error))
    }

    /// Makes it the output: on disk, with the mode that new files have, under its name. It may take long.
    ///
    /// # Errors
    /// [`GetError::Exists`]: somebody else was there first, and `replace` is not set; the part stays.
    pub(crate) fn publish(mut self, replace: bool) -> Result<(), GetError> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        let mode = Permissions::from_mode(0o666 & !umask());
        self.file.set_permissions(mode).map_err(|error| self.failed(&error))?;
        put(&self.path, &self.target, replace)?;
        self.published = true;
        // The name must outlive a power cut, too; where directories cannot be synced, it does so as it may.
        let _ = File::open(directory_of(&self.target)).and_then(|directory| directory.sync_all());
        Ok(())
    }

    /// Removes it: what is in it is wrong.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }

    pub(crate) fn failed(&self, error: &io::Error) -> GetError {
        refused(&self.target, error, self.keep.then_some(self.path.as_path()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let empty = self.file.metadata().is_ok_and(|found| found.len() == 0);
        if !self.published && (!self.keep || empty) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames what is finished; over what is there only if `replace`.
pub(crate) fn put(from: &Path, to: &Path, replace: bool) -> Result<(), GetError> {
    let renamed = if replace {
        fs::rename(from, to)
    } else {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Not every file system can; then there is a moment between the look and the rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if fs::symlink_metadata(to).is_err() => {
                fs::rename(from, to)
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::EXIST) => {
                return Err(GetError::Exists(to.to_owned()));
            }
            Err(error) => Err(error.into()),
        }
    };
    renamed.map_err(|error| refused(to, &error, Some(from)))
}

/// The directory that a file is in.
pub(crate) fn directory_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the directory of an output, as `dfget` has always done.
pub(crate) fn make_directory(directory: &Path) -> Result<(), GetError> {
    fs::create_dir_all(directory).map_err(|error| refused(directory, &error, None))
}

pub(crate) fn file_name(target: &Path) -> String {
    target.file_name().map_or_else(|| "output".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Why an output cannot be written, and what to do.
pub(crate) fn refused(path: &Path, error: &io::Error, kept: Option<&Path>) -> GetError {
    let kept = kept.map_or_else(String::new, |kept| {
        format!(" What has come is kept in {}; the same command goes on from there.", kept.display())
    });
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => format!("the disk is full; make room, or name another by -O.{kept}"),
        Some(Errno::DQUOT) => format!("your quota is used up; make room, or name another disk by -O.{kept}"),
        Some(Errno::ROFS) => "the file system is read-only; name another place by -O".to_owned(),
        Some(Errno::ACCESS | Errno::PERM) => "you may not write there; name another place by -O".to_owned(),
        Some(Errno::FBIG) => {
            "the file would be longer than this file system, or `ulimit -f`, allows".to_owned()
        }
        Some(Errno::NOTDIR | Errno::EXIST) => {
            "it is a file, so that nothing can be put below it; name another place by -O".to_owned()
        }
        _ => format!("it cannot be written: {error}"),
    };
    GetError::Output { path: path.to_owned(), reason: reason.trim_end_matches('.').to_owned() }
}

/// Parts of other contents for the same output, which nobody writes, are of no use any more.
fn remove_others(directory: &Path, target: &str, ours: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_part = entry.file_name().to_str().is_some_and(|name| {
            let bare = name.rsplit_once('.').filter(|(_, id)| id.bytes().all(|byte| byte.is_ascii_digit()));
            name::is_part_of(bare.map_or(name, |(bare, _)| bare), target)
        });
        if !is_part || path == ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let free = File::open(&path)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The mode bits that new files do not get. It is read, not set: setting it would be seen by other threads.
pub(crate) fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

/// `O_NOFOLLOW`: in a directory for everybody nobody else's link is written through.
#[expect(clippy::cast_possible_wrap, reason = "the flags are small")]
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use dfget_core::Digest;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_part_is_gone_on_with_and_becomes_the_output() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("below/x.sif");
        let part = Part::open(&target, &name::key("a"), true).unwrap();
        part.writer(0).unwrap().write_all(b"abc").unwrap();
        assert_eq!(part.file.metadata().unwrap().mode() & 0o777, 0o600, "nobody else reads it meanwhile");
        drop(part);
        let part = Part::open(&target, &name::key("a"), true).unwrap();
        assert_eq!(part.len().unwrap(), 3);
        part.writer(3).unwrap().write_all(b"def").unwrap();
        assert_eq!(part.hash(Hasher::sha256(), 1, 6).unwrap().finish(), Digest::sha256(b"bcdef"));
        part.publish(false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"abcdef");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o666 & !umask());
        assert_eq!(names(target.parent().unwrap()), ["x.sif"]);
    }

    #[test]
    fn a_part_of_another_content_is_not_gone_on_with_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let old = Part::open(&target, &name::key("old"), true).unwrap();
        old.writer(0).unwrap().write_all(b"old").unwrap();
        drop(old);
        fs::write(dir.path().join(".x.other.part"), b"somebody else's").unwrap();
        let part = Part::open(&target, &name::key("new"), true).unwrap();
        assert_eq!(part.len().unwrap(), 0);
        drop(part);
        assert_eq!(names(dir.path()), [".x.other.part"], "an empty part goes, too");
    }

    #[test]
    fn two_processes_do_not_write_the_same_part() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let first = Part::open(&target, &name::key("a"), true).unwrap();
        first.writer(0).unwrap().write_all(b"first").unwrap();
        let second = Part::open(&target, &name::key("a"), true).unwrap();
        assert_eq!((second.len().unwrap(), names(dir.path()).len()), (0, 2));
        second.writer(0).unwrap().write_all(b"second").unwrap();
        second.publish(false).unwrap();
        assert!(
            matches!(first.publish(false), Err(GetError::Exists(_))),
            "who comes later does not overwrite"
        );
        assert_eq!(fs::read(&target).unwrap(), b"second");
    }

    #[test]
    fn a_part_that_cannot_be_gone_on_with_goes() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part::open(&dir.path().join("x"), &name::key("a"), false).unwrap();
        part.writer(0).unwrap().write_all(b"abc").unwrap();
        drop(part);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_link_that_somebody_put_there_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, victim) = (dir.path().join("x"), dir.path().join("victim"));
        fs::write(&victim, b"precious").unwrap();
        symlink(&victim, dir.path().join(name::part("x", &name::key("a")))).unwrap();
        assert!(Part::open(&target, &name::key("a"), true).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn what_the_system_refuses_is_told_with_what_to_do() {
        let told =
            |error: Errno| refused(Path::new("/d/x"), &error.into(), Some(Path::new("/d/p"))).to_string();
        assert_eq!(
            told(Errno::NOSPC),
            "/d/x: the disk is full; make room, or name another by -O. What has come is kept in /d/p; the same \
             command goes on from there"
        );
        assert!(told(Errno::ROFS).contains("read-only") && told(Errno::ACCESS).contains("may not write"));
    }
}
