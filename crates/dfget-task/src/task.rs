//! A content being fetched: who wants what of it, what is under way, how it ended.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dfget_core::{ByteRange, Digest, RangeError, RangeHeader, TaskId};
use dfget_origin::{ContentStream, FetchRequest, Flow, Identity};
use dfget_storage::{Entry, Pin, RepairError};
use dfget_telemetry::Book;
use dfget_trace::SharedSpan;
use http::HeaderMap;
use http::header::ACCEPT_RANGES;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::ContentError;
use crate::meta::TaskMeta;
use crate::plan::{Situation, fetches, merge};
use crate::prefix::PrefixHasher;
use crate::reader::Reader;
use crate::recent::Recent;
use crate::request::{RunKey, TaskRequest};
use crate::spans;
use crate::split::{Progress, boundaries};
use crate::swarm::{Suspects, Swarm};
use crate::tasks::Tasks;

/// Credentials kept for continuing a download; more clients than this add nothing.
const MOST_SOURCES: usize = 16;

/// A running download. Readers join it; it ends verified, failed or retired.
pub struct Task {
    pub(crate) tasks: Tasks,
    pub(crate) id: TaskId,
    pub(crate) key: RunKey,
    pub(crate) digest: Option<Digest>,
    /// The request that the task was begun with.
    pub(crate) first: TaskRequest,
    pub(crate) peer: Arc<str>,
    pub(crate) started: Instant,
    /// Bytes that were here before it began.
    pub(crate) had: u64,
    /// Bytes that origins have sent for it.
    pub(crate) from_origin: AtomicU64,
    pub(crate) prefix: Mutex<Option<PrefixHasher>>,
    /// What was stored last.
    pub(crate) recent: Mutex<Recent>,
    /// Where what its origin sends is counted.
    pub(crate) book: Arc<Book>,
    pub(crate) cancel: CancellationToken,
    /// Its share of the rate limits.
    flow: Option<Flow>,
    /// Bytes that peers have sent, for those who tell where bytes came from.
    pub(crate) from_peers: Arc<AtomicU64>,
    pub(crate) state: Mutex<State>,
    progress: watch::Sender<()>,
    next_id: AtomicU64,
    on_end: Mutex<Option<OnEnd>>,
    /// All that is done for it, if that is recorded.
    pub(crate) span: Option<SharedSpan>,
}

/// Told once whether the content turned out to be right (`true`) or wrong; not at all if nobody
/// came to know.
pub type OnEnd = Box<dyn FnOnce(bool) + Send>;

/// What changes while a task runs. Locked for moments only, never over I/O.
pub(crate) struct State {
    pub(crate) entry: Arc<Entry>,
    /// What the answer that fills the entry says of the content.
    pub(crate) meta: Arc<TaskMeta>,
    /// The entry is not evicted while it is written.
    pub(crate) pin: Option<Pin>,
    /// 0 at first; one more after each mismatch that made wrong bytes be fetched anew.
    pub(crate) generation: u32,
    /// Some of it came from peers before the daemon began: nobody knows which, and whose.
    pub(crate) inherited: bool,
    /// Everything was fetched anew from the origin alone.
    pub(crate) anew: bool,
    /// Cancelled when nothing more of this generation is handed to peers.
    pub(crate) shared: CancellationToken,
    /// What present readers want, by reader.
    pub(crate) wanted: HashMap<u64, Range<u64>>,
    /// Requests that hold the task while they find out whether they may read it.
    seats: usize,
    /// What is to be finished although its reader has left.
    pub(crate) kept: Vec<Range<u64>>,
    pub(crate) flying: HashMap<u64, Flight>,
    /// Whether several ranges were tried at once, and how that went.
    split: Split,
    /// Clients' requests that the origin may be asked with.
    pub(crate) sources: Vec<FetchRequest>,
    pub(crate) whole_only: bool,
    /// Its part in the cluster.
    pub(crate) swarm: Option<Swarm>,
    /// Contents that turned out to be wrong, until it is known whose pieces were.
    pub(crate) suspects: Vec<Suspects>,
    /// The last check of the whole content is under way.
    pub(crate) settling: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// One fetch under way.
#[derive(Debug)]
pub(crate) struct Flight {
    start: u64,
    /// Where it is to end: less than it was begun for, once others have taken over the rest.
    end: Arc<AtomicU64>,
    began: Instant,
    /// One of those that were begun to be several at once.
    part: bool,
}

/// Whether a content is fetched by several ranges at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Split {
    Untried,
    Done,
    /// The origin did not bear it: one range at a time.
    Failed,
}

