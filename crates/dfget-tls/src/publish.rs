//! Files that are there whole or not at all.
//!
//! Each is written beside its place under a name of its own, made durable, and then moved or linked
//! to its place, so that no reader ever sees a part of it, and a kill leaves what was there before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;

/// Puts a text of certificates in place of whatever `path` held, readable for everybody.
///
/// # Errors
/// Those of the file system; what was there before is still there then.
pub fn write_certificates(path: &Path, text: &str) -> io::Result<()> {
    replace(path, text.as_bytes(), READABLE)
}

/// Puts the content in place of whatever `path` held.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = Draft::write(path, content, mode)?;
    fs::rename(&draft.path, path)?;
    sync_directory(path)
}

/// Puts the content where nothing is; of many that try at once one succeeds.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] for the others.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = Draft::write(path, content, mode)?;
    match fs::hard_link(&draft.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // File systems without hard links.
        Err(_) => {
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &draft.path, here, path, rustix::fs::RenameFlags::NOREPLACE)?;
        }
    }
    sync_directory(path)
}

/// A file that is not at its place yet; gone when dropped, unless it was moved.
struct Draft {
    path: PathBuf,
}

// === impl Draft ===

impl Draft {
    fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = target.with_file_name(format!(".{name}.{random}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let draft = Self { path };
        if mode != PRIVATE {
            // The umask is for files of a user, not for what others are to read.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Moved away, or of no use.
        let _ = fs::remove_file(&self.path);
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// For the owner alone.
pub(crate) const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub(crate) const READABLE: u32 = 0o644;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_created_once_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        create(&path, b"one", PRIVATE).expect("created");
        let second = create(&path, b"two", PRIVATE).expect_err("it is there");
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).expect("read"), mode(&path)), (b"one".to_vec(), 0o600));
        replace(&path, b"three", READABLE).expect("replaced");
        assert_eq!((fs::read(&path).expect("read"), mode(&path)), (b"three".to_vec(), 0o644));
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn of_many_at_once_one_creates() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        let created = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16u8)
                .map(|number| {
                    let path = &path;
                    scope.spawn(move || create(path, &[number; 4096], PRIVATE).is_ok().then_some(number))
                })
                .collect();
            tries.into_iter().filter_map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(created.len(), 1);
        assert_eq!(fs::read(&path).expect("read"), [created[0]; 4096]);
    }
}
