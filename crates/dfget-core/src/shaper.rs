//! How a rate is shared: which download may read next, and when.
//!
//! Pure: the time is an argument. Whoever wants to read asks for [`READ`] bytes and waits until they
//! are granted; what it did not read of them it gives back. So no more than the rate and a short
//! burst is ever read, and who waits holds a place in a queue and nothing else.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

/// Bytes granted at once.
pub const READ: u64 = 64 << 10;

/// A bucket holds what comes in by a second, divided by this.
const BURST_PART: u64 = 4;

const NANOS: i128 = 1_000_000_000;

/// Limits in bytes a second; none of a kind is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RateLimits {
    /// For all downloads together.
    pub total: Option<NonZeroU64>,
    /// For each task.
    pub per_task: Option<NonZeroU64>,
    /// Who is first where the total is short.
    pub share: Share,
}

/// Who is first where the total is short.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Share {
    /// Whoever asked first: a task that reads by four connections gets four shares.
    #[default]
    Arrival,
    /// Equal shares for all tasks; what one does not need the others have.
    Need,
}

/// What a rate lets through: full at first, filled evenly.
#[derive(Clone, Debug)]
struct Bucket {
    rate: NonZeroU64,
    /// Billionths of a byte; less than nothing after somebody read more than was granted.
    level: i128,
    filled: Duration,
}

/// One reader in the queue.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: u64,
    task: u64,
}

#[derive(Debug)]
struct Member {
    bucket: Option<Bucket>,
    /// Bytes granted, on a scale on which all that want to read are close together.
    served: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// This waiter may read [`READ`] bytes; it waits no more.
    Granted(u64),
    /// Nobody may read before so much time has gone by.
    After(Duration),
    /// Nobody waits.
    Nobody,
}

/// Shares a rate between tasks.
#[derive(Debug)]
pub struct Shaper {
    total: Option<Bucket>,
    per_task: Option<NonZeroU64>,
    share: Share,
    tasks: HashMap<u64, Member>,
    /// In the order of arrival.
    waiting: Vec<Waiter>,
    /// What the task had been granted that was served last.
    served: u64,
    next_id: u64,
}

// === impl RateLimits ===

impl RateLimits {
    /// Whether anything is limited.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.total.is_some() || self.per_task.is_some()
    }
}

// === impl Bucket ===

impl Bucket {
    fn full(rate: NonZeroU64, now: Duration) -> Self {
        Self { rate, level: Self::most(rate), filled: now }
    }

    /// What it holds when it is full, in billionths of a byte.
    fn most(rate: NonZeroU64) -> i128 {
        i128::from((rate.get() / BURST_PART).max(READ)) * NANOS
    }

    fn fill(&mut self, now: Duration) {
        let nanos = i128::try_from(now.saturating_sub(self.filled).as_nanos()).unwrap_or(i128::MAX);
        let came = nanos.saturating_mul(i128::from(self.rate.get()));
        self.level = self.level.saturating_add(came).min(Self::most(self.rate));
        self.filled = self.filled.max(now);
    }

    /// How long until a read can be granted.
    fn wait(&self) -> Duration {
        let missing = i128::from(READ) * NANOS - self.level;
        let rate = i128::from(self.rate.get());
        let nanos = if missing <= 0 { 0 } else { (missing + rate - 1) / rate };
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn take(&mut self, bytes: u64) {
        self.level -= i128::from(bytes) * NANOS;
    }

    fn give_back(&mut self, bytes: u64) {
        self.level = (self.level + i128::from(bytes) * NANOS).min(Self::most(self.rate));
    }
}

// === impl Shaper ===

impl Shaper {
    /// A shaper of which nothing has been used by `now`.
    #[must_use]
    pub fn new(limits: &RateLimits, now: Duration) -> Self {
        Self {
            total: limits.total.map(|rate| Bucket::full(rate, now)),
            per_task: limits.per_task,
            share: limits.share,
            tasks: HashMap::new(),
            waiting: Vec::new(),
            served: 0,
            next_id: 0,
        }
    }

