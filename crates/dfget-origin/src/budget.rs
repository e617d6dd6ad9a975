//! How many requests an origin is sent, and when it is left alone.
//!
//! Two rules. A budget of the site (`download.originBudget`): so many requests to one authority in any stretch of
//! time, never more. And the origin's own word: after a 429, or a 503 with `Retry-After`, it is not asked again
//! with the same credential before the time that it names; without one, before a pause that doubles. What must
//! wait too long for that is told so at once, so that whoever can do without the answer does.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use dfget_core::Authority;
use http::header::{CONNECTION, DATE, EXPECT, HOST, HeaderMap, HeaderName, RETRY_AFTER, TE, VIA};
use http::{Method, Request, StatusCode};
use parking_lot::Mutex;

use crate::headers::{is_impersonal, text};

/// How long a request waits for its turn in the budget.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// Pause after a first 429 without `Retry-After`; no origin is asked again sooner, whatever it says.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause without `Retry-After`.
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause that an origin may ask for: one with a broken clock is asked again some day.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The longest pause for those without a credential: they all have one quota, and anybody can use that up.
const LONGEST_FOR_ALL: Duration = Duration::from_secs(60);

/// Authorities remembered, before those without any state are forgotten.
const MANY: usize = 1024;

/// So many requests to one authority in any stretch of `per`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    /// More than 0.
    pub requests: u32,
    /// More than 0.
    pub per: Duration,
}

/// Why a request is not sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The origin has asked for a pause.
    Asked,
    /// The site's budget is used up.
    Spent,
}

/// A request that must not be sent yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rest {
    pub(crate) wait: Duration,
    pub(crate) reason: Reason,
}

/// What is known of all origins.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    budget: Mutex<Option<Budget>>,
    places: Mutex<HashMap<Authority, Place>>,
    hasher: RandomState,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Place {
    /// When the last requests were sent, or will be.
    sent: VecDeque<Instant>,
    /// Pauses, by credential.
    pauses: HashMap<Option<u64>, Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// 429s in a row, each after the pause for the one before.
    refusals: u32,
}

// === impl Budgets ===

impl Budgets {
    pub(crate) fn new(budget: Option<Budget>) -> Self {
        Self { budget: Mutex::new(budget), ..Self::default() }
    }

    /// Takes another budget; what was sent before counts.
    pub(crate) fn set(&self, budget: Option<Budget>) {
        *self.budget.lock() = budget;
    }

    /// How long a request must wait before it is sent, in its turn.
    ///
    /// # Errors
    /// [`Rest`] if that is too long, or the origin has asked for a pause; nothing is taken from the budget then.
    pub(crate) fn enter(
        &self,
        authority: &Authority,
        method: &Method,
        credential: Option<u64>,
        now: Instant,
    ) -> Result<Duration, Rest> {
        let mut places = self.places.lock();
        // Pauses are for those who pull; nobody else has taken anything from the registry's quota.
        if matches!(*method, Method::GET | Method::HEAD)
            && let Some(place) = places.get(authority)
            && let Some(wait) = place.pause(credential, now)
        {
            return Err(Rest { wait, reason: Reason::Asked });
        }
        let Some(budget) = *self.budget.lock() else { return Ok(Duration::ZERO) };
        make_room(&mut places, Some(budget), now);
        places.entry(authority.clone()).or_default().turn(budget, now)
    }

    /// Notes what the origin has answered; returns how long it is left alone for that.
    pub(crate) fn heard(
        &self,
        authority: &Authority,
        credential: Option<u64>,
        status: StatusCode,
        answer: &HeaderMap,
        now: Instant,
    ) -> Option<Duration> {
        let asked = retry_after(answer);
        let mut places = self.places.lock();
        if is_refusal(status, answer) {
            make_room(&mut places, *self.budget.lock(), now);
            let place = places.entry(authority.clone()).or_default();
            return Some(place.refused(credential, asked, now));
        }
        // Of a sick origin nothing is learnt by other failures.
        if !status.is_server_error()
            && let Some(place) = places.get_mut(authority)
            && !place.pauses.is_empty()
        {
            place.pauses.remove(&credential);
        }
        None
    }

