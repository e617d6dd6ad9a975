//! The closed sets that labels are taken from.

/// One label: key and value.
pub(super) type Label = [(&'static str, &'static str); 1];

/// A set of labels that is known from the start.
pub(super) trait Closed {
    /// All of them.
    fn labels() -> Vec<Label>;
}

/// Where the bytes of a response came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// This node's store, complete before the request.
    Cache,
    /// The origin, by way of a task.
    Origin,
    /// The origin, passed through: no task.
    Forwarded,
    /// What the origin has just answered somebody with the same credential: no task.
    Shared,
    /// A blind tunnel: what went through is unknown.
    Tunnelled,
}

// === impl Source ===

impl Source {
    pub(super) const ALL: [Self; 5] =
        [Self::Cache, Self::Origin, Self::Forwarded, Self::Shared, Self::Tunnelled];

    /// The word for logs and labels: `cache`, `origin`, `forwarded`, `shared`, `tunnelled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Origin => "origin",
            Self::Forwarded => "forwarded",
            Self::Shared => "shared",
            Self::Tunnelled => "tunnelled",
        }
    }

    pub(super) fn label(self) -> Label {
        [("source", self.as_str())]
    }
}

impl Closed for Source {
    fn labels() -> Vec<Label> {
        Self::ALL.map(Self::label).to_vec()
    }
}

/// What a task failed of, in the words of Dragonfly's `type` label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskFailure {
    /// Before its first byte.
    Init,
    /// The origin.
    Source,
    /// Peers.
    P2p,
}

// === impl TaskFailure ===

impl TaskFailure {
    pub(super) const ALL: [Self; 3] = [Self::Init, Self::Source, Self::P2p];

    pub(super) fn label(self) -> Label {
        let failure = match self {
            Self::Init => "init",
            Self::Source => "source",
            Self::P2p => "p2p",
        };
        [("type", failure)]
    }
}

impl Closed for TaskFailure {
    fn labels() -> Vec<Label> {
        Self::ALL.map(Self::label).to_vec()
    }
}

/// Why a piece did not come from the node that was asked for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PieceFailure {
    /// The node could not be reached, or the transfer broke off or stalled.
    Broken,
    /// It does not have the piece.
    Missing,
    /// What came was not the piece.
    Wrong,
}

// === impl PieceFailure ===

impl PieceFailure {
    pub(super) const ALL: [Self; 3] = [Self::Broken, Self::Missing, Self::Wrong];

    pub(super) fn label(self) -> Label {
        let reason = match self {
            Self::Broken => "broken",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        };
        [("reason", reason)]
    }
}

impl Closed for PieceFailure {
    fn labels() -> Vec<Label> {
        Self::ALL.map(Self::label).to_vec()
    }
}

/// What became of spans that were recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TracedSpans {
    /// The collector has taken them.
    Sent,
    /// There was no room for them, or the collector did not take them.
    Lost,
}

// === impl TracedSpans ===

impl TracedSpans {
    pub(super) const ALL: [Self; 2] = [Self::Sent, Self::Lost];

    pub(super) fn label(self) -> Label {
        let end = match self {
            Self::Sent => "sent",
            Self::Lost => "lost",
        };
        [("end", end)]
    }
}

impl Closed for TracedSpans {
    fn labels() -> Vec<Label> {
        Self::ALL.map(Self::label).to_vec()
    }
}

/// How the question whether a client may have a stored blob was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessCheck {
    /// The origin said yes a moment ago; not asked again.
    Remembered,
    /// The origin says yes.
    Allowed,
    /// The origin says no; its own answer goes to the client.
    Denied,
    /// The origin does not answer, an earlier yes still counts.
    Grace,
    /// The origin does not answer, and there is no earlier yes.
    Unreachable,
}

// === impl AccessCheck ===

impl AccessCheck {
    pub(super) const ALL: [Self; 5] =
        [Self::Remembered, Self::Allowed, Self::Denied, Self::Grace, Self::Unreachable];

    pub(super) fn label(self) -> Label {
        let result = match self {
            Self::Remembered => "remembered",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Grace => "grace",
            Self::Unreachable => "unreachable",
        };
        [("result", result)]
    }
}

impl Closed for AccessCheck {
    fn labels() -> Vec<Label> {
        Self::ALL.map(Self::label).to_vec()
    }
}

/// A client can invent methods, so labels are taken from a list.
pub(super) fn method_label(method: &str) -> &'static str {
    METHODS.iter().find(|known| **known == method).copied().unwrap_or("other")
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
