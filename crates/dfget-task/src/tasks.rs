//! All tasks of the daemon: which content is stored, which is being fetched, and by whose request.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use dfget_core::{Authority, ContentKey};
use dfget_origin::OriginClient;
use dfget_storage::Store;
use dfget_telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::content::Stored;
use crate::lately::EndedLately;
use crate::lead::Lead;
use crate::meta::TaskMeta;
use crate::request::{RunKey, TaskRequest, final_key, partial_key};
use crate::spans;
use crate::split::SplitOptions;
use crate::swarm::Network;
use crate::tagged::Tags;
use crate::task::{Seat, Task};

/// How downloads are done.
#[derive(Clone, Copy, Debug)]
pub struct TaskOptions {
    /// Finished tasks are served again (`storage.multiplex`).
    pub reuse: bool,
    /// A download whose last client has left goes on (`download.finishAbandoned`).
    pub finish_abandoned: bool,
    /// A request for a part starts the download of the whole (`download.prefetch`).
    pub prefetch: bool,
    /// Requests to the origin at once for one task.
    pub most_fetches: usize,
    /// When one content is fetched by several ranges at once (`download.concurrent`).
    pub split: SplitOptions,
}

/// The registry of tasks. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Option<Store>,
    pub(crate) origin: OriginClient,
    options: ArcSwap<TaskOptions>,
    pub(crate) metrics: Metrics,
    pub(crate) tracker: TaskTracker,
    pub(crate) closing: CancellationToken,
    running: Mutex<HashMap<RunKey, Slot>>,
    network: OnceLock<Arc<dyn Network>>,
    pub(crate) ended: EndedLately,
    pub(crate) tags: Tags,
}

enum Slot {
    /// A request is at the origin; the channel closes when its answer is there, and says before
    /// if there is none.
    Leading(watch::Receiver<Answered>),
    Running(Arc<Task>),
}

/// What a leader's channel carries: only that something was sent on it counts.
#[derive(Debug)]
pub(crate) struct Answered;

/// Where a content stands.
#[derive(Debug)]
pub enum Found {
    /// Whole and verified, in the store.
    Stored(Stored),
    /// Being fetched, or partly here from before.
    Running(Seat),
    /// Nowhere, and the request that was sent for it got no answer: whoever waited for that asks
    /// for itself rather than that all wait one after another.
    Unanswered,
    /// Nowhere; whoever holds this is the one to ask the origin, and others wait for the outcome.
    Absent(Lead),
}

// === impl Tasks ===

