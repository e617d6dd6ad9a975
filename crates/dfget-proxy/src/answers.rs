//! Small answers, kept for the next one who asks the same with the same credential.
//!
//! Pure but for its lock: time comes in as an argument. Two things are kept for each question: the last answer,
//! whatever it was, for those who were waiting for it; and the last good one, which holds for a while, may be
//! revalidated after that, and steps in where the origin does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dfget_core::{Authority, Digest};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::permission::Permission;

/// Bytes of bodies and heads that are kept in all.
const MOST_BYTES: usize = 32 << 20;

/// What one answer counts for, beside its body.
const HEAD_BYTES: usize = 2 << 10;

/// A whole answer of an origin.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    /// For whoever asks the same: nothing in them is one client's own.
    pub(crate) headers: HeaderMap,
    /// `None` for the answer to a HEAD.
    pub(crate) body: Option<Bytes>,
    /// What the content hashes to, by the registry's word; for a manifest, and checked.
    pub(crate) digest: Option<Digest>,
    /// The token in it, if that is what it is about.
    pub(crate) token: Option<String>,
    /// Whose.
    pub(crate) place: Place,
    /// When the origin said so.
    pub(crate) told: Instant,
    /// How long that holds.
    pub(crate) fresh: Duration,
}

/// What a push makes stale.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) authority: Authority,
    /// Empty for what belongs to no repository.
    pub(crate) repository: String,
}

/// All answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    kept: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Permission, Slot>,
    bytes: usize,
    /// Pushes so far: an answer that was asked for before one may be older than it.
    pushes: u64,
}

#[derive(Debug, Default)]
struct Slot {
    good: Option<Arc<Kept>>,
    last: Option<Arc<Kept>>,
}

/// A moment between two pushes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Since(u64);

// === impl Kept ===

impl Kept {
    /// Since when a client could have been told otherwise.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.told)
    }

    fn bytes(&self) -> usize {
        HEAD_BYTES + self.body.as_ref().map_or(0, Bytes::len)
    }
}

// === impl Slot ===

impl Slot {
    fn bytes(&self) -> usize {
        let one = |kept: &Option<Arc<Kept>>| kept.as_ref().map_or(0, |kept| kept.bytes());
        one(&self.good) + one(&self.last)
    }

    fn told(&self) -> Option<Instant> {
        self.good.iter().chain(&self.last).map(|kept| kept.told).max()
    }
}

// === impl Answers ===

impl Answers {
    /// What a client may be answered at once: a good answer that still holds or, for one that has been waiting
    /// since `waiting`, whatever was answered meanwhile.
    pub(crate) fn usable(
        &self,
        question: Permission,
        waiting: Option<Instant>,
        now: Instant,
    ) -> Option<Arc<Kept>> {
        let inner = self.kept.lock();
        let slot = inner.slots.get(&question)?;
        let meanwhile = |kept: &&Arc<Kept>| waiting.is_some_and(|since| kept.told >= since);
        let holds = |kept: &&Arc<Kept>| kept.age(now) < kept.fresh;
        let good = slot.good.as_ref().filter(|kept| holds(kept) || meanwhile(kept));
        // The later word counts: a good answer may have been followed by a refusal.
        slot.last.as_ref().filter(meanwhile).or(good).cloned()
    }

    /// The last good answer, whether it still holds or not.
    pub(crate) fn good(&self, question: Permission) -> Option<Arc<Kept>> {
        self.kept.lock().slots.get(&question)?.good.clone()
    }

    /// Now, as far as pushes are concerned.
    pub(crate) fn since(&self) -> Since {
        Since(self.kept.lock().pushes)
    }

    /// Keeps a good answer that was asked for at `since`.
    pub(crate) fn keep(&self, question: Permission, kept: Kept, since: Since) {
        self.with_slot(question, kept.told, |slot, pushes| {
            slot.last = None;
            slot.good = (pushes == since.0).then(|| Arc::new(kept));
        });
    }

