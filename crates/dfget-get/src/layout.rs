//! A container image as an OCI image layout: a directory, or a tar archive of one.
//!
//! A directory is filled beside its place and put there when all is in it. An archive is one file whose every byte
//! but the contents' is known beforehand, so that a broken one can be gone on with.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dfget_core::Digest;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use url::Url;

use crate::error::GetError;
use crate::event::Event;
use crate::manifest::{Content, LAYOUT_MARK, Manifest, layout_index};
use crate::part::{Part, directory_of, file_name, make_directory, put, refused, umask};
use crate::reference::Image;
use crate::session::Session;
use crate::transfer::{Sink, Wanted, fetch};
use crate::{name, tar};

/// An image, resolved.
pub(crate) struct Resolved {
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Their digest.
    pub(crate) digest: Digest,
    /// Where it was asked for, if that was by digest.
    pub(crate) place: Option<Url>,
}

/// One piece of an archive.
enum Piece<'a> {
    /// Bytes that are known.
    Known(Vec<u8>),
    /// A content.
    Content(&'a Content),
}

// === impl Resolved ===

impl Resolved {
    /// All bytes of contents.
    pub(crate) fn total(&self) -> u64 {
        self.manifest.contents().iter().fold(0, |sum, content| sum.saturating_add(content.size))
    }

    /// What is asked for to have a content of the image.
    pub(crate) fn wanted(image: &Image, content: &Content) -> Result<Wanted, GetError> {
        let url = image.url("blobs", &content.digest.to_string());
        let url = url.map_err(|error| GetError::Usage(error.to_string()))?;
        Ok(Wanted { url, digest: Some(content.digest), size: Some(content.size), range: None, known: None })
    }

    /// The files of a layout that are no contents, in the order of an archive.
    fn small_files(&self, image: &Image) -> [(String, Vec<u8>); 3] {
        let index = layout_index(&self.manifest, &self.bytes, &self.digest, image.tag.as_deref());
        [
            ("oci-layout".to_owned(), LAYOUT_MARK.as_bytes().to_vec()),
            ("index.json".to_owned(), index.into_bytes()),
            (place(&self.digest), self.bytes.clone()),
        ]
    }

    fn pieces(&self, image: &Image) -> Vec<Piece<'_>> {
        let mut algorithms = vec![self.digest.algorithm()];
        algorithms.extend(self.manifest.contents().iter().map(|content| content.digest.algorithm()));
        algorithms.sort_unstable();
        algorithms.dedup();
        let below = algorithms.into_iter().map(|algorithm| format!("blobs/{algorithm}/"));
        let directories = std::iter::once("blobs/".to_owned()).chain(below);
        let mut pieces: Vec<_> = directories.map(|name| Piece::Known(tar::directory(&name))).collect();
        for (name, bytes) in self.small_files(image) {
            let size = bytes.len() as u64;
            let file = [tar::header(&name, size), bytes, tar::padding(size)].concat();
            pieces.push(Piece::Known(file));
        }
        for content in self.manifest.contents() {
            pieces.push(Piece::Known(tar::header(&place(&content.digest), content.size)));
            pieces.push(Piece::Content(content));
            pieces.push(Piece::Known(tar::padding(content.size)));
        }
        pieces.push(Piece::Known(tar::end()));
        pieces
    }
}

