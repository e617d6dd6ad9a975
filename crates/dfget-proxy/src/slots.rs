//! How many requests run at once (`maxConcurrency`): a fair queue with an end.
//!
//! A request counts from its admission until the last byte of its answer has left. A connection
//! counts nothing, nor does a tunnel once its CONNECT is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Requests that may wait; one more is refused at once. Enough for a node's job array that starts
/// at the same moment.
const MOST_WAITING: usize = 512;

/// How long a request may wait. Longer than this its client is better told to come back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The places of running requests.
#[derive(Debug)]
pub(crate) struct Slots {
    running: Mutex<Option<Bound>>,
    waiting: AtomicUsize,
    most_waiting: usize,
    longest_wait: Duration,
}

#[derive(Clone, Debug)]
struct Bound {
    most: usize,
    free: Arc<Semaphore>,
}

/// The place of one request; free for the next one when all clones are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// No place for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Busy {
    /// Too many wait already.
    Full {
        /// The bound on running requests.
        most: usize,
        /// How many wait.
        waiting: usize,
    },
    /// It has waited long enough.
    Waited {
        /// The bound on running requests.
        most: usize,
        /// How long it has waited.
        waited: Duration,
    },
}

/// Somebody in the queue; leaves it when dropped.
struct Waiting<'a>(&'a AtomicUsize);

// === impl Slots ===

impl Slots {
    /// Places for `most` requests; `None` = without bound.
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self::with(most, MOST_WAITING, LONGEST_WAIT)
    }

    fn with(most: Option<usize>, most_waiting: usize, longest_wait: Duration) -> Self {
        let slots =
            Self { running: Mutex::default(), waiting: AtomicUsize::new(0), most_waiting, longest_wait };
        slots.set_most(most);
        slots
    }

    /// Changes the bound. What runs and waits already goes on by the old one.
    pub(crate) fn set_most(&self, most: Option<usize>) {
        let mut running = self.running.lock();
        if running.as_ref().map(|bound| bound.most) != most {
            *running = most.map(|most| {
                let permits = most.clamp(1, Semaphore::MAX_PERMITS);
                Bound { most, free: Arc::new(Semaphore::new(permits)) }
            });
        }
    }

    /// Takes a place, first come, first served.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full, or none became free in time.
    ///
    /// # Cancel safety
    /// Dropped while waiting, it leaves the queue.
    pub(crate) async fn take(&self) -> Result<Slot, Busy> {
        let Some(Bound { most, free }) = self.running.lock().clone() else {
            return Ok(Slot { _permit: None });
        };
        if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
            return Ok(Slot { _permit: Some(Arc::new(permit)) });
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.most_waiting {
            return Err(Busy::Full { most, waiting });
        }
        match timeout(self.longest_wait, free.acquire_owned()).await {
            // A closed semaphore bounds nothing; it is never closed.
            Ok(permit) => Ok(Slot { _permit: permit.ok().map(Arc::new) }),
            Err(_) => Err(Busy::Waited { most, waited: self.longest_wait }),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Busy ===

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { most, waiting } => {
                write!(f, "{most} requests run and {waiting} wait for their turn")?
            }
            Self::Waited { most, waited } => {
                write!(f, "{most} requests run, and none ended within {} s", waited.as_secs())?;
            }
        }
        f.write_str("; come back later, or let more run at once: raise maxConcurrency in dfget.yaml")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn slots(most: usize, most_waiting: usize) -> Slots {
        Slots::with(Some(most), most_waiting, LONGEST_WAIT)
    }

    /// Polls inside a runtime that never runs: its clock stands still.
    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_first_that_waits_is_the_first_that_runs() {
        let slots = slots(1, 9);
        let running = slots.take().await.expect("a free place");
        let (mut first, mut second) = (pin!(slots.take()), pin!(slots.take()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        drop(running);
        assert!(poll(second.as_mut()).is_pending(), "the other one came first");
        let Poll::Ready(Ok(_running)) = poll(first.as_mut()) else { panic!("its turn") };
        assert!(poll(second.as_mut()).is_pending());
    }

    #[tokio::test]
    async fn whoever_leaves_frees_its_place_in_the_queue() {
        let slots = slots(1, 1);
        let running = slots.take().await.expect("a free place");
        let mut leaver = Box::pin(slots.take());
        assert!(poll(leaver.as_mut()).is_pending());
        assert_eq!(slots.take().await.expect_err("a full queue"), Busy::Full { most: 1, waiting: 1 });
        drop(leaver);
        let mut next = pin!(slots.take());
        assert!(poll(next.as_mut()).is_pending(), "its place in the queue is free");
        drop(running);
        assert!(poll(next.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let slots = Slots::with(Some(2), 9, Duration::from_millis(1));
        let _running = (slots.take().await.expect("one"), slots.take().await.expect("two"));
        let busy = slots.take().await.expect_err("no place becomes free");
        assert_eq!(busy, Busy::Waited { most: 2, waited: Duration::from_millis(1) });
        assert!(busy.to_string().contains("raise maxConcurrency"), "{busy}");
        assert_eq!(slots.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn a_changed_bound_holds_for_those_who_come() {
        let slots = slots(1, 9);
        let _running = slots.take().await.expect("a free place");
        slots.set_most(Some(1));
        assert!(poll(pin!(slots.take())).is_pending(), "the same bound is no new one");
        slots.set_most(Some(2));
        let _one = slots.take().await.expect("a place more");
        slots.set_most(None);
        for _ in 0..100 {
            let _unbound = slots.take().await.expect("no bound");
        }
    }
}
