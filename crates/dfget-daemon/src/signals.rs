//! Signals: which end the daemon, and what the others do.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dfget_telemetry::logging;
use signal_hook::consts::{SIGHUP, SIGUSR1};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::info;

/// The signals that a daemon gets.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hangup: Signal,
    user: Signal,
    /// Told of each SIGHUP.
    hung_up: Arc<Notify>,
}

// === impl Signals ===

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            hung_up: Arc::default(),
        })
    }

    /// Who waits for SIGHUP is woken by this, as long as somebody waits for the end.
    pub(crate) fn hung_up(&self) -> Arc<Notify> {
        Arc::clone(&self.hung_up)
    }

    /// Waits for a signal that means the end. SIGHUP and SIGUSR1 do not.
    pub(crate) async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => self.hung_up.notify_one(),
                _ = self.user.recv() => cycle_level(),
            }
        }
    }
}

/// Makes SIGHUP and SIGUSR1 harmless from now on, which would end a process that does not know them
/// yet. Returns what tells of a SIGHUP.
pub(crate) fn survive() -> std::io::Result<Arc<AtomicBool>> {
    let hung_up = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&hung_up))?;
    signal_hook::flag::register(SIGUSR1, Arc::default())?;
    Ok(hung_up)
}

/// From `info` to `debug` and back, which is said at either level.
fn cycle_level() {
    let verbose = !logging::is_verbose();
    logging::set_verbose(verbose);
    info!("SIGUSR1: the log level is {} now", if verbose { "debug" } else { "info" });
}
