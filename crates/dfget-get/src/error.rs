//! Why nothing was got, in one line for the user, and what to exit with.

use std::path::PathBuf;
use std::time::Duration;

use dfget_core::Digest;

/// Why nothing was got. No variant carries a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine has to be set right first.
    #[error("{0}")]
    Configuration(String),
    /// The origin does not let this credential have it.
    #[error("{place}: {said}; {remedy}")]
    NotAllowed {
        /// What was asked for.
        place: String,
        /// What the origin says.
        said: String,
        /// What to do.
        remedy: String,
    },
    /// It may work later.
    #[error("{place}: {reason}")]
    TryAgain {
        /// What was asked for.
        place: String,
        /// Why not now.
        reason: String,
    },
    /// The origin has not got it, or something else than was asked for.
    #[error("{place}: {reason}")]
    Unusable {
        /// What was asked for.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What came is not what was meant.
    #[error(
        "{place}: what came has the digest {actual} and not {expected}; nothing of it was kept. Ask whoever \
         offers it, or look for something on the way that changes it"
    )]
    Digest {
        /// What was asked for.
        place: String,
        /// What it should be.
        expected: Box<Digest>,
        /// What it is.
        actual: Box<Digest>,
    },
    /// The output is there already.
    #[error("{} exists; name another file by -O, or replace it by --force", .0.display())]
    Exists(PathBuf),
    /// The output cannot be written.
    #[error("{}: {reason}", path.display())]
    Output {
        /// The file or directory.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// `--timeout` is over.
    #[error("not done within {}{}", in_words(.after), and_kept(.kept))]
    TimedOut {
        /// How long was allowed.
        after: Duration,
        /// A part is kept to go on with.
        kept: bool,
    },
    /// Ctrl-C, or a signal to end.
    #[error("interrupted{}", and_kept(.kept))]
    Interrupted {
        /// A part is kept to go on with.
        kept: bool,
    },
}

// === impl GetError ===

impl GetError {
    /// The exit status, as sysexits.h and the shells have it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::TryAgain { .. } => 75,
            Self::NotAllowed { .. } => 77,
            Self::Configuration(_) => 78,
            Self::TimedOut { .. } => 124,
            Self::Interrupted { .. } => 130,
            Self::Unusable { .. } | Self::Digest { .. } | Self::Exists(_) | Self::Output { .. } => 1,
        }
    }
}

const fn and_kept(kept: &bool) -> &'static str {
    if *kept { "; what has come is kept, and the same command goes on from there" } else { "" }
}

fn in_words(time: &Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_kept_is_told() {
        let late = GetError::TimedOut { after: Duration::from_secs(90), kept: true };
        assert_eq!(
            late.to_string(),
            "not done within 90 s; what has come is kept, and the same command goes on from there"
        );
        let late = GetError::TimedOut { after: Duration::from_millis(1500), kept: false };
        assert_eq!((late.to_string().as_str(), late.exit_code()), ("not done within 1500 ms", 124));
        assert_eq!(GetError::Interrupted { kept: false }.exit_code(), 130);
    }
}