    /// A new task; its number is for the calls below.
    pub fn add_task(&mut self, now: Duration) -> u64 {
        let id = self.fresh_id();
        let bucket = self.per_task.map(|rate| Bucket::full(rate, now));
        self.tasks.insert(id, Member { bucket, served: self.served });
        id
    }

    /// The task is over, and so is all that it waits for.
    pub fn remove_task(&mut self, task: u64) {
        self.tasks.remove(&task);
        self.waiting.retain(|waiter| waiter.task != task);
    }

    /// Puts a reader of a task into the queue; returns its number.
    pub fn ask(&mut self, task: u64) -> u64 {
        let id = self.fresh_id();
        if !self.waiting.iter().any(|waiter| waiter.task == task)
            && let Some(member) = self.tasks.get_mut(&task)
        {
            // Who did not want to read meanwhile has saved nothing up by that.
            member.served = member.served.max(self.served);
        }
        self.waiting.push(Waiter { id, task });
        id
    }

    /// A waiter goes away.
    pub fn leave(&mut self, waiter: u64) {
        self.waiting.retain(|other| other.id != waiter);
    }

    /// Of what was granted to a reader of `task`, it has read `used` bytes.
    pub fn settle(&mut self, task: u64, used: u64) {
        let (back, more) = (READ.saturating_sub(used), used.saturating_sub(READ));
        let member = self.tasks.get_mut(&task);
        let own = member.and_then(|member| {
            member.served = member.served.saturating_sub(back).saturating_add(more);
            member.bucket.as_mut()
        });
        for bucket in self.total.iter_mut().chain(own) {
            bucket.give_back(back);
            bucket.take(more);
        }
    }

    /// Grants to the one whose turn it is, if it can be granted now.
    pub fn turn(&mut self, now: Duration) -> Turn {
        if self.waiting.is_empty() {
            return Turn::Nobody;
        }
        let total = self.total.as_mut().map_or(Duration::ZERO, |bucket| {
            bucket.fill(now);
            bucket.wait()
        });
        for bucket in self.tasks.values_mut().filter_map(|member| member.bucket.as_mut()) {
            bucket.fill(now);
        }
        let own = |waiter: &Waiter| {
            let member = self.tasks.get(&waiter.task);
            member.and_then(|member| member.bucket.as_ref()).map_or(Duration::ZERO, Bucket::wait)
        };
        let soonest = self.waiting.iter().map(own).min().unwrap_or(Duration::ZERO);
        let wait = soonest.max(total);
        if !wait.is_zero() {
            return Turn::After(wait);
        }
        let mut able = self.waiting.iter().enumerate().filter(|(_, waiter)| own(waiter).is_zero());
        let served = |waiter: &Waiter| self.tasks.get(&waiter.task).map_or(0, |member| member.served);
        let first = match self.share {
            Share::Arrival => able.next(),
            Share::Need => able.min_by_key(|(_, waiter)| served(waiter)),
        };
        let Some(at) = first.map(|(at, _)| at) else { return Turn::After(wait) };
        let waiter = self.waiting.remove(at);
        self.grant(waiter.task);
        Turn::Granted(waiter.id)
    }

    fn grant(&mut self, task: u64) {
        let member = self.tasks.get_mut(&task);
        let own = member.and_then(|member| {
            self.served = self.served.max(member.served);
            member.served = member.served.saturating_add(READ);
            member.bucket.as_mut()
        });
        for bucket in self.total.iter_mut().chain(own) {
            bucket.take(READ);
        }
    }

    const fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(total: u64, per_task: u64, share: Share) -> RateLimits {
        RateLimits { total: NonZeroU64::new(total), per_task: NonZeroU64::new(per_task), share }
    }

    /// Readers that come back at once for more, until they have what they need.
    struct Simulation {
        shaper: Shaper,
        now: Duration,
        /// The reader's number in the queue, its task, what its task still needs.
        readers: Vec<(u64, usize)>,
        tasks: Vec<(u64, u64)>,
        read: Vec<u64>,
        order: Vec<usize>,
    }

