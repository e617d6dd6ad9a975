//! What is said about a configuration: where, which key, what is wrong, what to type instead.
//!
//! Owns the shape of a message and its one-line form. It knows nothing of the keys; whoever finds
//! something wrong writes the words. No message may hold a secret: the reader of a secret key says
//! that a value is there, never the value.

use std::{fmt, path::PathBuf};

/// How much it matters.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The daemon starts, and does something else than the file seems to ask for.
    Warning,
    /// The daemon does not start.
    Error,
}

/// What a message is about, for programs that read them. The names are stable.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Code {
    /// The file cannot be found or read.
    FileUnreadable,
    /// The text is no YAML, or YAML of a kind no configuration needs.
    Syntax,
    /// A key stands twice in one mapping.
    DuplicateKey,
    /// A list where a number belongs, and the like.
    WrongType,
    /// The right type, an impossible value.
    BadValue,
    /// A key that another key needs is not there.
    MissingKey,
    /// A certificate or key file that the configuration names is not there or not readable.
    MissingFile,
    /// A key that no version knows.
    UnknownKey,
    /// A known key that has no effect yet.
    NotSupported,
    /// A key set at the top level and under `proxy`.
    Shadowed,
    /// The documentation's placeholder was left in place.
    Placeholder,
    /// A host pattern that matches more hosts than it names, or none.
    LooseHostPattern,
    /// Parts of the proxy that do nothing without each other.
    NoEffect,
    /// A value that is legal and seldom meant.
    Suspicious,
    /// Something that others on the host or the network could abuse.
    Exposed,
}

/// A place in a file; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// The file, as it was named or found.
    pub file: PathBuf,
    /// The line; `None` when the whole file is meant.
    pub line: Option<u32>,
    /// The column; there when the line is.
    pub column: Option<u32>,
}

/// One error or warning, with the remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What it is about.
    pub code: Code,
    /// Where; `None` when no file has to do with it.
    pub location: Option<Location>,
    /// The key as the file would name it, such as `storage.taskExpireTime` or
    /// `proxy.proxies[0].regx`; `None` when it is about no key.
    pub key: Option<String>,
    /// What is wrong, with what was found; no line break, no final stop.
    pub problem: String,
    /// The next step, with an example where one helps; no line break, no final stop.
    pub remedy: String,
}

// === impl Severity ===

impl Severity {
    /// `warning` or `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

// === impl Code ===

impl Code {
    /// The stable name, as in `unknown-key`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileUnreadable => "file-unreadable",
            Self::Syntax => "syntax",
            Self::DuplicateKey => "duplicate-key",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::MissingKey => "missing-key",
            Self::MissingFile => "missing-file",
            Self::UnknownKey => "unknown-key",
            Self::NotSupported => "not-supported",
            Self::Shadowed => "shadowed",
            Self::Placeholder => "placeholder",
            Self::LooseHostPattern => "loose-host-pattern",
            Self::NoEffect => "no-effect",
            Self::Suspicious => "suspicious",
            Self::Exposed => "exposed",
        }
    }
}

// === impl Location ===

impl fmt::Display for Location {
    /// `FILE:LINE:COLUMN`, which editors and terminals can jump to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

// === impl Diagnostic ===

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: key: problem; remedy`, on one line; parts that are not known are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_is_one_line_that_an_editor_can_jump_to() {
        let mut diagnostic = Diagnostic {
            severity: Severity::Error,
            code: Code::BadValue,
            location: Some(Location { file: "a.yaml".into(), line: Some(3), column: Some(7) }),
            key: Some("gcInterval".to_owned()),
            problem: "no duration (got `soon`)".to_owned(),
            remedy: "write one such as `1m30s`".to_owned(),
        };
        let text = "a.yaml:3:7: gcInterval: no duration (got `soon`); write one such as `1m30s`";
        assert_eq!(diagnostic.to_string(), text);

        diagnostic.location = Some(Location { file: "a.yaml".into(), line: None, column: None });
        diagnostic.key = None;
        assert_eq!(diagnostic.to_string(), "a.yaml: no duration (got `soon`); write one such as `1m30s`");
    }
}
