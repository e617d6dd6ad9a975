//! A file system and an environment in memory, for the tests of this crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Environment, Files, PemCheck, PemFault, PemHalf};

/// Files by absolute path.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeFiles {
    content: BTreeMap<PathBuf, (Vec<u8>, u32)>,
    locked: BTreeSet<PathBuf>,
    writable: Vec<PathBuf>,
}

// === impl FakeFiles ===

impl FakeFiles {
    /// Adds a file of mode 0600.
    pub(crate) fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.with_mode(path, content, 0o600)
    }

    pub(crate) fn with_mode(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.content.insert(path.into(), (content.as_ref().to_vec(), mode));
        self
    }

    /// Makes a file unreadable.
    pub(crate) fn locked(mut self, path: &str) -> Self {
        self.locked.insert(path.into());
        self
    }

    /// Makes everything below the directory writable.
    pub(crate) fn writable(mut self, path: &str) -> Self {
        self.writable.push(path.into());
        self
    }
}

impl Files for FakeFiles {
    fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let (content, _) = self.content.get(path).ok_or(io::ErrorKind::NotFound)?;
        if self.locked.contains(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if content.len() as u64 > limit_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content.clone())
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.content.get(path).map(|(_, mode)| *mode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_writable_directory(&self, path: &Path) -> bool {
        self.writable.iter().any(|directory| path.starts_with(directory))
    }
}

/// Takes every PEM text but those that say of themselves what is wrong with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FakePem;

impl PemCheck for FakePem {
    fn authority(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault> {
        refuse("no authority", PemHalf::Certificate, cert)?;
        refuse("wrong key", PemHalf::Key, key)
    }

    fn listener(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault> {
        refuse("no server", PemHalf::Certificate, cert)?;
        refuse("wrong key", PemHalf::Key, key)
    }

    fn roots(&self, certs: &[u8]) -> Result<(), PemFault> {
        refuse("no root", PemHalf::Certificate, certs)
    }
}

fn refuse(fault: &str, half: PemHalf, text: &[u8]) -> Result<(), PemFault> {
    if String::from_utf8_lossy(text).contains(fault) {
        return Err(PemFault { half, problem: fault.to_owned(), remedy: "take another".to_owned() });
    }
    Ok(())
}

/// An environment in `/site`.
pub(crate) fn environment(files: FakeFiles, variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect(),
        working_directory: "/site".into(),
        files: Arc::new(files),
        pem: Arc::new(FakePem),
    }
}
