//! What is found.

use std::fmt;

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// How it is.
    pub verdict: Verdict,
    /// What is there.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Area {
    /// The file.
    Configuration,
    /// The daemon that runs, if one does.
    Daemon,
    /// Ports of the daemon.
    Port,
    /// Variables that clients read.
    Variables,
    /// The authority that signs for hijacked hosts.
    Authority,
    /// Who trusts it.
    Trust,
    /// Other nodes.
    Cluster,
    /// Directories.
    Disk,
    /// Bounds that the system sets.
    Limits,
    /// Registries.
    Registry,
    /// The clock of this node.
    Clock,
}

/// How something is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// Some pulls will fail, or be slower than they need to be.
    Warning,
    /// Pulls will fail.
    Bad,
}

// === impl Finding ===

impl Finding {
    /// Something that is as it should be.
    pub(crate) fn good(area: Area, text: impl Into<String>) -> Self {
        Self { area, verdict: Verdict::Good, text: text.into(), remedy: None }
    }

    /// Something that is not, and what to do.
    pub(crate) fn new(
        area: Area,
        verdict: Verdict,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { area, verdict, text: text.into(), remedy: Some(remedy.into()) }
    }
}

// === impl Area ===

impl Area {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Daemon => "daemon",
            Self::Port => "port",
            Self::Variables => "variables",
            Self::Authority => "authority",
            Self::Trust => "trust",
            Self::Cluster => "cluster",
            Self::Disk => "disk",
            Self::Limits => "limits",
            Self::Registry => "registry",
            Self::Clock => "clock",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Bad => "BAD",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}
