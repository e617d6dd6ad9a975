//! What a configuration is read from besides its own text: variables, the working directory, files.
//!
//! Owns the only contact of this crate with the machine, behind [`Files`] and [`PemCheck`], so that every decision
//! made from it can be tried in a test without being root and without touching `/etc`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Access, access};

use crate::{PemCheck, otel};

/// The process's surroundings, as far as the configuration depends on them.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Variables by name; only those that [`Environment::current`] takes are looked at.
    pub variables: BTreeMap<String, OsString>,
    /// Absolute; relative names are resolved against it.
    pub working_directory: PathBuf,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Who judges certificates and keys.
    pub pem: Arc<dyn PemCheck>,
}

/// The questions that are asked of a file system.
pub trait Files: fmt::Debug + Send + Sync {
    /// The content of a regular file or a pipe.
    ///
    /// # Errors
    /// As [`std::fs::read`]; [`io::ErrorKind::FileTooLarge`] beyond `limit_bytes`.
    fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>>;

    /// The permission bits, such as `0o644`.
    ///
    /// # Errors
    /// As [`std::fs::metadata`].
    fn mode(&self, path: &Path) -> io::Result<u32>;

    /// Whether this process may create entries in the directory, or create the directory itself
    /// when it is missing.
    fn is_writable_directory(&self, path: &Path) -> bool;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

// === impl Environment ===

impl Environment {
    /// Of this process; certificates are judged by `pem`.
    ///
    /// # Errors
    /// The working directory was removed or cannot be reached.
    pub fn current(pem: Arc<dyn PemCheck>) -> io::Result<Self> {
        let variable = |&name: &&str| std::env::var_os(name).map(|value| (name.to_owned(), value));
        Ok(Self {
            variables: VARIABLES.iter().chain(&otel::VARIABLES).filter_map(variable).collect(),
            working_directory: std::env::current_dir()?,
            files: Arc::new(SystemFiles),
            pem,
        })
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A directory from a variable; a relative one is ignored, as the XDG specification asks.
    pub(crate) fn directory(&self, name: &str) -> Option<&Path> {
        self.variable(name).map(Path::new).filter(|path| path.is_absolute())
    }
}

// === impl SystemFiles ===

impl Files for SystemFiles {
    fn read(&self, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut content = Vec::new();
        file.take(limit_bytes.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > limit_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o7777)
    }

    fn is_writable_directory(&self, path: &Path) -> bool {
        path.ancestors().find(|ancestor| ancestor.exists()).is_some_and(|nearest| {
            nearest.is_dir() && access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_ok()
        })
    }
}

/// The variables that matter.
const VARIABLES: &[&str] = &["DFGET_CONFIG", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(SystemFiles.read(&path, 5).unwrap(), b"12345");
        assert_eq!(SystemFiles.read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(SystemFiles.read(directory.path(), 9).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_directory_is_writable_when_it_could_be_made() {
        let directory = tempfile::tempdir().unwrap();
        assert!(SystemFiles.is_writable_directory(directory.path()));
        assert!(SystemFiles.is_writable_directory(&directory.path().join("a/b/c")));
        let file = directory.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert!(!SystemFiles.is_writable_directory(&file.join("below")));
    }

    #[test]
    fn empty_and_relative_variables_count_as_unset() {
        let mut environment = Environment::current(Arc::new(crate::testing::FakePem)).unwrap();
        environment.variables = [
            ("HOME".to_owned(), OsString::from("")),
            ("XDG_CACHE_HOME".to_owned(), OsString::from("cache")),
            ("XDG_STATE_HOME".to_owned(), OsString::from("/state")),
        ]
        .into();
        assert_eq!(environment.variable("HOME"), None);
        assert_eq!(environment.directory("XDG_CACHE_HOME"), None);
        assert_eq!(environment.directory("XDG_STATE_HOME"), Some(Path::new("/state")));
    }
}