/// Holds a task for a request that has yet to join it: without readers it would retire.
#[derive(Debug)]
pub struct Seat {
    task: Arc<Task>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// All bytes are here and are right.
    Verified,
    /// They cannot be had.
    Failed(Arc<ContentError>),
    /// They can be had but not stored: each reader goes on with a stream of its own.
    Unstored,
    /// Nobody wants more; what is stored stays.
    Retired,
}

/// What a reader sees of a task.
pub(crate) struct Snapshot {
    pub(crate) generation: u32,
    pub(crate) entry: Arc<Entry>,
    pub(crate) outcome: Option<Outcome>,
}

// === impl State ===

impl State {
    /// Sets how the task ends; returns whether it had not ended before.
    fn finish(&mut self, outcome: Outcome) -> bool {
        let first = self.outcome.is_none();
        self.settling = false;
        self.pin = None;
        self.outcome.get_or_insert(outcome);
        first
    }

    fn add_source(&mut self, source: &FetchRequest) {
        if self.sources.contains(source) {
            return;
        }
        if self.sources.len() >= MOST_SOURCES {
            // The oldest credential is the first to expire.
            self.sources.remove(0);
        }
        self.sources.push(source.clone());
    }

    /// Takes a fetch away that has ended. `true` if it was one of several at once and failed in a
    /// way that one alone might not have: what it was for is then fetched one range after another.
    pub(crate) fn landed(&mut self, id: u64, failed: bool) -> bool {
        let part = self.flying.remove(&id).is_some_and(|flight| flight.part);
        if part && failed {
            self.split = Split::Failed;
        }
        part && failed
    }
}

// === impl Flight ===

impl Flight {
    fn over(range: Range<u64>) -> Self {
        let end = Arc::new(AtomicU64::new(range.end));
        Self { start: range.start, end, began: Instant::now(), part: false }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.end.load(Ordering::Relaxed)
    }

    /// Has it end there, if that is earlier.
    pub(crate) fn end_at(&self, end: u64) {
        self.end.fetch_min(end, Ordering::Relaxed);
    }

    /// Where it is to end, as that changes.
    pub(crate) fn end(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.end)
    }
}

// === impl Task ===

impl Task {
    /// A task over `entry`, nothing of which is being fetched yet.
    pub(crate) fn new(
        tasks: Tasks,
        key: RunKey,
        request: &TaskRequest,
        entry: Arc<Entry>,
        meta: TaskMeta,
        span: Option<SharedSpan>,
    ) -> Arc<Self> {
        let cancel = tasks.inner.closing.child_token();
        let had = entry.allocated_bytes();
        let state = State {
            pin: Some(entry.pin()),
            entry,
            inherited: meta.unproven,
            meta: Arc::new(meta),
            generation: 0,
            anew: false,
            shared: cancel.child_token(),
            wanted: HashMap::new(),
            seats: 0,
            kept: Vec::new(),
            flying: HashMap::new(),
            split: Split::Untried,
            sources: Vec::new(),
            whole_only: false,
            swarm: None,
            suspects: Vec::new(),
            settling: false,
            outcome: None,
        };
        let prefix = request.digest.as_ref().map(PrefixHasher::like);
        let flow = tasks.origin().flow();
        let book = tasks.metrics().ledger().registry(&key.authority.host_port());
        Arc::new(Self {
            tasks,
            id: request.id.clone(),
            key,
            digest: request.digest,
            first: request.clone(),
            peer: Arc::clone(&request.peer),
            started: Instant::now(),
            had,
            from_origin: AtomicU64::new(0),
            prefix: Mutex::new(prefix),
            recent: Mutex::default(),
            book,
            cancel,
            flow,
            from_peers: Arc::default(),
            state: Mutex::new(state),
            progress: watch::Sender::new(()),
            next_id: AtomicU64::new(0),
            on_end: Mutex::default(),
            span,
        })
    }

