//! One at a time for each key: whoever comes second finds what the first brought.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Turns, by key.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    waiting: Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to act for one key; the next one's turn comes when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a, K: Clone + Eq + Hash> {
    turns: &'a Turns<K>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

// === impl Turns ===

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits for the turn of `key`.
    ///
    /// # Cancel safety
    /// Dropped while waiting, it gives up its place.
    pub(crate) async fn take(&self, key: K) -> Turn<'_, K> {
        let lock = Arc::clone(self.waiting.lock().entry(key.clone()).or_default());
        let mut turn = Turn { turns: self, key, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

// === impl Turn ===

impl<K: Clone + Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut waiting = self.turns.waiting.lock();
        // Held by the map alone: nobody waits.
        if waiting.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_second_waits_for_the_first_and_nothing_is_left_behind() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.take("a"));
        let std::task::Poll::Ready(turn) = first.as_mut().poll(&mut context) else { panic!("nobody has it") };
        assert!(pin!(turns.take("b")).poll(&mut context).is_ready(), "another key is another turn");
        let mut second = pin!(turns.take("a"));
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(turn);
        assert!(second.as_mut().poll(&mut context).is_ready());
        assert!(turns.waiting.lock().is_empty());
    }
}
