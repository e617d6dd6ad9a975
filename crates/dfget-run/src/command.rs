//! The child process: found, started, given its signals, waited for.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is none of that name.
    #[error("{0}: command not found; look at its spelling and at PATH")]
    NotFound(String),
    /// It is there but is no program that may be run.
    #[error("{0}: {1}; `ls -l` shows whether it may be run (chmod +x)")]
    NotExecutable(String, io::Error),
    /// The system refuses.
    #[error("{0}: {1}")]
    System(String, io::Error),
}

/// Signals that are taken from now on, to be passed to the command.
pub(crate) struct Supervisor {
    signals: SignalsInfo<WithOrigin>,
}

const PASSED: [i32; 9] = [SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

// === impl CommandError ===

impl CommandError {
    /// What a shell would exit with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(..) => 126,
            Self::System(..) => 1,
        }
    }

    fn of(name: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(name.to_owned()),
            io::ErrorKind::PermissionDenied => Self::NotExecutable(name.to_owned(), error),
            // ENOEXEC, EISDIR and the like.
            _ if error.raw_os_error().is_some() => Self::NotExecutable(name.to_owned(), error),
            _ => Self::System(name.to_owned(), error),
        }
    }
}

/// Looks for the program as the shell does, so that nothing is begun for one that is not there.
///
/// # Errors
/// [`CommandError`] by cause.
pub(crate) fn look_up(name: &str, path: &str) -> Result<(), CommandError> {
    let places: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        path.split(':').map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name)).collect()
    };
    let mut refused = None;
    for place in places {
        match std::fs::metadata(&place) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(()),
            Ok(found) if found.is_dir() && !name.contains('/') => {}
            Ok(_) => refused = Some(io::Error::from(io::ErrorKind::PermissionDenied)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(error) => CommandError::NotExecutable(name.to_owned(), error),
        None => CommandError::NotFound(name.to_owned()),
    })
}

// === impl Supervisor ===

impl Supervisor {
    /// Takes the signals. One that our caller ignores is left alone, so that the command ignores it
    /// too (`nohup`).
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let passed = PASSED.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        Ok(Self { signals: SignalsInfo::new(passed.chain([SIGCHLD]))? })
    }

    /// Starts the command.
    ///
    /// # Errors
    /// [`CommandError`] by cause.
    pub(crate) fn start(&self, command: &mut Command) -> Result<Child, CommandError> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.spawn().map_err(|error| CommandError::of(&name, error))
    }

    /// Waits for the end of the command, and hands on to it what processes send to us. What the
    /// terminal sends, such as Ctrl-C, it has got itself.
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub(crate) fn wait(&mut self, child: &mut Child) -> io::Result<u8> {
        if let Some(status) = child.try_wait()? {
            return Ok(exit_code(status));
        }
        let pid = Pid::from_child(child);
        for origin in self.signals.forever() {
            if origin.signal == SIGCHLD {
                if let Some(status) = child.try_wait()? {
                    return Ok(exit_code(status));
                }
            } else if !matches!(origin.cause, Cause::Kernel)
                && let Some(signal) = Signal::from_named_raw(origin.signal)
            {
                // It may just have ended.
                let _ = kill_process(pid, signal);
            }
        }
        Ok(1)
    }

    /// Whether a signal to end has come since the command ended.
    pub(crate) fn is_called(&mut self) -> bool {
        self.signals.pending().any(|origin| origin.signal != SIGCHLD)
    }
}

/// The set of ignored signals in the text of `/proc/self/status`, the first in the lowest bit.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// The code as a shell tells it: that of the command, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_is_looked_for_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        fs::write(dir.path().join("data"), "").unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("tool"), "").unwrap();
        fs::set_permissions(dir.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(look_up("tool", &path).is_ok());
        assert!(look_up(&format!("{path}/tool"), "").is_ok());
        let code = |name: &str| look_up(name, &path).unwrap_err().exit_code();
        assert_eq!((code("nothing"), code("data"), code("folder")), (127, 126, 127));
        assert_eq!((code(&format!("{path}/folder")), code(&format!("{path}/nothing"))), (126, 127));
    }

    #[test]
    fn the_ignored_signals_are_read_from_the_kernels_word() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t2\n";
        assert_eq!(ignored(status), 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!((ignored(""), ignored("SigIgn:\tnonsense\n")), (0, 0));
    }

    #[test]
    fn a_code_is_the_commands_or_128_and_its_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(2)), 130);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }
}
