//! The system's store of trusted authorities: where a file goes, and which command takes it in.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use dfget_tls::{AuthorityCertificate, write_certificates};

use super::Failure;

/// How one kind of system keeps what it trusts.
#[derive(Debug)]
pub(crate) struct Store {
    directory: &'static str,
    command: &'static str,
    arguments: &'static [&'static str],
    /// Where the command is on this machine.
    program: PathBuf,
}

// === impl Store ===

impl Store {
    /// That of this machine: the first whose directory and command are both there.
    pub(crate) fn find() -> Option<Self> {
        KINDS.iter().find_map(|(directory, command, arguments)| {
            let program = Path::new(directory).is_dir().then(|| program(command))??;
            Some(Self { directory, command, arguments, program })
        })
    }

    /// Our file in it.
    pub(crate) fn file(&self) -> PathBuf {
        Path::new(self.directory).join(NAME)
    }

    /// The certificate that is installed, if it is ours.
    pub(crate) fn installed(&self) -> Option<AuthorityCertificate> {
        AuthorityCertificate::read(&self.file()).ok()
    }

    /// What root types to install `cert`.
    pub(crate) fn install_by_hand(&self, cert: &Path) -> String {
        format!("cp {} {} && {}", cert.display(), self.file().display(), self.update_by_hand())
    }

    /// What root types to take it away.
    pub(crate) fn remove_by_hand(&self) -> String {
        format!("rm {} && {}", self.file().display(), self.update_by_hand())
    }

    /// Puts the certificate in, and lets the system take it.
    pub(crate) fn install(&self, certificate: &AuthorityCertificate) -> Result<(), Failure> {
        let file = self.file();
        write_certificates(&file, &certificate.to_pem()).map_err(|error| {
            Failure::Failed(format!(
                "{} cannot be written: {error}; `ls -ld {}`",
                file.display(),
                self.directory
            ))
        })?;
        self.update()
    }

    /// Takes it away. `false` when it was not there.
    pub(crate) fn remove(&self) -> Result<bool, Failure> {
        let file = self.file();
        match fs::remove_file(&file) {
            Ok(()) => self.update().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::Failed(format!(
                "{} cannot be removed: {error}; `ls -ld {}`",
                file.display(),
                self.directory
            ))),
        }
    }

    fn update(&self) -> Result<(), Failure> {
        let by_hand = self.update_by_hand();
        let output = Command::new(&self.program)
            .args(self.arguments)
            .output()
            .map_err(|error| Failure::Failed(format!("{by_hand} cannot be started: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing");
        Err(Failure::Failed(format!("`{by_hand}` ended with {}: {last}; type it to see all", output.status)))
    }

    fn update_by_hand(&self) -> String {
        [&[self.command], self.arguments].concat().join(" ")
    }
}

/// Whether this process may change the system.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command in `PATH`, or where those of root are.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).filter(|directory| directory.is_absolute());
    let roots = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    own.chain(roots).map(|directory| directory.join(OsStr::new(name))).find(|file| file.is_file())
}

/// The name of our file in the store.
const NAME: &str = "dfget.crt";

/// A directory, a command and its arguments: Debian and Alpine; Fedora and RHEL; openSUSE.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("/usr/local/share/ca-certificates", "update-ca-certificates", &[]),
    ("/etc/pki/ca-trust/source/anchors", "update-ca-trust", &["extract"]),
    ("/etc/pki/trust/anchors", "update-ca-certificates", &[]),
];