/// Where a content lies in a layout.
fn place(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Makes an archive at `target`.
///
/// # Errors
/// [`GetError`] by cause; what has come is kept.
pub(crate) async fn archive(
    session: &Session<'_>,
    image: &Image,
    resolved: &Resolved,
    target: &Path,
    replace: bool,
) -> Result<(), GetError> {
    let observer = session.net().observer();
    let part = Part::open(target, &name::key(&format!("archive {image} {}", resolved.digest)), true)?;
    let mut at = 0_u64;
    for piece in resolved.pieces(image) {
        match piece {
            Piece::Known(bytes) => {
                let mut file = part.writer(at)?;
                tokio::task::block_in_place(|| file.write_all(&bytes))
                    .map_err(|error| part.failed(&error))?;
                at = at.saturating_add(bytes.len() as u64);
            }
            Piece::Content(content) => {
                let present = part.len()?.saturating_sub(at).min(content.size);
                if present > 0 {
                    observer.hear(Event::Present(present));
                }
                let wanted = Resolved::wanted(image, content)?;
                let mut sink = Sink::Part { part: &part, base: at, present };
                fetch(session, &wanted, &mut sink, None).await?;
                at = at.saturating_add(content.size);
            }
        }
    }
    part.cut(at)?;
    observer.hear(Event::Settling);
    tokio::task::block_in_place(|| part.publish(replace))
}

/// Writes an archive to where nothing can be taken back.
///
/// # Errors
/// [`GetError`] by cause.
pub(crate) async fn stream(
    session: &Session<'_>,
    image: &Image,
    resolved: &Resolved,
    mut out: Box<dyn Write + Send>,
) -> Result<(), GetError> {
    for piece in resolved.pieces(image) {
        match piece {
            Piece::Known(bytes) => {
                let written =
                    tokio::task::block_in_place(|| out.write_all(&bytes).and_then(|()| out.flush()));
                written.map_err(|error| refused(Path::new("the output"), &error, None))?;
            }
            Piece::Content(content) => {
                let wanted = Resolved::wanted(image, content)?;
                let fetched = fetch(session, &wanted, &mut Sink::Stream(Some(out)), None).await?;
                let Some(next) = fetched.stream else { return Ok(()) };
                out = next;
            }
        }
    }
    Ok(())
}

/// Makes a directory at `target`.
///
/// # Errors
/// [`GetError`] by cause; what has come is kept.
pub(crate) async fn directory(
    session: &Session<'_>,
    image: &Image,
    resolved: &Resolved,
    target: &Path,
    replace: bool,
) -> Result<(), GetError> {
    let observer = session.net().observer();
    let staging = Staging::open(target, &name::key(&format!("layout {}", resolved.digest)))?;
    for content in resolved.manifest.contents() {
        let file = staging.path.join(place(&content.digest));
        if fs::metadata(&file).is_ok_and(|found| found.len() == content.size) {
            // It got this name when it was found right.
            observer.hear(Event::Present(content.size));
            continue;
        }
        let part = Part::open(&file, &name::key(&content.digest.to_string()), true)?;
        let present = part.len()?.min(content.size);
        if present > 0 {
            observer.hear(Event::Present(present));
        }
        let wanted = Resolved::wanted(image, content)?;
        fetch(session, &wanted, &mut Sink::Part { part: &part, base: 0, present }, None).await?;
        tokio::task::block_in_place(|| part.publish(true))?;
    }
    observer.hear(Event::Settling);
    tokio::task::block_in_place(|| {
        for (name, bytes) in resolved.small_files(image) {
            staging.write(&name, &bytes)?;
        }
        staging.publish(target, replace)
    })
}

/// Whether `target` is a layout with this image, and nothing else.
pub(crate) fn holds(target: &Path, digest: &Digest) -> bool {
    let index = fs::read(target.join("index.json")).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap_or_default();
    let manifests = index.get("manifests").and_then(serde_json::Value::as_array);
    manifests.is_some_and(|manifests| {
        let is_ours = |entry: &serde_json::Value| entry["digest"] == digest.to_string().as_str();
        manifests.len() == 1 && manifests.iter().all(is_ours)
    })
}

/// The unfinished directory.
#[derive(Debug)]
struct Staging {
    path: PathBuf,
    _lock: File,
}

// === impl Staging ===

impl Staging {
    fn open(target: &Path, key: &str) -> Result<Self, GetError> {
        let parent = directory_of(target);
        make_directory(&parent)?;
        let path = parent.join(name::part(&file_name(target), key));
        let opened = Self::lock(&path).and_then(|locked| match locked {
            Some(lock) => Ok((path.clone(), lock)),
            None => {
                // Somebody else is at it.
                let mut own = path.as_os_str().to_owned();
                own.push(format!(".{}", std::process::id()));
                let own = PathBuf::from(own);
                let lock = Self::lock(&own)?.ok_or_else(|| io::Error::other("it is being written"))?;
                Ok((own, lock))
            }
        });
        let (path, lock) = opened.map_err(|error| refused(&parent, &error, None))?;
        Ok(Self { path, _lock: lock })
    }

    fn lock(path: &Path) -> io::Result<Option<File>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !fs::symlink_metadata(path)?.is_dir() {
            return Err(io::Error::other("something else has the name of its unfinished directory"));
        }
        let directory = File::open(path)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Ok(()) | Err(_) => Ok(Some(directory)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), GetError> {
        let path = self.path.join(name);
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory_of(&path))?;
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| refused(&path, &error, Some(&self.path)))
    }

    fn publish(self, target: &Path, replace: bool) -> Result<(), GetError> {
        let failed = |error: io::Error| refused(target, &error, Some(&self.path));
        fs::set_permissions(&self.path, Permissions::from_mode(0o777 & !umask())).map_err(failed)?;
        if fs::symlink_metadata(target).is_err() {
            return put(&self.path, target, false);
        }
        if is_empty_directory(target) {
            return put(&self.path, target, true);
        }
        if !replace {
            return Err(GetError::Exists(target.to_owned()));
        }
        if !is_layout(target) {
            return Err(GetError::Output {
                path: target.to_owned(),
                reason: "it is no OCI layout, and is not replaced; name another directory by -O".to_owned(),
            });
        }
        renameat_with(CWD, &self.path, CWD, target, RenameFlags::EXCHANGE).or_else(|_| {
            // Where a file system cannot swap two names there is a moment without either.
            fs::remove_dir_all(target).and_then(|()| fs::rename(&self.path, target)).map_err(failed)
        })?;
        // What it was before lies there now, if anything.
        let _ = fs::remove_dir_all(&self.path);
        Ok(())
    }
}

