//! What is printed. The table goes to standard output, what happens meanwhile to standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// A line of progress. Nobody is left to hear that standard error cannot be written.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "bench: {text}");
}

/// A text and a line break on standard output.
///
/// # Errors
/// The output cannot be written.
pub fn output(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}
