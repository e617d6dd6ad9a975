//! What a task does in the background: fetch, write, hash, check.
//!
//! Each fetch is two loops joined by a short queue: one reads the origin, the other writes to
//! the store and hashes, on a thread where it may block. So the network does not wait for the
//! disk, nor the runtime for either.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use dfget_core::{Digest, piece_count, piece_length};
use dfget_origin::{ContentStream, FetchError, FetchRequest};
use dfget_storage::{ReadError, WriteError};
use dfget_telemetry::TaskFailure;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::error::ContentError;
use crate::prefix::PrefixHasher;
use crate::request::final_key;
use crate::task::{Outcome, Task};

/// Chunks that may wait between the network and the disk.
const QUEUE: usize = 16;

/// A fetch that ended before its end.
struct Ended {
    broken: Broken,
    /// What the origin was asked with.
    source: FetchRequest,
}

enum Broken {
    Fetch(FetchError),
    Write(WriteError),
    Cancelled,
}

impl Task {
    /// Runs one fetch on the tasks' tracker, and what follows from its end.
    pub(crate) fn spawn_fetch(self: &Arc<Self>, id: u64, stream: ContentStream) {
        let task = Arc::clone(self);
        self.tasks.inner.tracker.spawn(async move {
            let ended = task.run_fetch(stream).await;
            task.fetch_ended(id, ended);
        });
    }

    async fn run_fetch(self: &Arc<Self>, mut stream: ContentStream) -> Result<(), Box<Ended>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let task = Arc::clone(self);
        let writer = self.tasks.inner.tracker.spawn_blocking(move || task.write(receiver));
        let fetched = loop {
            let position = stream.position();
            let next = tokio::select! {
                () = self.cancel.cancelled() => break Err(Broken::Cancelled),
                next = stream.next() => next,
            };
            match next {
                // A queue that is closed has its reason told by the writer.
                Ok(Some(bytes)) => {
                    if let Err(error) = self.learn_total(&stream) {
                        warn!(task = %self.key.id, "{error}");
                    }
                    if sender.send((position, bytes)).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(Broken::Fetch(error)),
            }
            if stream.is_whole_only() {
                self.state.lock().whole_only = true;
            }
        };
        drop(sender);
        let written = match writer.await {
            Ok(written) => written,
            Err(panicked) => Err(WriteError::Io(std::io::Error::other(panicked))),
        };
        let broken = match (written, fetched) {
            (Err(error), _) => Broken::Write(error),
            (Ok(()), Err(broken)) => broken,
            (Ok(()), Ok(())) => match self.learn_total(&stream) {
                Ok(()) => return Ok(()),
                Err(error) => Broken::Write(error),
            },
        };
        Err(Box::new(Ended { broken, source: stream.request().clone() }))
    }

    fn write(&self, mut chunks: mpsc::Receiver<(u64, Bytes)>) -> Result<(), WriteError> {
        let entry = Arc::clone(&self.state.lock().entry);
        while let Some((offset, bytes)) = chunks.blocking_recv() {
            entry.append(offset, &bytes)?;
            // Somebody else may be reading on in the store; then these bytes are read there too.
            if let Some(mut prefix) = self.prefix.try_lock()
                && let Some(prefix) = prefix.as_mut()
            {
                prefix.feed(offset, &bytes);
            }
            self.bump();
        }
        Ok(())
    }

    /// A content whose first answer had no length may have one later, at its end at the latest.
    fn learn_total(&self, stream: &ContentStream) -> Result<(), WriteError> {
        let entry = Arc::clone(&self.state.lock().entry);
        match (entry.total(), stream.identity().total) {
            (None, Some(total)) => {
                entry.set_total(total).map_err(|error| WriteError::Io(std::io::Error::other(error)))
            }
            _ => Ok(()),
        }
    }

    fn fetch_ended(self: &Arc<Self>, id: u64, ended: Result<(), Box<Ended>>) {
        let outcome = {
            let mut state = self.state.lock();
            state.flying.remove(&id);
            match ended.map_err(|ended| *ended) {
                Ok(()) => None,
                Err(Ended { broken: Broken::Fetch(FetchError::Denied(status)), source }) => {
                    state.sources.retain(|other| other.headers != source.headers);
                    let denied = FetchError::Denied(status);
                    state.sources.is_empty().then(|| Outcome::Failed(Arc::new(self.fetch_failed(denied))))
                }
                Err(Ended { broken: Broken::Fetch(error), .. }) => {
                    Some(Outcome::Failed(Arc::new(self.fetch_failed(error))))
                }
                Err(Ended { broken: Broken::Write(error), .. }) => {
                    warn!(task = %self.key.id, "streaming on without the store: {error}");
                    Some(Outcome::Unstored)
                }
                Err(_) if self.tasks.inner.closing.is_cancelled() => {
                    Some(Outcome::Failed(Arc::new(ContentError::Closing)))
                }
                Err(_) => Some(Outcome::Retired),
            }
        };
        match outcome {
            None => {
                self.bump();
                self.advance();
            }
            Some(outcome) => self.end_logged(outcome),
        }
    }

