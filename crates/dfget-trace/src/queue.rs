//! Ended spans on their way to whoever sends them.
//!
//! Bounded, and never waited for by those that put something in: what finds no room is lost, and
//! that is told. (The SDK's own batches leave by a thread of theirs, and lose in silence.)

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Told of each so many spans that are lost.
pub(crate) type Lost = Box<dyn Fn(u64) + Send + Sync>;

/// The queue's end for those that end spans.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<SpanData>>,
    many: Notify,
    lost: Lost,
}

/// The queue's end for the one that sends them.
#[derive(Debug)]
pub struct Spans {
    queue: Arc<Queue>,
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(lost: Lost) -> Self {
        Self { waiting: Mutex::default(), many: Notify::new(), lost }
    }

    /// Puts a span in, or loses it.
    pub(crate) fn push(&self, span: SpanData) {
        let len = {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= CAPACITY {
                None
            } else {
                waiting.push_back(span);
                Some(waiting.len())
            }
        };
        match len {
            None => (self.lost)(1),
            Some(len) if len >= BATCH => self.many.notify_one(),
            Some(_) => {}
        }
    }

    fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

/// The queue as the SDK sees it.
#[derive(Debug)]
pub(crate) struct Entrance(pub(crate) Arc<Queue>);

impl SpanProcessor for Entrance {
    fn on_start(&self, _span: &mut opentelemetry_sdk::trace::Span, _context: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

// === impl Spans ===

impl Spans {
    pub(crate) const fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// Waits until there are many spans, but no longer than `pause`.
    ///
    /// Safe to drop while waiting.
    pub async fn gathered(&self, pause: Duration) {
        if self.queue.len() < BATCH {
            let _ = timeout(pause, self.queue.many.notified()).await;
        }
    }

    /// Takes the oldest ones out, as many as are sent at once; empty if there are none.
    #[must_use]
    pub fn take(&self) -> Vec<SpanData> {
        let mut waiting = self.queue.waiting.lock();
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    /// Notes that so many of those that were taken are lost.
    pub fn lose(&self, count: u64) {
        (self.queue.lost)(count);
    }
}

/// Spans that may wait: some MiB, and seconds of a very busy node.
const CAPACITY: usize = 8192;
/// Spans that are sent at once: a few hundred KiB.
const BATCH: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanKind, Status};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn ended(number: u64) -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: number.into(),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted_and_the_oldest_stay() {
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        let queue = Arc::new(Queue::new(Box::new(move |count| {
            counted.fetch_add(count, Ordering::Relaxed);
        })));
        let spans = Spans::new(Arc::clone(&queue));
        for number in 0..CAPACITY as u64 + 3 {
            queue.push(ended(number));
        }
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        let mut taken = 0;
        loop {
            let batch = spans.take();
            assert!(batch.len() <= BATCH);
            let Some(first) = batch.first() else { break };
            assert_eq!(first.parent_span_id, taken.into());
            taken += batch.len() as u64;
        }
        assert_eq!(taken, CAPACITY as u64);
        spans.lose(2);
        assert_eq!(lost.load(Ordering::Relaxed), 5);
    }
}
