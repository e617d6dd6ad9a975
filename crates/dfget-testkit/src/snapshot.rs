//! Texts kept in files: what a program says now is compared with what it said when somebody last read it.
//!
//! With [`WRITE`] set in the environment the files are written instead, so that one command makes all of them anew;
//! what became of them is then read in `git diff`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that has the files written, as it has generated pages of the documents.
pub const WRITE: &str = "DFGET_WRITE_DOCS";

/// A directory of texts, all of one test: a file that the test has no text for is told, too.
#[derive(Debug)]
pub struct Snapshots {
    directory: PathBuf,
    writes: bool,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

// === impl Snapshots ===

impl Snapshots {
    /// The texts in this directory.
    #[must_use]
    pub fn of(directory: impl Into<PathBuf>) -> Self {
        let writes = std::env::var_os(WRITE).is_some();
        Self { directory: directory.into(), writes, seen: BTreeSet::new(), wrong: Vec::new() }
    }

    /// Compares a text with that of the file `name`.
    ///
    /// # Panics
    /// If the name was given before, or the file is to be written and cannot be.
    pub fn check(&mut self, name: &str, text: &str) {
        assert!(self.seen.insert(name.to_owned()), "two texts are called {name}");
        if let Err(wrong) = compared(&self.directory.join(name), text, self.writes) {
            self.wrong.push(wrong);
        }
    }

    /// Ends the comparison.
    ///
    /// # Panics
    /// With all that differs, what is missing, and what has no text any more.
    pub fn end(mut self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.seen.contains(&name) {
                continue;
            }
            if self.writes {
                fs::remove_file(entry.path()).expect("a text that nothing says any more can be removed");
            } else {
                self.wrong.push(format!("{}: nothing says this any more", entry.path().display()));
            }
        }
        assert!(self.wrong.is_empty(), "{}\n{HOW}", self.wrong.join("\n"));
    }
}

/// Compares one text with that of a file.
///
/// # Panics
/// If they differ, or the file is to be written and cannot be.
#[track_caller]
pub fn assert_snapshot(file: &Path, text: &str) {
    let compared = compared(file, text, std::env::var_os(WRITE).is_some());
    assert!(compared.is_ok(), "{}\n{HOW}", compared.err().unwrap_or_default());
}

/// Writes the text, or says where it differs.
fn compared(file: &Path, text: &str, writes: bool) -> Result<(), String> {
    if writes {
        let directory = file.parent().expect("a file is in a directory");
        fs::create_dir_all(directory).expect("a directory for texts can be made");
        fs::write(file, text).expect("a text can be written");
        return Ok(());
    }
    let kept = fs::read_to_string(file).map_err(|error| format!("{}: {error}\n{text}", file.display()))?;
    if kept == text { Ok(()) } else { Err(format!("{}:\n{}", file.display(), difference(&kept, text))) }
}

/// The lines between what both have at their start and at their end.
fn difference(kept: &str, text: &str) -> String {
    let (kept, text): (Vec<_>, Vec<_>) = (kept.split('\n').collect(), text.split('\n').collect());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(a, b)| a == b).count();
    let start = same(&mut kept.iter().zip(&text));
    let shorter = kept.len().min(text.len());
    let end = same(&mut kept.iter().rev().zip(text.iter().rev())).min(shorter - start);
    let lines = |sign: &str, lines: &[&str]| {
        let lines = lines[start..lines.len() - end].iter().map(|line| format!("{sign} {line}\n"));
        lines.collect::<String>()
    };
    format!("line {}\n{}{}", start + 1, lines("-", &kept), lines("+", &text))
}

const HOW: &str = "\nRead what changed. If it is meant, `make texts` writes it anew.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_without_what_is_the_same() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\ny\nc\n"), "line 2\n- b\n+ x\n+ y\n");
        assert_eq!(difference("a\na\n", "a\n"), "line 2\n- a\n");
        assert_eq!(difference("", "a\n"), "line 1\n+ a\n");
    }

    #[test]
    fn what_differs_is_missing_or_left_over_is_told() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("a");
        assert!(compared(&file, "one\n", false).is_err_and(|wrong| wrong.contains("No such file")));
        assert_eq!(compared(&file, "one\n", true), Ok(()));
        assert_eq!(compared(&file, "one\n", false), Ok(()));
        assert!(compared(&file, "two\n", false).is_err_and(|wrong| wrong.contains("- one\n+ two\n")));
        let mut texts = Snapshots { writes: false, ..Snapshots::of(home.path()) };
        texts.check("b", "three\n");
        let told = std::panic::catch_unwind(|| texts.end()).expect_err("it differs");
        let told = told.downcast::<String>().expect("words");
        assert!(told.contains("/b: ") && told.contains("/a: nothing says this any more"), "{told}");
    }
}
