//! One line on a terminal that tells how far something has come.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// Between two words.
const PAUSE: Duration = Duration::from_millis(100);

/// Nothing is shown where standard error is no terminal.
pub(super) struct Progress {
    shows: bool,
    shown: Option<Instant>,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new() -> Self {
        Self { shows: stderr().is_terminal(), shown: None }
    }

    /// Shows this instead of what was shown before.
    pub(super) fn show(&mut self, text: &str) {
        if self.shows && self.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            let mut stderr = stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
            self.shown = Some(Instant::now());
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let mut stderr = stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
