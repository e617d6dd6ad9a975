//! The SIF images that every registry has (`tests/real-clients/images`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespace::clients_dir;
use super::process::run;

/// One image, in `public/sif` and `private/sif` under its size as tag.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// MiB of its content, and its tag.
    pub(crate) tag: u32,
    /// The file that was pushed.
    pub(crate) file: PathBuf,
    /// sha256 of the file, in hex: the digest of its blob.
    pub(crate) digest: String,
    /// Length of the file in bytes.
    pub(crate) len_bytes: u64,
}

impl Image {
    /// The image of about `mib` MiB: 4, 16 or 64.
    pub(crate) fn of_mib(mib: u32) -> Self {
        let file = clients_dir().join(format!("images/{mib}.sif"));
        let digest = sha256(&file);
        let len_bytes = fs::metadata(&file).expect("setup made the image").len();
        Self { tag: mib, file, digest, len_bytes }
    }

    /// Its blob, as a client asks a registry for it.
    pub(crate) fn blob_url(&self, host: &str, repository: &str) -> String {
        format!("https://{host}/v2/{repository}/blobs/sha256:{}", self.digest)
    }

    /// Panics unless the file has exactly this image's bytes.
    #[track_caller]
    pub(crate) fn assert_same(&self, pulled: &Path) {
        assert_eq!(sha256(pulled), self.digest, "{} is not what was pushed", pulled.display());
    }
}

/// sha256 of a file, in hex.
#[track_caller]
pub(crate) fn sha256(file: &Path) -> String {
    let said = run(Command::new("sha256sum").arg("--").arg(file)).ok().stdout;
    said.split_whitespace().next().expect("sha256sum begins with the digest").to_owned()
}