    /// Tells one user from another: quotas are counted by user, or by address for those without one (`None`).
    /// Whatever a request may say who asks by counts.
    pub(crate) fn credential<B>(&self, request: &Request<B>) -> Option<u64> {
        let personal = |name: &HeaderName| {
            !is_impersonal(name)
                && ![CONNECTION, EXPECT, HOST, TE, VIA].contains(name)
                && !name.as_str().starts_with("content-")
        };
        let headers = request.headers().iter().filter(|(name, _)| personal(name));
        let mut said: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        said.sort_by_key(|(name, _)| *name);
        let query = request.uri().query();
        (query.is_some() || !said.is_empty()).then(|| self.hasher.hash_one((said, query)))
    }
}

/// Forgets what may be, where very many authorities are known.
fn make_room(places: &mut HashMap<Authority, Place>, budget: Option<Budget>, now: Instant) {
    if places.len() > MANY {
        places.retain(|_, place| !place.is_idle(budget, now));
    }
}

// === impl Place ===

impl Place {
    /// What is left of the pause for a credential.
    fn pause(&self, credential: Option<u64>, now: Instant) -> Option<Duration> {
        let pause = self.pauses.get(&credential)?;
        Some(pause.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Begins or prolongs a pause, and returns its length.
    fn refused(&mut self, credential: Option<u64>, asked: Option<Duration>, now: Instant) -> Duration {
        if self.pauses.len() > MANY {
            self.pauses.retain(|_, pause| pause.until > now);
        }
        if self.pauses.len() > MANY {
            self.pauses.clear();
        }
        let pause = self.pauses.entry(credential).or_insert(Pause { until: now, refusals: 0 });
        // Several that were under way together are one refusal.
        if pause.until <= now {
            pause.refusals = pause.refusals.saturating_add(1);
        }
        let own = FIRST_PAUSE.saturating_mul(1 << (pause.refusals.max(1) - 1).min(10));
        let longest = if credential.is_some() { LONGEST_PAUSE } else { LONGEST_FOR_ALL };
        let length = asked.unwrap_or_else(|| own.min(LONGEST_OWN_PAUSE)).clamp(FIRST_PAUSE, longest);
        pause.until = pause.until.max(now + length);
        pause.until - now
    }

    /// Takes the next turn of the budget: no stretch of `per` sees more than `requests` of them begin.
    fn turn(&mut self, budget: Budget, now: Instant) -> Result<Duration, Rest> {
        let most = budget.requests as usize;
        while self.sent.len() > most {
            self.sent.pop_front();
        }
        let earliest = self.sent.len().checked_sub(most).map(|at| self.sent[at] + budget.per);
        let wait = earliest.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if wait > LONGEST_TURN {
            return Err(Rest { wait, reason: Reason::Spent });
        }
        self.sent.push_back(now + wait);
        Ok(wait)
    }

    fn is_idle(&self, budget: Option<Budget>, now: Instant) -> bool {
        let over = |at: &Instant| budget.is_none_or(|budget| *at + budget.per < now);
        let quiet = self.sent.back().is_none_or(over);
        quiet && self.pauses.values().all(|pause| pause.until <= now)
    }
}

/// Whether an answer asks for a pause: 429, and 503 where it says how long.
pub(crate) fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::SERVICE_UNAVAILABLE => retry_after(headers).is_some(),
        _ => false,
    }
}