    fn fetch_failed(&self, source: FetchError) -> ContentError {
        ContentError::Fetch { origin: self.key.authority.to_string(), source }
    }

    /// Checks a content of which every byte is here, on a thread that may block.
    pub(crate) fn spawn_settle(self: &Arc<Self>) {
        let task = Arc::clone(self);
        self.tasks.inner.tracker.spawn_blocking(move || task.settle());
    }

    fn settle(self: &Arc<Self>) {
        let entry = Arc::clone(&self.state.lock().entry);
        let total = entry.total().unwrap_or(0);
        let digest = {
            let mut prefix = self.prefix.lock();
            match prefix.as_mut().map(|prefix| prefix.catch_up(&entry, total).map(|()| prefix.digest())) {
                None => Ok(None),
                Some(Ok(digest)) => Ok(Some(digest)),
                Some(Err(error)) => Err(error),
            }
        };
        match (digest, self.digest) {
            (Ok(Some(actual)), Some(expected)) if actual != expected => self.mismatched(expected, actual),
            (Ok(_), _) => self.publish(),
            (Err(ReadError::Rotten { block }), _) => {
                self.state.lock().settling = false;
                self.tasks.metrics().rotten_block();
                warn!(task = %self.key.id, "stored bytes from {} on changed on disk; fetching them again", block.start);
                self.refetch(block.start);
            }
            (Err(error), _) => {
                warn!(task = %self.key.id, "streaming on without the store: {error}");
                self.end(Outcome::Unstored);
            }
        }
    }

    /// The content is right: from now on it is served from the store.
    fn publish(self: &Arc<Self>) {
        let entry = Arc::clone(&self.state.lock().entry);
        if let Some(store) = self.tasks.store() {
            let key = final_key(&self.key.id);
            if self.digest.is_none()
                && let Some(older) = store.get(&key)
            {
                store.remove(&older);
            }
            match store.publish(&entry, key, self.meta.to_bytes()) {
                Ok(published) if Arc::ptr_eq(&published, &entry) => {}
                // It was there already, from another authority: now this one is known to have it.
                Ok(_) => self.tasks.note_origin(&self.key.id, &self.key.authority, &self.headers()),
                // Readers have all bytes, and they are right; only the next client has to fetch again.
                Err(error) => warn!(task = %self.key.id, "not kept: {error}"),
            }
        }
        self.end_logged(Outcome::Verified);
    }

    /// The content is not what its digest says: nothing of it is kept, and it is fetched once more.
    fn mismatched(self: &Arc<Self>, expected: Digest, actual: Digest) {
        let origin = self.key.authority.to_string();
        let mismatch = ContentError::Mismatch { origin, expected, actual };
        warn!(task = %self.key.id, "{mismatch}");
        let old = Arc::clone(&self.state.lock().entry);
        let again = self.state.lock().generation == 0;
        let fresh =
            self.tasks.store().filter(|_| again).and_then(|store| {
                store.create(old.key(), self.meta.to_bytes(), None, SystemTime::now()).ok()
            });
        let Some(fresh) = fresh else {
            if let Some(store) = self.tasks.store() {
                store.remove(&old);
            }
            return self.end_logged(Outcome::Failed(Arc::new(mismatch)));
        };
        *self.prefix.lock() = Some(PrefixHasher::like(&expected));
        {
            let mut state = self.state.lock();
            state.pin = Some(fresh.pin());
            state.entry = fresh;
            state.generation = 1;
            state.settling = false;
            state.wanted.values_mut().for_each(|wanted| *wanted = 0..u64::MAX);
            state.kept.clear();
            state.kept.push(0..u64::MAX);
        }
        self.bump();
        self.advance();
    }

    fn end_logged(self: &Arc<Self>, outcome: Outcome) {
        let (task, peer) = (self.key.id.as_str(), &*self.peer);
        match &outcome {
            Outcome::Verified => {
                let total = self.state.lock().entry.total().unwrap_or(0);
                for _ in 0..piece_count(total, piece_length(total)) {
                    self.tasks.metrics().piece_stored();
                }
                let cost = self.started.elapsed().as_millis();
                info!(
                    peer,
                    task,
                    component = "PeerTask",
                    source = "origin",
                    "peer task done, cost: {cost}ms"
                );
            }
            Outcome::Failed(reason) => {
                self.tasks.metrics().task_failed(TaskFailure::Source);
                error!(peer, task, component = "PeerTask", "peer task failed, code: 4008, reason: {reason}");
            }
            Outcome::Unstored | Outcome::Retired => {}
        }
        self.end(outcome);
    }
}
