//! Why a piece, or word of pieces, did not come from another node.

/// What it means for the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// It could not be reached, went away, or was too slow.
    Broken,
    /// It does not have what was asked for.
    Missing,
    /// It said or sent what cannot be.
    Wrong,
}

/// Why nothing came. The text names neither the other nor the task: who logs it does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct PeerError {
    kind: ErrorKind,
    text: String,
}

// === impl PeerError ===

impl PeerError {
    /// What it means for the other.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn broken(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Broken, text: text.into() }
    }

    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Missing, text: text.into() }
    }

    pub(crate) fn wrong(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Wrong, text: text.into() }
    }
}
