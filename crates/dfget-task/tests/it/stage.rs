//! A node with a registry, and its clients.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_core::{Authority, ByteRange, ContentKey, Digest, RangeHeader, ReferenceKind, Scheme, TaskId};
use dfget_origin::{
    Destinations, FetchRequest, Identity, OriginClient, OriginOptions, PerScheme, Retries, Trust,
};
use dfget_storage::{Options, Store};
use dfget_task::{Found, Reader, Seat, SplitOptions, TaskOptions, TaskRequest, Tasks};
use dfget_telemetry::{BuildInfo, Metrics};
use dfget_testkit::{Blob, Registry};
use dfget_tls::{OriginTrust, Roots};
use http::HeaderMap;
use tempfile::TempDir;

use crate::cluster::{Cluster, Face, Line, good};

/// How long a pull may take that never should: a test that waits longer is broken.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Stage {
    pub(crate) registry: Registry,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) tasks: Tasks,
    pub(crate) store: Store,
    pub(crate) line: Line,
    pub(crate) request: TaskRequest,
    dir: TempDir,
}

/// What a client got: all that there is, or what it got before its body broke.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) broken: Option<String>,
}

fn tasks_over(store: &Store, cluster: &Arc<Cluster>) -> Tasks {
    let (roots, _) = Roots::new(Vec::new());
    let config = roots.client_config(&OriginTrust::default()).unwrap();
    let trust = Trust { config, insecure: false };
    let origin = OriginClient::new(OriginOptions {
        trust: Box::new(move |_| trust.clone()),
        timeouts: PerScheme::default(),
        upstream: None,
        budget: None,
        limiter: None,
        retries: Retries { most: 1, ..Retries::default() },
        prefer_ipv6: false,
        destinations: Destinations::of_own_user(),
        observe: Box::new(|_, _| {}),
        tracer: Default::default(),
    });
    let options = TaskOptions {
        reuse: true,
        finish_abandoned: false,
        prefetch: false,
        most_fetches: 4,
        split: SplitOptions { most: 1, ..SplitOptions::default() },
    };
    let metrics = Metrics::new(BuildInfo { version: "0", commit: "" });
    let tasks = Tasks::new(Some(store.clone()), origin, options, metrics);
    tasks.set_network(Arc::new(Face(Arc::clone(cluster))));
    tasks
}

fn open(dir: &TempDir, quota: Option<u64>) -> Store {
    let options =
        Options { dir: dir.path().join("store"), quota_bytes: quota, disk_percent: None, expire: None };
    Store::open(options, SystemTime::now()).unwrap().0
}

// === impl Stage ===