impl Tasks {
    /// A registry over `store`; without one every client gets its own stream from the origin.
    #[must_use]
    pub fn new(store: Option<Store>, origin: OriginClient, options: TaskOptions, metrics: Metrics) -> Self {
        let inner = Inner {
            store,
            origin,
            options: ArcSwap::from_pointee(options),
            metrics,
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            running: Mutex::default(),
            network: OnceLock::new(),
            ended: EndedLately::default(),
            tags: Tags::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes these the tasks of a node in a cluster, once and for all.
    pub fn set_network(&self, network: Arc<dyn Network>) {
        let _ = self.inner.network.set(network);
    }

    /// The cluster, if there is one.
    #[must_use]
    pub(crate) fn network(&self) -> Option<&Arc<dyn Network>> {
        self.inner.network.get()
    }

    /// A running download of a content, from whatever authority: the one that is furthest.
    pub(crate) fn running_with(&self, key: &ContentKey) -> Option<Arc<Task>> {
        let mut tasks: Vec<Arc<Task>> = {
            let running = self.inner.running.lock();
            let same = running.iter().filter(|(other, _)| other.key == *key);
            same.filter_map(|(_, slot)| match slot {
                Slot::Running(task) => Some(Arc::clone(task)),
                Slot::Leading(_) => None,
            })
            .collect()
        };
        // Seldom more than one; looking costs, and each request of a peer comes by here.
        if tasks.len() > 1 {
            tasks.sort_by_cached_key(|task| task.present());
        }
        tasks.pop()
    }

    /// All running downloads, in no order.
    pub(crate) fn all_running(&self) -> Vec<Arc<Task>> {
        let running = self.inner.running.lock();
        let tasks = running.values().filter_map(|slot| match slot {
            Slot::Running(task) => Some(Arc::clone(task)),
            Slot::Leading(_) => None,
        });
        tasks.collect()
    }

    /// The client that origins are asked through.
    #[must_use]
    pub fn origin(&self) -> &OriginClient {
        &self.inner.origin
    }

    /// Whether a request for a part of a content starts the download of the whole.
    pub(crate) fn prefetches(&self, request: &TaskRequest) -> bool {
        request.prefetch.unwrap_or_else(|| self.options().prefetch)
    }

    /// Where things are counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// How downloads are done now.
    #[must_use]
    pub fn options(&self) -> TaskOptions {
        **self.inner.options.load()
    }

    /// Changes how downloads are done; running ones look at it too where they decide something.
    pub fn set_options(&self, options: TaskOptions) {
        self.inner.options.store(Arc::new(options));
    }

    /// The store, if there is one.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.inner.store.as_ref()
    }

    /// Finds out where a content stands. Waits while another request for it is at the origin.
    pub async fn find(&self, request: &TaskRequest) -> Found {
        let key = RunKey { key: request.key.clone(), authority: request.authority.clone() };
        loop {
            if let Some(stored) = self.stored(request) {
                return Found::Stored(stored);
            }
            let mut leading = {
                let mut running = self.inner.running.lock();
                match running.get(&key) {
                    Some(Slot::Running(task)) => return Found::Running(Seat::take(task)),
                    Some(Slot::Leading(done)) => done.clone(),
                    // It may have been finished since.
                    None => {
                        if let Some(stored) = self.stored(request) {
                            return Found::Stored(stored);
                        }
                        if let Some(task) = self.resumed(&key, request) {
                            let seat = Seat::take(&task);
                            running.insert(key, Slot::Running(task));
                            return Found::Running(seat);
                        }
                        let (done, waiting) = watch::channel(Answered);
                        running.insert(key.clone(), Slot::Leading(waiting));
                        let span = spans::download(self.origin().tracer(), request);
                        return Found::Absent(Lead::new(self.clone(), key, done, span));
                    }
                }
            };
            // The wait ends when the leader says that it got no answer, or drops its end.
            if leading.changed().await.is_ok() {
                return Found::Unanswered;
            }
        }
    }

    /// Notes that `authority` has just delivered the whole content that is stored as `key`.
    pub fn note_origin(&self, key: &ContentKey, authority: &Authority, headers: &http::HeaderMap) {
        if let Some(store) = &self.inner.store
            && let Some(entry) = store.get(&final_key(key)).filter(|entry| entry.is_complete())
            && let Some(mut meta) = TaskMeta::from_bytes(&entry.meta())
        {
            meta.add_origin(authority, headers);
            entry.set_meta(meta.to_bytes());
        }
    }

    /// Forgets what was begun of the request's content if that has another length than `total`,
    /// which has just proved right, and nobody uses it.
    pub fn contradict(&self, request: &TaskRequest, total: Option<u64>) {
        let key = RunKey { key: request.key.clone(), authority: request.authority.clone() };
        let running = match self.inner.running.lock().get(&key) {
            Some(Slot::Running(task)) => Some(Arc::clone(task)),
            Some(Slot::Leading(_)) => return,
            None => None,
        };
        match running {
            Some(task) if task.identity().total != total => {
                let _ = task.supersede();
            }
            Some(_) => {}
            None => {
                let entry = self.inner.store.as_ref().and_then(|store| store.get(&partial_key(&key)));
                if let (Some(store), Some(entry)) =
                    (&self.inner.store, entry.filter(|entry| entry.total() != total))
                {
                    store.remove(&entry);
                }
            }
        }
    }

    /// Stops all downloads and waits until what they wrote is in the store's hands.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    /// How many contents are being fetched.
    #[must_use]
    pub fn running(&self) -> usize {
        self.inner.running.lock().len()
    }

    /// The content of a request, if it is whole in the store; waits for nothing.
    #[must_use]
    pub fn stored(&self, request: &TaskRequest) -> Option<Stored> {
        let store = self.inner.store.as_ref().filter(|_| self.options().reuse)?;
        let entry = store.get(&final_key(&request.key)).filter(|entry| entry.is_complete())?;
        Stored::new(self.clone(), entry)
    }

    /// A download that an earlier run of the daemon, or an earlier client, left unfinished.
    fn resumed(&self, key: &RunKey, request: &TaskRequest) -> Option<Arc<Task>> {
        let store = self.inner.store.as_ref().filter(|_| self.options().reuse)?;
        let entry = store.get(&partial_key(key)).filter(|entry| entry.total().is_some())?;
        let meta = TaskMeta::from_bytes(&entry.meta())?;
        let span = spans::download(self.origin().tracer(), request);
        let request = spans::within(span.as_ref(), request);
        Some(Task::new(self.clone(), key.clone(), &request, entry, meta, span))
    }

    /// Puts a task in the place of its leader.
    pub(crate) fn run(&self, key: &RunKey, task: &Arc<Task>) {
        self.inner.running.lock().insert(key.clone(), Slot::Running(Arc::clone(task)));
    }

    /// Takes a leader away that did not become a task.
    pub(crate) fn give_up(&self, key: &RunKey) {
        self.inner.running.lock().remove(key);
    }

    /// Takes a task away that has come to its end, unless another has its place already.
    pub(crate) fn retire(&self, key: &RunKey, task: &Task) {
        let mut running = self.inner.running.lock();
        let same =
            |slot: &Slot| matches!(slot, Slot::Running(other) if std::ptr::eq(Arc::as_ptr(other), task));
        if running.get(key).is_some_and(same) {
            running.remove(key);
        }
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).finish_non_exhaustive()
    }
}
