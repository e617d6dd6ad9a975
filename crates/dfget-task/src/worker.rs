//! What a task does in the background: fetch, write, hash, check.
//!
//! What a fetch reads is written and hashed in batches, each on a thread where it may block,
//! while the next batch is read. So the network does not wait for the disk, nor the runtime for
//! either, and a fetch that waits for its origin holds no thread.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dfget_core::{Digest, piece_count, piece_length};
use dfget_origin::{ContentStream, FetchError, FetchRequest};
use dfget_storage::{Entry, ReadError, WriteError};
use dfget_telemetry::TaskFailure;
use tokio::task::JoinHandle;
use tracing::field::display;
use tracing::{error, info, warn};

use crate::error::{ContentError, Mismatch};
use crate::meta::TaskMeta;
use crate::prefix::PrefixHasher;
use crate::request::final_key;
use crate::swarm::Swarm;
use crate::task::{Flight, Outcome, State, Task};

/// Bytes that may wait for the disk; then the network waits too.
const BATCH: usize = 256 << 10;

/// When it is looked for the first time whether one stream is enough.
const LOOK: Duration = Duration::from_millis(500);

/// Bytes that were read and not written yet.
#[derive(Default)]
struct Batch {
    /// Where the first of them belongs; the others follow.
    start: Option<u64>,
    chunks: Vec<Bytes>,
    len: usize,
}

