//! Signals: which end the daemon, and what the others are told.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// The signals that a daemon gets.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hangup: Signal,
    user: Signal,
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
        })
    }

    /// Waits for a signal that means the end. SIGHUP and SIGUSR1 do not.
    pub(crate) async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => {
                    warn!("SIGHUP: reloading is not supported yet; restart to apply a changed file");
                }
                _ = self.user.recv() => {
                    warn!("SIGUSR1: the log level cannot be changed while running; restart with --verbose");
                }
            }
        }
    }
}