    /// Keeps an answer that is good only for those who waited for it. `forget` the good one before it if this takes
    /// it back.
    pub(crate) fn tell(&self, question: Permission, kept: Kept, forget: bool) {
        self.with_slot(question, kept.told, |slot, _| {
            slot.last = Some(Arc::new(kept));
            if forget {
                slot.good = None;
            }
        });
    }

    /// What was good before is not any more.
    pub(crate) fn forget(&self, questions: &[Permission], now: Instant) {
        for question in questions {
            self.with_slot(*question, now, |slot, _| slot.good = None);
        }
    }

    /// A token was of no use: nobody is given it again.
    pub(crate) fn spent(&self, token: &str) {
        let mut inner = self.kept.lock();
        let is =
            |kept: &Option<Arc<Kept>>| kept.as_ref().is_some_and(|kept| kept.token.as_deref() == Some(token));
        inner.slots.retain(|_, slot| !is(&slot.good) && !is(&slot.last));
        inner.bytes = inner.slots.values().map(Slot::bytes).sum();
    }

    /// Nothing is known any more, nor what is being asked just now.
    pub(crate) fn clear(&self) {
        let mut inner = self.kept.lock();
        inner.pushes += 1;
        inner.slots.clear();
        inner.bytes = 0;
    }

    /// The origin has said again at `now` that the good answer holds. Asked for at `since`.
    pub(crate) fn renew(&self, question: Permission, now: Instant, since: Since) {
        self.with_slot(question, now, |slot, pushes| {
            slot.last = None;
            if let Some(good) = slot.good.take().filter(|_| pushes == since.0) {
                slot.good = Some(Arc::new(Kept { told: now, ..Kept::clone(&good) }));
            }
        });
    }

    /// A repository has changed, or is about to: nothing that is known of it holds.
    pub(crate) fn pushed(&self, place: &Place) {
        let mut inner = self.kept.lock();
        inner.pushes += 1;
        let of_place = |kept: &Option<Arc<Kept>>| kept.as_ref().is_some_and(|kept| kept.place == *place);
        inner.slots.retain(|_, slot| !of_place(&slot.good) && !of_place(&slot.last));
        inner.bytes = inner.slots.values().map(Slot::bytes).sum();
    }