/// The batch that is being written, if one is.
type Writing = Option<JoinHandle<Result<(), WriteError>>>;

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
    pub(crate) fn spawn_fetch(self: &Arc<Self>, id: u64, mut stream: ContentStream) {
        stream.count_for(self.flow());
        let task = Arc::clone(self);
        self.tasks.inner.tracker.spawn(async move {
            let ended = task.run_fetch(id, stream).await;
            task.fetch_ended(id, ended);
        });
    }

    async fn run_fetch(self: &Arc<Self>, id: u64, mut stream: ContentStream) -> Result<(), Box<Ended>> {
        let end = self.state.lock().flying.get(&id).map(Flight::end);
        // A stream that brings nothing at all is slow, too; it is disturbed for that only once.
        let mut look = pin!(tokio::time::sleep(LOOK));
        let mut looked = false;
        let (mut batch, mut writing, mut fetched): (_, Writing, _) = (Batch::default(), None, None);
        let broken = loop {
            // Others may have taken over the rest.
            if let Some(end) =
                end.as_ref().map(|end| end.load(Ordering::Relaxed)).filter(|&end| end != u64::MAX)
            {
                stream.end_at(end);
            }
            if writing.is_none() && batch.len > 0 {
                self.split_if_slow(id, &stream);
                writing = Some(self.spawn_write(std::mem::take(&mut batch)));
            }
            if writing.is_none()
                && let Some(fetched) = fetched.take()
            {
                match fetched {
                    Ok(()) => return Ok(()),
                    Err(broken) => break broken,
                }
            }
            let position = stream.position();
            tokio::select! {
                written = ended(&mut writing), if writing.is_some() => {
                    writing = None;
                    if let Err(error) = written {
                        break Broken::Write(error);
                    }
                }
                () = &mut look, if !looked && fetched.is_none() => {
                    looked = true;
                    self.split_if_slow(id, &stream);
                }
                () = self.cancel.cancelled(), if fetched.is_none() => fetched = Some(Err(Broken::Cancelled)),
                next = stream.next(), if fetched.is_none() && batch.len < BATCH => match next {
                    Ok(Some(bytes)) => {
                        batch.len += bytes.len();
                        batch.start.get_or_insert(position);
                        batch.chunks.push(bytes);
                    }
                    Ok(None) => fetched = Some(Ok(())),
                    Err(error) => fetched = Some(Err(Broken::Fetch(error))),
                },
            }
            if let Err(error) = self.learn(&stream) {
                break Broken::Write(error);
            }
        };
        Err(Box::new(Ended { broken, source: stream.request().clone() }))
    }

    fn spawn_write(self: &Arc<Self>, batch: Batch) -> JoinHandle<Result<(), WriteError>> {
        let task = Arc::clone(self);
        self.tasks.inner.tracker.spawn_blocking(move || task.write(batch))
    }

    fn write(&self, batch: Batch) -> Result<(), WriteError> {
        let Some(start) = batch.start else { return Ok(()) };
        let entry = Arc::clone(&self.state.lock().entry);
        let parts: Vec<&[u8]> = batch.chunks.iter().map(AsRef::as_ref).collect();
        let written = entry.append_parts(start, &parts)?;
        self.tasks.metrics().from_origin(batch.len as u64);
        self.from_origin.fetch_add(batch.len as u64, Ordering::Relaxed);
        self.book.sent(batch.len as u64);
        // What was there already, from whomever, is not written again, and must not be hashed or
        // handed out from here: what lies there may be something else.
        let fresh = written == batch.len as u64;
        if fresh {
            self.recent.lock().put(&entry, start, &batch.chunks);
        }
        self.bump();
        self.hash_on(&entry, start, if fresh { &batch.chunks } else { &[] });
        Ok(())
    }

    /// Notes what the stream has shown of the origin. A content whose first answer had no length
    /// may have one later, at its end at the latest.
    fn learn(&self, stream: &ContentStream) -> Result<(), WriteError> {
        let entry = {
            let mut state = self.state.lock();
            state.whole_only |= stream.is_whole_only();
            Arc::clone(&state.entry)
        };
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
            let failed = ended
                .as_ref()
                .is_err_and(|ended| matches!(&ended.broken, Broken::Fetch(error) if !is_lasting(error)));
            let forgiven = state.landed(id, failed);
            match ended.map_err(|ended| *ended) {
                Ok(()) => None,
                Err(Ended { broken: Broken::Fetch(error), .. }) if forgiven => {
                    info!(task = %self.id, "several ranges at once do not work ({error}): one after another");
                    None
                }
                Err(Ended { broken: Broken::Fetch(FetchError::Denied(status)), source }) => {
                    state.sources.retain(|other| *other != source);
                    let denied = FetchError::Denied(status);
                    match state.sources.is_empty() {
                        true => self.without_origin(&mut state, denied),
                        false => None,
                    }
                }
                Err(Ended { broken: Broken::Fetch(error), .. }) => {
                    if let (true, Some(store)) = (is_lasting(&error), self.tasks.store()) {
                        // What is here belongs to another content: the next client begins anew.
                        store.remove(&state.entry);
                    }
                    if is_lasting(&error) {
                        Some(Outcome::Failed(Arc::new(self.fetch_failed(error))))
                    } else {
                        self.without_origin(&mut state, error)
                    }
                }
                Err(Ended { broken: Broken::Write(error), .. }) => {
                    warn!(task = %self.id, "streaming on without the store: {error}");
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

    /// The origin gives no more. That is the end, unless peers may have the rest.
    fn without_origin(&self, state: &mut State, error: FetchError) -> Option<Outcome> {
        let failed = Arc::new(self.fetch_failed(error));
        match &mut state.swarm {
            Some(swarm) if swarm.active && !swarm.closed => {
                warn!(task = %self.id, "the origin gives no more, peers may have the rest: {failed}");
                swarm.origin_failed = Some(failed);
                None
            }
            _ => Some(Outcome::Failed(failed)),
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
        if digest.is_ok() && !entry.gaps(0..total).is_empty() {
            // A block that rotted was dropped meanwhile: the content is not whole after all.
            self.state.lock().settling = false;
            return self.advance();
        }
        match (digest, self.digest) {
            (Ok(Some(actual)), Some(expected)) if actual != expected => self.mismatched(expected, actual),
            (Ok(_), _) => self.publish(),
            (Err(ReadError::Rotten { block }), _) => {
                self.state.lock().settling = false;
                self.tasks.metrics().rotten_block();
                warn!(task = %self.id, "stored bytes from {} on changed on disk; fetching them again", block.start);
                self.refetch(&entry, block.start);
            }
            (Err(error), _) => {
                warn!(task = %self.id, "streaming on without the store: {error}");
                self.end(Outcome::Unstored);
            }
        }
    }

    /// The content is right: from now on it is served from the store.
    fn publish(self: &Arc<Self>) {
        self.blame();
        let entry = Arc::clone(&self.state.lock().entry);
        if let Some(store) = self.tasks.store() {
            let (key, meta) = (final_key(&self.key.key), self.state.lock().meta.proven().to_bytes());
            if !self.first.named
                && let Some(older) = store.get(&key)
            {
                store.remove(&older);
            }
            match store.publish(&entry, key, meta) {
                Ok(published) if Arc::ptr_eq(&published, &entry) => {}
                // It was there already, from another authority: now this one is known to have it.
                Ok(_) => self.tasks.note_origin(&self.key.key, &self.key.authority, &self.headers()),
                // Readers have all bytes, and they are right; only the next client has to fetch again.
                Err(error) => warn!(task = %self.id, "not kept: {error}"),
            }
        }
        self.announce_held();
        self.end_logged(Outcome::Verified);
    }

    /// The content is not what its digest says: what is wrong of it is fetched anew, or all of it once more.
    fn mismatched(self: &Arc<Self>, expected: Digest, actual: Digest) {
        let origin = self.key.authority.to_string();
        let mismatch = ContentError::Mismatch(Box::new(Mismatch { origin, expected, actual }));
        let (old, again, peers) = {
            let state = self.state.lock();
            let swarm = state.swarm.as_ref();
            let of_peers = |swarm: &Swarm| state.inherited || !swarm.senders.is_empty();
            let peers = swarm.is_some_and(|swarm| !swarm.closed && of_peers(swarm));
            (Arc::clone(&state.entry), !state.anew, peers)
        };
        if peers {
            warn!(task = %self.id, "what peers sent has the digest {actual} for {expected}; finding the wrong pieces");
        } else {
            warn!(task = %self.id, "{mismatch}");
        }
        if again {
            let task = Arc::clone(self);
            self.tasks.inner.tracker.spawn(async move {
                if !(peers && task.mend(&old).await) {
                    task.begin_again(old, mismatch).await;
                }
            });
        } else {
            self.give_up(&old, mismatch);
        }
    }

    fn give_up(self: &Arc<Self>, entry: &Entry, reason: ContentError) {
        if let Some(store) = self.tasks.store() {
            store.remove(entry);
        }
        self.end_logged(Outcome::Failed(Arc::new(reason)));
    }

    /// Fetches everything anew, with the credential that the task was begun with: what it is
    /// given now is what it may have.
    async fn begin_again(self: &Arc<Self>, old: Arc<Entry>, mismatch: ContentError) {
        let again = tokio::select! {
            () = self.cancel.cancelled() => None,
            again = self.fetch_again(&old) => again,
        };
        let Some((fresh, meta, stream)) = again else { return self.give_up(&old, mismatch) };
        let fetch;
        {
            // Held until the entry is the new one: what is hashed from now on is hashed of that.
            let mut prefix = self.prefix.lock();
            *prefix = self.digest.as_ref().map(PrefixHasher::like);
            let mut state = self.state.lock();
            state.pin = Some(fresh.pin());
            state.suspect(&old);
            if let Some(swarm) = &mut state.swarm {
                (swarm.alone, swarm.closed, swarm.origin_failed, swarm.from_peers) = (true, true, None, 0);
                swarm.senders.clear();
                swarm.expected = None;
            }
            state.entry = fresh;
            state.meta = Arc::new(meta);
            state.next_generation(&self.cancel);
            state.anew = true;
            state.whole_only = false;
            state.wanted.values_mut().for_each(|wanted| *wanted = 0..u64::MAX);
            state.kept.clear();
            fetch = self.reserve_in(&mut state, &stream);
        }
        self.bump();
        self.spawn_fetch(fetch, stream);
    }

    async fn fetch_again(&self, old: &Entry) -> Option<(Arc<Entry>, TaskMeta, ContentStream)> {
        let (origin, request) = (self.tasks.origin().clone(), self.asked_with()?);
        let answer = origin.fetch(&request.fetch, &[]).await.ok()?.response;
        let headers = answer.headers().clone();
        let stream = ContentStream::new(origin, request.fetch.clone(), answer, None, request.named).ok()?;
        let mut meta = TaskMeta::describing(&request, &headers, stream.identity());
        meta.private |= self.state.lock().meta.private;
        let (store, key) = (self.tasks.store()?.clone(), old.key());
        let (bytes, total) = (meta.to_bytes(), stream.identity().total);
        let create = move || store.create(key, bytes, total, SystemTime::now());
        let fresh = tokio::task::spawn_blocking(create).await.ok()?.ok()?;
        Some((fresh, meta, stream))
    }

    pub(crate) fn end_logged(self: &Arc<Self>, outcome: Outcome) {
        let (task, peer) = (self.id.as_str(), &*self.peer);
        let trace_id = self.span.as_ref().map(|span| display(span.context().trace()));
        match &outcome {
            Outcome::Verified => {
                let total = self.state.lock().entry.total().unwrap_or(0);
                for _ in 0..piece_count(total, piece_length(total)) {
                    self.tasks.metrics().piece_stored();
                }
                let cost = self.started.elapsed().as_millis();
                let (peers, parents) = {
                    let state = self.state.lock();
                    let swarm = state.swarm.as_ref();
                    swarm.map(|swarm| (swarm.from_peers, swarm.named_senders(total))).unwrap_or_default()
                };
                // Whence most of it came.
                let source = if peers > total / 2 { "peers" } else { "origin" };
                if peers > 0 {
                    let origin = total.saturating_sub(peers);
                    info!(task, peer, "{origin} bytes came from the origin, {peers} from peers: {parents}");
                }
                info!(peer, task, component = "PeerTask", source, trace_id, "peer task done, cost: {cost}ms");
            }
            Outcome::Failed(reason) => {
                self.tasks.metrics().task_failed(TaskFailure::Source);
                self.tasks.metrics().piece_failed();
                error!(
                    peer,
                    task,
                    component = "PeerTask",
                    trace_id,
                    "peer task failed, code: 4008, reason: {reason}"
                );
            }
            Outcome::Unstored | Outcome::Retired => {}
        }
        self.note_end(&outcome);
        self.end(outcome);
    }
}

/// Waits for the batch that is being written.
async fn ended(writing: &mut Writing) -> Result<(), WriteError> {
    match writing {
        Some(writing) => {
            writing.await.unwrap_or_else(|lost| Err(WriteError::Io(std::io::Error::other(lost))))
        }
        None => std::future::pending().await,
    }
}

/// Whether a failure says that what is here cannot be continued, now or later.
const fn is_lasting(error: &FetchError) -> bool {
    matches!(error, FetchError::Changed(_) | FetchError::Unusable(_))
}