    /// The headers that describe the content.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let meta = Arc::clone(&self.state.lock().meta);
        meta.headers(&self.key.authority)
    }

    /// Whether some of its bytes came from peers and nothing has proved them yet: only whoever gets
    /// the whole, which is checked at its end, may have them.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        let state = self.state.lock();
        let verified = matches!(state.outcome, Some(Outcome::Verified));
        !verified && state.meta.unproven
    }

    /// What tells this content from another.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let state = self.state.lock();
        state.meta.identity(state.entry.total())
    }

    /// Whether the credential of `request` may be asked about at all.
    #[must_use]
    pub fn admits(&self, request: &TaskRequest) -> bool {
        self.state.lock().meta.admits(request)
    }

    /// Has `action` told how the content turned out.
    pub(crate) fn when_ended(&self, action: OnEnd) {
        *self.on_end.lock() = Some(action);
    }

    /// Makes room for another version of the content, unless somebody still reads or fetches this one.
    #[must_use]
    pub fn supersede(self: &Arc<Self>) -> bool {
        let (entry, superseded) = {
            let mut state = self.state.lock();
            let used = !state.wanted.is_empty() || !state.flying.is_empty() || state.settling;
            (Arc::clone(&state.entry), !used && state.finish(Outcome::Retired))
        };
        if superseded {
            if let Some(store) = self.tasks.store() {
                store.remove(&entry);
            }
            self.has_ended();
        }
        superseded
    }

    /// The bytes that a request's range means, once the content's length is known: waits for
    /// that only if the answer depends on it. `None` is the whole.
    ///
    /// # Errors
    /// [`RangeError`] if none of the content's bytes is meant.
    pub async fn resolve(&self, range: RangeHeader) -> Result<Option<(ByteRange, u64)>, RangeError> {
        let RangeHeader::One(spec) = range else { return Ok(None) };
        let mut progress = self.progress.subscribe();
        loop {
            progress.borrow_and_update();
            let (total, ended) = {
                let state = self.state.lock();
                (state.entry.total(), state.outcome.is_some())
            };
            match total {
                Some(total) => return spec.resolve(total).map(|range| Some((range, total))),
                // Without a length there is no part; the whole response will say what failed.
                None if ended || progress.changed().await.is_err() => return Ok(None),
                None => {}
            }
        }
    }

    /// A reader of the content or a part of it, and the download of what that needs; `None` if
    /// the task has come to its end meanwhile: look where the content stands now. `leads` is
    /// the request that the task was begun with; it is told how the task ended.
    #[must_use]
    pub fn join(
        self: &Arc<Self>,
        request: &TaskRequest,
        range: Option<ByteRange>,
        leads: bool,
    ) -> Option<Reader> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = self.state.lock();
            match &state.outcome {
                None | Some(Outcome::Verified) => {}
                Some(Outcome::Failed(_) | Outcome::Unstored) if leads => {}
                Some(_) => return None,
            }
            if self.cancel.is_cancelled() && state.outcome.is_none() {
                return None;
            }
            let whole = if self.tasks.prefetches(request) { None } else { range };
            let wanted = whole
                .map_or_else(|| 0..state.entry.total().unwrap_or(u64::MAX), |range| range.start..range.end);
            state.wanted.insert(id, wanted);
            let lacked = self.unasked_origin(&state).is_some();
            state.add_source(&request.fetch);
            if let Some(swarm) = state.swarm.as_mut().filter(|_| lacked) {
                // Now there is a credential that it can be asked with.
                swarm.origin_failed = None;
            }
        }
        if range.is_none() && self.can_swarm() {
            self.begin_swarm(None);
        }
        self.advance();
        Some(Reader::following(Arc::clone(self), id, request.clone(), range, leads))
    }

    /// Notes the first fetch, whose answer is there already, so that nobody begins another.
    pub(crate) fn reserve(&self, stream: &ContentStream) -> u64 {
        self.reserve_in(&mut self.state.lock(), stream)
    }

    pub(crate) fn reserve_in(&self, state: &mut State, stream: &ContentStream) -> u64 {
        let range = stream.position()..stream.end().unwrap_or(u64::MAX);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if self.tasks.options().finish_abandoned {
            merge(&mut state.kept, range.clone());
        }
        state.flying.insert(id, Flight::over(range));
        id
    }

    /// Begins whatever has to be fetched now, or the last check if nothing has.
    pub(crate) fn advance(self: &Arc<Self>) {
        let mut streams = Vec::new();
        let settle = {
            let mut state = self.state.lock();
            if state.outcome.is_some() || state.settling {
                return;
            }
            let entry = Arc::clone(&state.entry);
            state.kept.retain(|range| !entry.gaps(range.clone()).is_empty());
            for range in self.next_fetches(&state) {
                let Some(source) = state.sources.last().cloned() else { break };
                streams.push(self.begin_fetch(&mut state, source, range, false));
            }
            let whole = |total| state.entry.gaps(0..total).is_empty();
            state.settling = state.flying.is_empty() && state.entry.total().is_some_and(whole);
            state.settling
        };
        for (id, stream) in streams {
            self.spawn_fetch(id, stream);
        }
        if settle {
            self.spawn_settle();
        } else {
            self.retire_if_idle();
        }
    }

    /// A further fetch, to be spawned.
    fn begin_fetch(
        &self,
        state: &mut State,
        source: FetchRequest,
        range: Range<u64>,
        part: bool,
    ) -> (u64, ContentStream) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let end = (range.end != u64::MAX).then_some(range.end);
        let identity = state.meta.identity(state.entry.total());
        let source = spans::asked_within(self.span.as_ref(), source);
        let stream = ContentStream::lazy(self.tasks.origin().clone(), source, range.start, end, identity);
        state.flying.insert(id, Flight { part, ..Flight::over(range) });
        (id, stream)
    }

    /// What the streams of the task read from.
    pub(crate) const fn flow(&self) -> Option<&Flow> {
        self.flow.as_ref()
    }

    /// Lets several ranges be fetched at once where `stream`, the only one under way, shows that
    /// this is worth it.
    pub(crate) fn split_if_slow(self: &Arc<Self>, id: u64, stream: &ContentStream) {
        let options = self.tasks.options().split;
        let streams: Vec<_> = {
            let mut state = self.state.lock();
            let free = !stream.is_limited();
            let held = state.swarm.as_ref().is_some_and(|swarm| !swarm.alone);
            if !free || held || state.split != Split::Untried || state.flying.len() != 1 || state.whole_only {
                return;
            }
            if !state.wanted.values().chain(&state.kept).any(|wanted| Some(wanted.end) >= stream.end()) {
                return;
            }
            let (Some(flight), Some(end)) = (state.flying.get(&id), stream.end()) else { return };
            let progress = Progress {
                start: flight.start,
                position: stream.position(),
                end,
                elapsed: flight.began.elapsed(),
            };
            let running = flight.end();
            let cuts = boundaries(&options, &progress);
            let (Some(&first), Some(source)) = (cuts.first(), state.sources.last().cloned()) else { return };
            state.split = Split::Done;
            if !self.knows_ranges(&state) {
                return;
            }
            running.store(first, Ordering::Relaxed);
            let ends = cuts.iter().skip(1).copied().chain([end]);
            let parts = cuts.iter().copied().zip(ends);
            parts.map(|(start, end)| self.begin_fetch(&mut state, source.clone(), start..end, true)).collect()
        };
        info!(task = %self.id, "the origin is slow: {} ranges at once", streams.len() + 1);
        for (id, stream) in streams {
            self.spawn_fetch(id, stream);
        }
    }

    /// Whether the origin has said that it answers ranges, of a content that can be joined of them.
    fn knows_ranges(&self, state: &State) -> bool {
        let headers = state.meta.headers(&self.key.authority);
        let ranges = headers.get(ACCEPT_RANGES).is_some_and(|value| value == "bytes");
        ranges && (self.first.named || state.meta.etag.is_some())
    }

    fn next_fetches(&self, state: &State) -> Vec<Range<u64>> {
        let mut wanted = Vec::new();
        for range in state.wanted.values().chain(&state.kept) {
            merge(&mut wanted, range.clone());
        }
        if let Some(swarm) = &state.swarm {
            wanted = swarm.allowed(&wanted);
        }
        let flying: Vec<_> = state.flying.values().map(Flight::range).collect();
        let situation = Situation {
            wanted: &wanted,
            flying: &flying,
            most: if state.split == Split::Failed { 1 } else { self.tasks.options().most_fetches },
            whole_only: state.whole_only,
        };
        fetches(&situation, |range| state.entry.gaps(range))
    }

    /// A reader goes. Without it the download goes on or ends, as the options say.
    pub(crate) fn leave(self: &Arc<Self>, id: u64) {
        {
            let mut state = self.state.lock();
            let wanted = state.wanted.remove(&id).filter(|_| self.tasks.options().finish_abandoned);
            if let Some(wanted) = wanted
                && !state.entry.gaps(wanted.clone()).is_empty()
            {
                merge(&mut state.kept, wanted);
            }
        }
        self.left();
    }

    /// Waits until the task has come to its end.
    pub async fn ended(&self) {
        let mut progress = self.progress.subscribe();
        loop {
            progress.borrow_and_update();
            if self.state.lock().outcome.is_some() || progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Somebody has gone: the download stops if that was the last and it is not to be finished.
    fn left(self: &Arc<Self>) {
        {
            let state = self.state.lock();
            let alone = state.wanted.is_empty() && state.seats == 0 && state.outcome.is_none();
            if alone && !self.tasks.options().finish_abandoned {
                // What is under way sees it and ends the task; if nothing is, that is done below.
                self.cancel.cancel();
            }
        }
        self.retire_if_idle();
    }

    /// Ends the task if nobody is there, nothing is under way and nothing is left to do.
    pub(crate) fn retire_if_idle(self: &Arc<Self>) {
        let retired = {
            let mut state = self.state.lock();
            let held = !state.wanted.is_empty() || (state.seats > 0 && !self.cancel.is_cancelled());
            let peers = state.swarm.is_some() && !state.kept.is_empty() && !self.cancel.is_cancelled();
            let busy = !state.flying.is_empty() || state.settling || held || peers;
            let more = || !self.cancel.is_cancelled() && !self.next_fetches(&state).is_empty();
            let idle = state.outcome.is_none() && !busy && !more();
            idle && state.finish(Outcome::Retired)
        };
        if retired {
            self.has_ended();
        }
    }

    /// Ends the task, once; readers see how.
    pub(crate) fn end(self: &Arc<Self>, outcome: Outcome) {
        if self.state.lock().finish(outcome) {
            self.has_ended();
        }
    }

    fn has_ended(self: &Arc<Self>) {
        let right = match &self.state.lock().outcome {
            Some(Outcome::Verified) => Some(true),
            Some(Outcome::Failed(error)) if matches!(**error, ContentError::Mismatch(_)) => Some(false),
            _ => None,
        };
        if let (Some(right), Some(action)) = (right, self.on_end.lock().take()) {
            action(right);
        }
        spans::ended(self);
        self.cancel.cancel();
        *self.recent.lock() = Recent::default();
        self.tasks.retire(&self.key, self);
        self.bump();
    }

    /// A block of a download turned out to have changed on disk: it is fetched again, and hashed
    /// again as well.
    pub(crate) fn refetch(self: &Arc<Self>, read: &Arc<Entry>, block_start: u64) {
        let entry = Arc::clone(&self.state.lock().entry);
        if !Arc::ptr_eq(read, &entry) {
            return;
        }
        match entry.drop_block(block_start) {
            Ok(()) => {}
            // Whole and verified meanwhile; its readers repair what they find.
            Err(RepairError::Complete) => return,
            // Another reader has found it before.
            Err(RepairError::NoBlock { .. }) if entry.contiguous_from(block_start) == block_start => return,
            Err(error) => {
                warn!(task = %self.id, "streaming on without the store: {error}");
                return self.end(Outcome::Unstored);
            }
        }
        let task = Arc::clone(self);
        // Whoever hashes now may hold the hash for long.
        self.tasks.inner.tracker.spawn_blocking(move || {
            {
                let mut prefix = task.prefix.lock();
                if prefix.as_ref().is_some_and(|prefix| block_start < prefix.hashed()) {
                    *prefix = task.digest.as_ref().map(PrefixHasher::like);
                }
            }
            task.advance();
        });
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        Snapshot {
            generation: state.generation,
            entry: Arc::clone(&state.entry),
            outcome: state.outcome.clone(),
        }
    }

    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Tells the readers that something has changed.
    pub(crate) fn bump(&self) {
        self.progress.send_replace(());
    }
}

// === impl Seat ===

impl Seat {
    pub(crate) fn take(task: &Arc<Task>) -> Self {
        task.state.lock().seats += 1;
        Self { task: Arc::clone(task) }
    }
}

impl std::ops::Deref for Seat {
    type Target = Arc<Task>;

    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.task.state.lock().seats -= 1;
        self.task.left();
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("key", &self.key).finish_non_exhaustive()
    }
}
