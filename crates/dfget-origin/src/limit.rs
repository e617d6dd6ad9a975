//! Waiting for one's share of a rate: the clock and the wakers around [`Shaper`].
//!
//! Every read of a content waits for a grant first, and holds nothing of the content meanwhile: what
//! the origin sends in that time stays in its connection, which slows the origin down.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dfget_core::{RateLimits, Shaper, Turn};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// Shares a rate between the contents that are read. Clones share the same rate.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

/// All reads of one task. Clones are the same task; it is over when the last is dropped.
#[derive(Clone, Debug)]
pub struct Flow {
    task: Arc<TaskNumber>,
}

struct TaskNumber {
    limiter: Arc<Inner>,
    number: u64,
}

struct Inner {
    began: Instant,
    state: Mutex<State>,
    /// Something is due earlier than the driver knows.
    earlier: Notify,
    waited: Box<dyn Fn() + Send + Sync>,
    drivers: TaskTracker,
}

struct State {
    shaper: Shaper,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// When the driver looks again; `None` if there is no driver, since nobody waits.
    due: Option<Duration>,
}

/// A place in the queue, then the right to one read. Dropped, it gives either back.
#[derive(Debug)]
pub(crate) struct Ticket {
    flow: Flow,
    /// The number in the queue, until the grant was taken.
    waiting: Option<(u64, oneshot::Receiver<()>)>,
    settled: bool,
}

// === impl Limiter ===

