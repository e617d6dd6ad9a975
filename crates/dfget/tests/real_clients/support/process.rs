//! Processes and waiting, with everything a failure message needs.

use std::process::{Command, ExitStatus, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long `until` waits before it gives up. Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The command line, for messages.
    pub(crate) command: String,
    /// Whether it ended with 0.
    pub(crate) success: bool,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote, bad UTF-8 replaced.
    pub(crate) stdout: String,
    /// The same of its errors.
    pub(crate) stderr: String,
}

impl Finished {
    /// From the pieces the standard library has.
    pub(crate) fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            success: output.status.success(),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Itself if it ended well, else a panic with all it said.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.success, "{} ended with {}:\n{}{}", self.command, self.status, self.stdout, self.stderr);
        self
    }

    /// Itself if it failed, else a panic.
    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert!(!self.success, "{} should have failed:\n{}{}", self.command, self.stdout, self.stderr);
        self
    }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Finished {
    let line = format!("{command:?}");
    match command.output() {
        Ok(output) => Finished::new(line, &output),
        Err(error) => panic!("{line} cannot be started: {error}"),
    }
}

/// Looks until `found` has something, and gives up with `what` in the message.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        sleep(Duration::from_millis(10));
    }
}
