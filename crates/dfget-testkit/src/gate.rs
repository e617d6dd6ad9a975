//! The order of events, without clocks.
//!
//! A gate is closed until a test opens it; an origin waits before it, and so a test can say "the client has these
//! bytes although the rest was not yet sent". A wait that nobody ends fails after [`PATIENCE`], so that a broken test
//! ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long anything in the kit waits for an event before it calls the test broken. No test asserts this time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A latch: closed when made, opened once, for all who wait.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Latch>);

#[derive(Debug, Default)]
struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through who waits now or later.
    pub fn open(&self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
    }

    /// Waits until the gate is open; false if nobody opened it within [`PATIENCE`].
    #[must_use]
    pub fn wait(&self) -> bool {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .0
            .opened
            .wait_timeout_while(open, PATIENCE, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        *open
    }
}
