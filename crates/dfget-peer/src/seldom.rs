//! Lines of the log that strangers cause: a few, and how many were left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets one line through in a while.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

// === impl Seldom ===

impl Seldom {
    /// Whether to say it now, and then how often it was not said since the last time.
    pub(crate) fn say(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_tells_how_many_were_left_out() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say(start), Some(0));
        assert_eq!(seldom.say(start + PAUSE / 2), None);
        assert_eq!(seldom.say(start + PAUSE / 2), None);
        assert_eq!(seldom.say(start + PAUSE), Some(2));
        assert_eq!(seldom.say(start + PAUSE * 2), Some(0));
    }
}
