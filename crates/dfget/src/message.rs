//! What is printed on the terminal.
//!
//! Warnings and errors go to standard error, where a closed pipe is of no consequence. What a
//! program may read goes to standard output, where it is.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use dfget_config::{Diagnostic, Severity};

/// One line on standard error.
pub(crate) fn error(text: impl Display) {
    line(Severity::Error, text);
}

/// One line on standard error, for what does not stop anything.
pub(crate) fn warning(text: impl Display) {
    line(Severity::Warning, text);
}

/// A line for whoever starts a program by hand, on standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Diagnostics on standard error, one line each.
pub(crate) fn diagnostics<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
    for diagnostic in diagnostics {
        line(diagnostic.severity, diagnostic);
    }
}

fn line(severity: Severity, text: impl Display) {
    // Nobody is left to hear that standard error cannot be written.
    let _ = writeln!(io::stderr().lock(), "{}: {text}", severity.as_str());
}

/// A text and a line break on standard output. A reader that has left is no failure.
///
/// # Errors
/// The output cannot be written, for example because the disk is full.
pub(crate) fn output(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The exit status of a command that printed something, and nothing else.
pub(crate) fn printed(result: io::Result<()>) -> ExitCode {
    printed_or(result, ExitCode::SUCCESS)
}

/// The exit status of a command that printed something: `status`, if that could be written.
pub(crate) fn printed_or(result: io::Result<()>, status: ExitCode) -> ExitCode {
    match result {
        Ok(()) => status,
        Err(error) => {
            self::error(not_written(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why nothing more is printed.
pub(crate) fn not_written(error: &io::Error) -> String {
    format!("standard output cannot be written: {error}; look for a full disk")
}