/// The time of a `Retry-After` (RFC 9110, section 10.2.3). A date is read by the origin's own clock, that of `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let (until, now) = (date(value)?, date(text(headers, &DATE)?)?);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn authority() -> Authority {
        Authority::parse(Scheme::Https, "r.test").expect("an authority")
    }

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn an_origin_is_left_alone_for_as_long_as_it_asks() {
        let (budgets, start, (somebody, other)) = (Budgets::default(), Instant::now(), (Some(1), Some(2)));
        let heard = |status: u16, headers: &HeaderMap, at| {
            let status = StatusCode::from_u16(status).expect("a status");
            budgets.heard(&authority(), somebody, status, headers, at)
        };
        let enter = |method, credential, at| budgets.enter(&authority(), &method, credential, at);
        assert_eq!(enter(Method::GET, somebody, start), Ok(Duration::ZERO));
        assert_eq!(heard(429, &with(RETRY_AFTER, "7"), start), Some(7 * SECOND));
        let rest = Rest { wait: 5 * SECOND, reason: Reason::Asked };
        assert_eq!(enter(Method::GET, somebody, start + 2 * SECOND), Err(rest));
        assert_eq!(enter(Method::PUT, somebody, start + 2 * SECOND), Ok(Duration::ZERO), "a push");
        assert_eq!(enter(Method::GET, other, start + 2 * SECOND), Ok(Duration::ZERO), "another user");
        assert_eq!(enter(Method::GET, somebody, start + 7 * SECOND), Ok(Duration::ZERO));
        assert_eq!(heard(503, &HeaderMap::new(), start), None, "a failure, no word on when");
        assert_eq!(heard(503, &with(RETRY_AFTER, "999999999"), start), Some(LONGEST_PAUSE));
        let all = budgets.heard(
            &authority(),
            None,
            StatusCode::TOO_MANY_REQUESTS,
            &with(RETRY_AFTER, "600"),
            start,
        );
        assert_eq!(all, Some(LONGEST_FOR_ALL), "one without a login must not lock out all others");
    }

    #[test]
    fn whatever_may_say_who_asks_is_a_credential() {
        let budgets = Budgets::default();
        let of = |uri: &str, name: &'static str, value: &str| {
            budgets.credential(&Request::get(uri).header(name, value).body(()).expect("a request"))
        };
        assert_eq!(of("/a", "accept", "x/y"), None);
        assert_eq!(of("/a", "host", "r.test"), None);
        let keys = [
            of("/a", "private-token", "x"),
            of("/a", "private-token", "y"),
            of("/a", "authorization", "x"),
            of("/a?X-Amz-Signature=1", "range", "bytes=0-1"),
            of("/a?X-Amz-Signature=2", "range", "bytes=0-1"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(key.is_some() && !keys[..at].contains(key), "{at}");
        }
        assert_eq!(of("/a", "cookie", "x"), of("/b", "cookie", "x"));
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let (mut place, now) = (Place::default(), Instant::now());
        for credential in 0..3 * MANY as u64 {
            place.refused(Some(credential), Some(LONGEST_PAUSE), now);
        }
        assert!(place.pauses.len() <= MANY + 1);
        let budgets = Budgets::default();
        for at in 0..3 * MANY as u64 {
            let authority = Authority::parse(Scheme::Https, &format!("r{at}.test")).expect("an authority");
            let now = now + at as u32 * SECOND;
            budgets.heard(&authority, Some(1), StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), now);
        }
        assert!(budgets.places.lock().len() <= MANY + 1);
    }

    #[test]
    fn without_a_word_on_when_pauses_double_until_an_answer() {
        let (mut place, mut now) = (Place::default(), Instant::now());
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(place.refused(Some(1), None, now).as_secs());
            // Another that was sent before is no further refusal.
            assert_eq!(place.refused(Some(1), None, now).as_secs(), seen[seen.len() - 1]);
            now += place.pause(Some(1), now).expect("a pause");
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 60, 60]);
        let budgets = Budgets::default();
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::OK] {
            budgets.heard(&authority(), None, status, &HeaderMap::new(), now);
        }
        assert_eq!(budgets.enter(&authority(), &Method::GET, None, now), Ok(Duration::ZERO));
    }

    #[test]
    fn a_time_to_come_back_is_read_in_both_forms() {
        assert_eq!(retry_after(&with(RETRY_AFTER, " 120 ")), Some(120 * SECOND));
        let mut dated = with(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(retry_after(&dated), None, "by whose clock?");
        dated.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:29 GMT"));
        assert_eq!(retry_after(&dated), Some(30 * SECOND));
        dated.insert(DATE, HeaderValue::from_static("Sat, 01 Jan 2000 00:00:00 GMT"));
        assert_eq!(retry_after(&dated), Some(Duration::ZERO));
        assert_eq!(retry_after(&with(RETRY_AFTER, "soon")), None);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_the_budget(
            requests in 1..20_u32,
            millis in 1..5_000_u64,
            arrivals in proptest::collection::vec(0..300_u64, 1..200),
        ) {
            let budget = Budget { requests, per: Duration::from_millis(millis) };
            let (mut place, mut now, mut sent) = (Place::default(), Instant::now(), Vec::new());
            for gap in arrivals {
                now += Duration::from_millis(gap);
                match place.turn(budget, now) {
                    Ok(wait) => {
                        prop_assert!(wait <= LONGEST_TURN);
                        sent.push(now + wait);
                    }
                    Err(rest) => prop_assert!(rest.wait > LONGEST_TURN),
                }
            }
            for (at, first) in sent.iter().enumerate() {
                let inside = sent[at..].iter().take_while(|other| **other < *first + budget.per).count();
                prop_assert!(inside <= requests as usize);
            }
        }
    }
}
