//! A user's home with a configuration, for commands that need no daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::ca::TestCa;

/// A directory with `dfget.yaml`, in which commands are run that know nothing of this machine.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
}

// === impl Home ===

impl Home {
    /// One with this configuration.
    ///
    /// # Panics
    /// If the system has no directory for it.
    #[must_use]
    pub fn new(yaml: &str) -> Self {
        let home = Self { dir: tempfile::tempdir().expect("the system has a directory for temporary files") };
        home.write("dfget.yaml", yaml);
        home
    }

    /// The same with an authority, `ca.crt` and `ca.key`.
    #[must_use]
    pub fn with_authority(yaml: &str) -> Self {
        let home = Self::new(yaml);
        let authority = TestCa::new("hijack");
        home.write("ca.crt", &authority.certificate_pem());
        home.write("ca.key", &authority.key_pem());
        home
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that nobody else can read.
    ///
    /// # Panics
    /// If the directory is full.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file of a test can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("and closed");
    }

    /// A program in this home, with no variables but those that say so. A daemon would be asked at `lease.sock`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .env("DFGET_SYSTEM_SOCKET", self.path().join("lease.sock"));
        command
    }
}
