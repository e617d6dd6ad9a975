//! What is printed on the terminal.
//!
//! Warnings and errors go to standard error, where a closed pipe is of no consequence. What a
//! program may read goes to standard output, where it is.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use dfget_config::{Code, Diagnostic, Environment, Loaded, Location, Severity, default_files};

/// One line on standard error.
pub(crate) fn error(text: impl Display) {
    line(Severity::Error, text);
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

/// The error of a configuration without any key of the proxy: there is nothing to serve.
pub(crate) fn nothing_to_serve(loaded: &Loaded, environment: &Environment) -> Option<Diagnostic> {
    if loaded.config.proxy.is_some() {
        return None;
    }
    let example = "write `proxies` and `hijackHTTPS`, docs/configuration.md has an example";
    let (location, problem, remedy) = match &loaded.source {
        Some(file) => {
            let location = Location { file: file.clone(), line: None, column: None };
            (
                Some(location),
                "no key of the proxy, so there is nothing to serve".to_owned(),
                example.to_owned(),
            )
        }
        None => {
            let places: Vec<_> =
                default_files(environment).iter().map(|path| path.display().to_string()).collect();
            let problem = format!("there is no configuration file (looked for {})", places.join(", then "));
            (None, problem, format!("{example}, or name a file with `--config FILE`"))
        }
    };
    Some(Diagnostic {
        severity: Severity::Error,
        code: Code::MissingKey,
        location,
        key: None,
        problem,
        remedy,
    })
}