fn is_empty_directory(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether a directory is a layout and has nothing else in it: only such a one is replaced.
fn is_layout(path: &Path) -> bool {
    let known = ["oci-layout", "index.json", "blobs"];
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    path.join("oci-layout").is_file()
        && entries.into_iter().all(|entry| known.iter().any(|name| entry.file_name() == *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(target: &Path) -> Staging {
        let staging = Staging::open(target, &name::key("x")).unwrap();
        staging.write("oci-layout", b"new").unwrap();
        staging
    }

    #[test]
    fn only_a_layout_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("image");
        staged(&target).publish(&target, false).unwrap();
        assert!(matches!(staged(&target).publish(&target, false), Err(GetError::Exists(_))));
        fs::write(target.join("oci-layout"), b"old").unwrap();
        staged(&target).publish(&target, true).unwrap();
        assert_eq!(fs::read(target.join("oci-layout")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(target.join("thesis.tex"), b"precious").unwrap();
        let refused = staged(&target).publish(&target, true).unwrap_err();
        assert!(refused.to_string().contains("it is no OCI layout, and is not replaced"), "{refused}");
        assert_eq!(fs::read(target.join("thesis.tex")).unwrap(), b"precious");
    }

    #[test]
    fn an_empty_directory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("image");
        fs::create_dir(&target).unwrap();
        staged(&target).publish(&target, false).unwrap();
        assert!(target.join("oci-layout").is_file());
    }

    #[test]
    fn a_layout_is_known_by_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"x");
        assert!(!holds(dir.path(), &digest));
        let write = |text: String| fs::write(dir.path().join("index.json"), text).unwrap();
        write(format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#));
        assert!(holds(dir.path(), &digest) && !holds(dir.path(), &Digest::sha256(b"y")));
        write(format!(r#"{{"manifests":[{{"digest":"{digest}"}},{{"digest":"x"}}]}}"#));
        assert!(!holds(dir.path(), &digest));
    }
}
