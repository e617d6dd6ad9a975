//! How long to wait between tries.

use std::time::Duration;

/// Exponential backoff with full jitter below a ceiling.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The longest wait before the second try.
    pub first: Duration,
    /// The longest wait before any try.
    pub ceiling: Duration,
}

impl Backoff {
    /// The wait before try number `attempt` (1 is the first repetition).
    ///
    /// `random` is uniform in `0.0..1.0`; half of the wait is fixed and half is random, so that
    /// many clients of one origin neither march in step nor come back at once.
    #[must_use]
    pub fn wait(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << attempt.saturating_sub(1).min(20));
        let longest = doubled.min(self.ceiling);
        longest.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_never_vanish() {
        let backoff = Backoff { first: Duration::from_millis(100), ceiling: Duration::from_secs(1) };
        let longest: Vec<_> = (1..=6).map(|attempt| backoff.wait(attempt, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.wait(1, 0.0).as_millis(), 50);
        assert_eq!(backoff.wait(u32::MAX, 0.0).as_millis(), 500);
    }
}