    impl Simulation {
        /// `needs` are (bytes, connections) for each task.
        fn new(limits: &RateLimits, needs: &[(u64, usize)]) -> Self {
            let mut shaper = Shaper::new(limits, Duration::ZERO);
            let tasks: Vec<_> = needs.iter().map(|need| (shaper.add_task(Duration::ZERO), need.0)).collect();
            let places = needs.iter().enumerate().flat_map(|(at, need)| std::iter::repeat_n(at, need.1));
            let readers = places.map(|at| (shaper.ask(tasks[at].0), at)).collect();
            let read = vec![0; needs.len()];
            Self { shaper, now: Duration::ZERO, readers, tasks, read, order: Vec::new() }
        }

        /// Goes on until `until` or all have what they need; `step` judges each read.
        fn run(&mut self, until: Duration, mut step: impl FnMut(&Self)) {
            while self.now <= until {
                match self.shaper.turn(self.now) {
                    Turn::Nobody => return,
                    Turn::After(wait) => {
                        assert!(!wait.is_zero(), "a wait that changes nothing");
                        self.now += wait;
                    }
                    Turn::Granted(id) => {
                        let reader =
                            self.readers.iter().position(|reader| reader.0 == id).expect("one waits");
                        let task = self.readers[reader].1;
                        let (number, left) = &mut self.tasks[task];
                        let used = READ.min(*left);
                        *left -= used;
                        self.read[task] += used;
                        self.order.push(task);
                        self.shaper.settle(*number, used);
                        if *left > 0 {
                            self.readers[reader].0 = self.shaper.ask(*number);
                        }
                        step(self);
                    }
                }
            }
        }

        fn total(&self) -> u64 {
            self.read.iter().sum()
        }
    }

    /// What may have been read by `now` at the most.
    fn most(rate: u64, now: Duration) -> u128 {
        u128::from((rate / BURST_PART).max(READ)) + u128::from(rate) * now.as_nanos() / NANOS as u128
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut free = Simulation::new(&RateLimits::default(), &[(100 * MIB, 1), (100 * MIB, 4)]);
        free.run(Duration::ZERO, |_| {});
        assert_eq!(free.total(), 200 * MIB);
    }

    #[test]
    fn who_came_first_is_first_and_nobody_starves() {
        let mut plain = Simulation::new(&limits(MIB, 0, Share::Arrival), &[(u64::MAX, 1); 50]);
        plain.run(Duration::from_secs(60), |_| {});
        for (at, task) in plain.order.iter().enumerate() {
            assert_eq!(*task, at % 50, "all are served in turn");
        }
        assert!(plain.order.len() > 900, "{}", plain.order.len());
    }

    #[test]
    fn by_need_a_task_with_many_connections_gets_no_more_than_one_with_one() {
        let needs = [(u64::MAX, 1), (u64::MAX, 4), (u64::MAX, 16)];
        let mut fair = Simulation::new(&limits(MIB, 0, Share::Need), &needs);
        fair.run(Duration::from_secs(60), |now| {
            let (least, most) = (now.read.iter().min().unwrap(), now.read.iter().max().unwrap());
            assert!(most - least <= 2 * READ, "{:?}", now.read);
        });
        let mut plain = Simulation::new(&limits(MIB, 0, Share::Arrival), &needs);
        plain.run(Duration::from_secs(60), |_| {});
        assert!(plain.read[2] > 10 * plain.read[0], "{:?}", plain.read);
    }

    #[test]
    fn what_one_does_not_need_the_others_have() {
        let mut fair =
            Simulation::new(&limits(MIB, 0, Share::Need), &[(MIB, 1), (u64::MAX, 1), (u64::MAX, 1)]);
        fair.run(Duration::from_secs(60), |_| {});
        assert_eq!(fair.read[0], MIB);
        assert!(fair.read[1].abs_diff(fair.read[2]) <= 2 * READ);
        assert!(fair.total() > 60 * MIB - READ, "nothing is left unused: {}", fair.total());
    }

