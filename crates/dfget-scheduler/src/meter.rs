//! Slows a client that floods.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::limits;

/// Counts what one connection asks for.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What is left, and when it was so.
    left: Mutex<(f64, Instant)>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { left: Mutex::new((limits::MESSAGES_AT_ONCE, Instant::now())) }
    }

    /// Counts a message of `len` bytes; over the limit, waits until it is paid for.
    pub(crate) async fn count(&self, len: usize) {
        let wait = self.charge(len, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a message has at most 1 MiB")]
    fn charge(&self, len: usize, now: Instant) -> Duration {
        let mut left = self.left.lock();
        let earned = now.saturating_duration_since(left.1).as_secs_f64() * limits::MESSAGES_PER_SECOND;
        left.0 = (left.0 + earned).min(limits::MESSAGES_AT_ONCE) - 1.0 - len as f64 / 4096.0;
        left.1 = now;
        let owed = (-left.0 / limits::MESSAGES_PER_SECOND).clamp(0.0, 10.0);
        drop(left);
        Duration::from_secs_f64(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_floods_waits_and_the_longer_the_more() {
        let meter = Meter::new();
        let now = Instant::now();
        let waits: Vec<_> = (0..8000).map(|_| meter.charge(0, now)).collect();
        assert_eq!(waits[3999], Duration::ZERO);
        assert!(waits[4001] > Duration::ZERO && waits[7999] > waits[5000]);
        assert_eq!(meter.charge(0, now + Duration::from_secs(10)), Duration::ZERO);
    }
}
