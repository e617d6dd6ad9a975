//! How long a download waits for peers.

use std::time::Duration;

use crate::trust::Trust;

/// How long nothing may come from anywhere before everything is fetched from the origin.
const LEAST: Duration = Duration::from_secs(3);

/// The same while a parent sends a whole piece: it says itself when nothing comes of it.
const LEAST_FOR_WHOLE: Duration = Duration::from_secs(12);

/// The same where another node has ordered the content: no client waits, and nobody else can be asked.
const LEAST_BY_ORDER: Duration = Duration::from_secs(15);

/// How much longer at most, for each by chance, where there are several to be fed by: what all wait for, one
/// fetches for all. A scheduler that notices after some seconds that somebody is gone is waited for by most.
const SPREAD: Duration = Duration::from_secs(5);

/// How much longer each time, while peers bring nothing, the origin is asked for everything whatever the scheduler
/// says meanwhile; and how often it gets longer.
const ALONE: Duration = Duration::from_secs(10);
const MOST_STARVED: u32 = 6;

/// The same for one that takes nothing without proof, and got none.
const WITHOUT_PROOF: Duration = Duration::from_secs(600);

/// When one download stops waiting for peers, and how long the origin is asked for everything then.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For this one by chance, from 0 to 1.
    chance: f64,
    /// How often in a row peers gave nothing for long.
    starved: u32,
    /// Until then the origin is asked for everything, whatever the scheduler wants.
    alone_until: Option<Duration>,
}

/// How things are with a download.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// How long nothing has come from anywhere.
    pub waited: Duration,
    /// How old the download is.
    pub age: Duration,
    /// A whole piece is on its way.
    pub whole: bool,
    /// There are several parents.
    pub several: bool,
    /// Another node has ordered the content.
    pub ordered: bool,
}

// === impl Patience ===

impl Patience {
    /// Of a new download. `chance` is between 0 and 1, for each another.
    #[must_use]
    pub const fn new(chance: f64) -> Self {
        Self { chance, starved: 0, alone_until: None }
    }

    /// Whether peers are waited for no longer.
    #[must_use]
    pub fn is_over(&self, waiting: Waiting, trust: &Trust) -> bool {
        let Waiting { waited, age, whole, several, ordered } = waiting;
        if trust.wants_proof() {
            return waited >= trust.patience(age.saturating_sub(waited), self.chance);
        }
        let least = match (ordered, whole) {
            (true, _) => LEAST_BY_ORDER,
            (false, true) => LEAST_FOR_WHOLE,
            (false, false) => LEAST,
        };
        waited >= if several { least + SPREAD.mul_f64(self.chance) } else { least }
    }

    /// The origin is asked for everything. The first time the next orders may change it: the scheduler may have known
    /// nobody.
    pub fn go_alone(&mut self, now: Duration, trust: &Trust) {
        // Who has waited for proof in vain waits no more.
        let least = if trust.wants_proof() { WITHOUT_PROOF } else { Duration::ZERO };
        self.alone_until = Some(now + least.max(ALONE * self.starved.min(MOST_STARVED)));
        self.starved += 1;
    }

    /// Whether the origin is asked for everything whatever the scheduler says.
    #[must_use]
    pub fn stays_alone(&self, now: Duration) -> bool {
        self.alone_until.is_some_and(|until| now < until)
    }

    /// Whether that is over: what the scheduler says is to be carried out, once.
    pub fn comes_back(&mut self, now: Duration) -> bool {
        self.alone_until.take_if(|until| *until <= now).is_some()
    }

    /// A peer brought something.
    pub const fn fed(&mut self) {
        self.starved = 0;
    }

    /// The content is begun anew.
    pub const fn begin_anew(&mut self) {
        self.alone_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waiting(waited: u64, several: bool) -> Waiting {
        Waiting { waited: seconds(waited), age: seconds(waited + 40), whole: false, several, ordered: false }
    }

    #[test]
    fn each_waits_for_another_time_where_there_are_several_to_wait_for() {
        let over = |chance, waited, several| {
            Patience::new(chance).is_over(waiting(waited, several), &Trust::default())
        };
        assert_eq!([over(0.0, 2, true), over(0.0, 3, true)], [false, true]);
        assert_eq!([over(1.0, 7, true), over(1.0, 8, true), over(1.0, 3, false)], [false, true, true]);
        let whole = Waiting { whole: true, ..waiting(11, false) };
        assert!(!Patience::new(0.0).is_over(whole, &Trust::default()));
        let ordered = |waited| Waiting { ordered: true, ..waiting(waited, false) };
        let over = |waited| Patience::new(0.0).is_over(ordered(waited), &Trust::default());
        assert_eq!([over(14), over(15)], [false, true]);
    }

    #[test]
    fn who_wants_proof_waits_as_long_as_it_has_taken_so_far() {
        let mut trust = Trust::default();
        (0..=crate::MOST_ROUNDS).for_each(|_| trust.begin_anew(false));
        let over = |waited| Patience::new(0.5).is_over(waiting(waited, false), &trust);
        assert_eq!([over(39), over(79), over(80)], [false, false, true]);
    }

    #[test]
    fn who_starves_again_and_again_stays_alone_for_longer() {
        let (mut patience, trust) = (Patience::new(0.0), Trust::default());
        patience.go_alone(seconds(1), &trust);
        assert!(!patience.stays_alone(seconds(1)) && patience.comes_back(seconds(1)));
        assert!(!patience.comes_back(seconds(2)), "once");
        patience.go_alone(seconds(5), &trust);
        assert!(patience.stays_alone(seconds(14)) && !patience.comes_back(seconds(14)));
        assert!(!patience.stays_alone(seconds(15)) && patience.comes_back(seconds(15)));
        patience.fed();
        patience.go_alone(seconds(20), &trust);
        assert!(!patience.stays_alone(seconds(20)));
    }
}
