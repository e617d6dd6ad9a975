//! Commands and what they say, as they would stand in a terminal.

use std::path::Path;
use std::process::Command;

use dfget_testkit::session::until;
use dfget_testkit::{Daemon, Ended, assert_snapshot};

pub(crate) const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// A session at a terminal, with words for what is another each time.
pub(crate) struct Transcript {
    text: String,
    words: Vec<(String, String)>,
}

// === impl Transcript ===

impl Transcript {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), words: Vec::new() }
    }

    /// Shows `word` for `text` from now on. Tables keep their columns if both are as long.
    pub(crate) fn word(&mut self, text: impl ToString, word: &str) {
        self.words.push((text.to_string(), word.to_owned()));
    }

    /// Shows a command that was typed in, and how it ended.
    pub(crate) fn show(&mut self, typed: &str, ended: &Ended) {
        self.text.push_str(&self.plain(&format!("$ {typed}\n{}{}", ended.stdout, ended.stderr)));
        if ended.code != 0 {
            self.text.push_str(&format!("[exit status {}]\n", ended.code));
        }
        self.text.push('\n');
    }

    /// Runs `dfget` with these words, split at blanks, in what `command` makes, and shows it.
    pub(crate) fn run(&mut self, command: impl FnOnce(&[&str]) -> Command, typed: &str) -> Ended {
        let words: Vec<_> = typed.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
        let ended = Ended::of(&mut command(&words));
        self.show(typed, &ended);
        ended
    }

    /// Compares all of it with the file of this name, below `tests/snapshots`.
    #[track_caller]
    pub(crate) fn end(self, name: &str) {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
        assert_snapshot(&directory.join(name), &format!("{}\n", self.text.trim_end()));
    }

    fn plain(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (theirs, word)| text.replace(theirs, word))
    }
}

/// Waits until so many contents are stored whole, and returns the bundle of them.
pub(crate) fn when_stored(daemon: &Daemon, count: usize) -> Vec<u8> {
    until("all to be stored", || {
        let output = beside(daemon, &["cache", "export", "-"]).output().expect("it runs");
        String::from_utf8_lossy(&output.stderr)
            .starts_with(&format!("packed {count} content"))
            .then_some(output.stdout)
    })
}

/// `dfget` beside a daemon, as somebody runs it who meets no other daemon.
pub(crate) fn beside(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = daemon.beside(DFGET);
    command.args(arguments);
    command
}
