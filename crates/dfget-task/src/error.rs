//! Why a content cannot be had, or not to its end.

use std::sync::Arc;

use dfget_core::Digest;
use dfget_origin::{FetchError, OriginError, Verdict};
use dfget_storage::ReadError;

/// Why a response ends early, or does not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The origin did not answer.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The origin's stream broke and could not be continued.
    #[error("{origin}: {source}")]
    Fetch {
        /// The origin's authority.
        origin: String,
        /// The cause.
        source: FetchError,
    },
    /// What came is not what the digest names.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// Bytes that had left before a mismatch was found are not those of the right content.
    #[error("bytes sent before the mismatch was found differ from the verified content")]
    Sent,
    /// Stored bytes can neither be read nor fetched again.
    #[error("stored bytes cannot be read: {0}")]
    Stored(#[from] ReadError),
    /// Stored bytes changed on disk and could not be repaired.
    #[error("stored bytes changed on disk and could not be fetched again: {0}")]
    Rotten(String),
    /// The download that this response follows failed.
    #[error("{0}")]
    Shared(Arc<Self>),
    /// It was to come from peers alone, and none has the rest of it.
    #[error(
        "no other node of the cluster gives the rest of it, and the origin is not asked without a client"
    )]
    NoPeers,
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    Closing,
    /// Part of the daemon failed in an unforeseen way.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl ContentError {
    /// Whether the origin is to blame, and not this daemon.
    #[must_use]
    pub fn is_the_origins(&self) -> bool {
        match self {
            Self::Origin(_) | Self::Fetch { .. } | Self::Mismatch(_) => true,
            Self::Shared(error) => error.is_the_origins(),
            Self::Sent
            | Self::Stored(_)
            | Self::Rotten(_)
            | Self::NoPeers
            | Self::Closing
            | Self::Internal(_) => false,
        }
    }
}

/// A content that is not what its digest says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{origin} delivered content with digest {actual} for {expected}; nothing of it was kept")]
pub struct Mismatch {
    /// The origin's authority.
    pub origin: String,
    /// The digest in the request.
    pub expected: Digest,
    /// The digest of what came.
    pub actual: Digest,
}

impl ContentError {
    /// What kind of failure it is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Origin(error) => error.verdict(),
            Self::Shared(error) => error.verdict(),
            _ => Verdict::Bad,
        }
    }

    /// In how many seconds the origin may be asked again, where it is left alone until then (429).
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Origin(error) => error.retry_after(),
            Self::Shared(error) => error.retry_after(),
            _ => None,
        }
    }
}