    #[test]
    fn who_was_away_cannot_keep_the_others_out_afterwards() {
        let mut shaper = Shaper::new(&limits(MIB, 0, Share::Need), Duration::ZERO);
        let (busy, idle) = (shaper.add_task(Duration::ZERO), shaper.add_task(Duration::ZERO));
        let mut now = Duration::ZERO;
        let grant = |shaper: &mut Shaper, now: &mut Duration| loop {
            match shaper.turn(*now) {
                Turn::Granted(id) => return id,
                Turn::After(wait) => *now += wait,
                Turn::Nobody => panic!("somebody waits"),
            }
        };
        for _ in 0..100 {
            shaper.ask(busy);
            grant(&mut shaper, &mut now);
        }
        let (mut one, mut other) = (shaper.ask(busy), shaper.ask(idle));
        let mut turns = [0, 0];
        for _ in 0..20 {
            let id = grant(&mut shaper, &mut now);
            if id == one {
                turns[0] += 1;
                one = shaper.ask(busy);
            } else {
                assert_eq!(id, other);
                turns[1] += 1;
                other = shaper.ask(idle);
            }
        }
        assert!(turns[0] >= 9, "{turns:?}");
    }

    #[test]
    fn a_task_at_its_own_limit_holds_up_no_other() {
        let both = limits(10 * MIB, MIB, Share::Arrival);
        let mut two = Simulation::new(&both, &[(u64::MAX, 8), (u64::MAX, 1)]);
        two.run(Duration::from_secs(20), |_| {});
        for read in &two.read {
            assert!((20 * MIB - READ..=most(MIB, two.now) as u64).contains(read), "{:?}", two.read);
        }
    }

    #[test]
    fn who_leaves_the_queue_is_not_served_and_takes_nothing() {
        let mut shaper = Shaper::new(&limits(READ, 0, Share::Arrival), Duration::ZERO);
        let task = shaper.add_task(Duration::ZERO);
        let (first, second) = (shaper.ask(task), shaper.ask(task));
        shaper.leave(first);
        assert_eq!(shaper.turn(Duration::ZERO), Turn::Granted(second));
        let third = shaper.ask(task);
        assert_eq!(shaper.turn(Duration::ZERO), Turn::After(Duration::from_secs(1)));
        // What was not read counts for the next.
        shaper.settle(task, 0);
        assert_eq!(shaper.turn(Duration::ZERO), Turn::Granted(third));
        shaper.ask(task);
        shaper.remove_task(task);
        assert_eq!(shaper.turn(Duration::ZERO), Turn::Nobody);
    }

    #[test]
    fn who_read_more_than_was_granted_pays_for_it() {
        let mut shaper = Shaper::new(&limits(READ, 0, Share::Arrival), Duration::ZERO);
        let task = shaper.add_task(Duration::ZERO);
        shaper.ask(task);
        assert!(matches!(shaper.turn(Duration::ZERO), Turn::Granted(_)));
        shaper.settle(task, 3 * READ);
        shaper.ask(task);
        assert_eq!(shaper.turn(Duration::ZERO), Turn::After(Duration::from_secs(3)));
    }

    proptest! {
        #[test]
        fn no_more_is_read_than_the_rate_and_a_burst(
            total in 1..200 * MIB,
            per_task in 0..100 * MIB,
            need in any::<bool>(),
            needs in prop::collection::vec((1..20 * MIB, 1..5_usize), 1..12),
        ) {
            let share = if need { Share::Need } else { Share::Arrival };
            let mut run = Simulation::new(&limits(total, per_task, share), &needs);
            run.run(Duration::from_secs(5), |now| {
                assert!(u128::from(now.total()) <= most(total, now.now));
                if per_task > 0 {
                    assert!(now.read.iter().all(|&read| u128::from(read) <= most(per_task, now.now)));
                }
            });
            // Nothing that could be had is left unused either.
            let wanted: u64 = needs.iter().map(|need| need.0).sum();
            if per_task == 0 && run.total() < wanted {
                let due = u128::from(total) * 5;
                prop_assert!(u128::from(run.total()) + u128::from(READ) * 2 >= due.min(u128::from(wanted)));
            }
        }
    }
}
