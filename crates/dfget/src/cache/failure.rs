//! Why a command fails, and the exit status of that.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use dfget_config::ConfigErrors;
use dfget_daemon::OfflineError;

use crate::api::{CallError, NoDaemon};
use crate::message;

/// A wrong command line.
const USAGE: u8 = 2;
/// Later it may work (`EX_TEMPFAIL` of sysexits).
const TRY_AGAIN: u8 = 75;
/// It is somebody else's (`EX_NOPERM`).
const NOT_ALLOWED: u8 = 77;

/// Why nothing, or not all, was done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line means nothing.
    Usage(String),
    /// The configuration cannot be used.
    Config(ConfigErrors),
    /// It may work later.
    TryAgain(String),
    /// It is not this user's.
    NotAllowed(String),
    /// There is no store yet.
    NoStore(PathBuf),
    /// What was printed could not be written.
    Output(io::Error),
    /// Anything else.
    Failed(String),
}

// === impl Failure ===

impl Failure {
    /// Says it, and with which status the command ends.
    pub(super) fn tell(self) -> ExitCode {
        let code = match &self {
            Self::Config(failed) => {
                message::diagnostics(failed.errors.iter().chain(&failed.warnings));
                return ExitCode::from(ConfigErrors::EXIT_CODE);
            }
            Self::Usage(_) => USAGE,
            Self::TryAgain(_) => TRY_AGAIN,
            Self::NotAllowed(_) => NOT_ALLOWED,
            Self::NoStore(_) | Self::Output(_) | Self::Failed(_) => 1,
        };
        match self {
            Self::Config(_) => {}
            Self::NoStore(dir) => message::error(format_args!("nothing is stored in {}", dir.display())),
            Self::Output(error) => message::error(message::not_written(&error)),
            Self::Usage(text) | Self::TryAgain(text) | Self::NotAllowed(text) | Self::Failed(text) => {
                message::error(text);
            }
        }
        ExitCode::from(code)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Failed(failed) if matches!(failed.status, 409 | 503) => {
                Self::TryAgain(error.to_string())
            }
            CallError::Failed(failed) if failed.status == 403 => Self::NotAllowed(error.to_string()),
            CallError::Failed(failed) if failed.status == 404 => {
                Self::Failed(format!("{error}; is the daemon of another version?"))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<NoDaemon> for Failure {
    fn from(error: NoDaemon) -> Self {
        match &error {
            NoDaemon::NotAllowed(_) | NoDaemon::Untrusted { .. } => Self::NotAllowed(error.to_string()),
            NoDaemon::None => Self::TryAgain(error.to_string()),
            NoDaemon::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        match error {
            OfflineError::Missing(dir) => Self::NoStore(dir),
            OfflineError::Held(_) => Self::TryAgain(error.to_string()),
            OfflineError::NotAllowed(_) => Self::NotAllowed(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
