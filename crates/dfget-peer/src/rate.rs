//! How much may be sent, and when. Pure: the time is an argument.

use std::time::Duration;

/// A bucket of bytes, filled evenly. Who takes more than is in it waits until the debt is paid, and who comes
/// later waits longer: so all are served in the order in which they ask.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Bytes a second; 0 = no limit.
    rate: u64,
    /// Billionths of a byte; below nothing while there is a debt.
    level: i128,
    filled: Duration,
}

// === impl Bucket ===

impl Bucket {
    /// Full, at this time.
    pub(crate) const fn new(rate: u64, now: Duration) -> Self {
        Self { rate, level: most(rate), filled: now }
    }

    /// Takes so many bytes; how long to wait before they are sent.
    pub(crate) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let nanos = now.saturating_sub(self.filled).as_nanos();
        let came = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(came).min(most(self.rate));
        self.filled = self.filled.max(now);
        self.level -= i128::from(bytes) * NANOS;
        let wait = -self.level.min(0) / i128::from(self.rate);
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&mut self, rate: u64, now: Duration) {
        self.take(0, now);
        self.rate = rate;
        self.level = self.level.min(most(rate));
    }

    /// How much to send at once: so little that many can take turns within a second.
    pub(crate) fn chunk(&self) -> u64 {
        if self.rate == 0 { LONGEST } else { (self.rate / TURNS).clamp(SHORTEST, LONGEST) }
    }
}

/// What it holds when it is full: what comes in by a tenth of a second.
const fn most(rate: u64) -> i128 {
    rate as i128 * NANOS / 10
}

const NANOS: i128 = 1_000_000_000;
/// Turns in a second.
const TURNS: u64 = 64;
/// The most and the least to send at once, in bytes.
const LONGEST: u64 = 512 << 10;
const SHORTEST: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_takes_too_much_waits_and_who_comes_later_waits_longer() {
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        assert_eq!(bucket.take(100, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(bucket.take(500, Duration::ZERO), Duration::from_secs(1));
        let later = bucket.take(500, Duration::from_millis(1500));
        assert_eq!(
            later,
            Duration::from_millis(400),
            "what was not used is saved up for a tenth of a second"
        );
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_limit_can_come_and_go() {
        let mut bucket = Bucket::new(0, Duration::ZERO);
        assert_eq!(bucket.take(u64::MAX, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.chunk(), LONGEST);
        bucket.set_rate(1000, Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::ZERO), Duration::from_secs(1));
        assert_eq!(bucket.chunk(), SHORTEST);
        bucket.set_rate(0, Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::ZERO), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_more_is_sent_than_the_rate_and_a_burst(
            rate in 1..1_000_000_000_u64, takes in prop::collection::vec((0..1_000_000_u64, 0..1_000_u64), 1..50),
        ) {
            let (mut bucket, mut now, mut sent) = (Bucket::new(rate, Duration::ZERO), Duration::ZERO, 0);
            for (bytes, pause) in takes {
                now += Duration::from_millis(pause);
                now += bucket.take(bytes, now);
                sent += u128::from(bytes);
                let due = u128::from(rate) / 10 + u128::from(rate) * now.as_nanos() / 1_000_000_000;
                prop_assert!(sent <= due + 1 + u128::from(rate) / 1_000_000_000 + 1);
            }
        }
    }
}
