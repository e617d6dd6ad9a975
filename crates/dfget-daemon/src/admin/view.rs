//! A daemon, as its API shows it.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use dfget_console::{Content, Counters, Node, NodeStore, Parent, ServedBy, TaskBytes, TaskSeen, View};
use dfget_core::unix_seconds;
use dfget_storage::Store;
use dfget_task::{TaskView, Tasks};
use dfget_telemetry::{Counts, Metrics};
use rustix::system::uname;

use super::facts::Facts;

/// Which nodes have asked for a task lately.
pub(crate) type Children = Box<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// What there is to see of a daemon.
pub(crate) struct AdminView {
    store: Option<Store>,
    tasks: Option<Tasks>,
    /// Where the store is, or why there is none.
    place: Result<String, String>,
    metrics: Metrics,
    children: Children,
    started: (SystemTime, Instant),
    facts: Facts,
}

// === impl AdminView ===

impl AdminView {
    pub(crate) fn new(
        tasks: Tasks,
        place: Result<String, String>,
        metrics: Metrics,
        children: Option<Children>,
    ) -> Self {
        let started = (SystemTime::now(), Instant::now());
        let children = children.unwrap_or_else(|| Box::new(|_| Vec::new()));
        let store = tasks.store().cloned();
        Self { store, tasks: Some(tasks), place, metrics, children, started, facts: Facts::default() }
    }

    /// A store that no daemon has.
    pub(super) fn offline(store: Store, place: String, metrics: Metrics) -> Self {
        let started = (SystemTime::now(), Instant::now());
        let (children, facts): (Children, _) = (Box::new(|_| Vec::new()), Facts::default());
        Self { store: Some(store), tasks: None, place: Ok(place), metrics, children, started, facts }
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    pub(super) const fn place(&self) -> &Result<String, String> {
        &self.place
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl View for AdminView {
    fn node(&self) -> Node {
        let (started_at, since) = self.started;
        let store = self.store().map(|store| {
            let (usage, space) = (store.usage(), store.space());
            NodeStore {
                place: self.place.clone().unwrap_or_default(),
                contents: usage.entries as u64,
                used_bytes: usage.bytes,
                quota_bytes: space.quota_bytes,
                disk_bytes: space.disk_bytes,
                free_bytes: space.free_bytes,
            }
        });
        Node {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: uname().nodename().to_string_lossy().into_owned(),
            started_at: unix_seconds(started_at),
            uptime_seconds: since.elapsed().as_secs(),
            store,
            no_store: self.place.clone().err(),
            counters: counters(&self.metrics.counts()),
        }
    }

    fn contents(&self, look: &mut dyn FnMut(&[&Content])) {
        match self.store() {
            Some(store) => self.facts.look(store, look),
            None => look(&[]),
        }
    }

    fn tasks(&self) -> Vec<TaskSeen> {
        let seen = |task: TaskView| TaskSeen { children: (self.children)(task.id.as_str()), ..seen(task) };
        let views = self.tasks.as_ref().map(|tasks| tasks.views(usize::MAX)).unwrap_or_default();
        views.into_iter().map(seen).collect()
    }
}

fn seen(task: TaskView) -> TaskSeen {
    TaskSeen {
        id: task.id.to_string(),
        peer: task.peer.as_ref().to_owned(),
        url: task.url,
        authority: task.authority.to_string(),
        repository: task.repository,
        digest: task.digest.map(|digest| digest.to_string()),
        total: task.total,
        piece_length: task.piece_length,
        pieces: task.pieces.into_iter().map(|pieces| [pieces.start, pieces.end]).collect(),
        bytes: TaskBytes { cache: task.from_cache, peers: task.from_peers, origin: task.from_origin },
        parents: task.parents.into_iter().map(|(host, bytes)| Parent { host, bytes }).collect(),
        children: Vec::new(),
        readers: task.readers as u64,
        age_seconds: task.age.as_secs_f64(),
    }
}

fn counters(counts: &Counts) -> Counters {
    let served = counts.served.iter().map(|served| {
        let by = ServedBy { requests: served.requests, bytes: served.bytes };
        (served.source.to_owned(), by)
    });
    let checks = counts.access_checks.iter().map(|(answer, number)| ((*answer).to_owned(), *number));
    Counters {
        served: served.collect::<BTreeMap<_, _>>(),
        tasks: counts.tasks,
        failed_tasks: counts.failed_tasks,
        cache_hits: counts.cache_hits,
        origin_requests: counts.origin_requests,
        bytes_from_origin: counts.bytes_from_origin,
        bytes_from_peers: counts.bytes_from_peers,
        bytes_to_peers: counts.bytes_to_peers,
        evicted_bytes: counts.evicted_bytes,
        rotten_blocks: counts.rotten_blocks,
        access_checks: checks.collect(),
    }
}
