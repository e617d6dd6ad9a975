//! Rates from counters that only grow: now, and over the last minutes.
//!
//! Pure: whoever owns it says what the counters are and what time it is.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use dfget_console::{History, Rates};

/// A rate "now" is that of so many of the last samples: one alone jumps about.
const NOW: usize = 3;

/// Samples that are kept: five minutes, one a second.
const MOST_SAMPLES: usize = 300;

/// How often a sample is taken.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Bytes so far; the fields are those of [`Rates`].
pub(super) type Totals = [u64; 5];

/// How the node's traffic went. Its size is bounded.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    last: Option<(Instant, Totals)>,
    /// Bytes a second, the newest last.
    samples: VecDeque<[u64; 5]>,
}

/// Rates of many counters by name, such as those of nodes.
#[derive(Debug)]
pub(super) struct Meters<K> {
    meters: HashMap<K, Meter>,
}

/// What one counter was, the newest last; one more than samples of a rate.
#[derive(Debug, Default)]
struct Meter {
    points: VecDeque<(Instant, u64)>,
}

// === impl Traffic ===

impl Traffic {
    /// Notes what the counters are now.
    pub(super) fn sample(&mut self, totals: Totals, now: Instant) {
        if let Some((at, before)) = self.last.replace((now, totals)) {
            let elapsed = now.duration_since(at);
            let mut rates = [0; 5];
            for (rate, (total, before)) in rates.iter_mut().zip(totals.into_iter().zip(before)) {
                *rate = per_second(total.saturating_sub(before), elapsed);
            }
            if self.samples.len() >= MOST_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(rates);
        }
    }

    /// The rates now.
    pub(super) fn now(&self) -> Rates {
        let count = self.samples.len().clamp(1, NOW) as u64;
        let mean =
            |at: usize| self.samples.iter().rev().take(NOW).map(|rates| rates[at]).sum::<u64>() / count;
        let [origin, peers, clients, cache, to_peers] = std::array::from_fn(mean);
        Rates { origin, peers, clients, cache, to_peers }
    }

    /// The rates over time.
    pub(super) fn history(&self) -> History {
        let line = |at: usize| self.samples.iter().map(|rates| rates[at]).collect();
        let [origin, peers, clients, cache, to_peers] = std::array::from_fn(line);
        let every_millis = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        History { every_millis, origin, peers, clients, cache, to_peers }
    }
}

// === impl Meters ===

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Self { meters: HashMap::new() }
    }
}

impl<K: Eq + Hash> Meters<K> {
    /// Notes what all counters are now; those that are not named are forgotten. A new one began with
    /// zero when the last sample was taken.
    pub(super) fn sample(&mut self, counters: impl IntoIterator<Item = (K, u64)>, now: Instant) {
        let mut before = std::mem::take(&mut self.meters);
        for (name, total) in counters {
            let mut meter = before.remove(&name).unwrap_or_else(|| Meter::begun(now));
            meter.note(total, now);
            self.meters.insert(name, meter);
        }
    }

    /// Bytes a second of one now; 0 for one that is not known.
    pub(super) fn rate(&self, name: &K) -> u64 {
        self.meters.get(name).map_or(0, Meter::rate)
    }
}

// === impl Meter ===

impl Meter {
    fn begun(now: Instant) -> Self {
        let begun = now.checked_sub(EVERY).map(|at| (at, 0));
        Self { points: begun.into_iter().collect() }
    }

    fn note(&mut self, total: u64, now: Instant) {
        if self.points.len() > NOW {
            self.points.pop_front();
        }
        self.points.push_back((now, total));
    }

    fn rate(&self) -> u64 {
        match (self.points.front(), self.points.back()) {
            (Some((since, first)), Some((until, last))) => {
                per_second(last.saturating_sub(*first), until.duration_since(*since))
            }
            _ => 0,
        }
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_samples_whatever_the_clock_did_between() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        assert_eq!(traffic.now(), Rates::default());
        let after = |millis| start + Duration::from_millis(millis);
        traffic.sample([100, 0, 0, 0, 7], start);
        traffic.sample([100, 10, 0, 0, 7], after(1000));
        // The timer came late.
        traffic.sample([700, 20, 4, 2, 7], after(3000));
        traffic.sample([1600, 20, 4, 2, 7], after(4000));
        assert_eq!(traffic.history().origin, [0, 300, 900]);
        assert_eq!(traffic.history().peers, [10, 5, 0]);
        let now = traffic.now();
        assert_eq!((now.origin, now.peers, now.clients, now.cache, now.to_peers), (400, 5, 0, 0, 0));
        // A counter that begins anew is no rate.
        traffic.sample([0; 5], after(5000));
        assert_eq!(traffic.history().origin.last(), Some(&0));
    }

    #[test]
    fn the_history_is_bounded() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        for second in 0..1000 {
            traffic.sample([second; 5], start + EVERY * u32::try_from(second).unwrap());
        }
        assert_eq!(traffic.history().clients, [1; MOST_SAMPLES]);
    }

    #[test]
    fn a_counter_has_its_own_rate_and_is_forgotten_when_it_is_gone() {
        let (mut meters, start) = (Meters::default(), Instant::now());
        meters.sample([("a", 50)], start + EVERY);
        assert_eq!(meters.rate(&"a"), 50, "it began with nothing a second ago");
        meters.sample([("a", 50), ("b", 10)], start + 2 * EVERY);
        meters.sample([("a", 150), ("b", 40)], start + 3 * EVERY);
        assert_eq!((meters.rate(&"a"), meters.rate(&"b")), (50, 20));
        meters.sample([("a", 150)], start + 4 * EVERY);
        meters.sample([("a", 150)], start + 5 * EVERY);
        assert_eq!((meters.rate(&"a"), meters.rate(&"b")), (33, 0));
    }
}
