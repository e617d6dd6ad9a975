//! Everything that is said about a configuration, collected while it is read.
//!
//! Owns the list of files and the order of the messages: by file, line and column, so that a user
//! can correct a file from top to bottom in one go. Nothing stops at the first error.

use std::path::PathBuf;

use crate::{
    Code, Diagnostic, Location, Severity,
    yaml::{Fault, Mark},
};

/// What a message is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// A place in a file.
    pub(crate) mark: Option<Mark>,
    /// A whole file, when there is no mark.
    pub(crate) file: Option<PathBuf>,
    /// The key, as the file would name it.
    pub(crate) key: Option<String>,
}

/// The messages so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<PathBuf>,
    found: Vec<(Option<Mark>, Diagnostic)>,
}

// === impl Subject ===

impl Subject {
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }
}

// === impl Report ===

impl Report {
    /// Makes a file known; the number goes into its marks.
    pub(crate) fn add_file(&mut self, path: PathBuf) -> usize {
        self.files.push(path);
        self.files.len() - 1
    }

    /// The file's name, as it is shown.
    pub(crate) fn file(&self, number: usize) -> Option<&PathBuf> {
        self.files.get(number)
    }

    pub(crate) fn error(
        &mut self,
        subject: Subject,
        code: Code,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(Severity::Error, code, subject, problem.into(), remedy.into());
    }

    pub(crate) fn warn(
        &mut self,
        subject: Subject,
        code: Code,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(Severity::Warning, code, subject, problem.into(), remedy.into());
    }

    /// Takes over what is wrong with the text of a file.
    pub(crate) fn fault(&mut self, fault: Fault) {
        let subject = Subject { mark: Some(fault.mark), file: None, key: fault.key };
        self.error(subject, fault.code, fault.problem, fault.remedy);
    }

    fn say(&mut self, severity: Severity, code: Code, subject: Subject, problem: String, remedy: String) {
        let location = match subject.mark {
            Some(mark) => self.files.get(mark.file).map(|file| Location {
                file: file.clone(),
                line: Some(mark.line),
                column: Some(mark.column),
            }),
            None => subject.file.map(|file| Location { file, line: None, column: None }),
        };
        let diagnostic = Diagnostic {
            severity,
            code,
            location,
            key: subject.key.map(|key| printable(&key)),
            problem: printable(&problem),
            remedy: printable(&remedy),
        };
        self.found.push((subject.mark, diagnostic));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|(_, diagnostic)| diagnostic.severity == Severity::Error)
    }

    /// Errors and warnings, each in the order of the files; those about no line come first.
    pub(crate) fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.found.sort_by_key(|(mark, _)| *mark);
        self.found
            .into_iter()
            .map(|(_, diagnostic)| diagnostic)
            .partition(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Keys and values come from the file: what would break the line or drive a terminal is replaced.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_the_order_of_the_files() {
        let mut report = Report::default();
        let file = report.add_file("a.yaml".into());
        for (line, column) in [(9, 1), (2, 5), (2, 3)] {
            let mark = Some(Mark { file, line, column });
            report.warn(Subject { mark, ..Subject::default() }, Code::Suspicious, "p", "r");
        }
        report.warn(Subject::file("b.yaml"), Code::Exposed, "p", "r");
        assert!(!report.has_errors());
        report.error(Subject::default(), Code::BadValue, "p", "r");
        assert!(report.has_errors());
        let (errors, warnings) = report.into_parts();
        assert_eq!(errors.len(), 1);
        let places: Vec<_> =
            warnings.iter().map(|w| w.location.as_ref().map(ToString::to_string).unwrap()).collect();
        assert_eq!(places, ["b.yaml", "a.yaml:2:3", "a.yaml:2:5", "a.yaml:9:1"]);
    }
}