impl Stage {
    /// A content of so many pieces, the last one short, that the registry and the peer `good` have.
    pub(crate) fn new(pieces: usize) -> Self {
        let blob = Blob::random((pieces - 1) * (512 << 10) + 70_000, 11);
        let registry = Registry::plain();
        let url = registry.put("public/blob", &blob);
        let cluster = Cluster::new(blob);
        cluster.put("good", good(&cluster.blob));
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, None);
        let tasks = tasks_over(&store, &cluster);
        let line = cluster.scheduler();
        let request = request(&url, &cluster.blob.digest);
        Self { registry, cluster, tasks, store, line, request, dir }
    }

    /// The daemon ends and another begins over what it stored; the scheduler is another, too.
    pub(crate) async fn restart(&mut self) {
        self.tasks.close().await;
        self.tasks = tasks_over(&self.store, &self.cluster);
        self.line = self.cluster.scheduler();
    }

    /// What the scheduler says next.
    pub(crate) fn order(&self, parents: &[&str], origin: &[std::ops::Range<u32>]) {
        self.line.try_send(self.cluster.orders(parents, origin)).unwrap();
    }

    /// A place in the download for one more client, as the proxy gets it.
    pub(crate) async fn seat(&self) -> Result<Seat, Box<Reader>> {
        match self.tasks.find(&self.request).await {
            Found::Stored(stored) => Err(Box::new(stored.reader(&self.request, None))),
            Found::Running(seat) => Ok(seat),
            Found::Unanswered => panic!("nobody asked before"),
            Found::Absent(lead) => {
                let joined = lead.join(&self.request, None).await;
                let on_end = |_: &Identity| -> dfget_task::OnEnd { Box::new(|_| {}) };
                if let Some(joined) = joined {
                    if joined.has_parents() {
                        let total = joined.total();
                        let headers = HeaderMap::new();
                        let begun =
                            lead.begin_with_peers(&self.request, &headers, total, joined, Box::new(|_| {}));
                        return Ok(begun.await.unwrap());
                    }
                    return begun(lead.begin(&self.request, None, Some(joined), on_end).await);
                }
                begun(lead.begin(&self.request, None, None, on_end).await)
            }
        }
    }

    /// A client that reads the whole content.
    pub(crate) async fn reader(&self) -> Reader {
        match self.seat().await {
            Ok(seat) => seat.join(&self.request, None, true).unwrap(),
            Err(stored) => *stored,
        }
    }

    pub(crate) async fn pull(&self) -> Got {
        read(self.reader().await).await
    }

    /// What a client gets that asks for a part.
    pub(crate) async fn part(&self, range: ByteRange) -> Got {
        let reader = match self.seat().await {
            Ok(seat) => seat.join(&self.request, Some(range), false).unwrap(),
            Err(_) => panic!("it is to be under way"),
        };
        read(reader).await
    }

    /// Pulls, and it must be right.
    #[track_caller]
    pub(crate) fn right(&self, got: &Got) {
        assert_eq!(got.broken, None);
        assert!(got.bytes == *self.cluster.blob.bytes, "a client got {} other bytes", got.bytes.len());
    }

    /// Bytes that the registry sent, as a share of the content.
    pub(crate) fn sent(&self) -> f64 {
        let share = self.registry.origin.body_bytes(&self.cluster.blob.digest) as f64
            / self.cluster.blob.len() as f64;
        eprintln!("the registry sent {share:.3} x the content");
        share
    }

    /// Fills the disk, as far as the store can tell.
    pub(crate) fn small_store(mut self, bytes: u64) -> Self {
        self.dir = tempfile::tempdir().unwrap();
        self.store = open(&self.dir, Some(bytes));
        self.tasks = tasks_over(&self.store, &self.cluster);
        self
    }

    /// Waits for what must come to pass.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "waited in vain: {what}");
    }
}

fn begun(begun: Result<dfget_task::Begun, dfget_task::ContentError>) -> Result<Seat, Box<Reader>> {
    match begun.unwrap() {
        dfget_task::Begun::Task { task, .. } => Ok(task),
        other => panic!("not a task: {other:?}"),
    }
}

fn request(url: &str, digest: &str) -> TaskRequest {
    let url: url::Url = url.parse().unwrap();
    let digest: Digest = digest.parse().unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    TaskRequest {
        id: TaskId::of_digest(&digest).unwrap(),
        key: ContentKey::named(ReferenceKind::Blob, &digest),
        digest: Some(digest),
        named: true,
        authority: Authority::parse(Scheme::Http, &host).unwrap(),
        fetch: FetchRequest { url, headers: HeaderMap::new(), clients_choice: false },
        credential: Arc::from(""),
        range: RangeHeader::Whole,
        prefetch: None,
        priority: 0,
        peer: Arc::from("127.0.0.1-here-0"),
        ordered: false,
    }
}

/// Reads to the end, whatever that is.
pub(crate) async fn read(mut reader: Reader) -> Got {
    let all = async {
        let mut bytes = Vec::new();
        if let Err(error) = reader.prime().await {
            return Got { bytes, broken: Some(error.to_string()) };
        }
        loop {
            match reader.next().await {
                Ok(Some(part)) => bytes.extend_from_slice(&part),
                Ok(None) => return Got { bytes, broken: None },
                Err(error) => return Got { bytes, broken: Some(error.to_string()) },
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("a pull ends")
}