    fn with_slot(&self, question: Permission, now: Instant, change: impl FnOnce(&mut Slot, u64)) {
        let mut inner = self.kept.lock();
        let pushes = inner.pushes;
        let slot = inner.slots.entry(question).or_default();
        let before = slot.bytes();
        change(slot, pushes);
        let (after, empty) = (slot.bytes(), slot.good.is_none() && slot.last.is_none());
        inner.bytes = inner.bytes + after - before;
        if empty {
            inner.slots.remove(&question);
        }
        inner.make_room(question, now);
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Inner {
    /// Drops the oldest half of what is kept when it is too much, but not what has just come.
    fn make_room(&mut self, newest: Permission, now: Instant) {
        if self.bytes <= MOST_BYTES {
            return;
        }
        let mut ages: Vec<_> =
            self.slots.iter().map(|(question, slot)| (slot.told().unwrap_or(now), *question)).collect();
        ages.sort_by_key(|(told, _)| *told);
        for (_, question) in ages {
            if self.bytes <= MOST_BYTES / 2 {
                break;
            }
            if question != newest
                && let Some(slot) = self.slots.remove(&question)
            {
                self.bytes -= slot.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn place(repository: &str) -> Place {
        let authority = Authority::parse(Scheme::Https, "r.test").expect("an authority");
        Place { authority, repository: repository.to_owned() }
    }

    fn kept(status: u16, told: Instant, bytes: usize) -> Kept {
        Kept {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Some(vec![0; bytes].into()),
            digest: None,
            token: None,
            place: place("a"),
            told,
            fresh: 10 * SECOND,
        }
    }

    fn status(found: Option<Arc<Kept>>) -> Option<u16> {
        found.map(|kept| kept.status.as_u16())
    }

    const ONE: Permission = Permission([1; 32]);

    #[test]
    fn a_good_answer_holds_for_its_time_and_is_renewed() {
        let (answers, start) = (Answers::default(), Instant::now());
        answers.keep(ONE, kept(200, start, 5), answers.since());
        let usable = |seconds: u32| status(answers.usable(ONE, None, start + seconds * SECOND));
        assert_eq!((usable(9), usable(10)), (Some(200), None));
        assert_eq!(status(answers.usable(Permission([2; 32]), None, start)), None, "another question");
        answers.renew(ONE, start + 10 * SECOND, answers.since());
        assert_eq!((usable(19), usable(20)), (Some(200), None));
        assert_eq!(status(answers.good(ONE)), Some(200), "for when the origin does not answer");
    }

    #[test]
    fn whoever_waits_gets_what_was_answered_meanwhile() {
        let (answers, start) = (Answers::default(), Instant::now());
        answers.tell(ONE, kept(429, start + SECOND, 5), false);
        let at =
            |waiting: u32| status(answers.usable(ONE, Some(start + waiting * SECOND), start + 2 * SECOND));
        assert_eq!((at(0), at(1), at(2)), (Some(429), Some(429), None));
        assert_eq!(status(answers.usable(ONE, None, start + SECOND)), None, "nobody else does");
        answers.keep(ONE, kept(200, start + 2 * SECOND, 5), answers.since());
        assert_eq!(at(0), Some(200), "the last word counts");
        answers.tell(ONE, kept(503, start + 3 * SECOND, 5), false);
        assert_eq!(status(answers.good(ONE)), Some(200));
        answers.tell(ONE, kept(404, start + 4 * SECOND, 5), true);
        assert_eq!(status(answers.good(ONE)), None, "taken back");
    }

    #[test]
    fn what_is_taken_back_or_of_no_use_is_forgotten() {
        let (answers, start) = (Answers::default(), Instant::now());
        let two = Permission([2; 32]);
        let token = |text: &str| Kept { token: Some(text.to_owned()), ..kept(200, start, 5) };
        answers.keep(ONE, token("a"), answers.since());
        answers.keep(two, token("b"), answers.since());
        answers.spent("a");
        assert_eq!((status(answers.good(ONE)), status(answers.good(two))), (None, Some(200)));
        answers.forget(&[ONE, two], start);
        assert_eq!((status(answers.good(two)), answers.bytes()), (None, 0));
        let before = answers.since();
        answers.clear();
        answers.keep(ONE, kept(200, start, 5), before);
        assert_eq!(status(answers.good(ONE)), None, "asked for before all was forgotten");
    }

    #[test]
    fn a_push_forgets_its_repository_and_what_was_asked_before_it() {
        let (answers, start) = (Answers::default(), Instant::now());
        let two = Permission([2; 32]);
        answers.keep(ONE, kept(200, start, 5), answers.since());
        answers.keep(two, Kept { place: place("b"), ..kept(200, start, 5) }, answers.since());
        let before = answers.since();
        answers.pushed(&place("a"));
        assert_eq!((status(answers.good(ONE)), status(answers.good(two))), (None, Some(200)));
        answers.keep(ONE, kept(200, start, 5), before);
        answers.renew(two, start, before);
        assert_eq!(status(answers.good(ONE)), None, "it may be older than the push");
        answers.keep(ONE, kept(200, start, 5), answers.since());
        assert_eq!(status(answers.good(ONE)), Some(200));
    }

    #[test]
    fn the_oldest_go_when_it_is_too_much() {
        let (answers, start) = (Answers::default(), Instant::now());
        for at in 0..40_u8 {
            let told = start + u32::from(at) * SECOND;
            answers.keep(Permission([at; 32]), kept(200, told, 1 << 20), answers.since());
            assert!(answers.bytes() <= MOST_BYTES);
            assert_eq!(status(answers.good(Permission([at; 32]))), Some(200), "what has just come stays");
        }
        assert_eq!(status(answers.good(Permission([0; 32]))), None);
        answers.pushed(&place("a"));
        assert_eq!(answers.bytes(), 0);
    }
}
