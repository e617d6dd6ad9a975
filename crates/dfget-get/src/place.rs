//! Where an output goes, what is in its way, and whether there is room for it.

use std::fs;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use dfget_core::{ContentReference, Digest, Hasher};

use crate::error::GetError;
use crate::name;
use crate::order::{Order, Output, Report};
use crate::reference::Reference;

/// Where the output is to be; `default` names it where nobody else does.
pub(crate) fn target(
    output: &Output,
    default: impl FnOnce() -> Option<String>,
) -> Result<Option<PathBuf>, GetError> {
    let unnamed = || GetError::Usage("the URL does not name a file; name one by -O".to_owned());
    match output {
        Output::Standard => Ok(None),
        Output::Named => Ok(Some(PathBuf::from(default().ok_or_else(unnamed)?))),
        Output::Path(path) => {
            let into = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
            if into { Ok(Some(path.join(default().ok_or_else(unnamed)?))) } else { Ok(Some(path.clone())) }
        }
    }
}

/// What is not a plain file and yet can be written: a pipe, `/dev/null`.
pub(crate) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// An output that is in the way of a URL's content, before anybody is asked anything.
pub(crate) fn conflict_before(order: &Order) -> Result<Option<Report>, GetError> {
    let Reference::Url(url) = &order.reference else { return Ok(None) };
    let Some(target) = target(&order.output, || name::of_url(url))? else { return Ok(None) };
    let digest = order.digest.or_else(|| ContentReference::of_path(url.path()).map(|named| named.digest));
    conflict(&target, order.replace, digest.filter(|_| order.range.is_none()), None)
}

/// Whether the output is there: as it should be, or in the way.
pub(crate) fn conflict(
    target: &Path,
    replace: bool,
    digest: Option<Digest>,
    size: Option<u64>,
) -> Result<Option<Report>, GetError> {
    let Ok(found) = fs::symlink_metadata(target) else { return Ok(None) };
    if is_special(target) {
        return Ok(None);
    }
    let exists = || Err(GetError::Exists(target.to_owned()));
    if let Some(expected) = digest
        && found.is_file()
        && size.is_none_or(|size| size == found.len())
        && tokio::task::block_in_place(|| hash_file(target, &expected)) == Some(expected)
    {
        let (output, bytes) = (Some(target.to_owned()), found.len());
        return Ok(Some(Report { output, bytes, digest, unchanged: true, ..Report::default() }));
    }
    if found.is_dir() {
        return Err(GetError::Output {
            path: target.to_owned(),
            reason: "it is a directory; name a file by -O".to_owned(),
        });
    }
    if replace { Ok(None) } else { exists() }
}

pub(crate) fn hash_file(path: &Path, like: &Digest) -> Option<Digest> {
    let mut file = fs::File::open(path).ok()?;
    let (mut hasher, mut buffer) = (Hasher::like(like), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Standard output, or a pipe or device by its name.
pub(crate) fn stream_to(target: Option<&Path>) -> Result<Box<dyn Write + Send>, GetError> {
    match target {
        None => Ok(Box::new(std::io::stdout())),
        Some(path) => match fs::OpenOptions::new().write(true).open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(crate::part::refused(path, &error, None)),
        },
    }
}

/// Looks whether so many bytes fit, so that nobody waits for what cannot end well.
pub(crate) fn room_for(target: &Path, bytes: u64) -> Result<(), GetError> {
    let directory = crate::part::directory_of(target);
    let near = directory
        .ancestors()
        .find(|above| above.is_dir())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let Ok(disk) = rustix::fs::statvfs(&near) else { return Ok(()) };
    let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
    let free = blocks.saturating_mul(disk.f_frsize);
    if free >= bytes || disk.f_blocks == 0 {
        return Ok(());
    }
    Err(GetError::Output {
        path: target.to_owned(),
        reason: format!(
            "{bytes} bytes are to come, and {free} are free; make room, or name another disk by -O"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_a_file_or_goes_into_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let of = |output: Output| target(&output, || Some("x.sif".to_owned()));
        let into = dir.path().join("x.sif");
        assert_eq!(of(Output::Path(dir.path().to_owned())).unwrap(), Some(into));
        assert_eq!(of(Output::Path("new/".into())).unwrap(), Some("new/x.sif".into()));
        assert_eq!(of(Output::Path("y".into())).unwrap(), Some("y".into()));
        assert_eq!(of(Output::Named).unwrap(), Some("x.sif".into()));
        assert_eq!(of(Output::Standard).unwrap(), None);
        assert!(matches!(target(&Output::Named, || None), Err(GetError::Usage(_))));
    }

    #[test]
    fn what_cannot_fit_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        assert!(room_for(&dir.path().join("new/x"), 1000).is_ok());
        let told = room_for(&dir.path().join("new/x"), u64::MAX).unwrap_err().to_string();
        assert!(told.contains("18446744073709551615 bytes are to come, and "), "{told}");
    }
}