impl Limiter {
    /// A limiter of which nothing was used yet; `waited` is told of each read that has to wait.
    #[must_use]
    pub fn new(limits: &RateLimits, waited: impl Fn() + Send + Sync + 'static) -> Self {
        let shaper = Shaper::new(limits, Duration::ZERO);
        let state = State { shaper, waiting: HashMap::new(), due: None };
        let inner = Inner {
            began: Instant::now(),
            state: Mutex::new(state),
            earlier: Notify::new(),
            waited: Box::new(waited),
            drivers: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until nobody waits any more.
    pub(crate) async fn close(&self) {
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
    }

    /// A task of its own.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let number = self.inner.state.lock().shaper.add_task(self.inner.began.elapsed());
        Flow { task: Arc::new(TaskNumber { limiter: Arc::clone(&self.inner), number }) }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    /// Grants what can be granted, and sees to it that the rest is when its time comes.
    fn pump(self: &Arc<Self>, state: &mut State) {
        let Some(wait) = state.grant(self.began.elapsed()) else {
            if state.due.is_some() {
                // There is nothing to wait for any more.
                self.earlier.notify_one();
            }
            return;
        };
        let due = self.began.elapsed() + wait;
        match state.due {
            // Without a runtime the process is about to end, and nobody reads any more.
            None => {
                if let Ok(runtime) = Handle::try_current() {
                    state.due = Some(due);
                    self.drivers.spawn_on(Arc::clone(self).drive(), &runtime);
                }
            }
            Some(known) if due < known => {
                state.due = Some(due);
                self.earlier.notify_one();
            }
            Some(_) => {}
        }
    }

    /// Grants from time to time, until nobody waits.
    async fn drive(self: Arc<Self>) {
        loop {
            let due = self.state.lock().due.unwrap_or_default();
            let pause = due.saturating_sub(self.began.elapsed());
            // Woken or not: what can be granted now is looked up below.
            let _ = timeout(pause, self.earlier.notified()).await;
            let mut state = self.state.lock();
            let wait = state.grant(self.began.elapsed());
            state.due = wait.map(|wait| self.began.elapsed() + wait);
            if state.due.is_none() {
                return;
            }
        }
    }
}

// === impl State ===

impl State {
    /// Grants what can be granted at `now`; `None` if nobody waits then, else how long the next has to.
    fn grant(&mut self, now: Duration) -> Option<Duration> {
        loop {
            match self.shaper.turn(now) {
                Turn::Granted(waiter) => {
                    if let Some(granted) = self.waiting.remove(&waiter) {
                        let _ = granted.send(());
                    }
                }
                Turn::After(wait) => return Some(wait),
                Turn::Nobody => return None,
            }
        }
    }
}

// === impl TaskNumber ===

impl Drop for TaskNumber {
    fn drop(&mut self) {
        self.limiter.state.lock().shaper.remove_task(self.number);
    }
}

impl fmt::Debug for TaskNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

// === impl Ticket ===

impl Ticket {
    /// Takes a place in the queue for one read.
    pub(crate) fn take(flow: &Flow) -> Self {
        let (granted, waiting) = oneshot::channel();
        let limiter = &flow.task.limiter;
        let mut state = limiter.state.lock();
        let number = state.shaper.ask(flow.task.number);
        state.waiting.insert(number, granted);
        limiter.pump(&mut state);
        Self { flow: flow.clone(), waiting: Some((number, waiting)), settled: false }
    }

    /// Waits for the grant. Returns whether that took any time; once granted it takes none.
    ///
    /// # Cancel safety
    /// Dropped while waiting, the ticket keeps its place.
    pub(crate) async fn granted(&mut self) -> bool {
        let Some((_, waiting)) = &mut self.waiting else { return false };
        let at_once = waiting.try_recv().is_ok();
        if !at_once {
            (self.flow.task.limiter.waited)();
            // Its sender goes away by sending only.
            let _ = waiting.await;
        }
        self.waiting = None;
        !at_once
    }

    /// Ends the read, which has brought `used` bytes.
    pub(crate) fn settle(mut self, used: usize) {
        self.end(used as u64);
    }

    fn end(&mut self, used: u64) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let TaskNumber { limiter, number } = &*self.flow.task;
        let mut state = limiter.state.lock();
        let queued = self.waiting.take().filter(|(waiter, _)| state.waiting.remove(waiter).is_some());
        match queued {
            Some((waiter, _)) => state.shaper.leave(waiter),
            None => state.shaper.settle(*number, used),
        }
        limiter.pump(&mut state);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(0);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use dfget_core::{READ, Share};

    use super::*;

    /// So little comes in that nothing is granted during a test but what is there at first.
    fn stingy() -> Limiter {
        let limits = RateLimits { total: NonZeroU64::new(1), per_task: None, share: Share::Arrival };
        Limiter::new(&limits, || {})
    }

    fn is_granted(ticket: &mut Ticket) -> bool {
        pin!(ticket.granted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn what_a_read_did_not_use_is_for_the_next() {
        let limiter = stingy();
        let (one, other) = (limiter.flow(), limiter.flow());
        let (mut first, mut second) = (Ticket::take(&one), Ticket::take(&other));
        assert!(is_granted(&mut first) && !is_granted(&mut second));
        first.settle(0);
        assert!(is_granted(&mut second));
        let mut third = Ticket::take(&one);
        assert!(!is_granted(&mut third));
        second.settle(usize::try_from(READ).unwrap());
        assert!(!is_granted(&mut third), "now it is used up");
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue_and_gives_the_grant_back() {
        let limiter = stingy();
        let flow = limiter.flow();
        let (granted, waiting, mut last) = (Ticket::take(&flow), Ticket::take(&flow), Ticket::take(&flow));
        drop(waiting);
        assert!(!is_granted(&mut last));
        drop(granted);
        assert!(is_granted(&mut last), "its grant was never fetched, and is given back all the same");
        last.settle(0);
        assert!(limiter.inner.state.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_for_now_keeps_its_place() {
        let limiter = stingy();
        let flow = limiter.flow();
        let first = Ticket::take(&flow);
        let (mut second, mut third) = (Ticket::take(&flow), Ticket::take(&flow));
        assert!(!is_granted(&mut second), "polled once and dropped");
        first.settle(0);
        assert!(!is_granted(&mut third));
        assert!(is_granted(&mut second));
    }

    #[tokio::test]
    async fn everybody_is_served_in_the_end() {
        let limits = RateLimits { total: NonZeroU64::new(64 * READ), per_task: None, share: Share::Need };
        let limiter = Limiter::new(&limits, || {});
        let readers = TaskTracker::new();
        for _ in 0..20 {
            let flow = limiter.flow();
            readers.spawn(async move {
                for _ in 0..3 {
                    let mut ticket = Ticket::take(&flow);
                    ticket.granted().await;
                    ticket.settle(usize::try_from(READ).unwrap() / 2);
                }
            });
        }
        readers.close();
        readers.wait().await;
        limiter.close().await;
        assert_eq!(limiter.inner.state.lock().due, None);
    }
}
