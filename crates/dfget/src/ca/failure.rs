//! Why a command of `dfget ca` did not do what was asked.

use std::{fmt::Display, io, process::ExitCode};

use dfget_config::ConfigErrors;
use dfget_tls::{BundleError, CertificateFileError, LeafError, PairError};

use crate::message;

/// With the exit status that goes with it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was tried did not work.
    Failed(String),
    /// The command line asks for what cannot be.
    Usage(String),
    /// Only root may.
    NotAllowed(String),
    /// Something of the configuration stands in the way.
    Refused(String),
    /// The configuration itself cannot be used.
    Config(Box<ConfigErrors>),
}

// === impl Failure ===

impl Failure {
    pub(crate) fn failed(text: impl Display) -> Self {
        Self::Failed(text.to_string())
    }

    /// Says it, and gives the exit status.
    pub(crate) fn say(&self) -> ExitCode {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::NotAllowed(text) | Self::Refused(text) => {
                message::error(text);
            }
            Self::Config(failed) => message::diagnostics(failed.errors.iter().chain(&failed.warnings)),
        }
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotAllowed(_) => NOT_ALLOWED,
            Self::Refused(_) | Self::Config(_) => ConfigErrors::EXIT_CODE,
        })
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        Self::failed(error)
    }
}

impl From<CertificateFileError> for Failure {
    fn from(error: CertificateFileError) -> Self {
        Self::failed(error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::failed(error)
    }
}

impl From<LeafError> for Failure {
    fn from(error: LeafError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(message::not_written(&error))
    }
}

/// `EX_NOPERM` of `sysexits.h`.
const NOT_ALLOWED: u8 = 77;
