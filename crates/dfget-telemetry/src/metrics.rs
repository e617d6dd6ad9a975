//! What a scrape of `/metrics` shows.
//!
//! Names of Dragonfly's own daemon keep their prefix and meaning, so that existing dashboards work
//! (`dragonfly_dfdaemon_*`, those that a node without a cluster can count; a gauge is not called
//! `_total`, which is for counters); what it had no name for is under `dfget_`. Labels come from closed sets: no host, repository or path appears in one, so
//! neither private names nor an endless number of series can.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::labels::{Closed, Label, method_label};
use crate::ledger::Ledger;
use crate::logging;

mod counts;
mod labels;
mod plain;

pub use self::counts::{Counts, Served};
pub use self::labels::{AccessCheck, PieceFailure, Source, TaskFailure, TracedSpans};

type Counters = Family<Label, Counter>;
type Gauges = Family<Label, Gauge>;

/// All counters and gauges of a daemon. Clones are cheap and count together.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
    ledger: Ledger,
}

struct Shared {
    registry: Registry,
    requests: Counters,
    running: Gauges,
    request_bytes: Counters,
    via_dragonfly: Counter,
    not_via_dragonfly: Counter,
    tasks: Counter,
    stream_tasks: Counter,
    failed_tasks: Counters,
    cache_hits: Counter,
    prefetches: Counter,
    pieces: Counter,
    failed_pieces: Counter,
    served_requests: Counters,
    served_bytes: Counters,
    origin_requests: Counter,
    insecure_origin_requests: Counter,
    store_bytes: Gauge,
    store_tasks: Gauge,
    store_open: Gauge,
    evicted_bytes: Counter,
    rotten_blocks: Counter,
    sendfile_bytes: Counter,
    limited_reads: Counter,
    bytes_from_peers: Counter,
    bytes_from_origin: Counter,
    bytes_to_peers: Counter,
    pieces_from_peers: Counter,
    piece_failures: Counters,
    access_checks: Counters,
    spans: Counters,
}

/// What a build says of itself.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// `major.minor.patch`.
    pub version: &'static str,
    /// The commit, or an empty text.
    pub commit: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// All at zero.
    pub fn new(build: BuildInfo) -> Self {
        let mut registry = Registry::default();
        let dragonfly = registry.sub_registry_with_prefix("dragonfly_dfdaemon");
        register_version(dragonfly, build);
        let requests = counters(dragonfly, "proxy_request", "Requests, CONNECT included");
        let running = gauges(dragonfly, "proxy_request_running", "Requests in progress");
        let request_bytes = counters(dragonfly, "proxy_request_bytes", "Bytes of response bodies");
        let via_dragonfly = counter(dragonfly, "proxy_request_via_dragonfly", "Requests that became tasks");
        let not_via_dragonfly =
            counter(dragonfly, "proxy_request_not_via_dragonfly", "Requests passed through");
        let tasks = counter(dragonfly, "peer_task", "Tasks started");
        let stream_tasks = counter(dragonfly, "stream_task", "Tasks started for a response");
        let failed_tasks = closed::<TaskFailure>(dragonfly, "peer_task_failed", "Tasks failed");
        let cache_hits = counter(dragonfly, "peer_task_cache_hit", "Requests answered by a stored task");
        let prefetches = counter(dragonfly, "prefetch_task", "Whole tasks started for a range");
        let pieces = counter(dragonfly, "piece_task", "Pieces stored");
        let failed_pieces = counter(dragonfly, "piece_task_failed", "Pieces that could not be had or kept");

        let own = registry.sub_registry_with_prefix("dfget");
        let served_requests = closed::<Source>(own, "requests", "Requests by where the answer came from");
        let served_bytes = closed::<Source>(own, "bytes", "Bytes of response bodies by where they came from");
        let origin_requests = counter(own, "origin_requests", "Requests sent to origins");
        let insecure_origin_requests =
            counter(own, "origin_insecure", "Requests sent to origins whose certificate is not verified");
        let store_bytes = gauge(own, "store_bytes", "Bytes of stored pieces, at the last clean-up");
        let store_tasks = gauge(own, "store_tasks", "Tasks in the store, at the last clean-up");
        let store_open =
            gauge(own, "store_open", "Whether there is a store: 1, or 0 when pulls stream through");
        let evicted_bytes = counter(own, "evicted_bytes", "Bytes removed to stay within the quota");
        let rotten_blocks = counter(own, "rotten_blocks", "Blocks found changed on disk and fetched again");
        let sendfile_bytes = counter(
            own,
            "sendfile_bytes",
            "Bytes of response bodies that the kernel took from files by itself",
        );
        let limited_reads = counter(own, "limited_reads", "Reads from origins that a rate limit held up");
        let bytes_from_peers = counter(own, "bytes_from_peers", "Bytes of contents that other nodes sent");
        let bytes_from_origin =
            counter(own, "bytes_from_origin", "Bytes of contents that origins sent to tasks");
        let bytes_to_peers = counter(own, "bytes_to_peers", "Bytes of contents sent to other nodes");
        let pieces_from_peers = counter(own, "pieces_from_peers", "Pieces or units that others sent");
        let piece_failures =
            closed::<PieceFailure>(own, "piece_failures", "Pieces that did not come from the node asked");
        let access_checks =
            closed::<AccessCheck>(own, "access_checks", "Checks of a client's right to a stored blob");
        let spans = closed::<TracedSpans>(own, "trace_spans", "Spans of traces by what became of them");
        own.register_collector(Box::new(LogFailures));

        let shared = Arc::new(Shared {
            registry,
            requests,
            running,
            request_bytes,
            via_dragonfly,
            not_via_dragonfly,
            tasks,
            stream_tasks,
            failed_tasks,
            cache_hits,
            prefetches,
            pieces,
            failed_pieces,
            served_requests,
            served_bytes,
            origin_requests,
            insecure_origin_requests,
            store_bytes,
            store_tasks,
            store_open,
            evicted_bytes,
            rotten_blocks,
            sendfile_bytes,
            limited_reads,
            bytes_from_peers,
            bytes_from_origin,
            bytes_to_peers,
            pieces_from_peers,
            piece_failures,
            access_checks,
            spans,
        });
        Self { shared, ledger: Ledger::default() }
    }

    /// A request of a client began; it counts as running until the returned value is dropped.
    /// Methods without a name in RFC 9110 or RFC 5789 count as `other`.
    pub fn request(&self, method: &str) -> RunningRequest {
        let label = [("method", method_label(method))];
        self.shared.requests.get_or_create(&label).inc();
        self.shared.running.get_or_create(&label).inc();
        RunningRequest { metrics: self.clone(), label }
    }

    /// A request became a task.
    pub fn via_dragonfly(&self) {
        self.shared.via_dragonfly.inc();
    }

    /// A request was passed through.
    pub fn not_via_dragonfly(&self) {
        self.shared.not_via_dragonfly.inc();
    }

    /// A response of this source began.
    pub fn served(&self, source: Source) {
        self.shared.served_requests.get_or_create(&source.label()).inc();
    }

    /// So many body bytes of this source went to a client.
    pub fn served_bytes(&self, source: Source, bytes: u64) {
        self.shared.served_bytes.get_or_create(&source.label()).inc_by(bytes);
    }

    /// A download began.
    pub fn task_started(&self) {
        self.shared.tasks.inc();
        self.shared.stream_tasks.inc();
    }

    /// A download ended without its content.
    pub fn task_failed(&self, failure: TaskFailure) {
        self.shared.failed_tasks.get_or_create(&failure.label()).inc();
    }

    /// A request found its task in the store, or joined a running one.
    pub fn cache_hit(&self) {
        self.shared.cache_hits.inc();
    }

    /// A range made the daemon fetch the whole.
    pub fn prefetch_started(&self) {
        self.shared.prefetches.inc();
    }

    /// A piece was stored.
    pub fn piece_stored(&self) {
        self.shared.pieces.inc();
    }

    /// The kernel is to send so many bytes of a response from a file.
    pub fn sent_by_kernel(&self, bytes: u64) {
        self.shared.sendfile_bytes.inc_by(bytes);
    }

    /// A read from an origin had to wait for a rate limit.
    pub fn read_limited(&self) {
        self.shared.limited_reads.inc();
    }

    /// A piece could not be had or kept.
    pub fn piece_failed(&self) {
        self.shared.failed_pieces.inc();
    }

    /// A request was sent to an origin; `insecure` if its certificate was not verified.
    pub fn origin_request(&self, insecure: bool) {
        self.shared.origin_requests.inc();
        if insecure {
            self.shared.insecure_origin_requests.inc();
        }
    }

    /// What the store holds now.
    pub fn set_store(&self, bytes: u64, tasks: u64) {
        self.shared.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.shared.store_tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// Whether the store could be opened; false until said otherwise.
    pub fn set_store_open(&self, open: bool) {
        self.shared.store_open.set(i64::from(open));
    }

    /// So many bytes were removed to stay within the quota.
    pub fn evicted(&self, bytes: u64) {
        self.shared.evicted_bytes.inc_by(bytes);
    }

    /// A piece came from another node.
    pub fn from_peer(&self, bytes: u64) {
        self.shared.pieces_from_peers.inc();
        self.shared.bytes_from_peers.inc_by(bytes);
    }

    /// A piece did not come from the node that was asked.
    pub fn peer_failed(&self, failure: PieceFailure) {
        self.shared.piece_failures.get_or_create(&failure.label()).inc();
    }

    /// An origin sent something to a task.
    pub fn from_origin(&self, bytes: u64) {
        self.shared.bytes_from_origin.inc_by(bytes);
    }

    /// Something of a piece was sent to another node.
    pub fn to_peer(&self, bytes: u64) {
        self.shared.bytes_to_peers.inc_by(bytes);
    }

    /// Bytes from other nodes, from origins to tasks, and to other nodes, since the start.
    pub fn exchanged(&self) -> [u64; 3] {
        let shared = &self.shared;
        [&shared.bytes_from_peers, &shared.bytes_from_origin, &shared.bytes_to_peers].map(Counter::get)
    }

    /// Bytes of responses to clients, and how many of these came from the store, since the start; what went
    /// through tunnels is not among them.
    pub fn handed_out(&self) -> [u64; 2] {
        let of = |source: Source| self.shared.served_bytes.get_or_create(&source.label()).get();
        let all = [Source::Cache, Source::Origin, Source::Forwarded, Source::Shared].map(of);
        [all.iter().sum(), all[0]]
    }

    /// What is counted by name, which no scrape shows.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A stored block was found changed.
    pub fn rotten_block(&self) {
        self.shared.rotten_blocks.inc();
    }

    /// A client's right to a stored blob was asked for.
    pub fn access_checked(&self, answer: AccessCheck) {
        self.shared.access_checks.get_or_create(&answer.label()).inc();
    }

    /// So many spans of traces came to this end.
    pub fn spans(&self, end: TracedSpans, count: u64) {
        self.shared.spans.get_or_create(&end.label()).inc_by(count);
    }

    /// How many spans have come to this end since the start.
    #[must_use]
    pub fn spans_so_far(&self, end: TracedSpans) -> u64 {
        self.shared.spans.get_or_create(&end.label()).get()
    }

    /// Everything, in the OpenMetrics text format 1.0 (see [`CONTENT_TYPE`](Self::CONTENT_TYPE)).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.shared.registry).expect("writing to a String cannot fail");
        text
    }

    /// The media type of [`encode`](Self::encode)'s text.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Everything, in the text format 0.0.4 (see [`PLAIN_TYPE`](Self::PLAIN_TYPE)).
    pub fn encode_plain(&self) -> String {
        plain::plain(&self.encode())
    }

    /// The media type of [`encode_plain`](Self::encode_plain)'s text.
    pub const PLAIN_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A request in progress, see [`Metrics::request`].
#[derive(Debug)]
#[must_use = "a request runs only as long as this is kept"]
pub struct RunningRequest {
    metrics: Metrics,
    label: Label,
}

// === impl RunningRequest ===

impl RunningRequest {
    /// So many bytes of the response's body went to the client.
    pub fn add_bytes(&self, bytes: u64) {
        self.metrics.shared.request_bytes.get_or_create(&self.label).inc_by(bytes);
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.metrics.shared.running.get_or_create(&self.label).dec();
    }
}

/// Reads the log's own count at each scrape.
#[derive(Debug)]
struct LogFailures;

impl Collector for LogFailures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(
            "log_write_failures",
            "Log lines that could not be written.",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(logging::write_failures()).encode(metric)
    }
}

/// The labels that Dragonfly's daemon has and that mean something here; always 1.
fn register_version(registry: &mut Registry, build: BuildInfo) {
    let version: Family<Vec<(&'static str, String)>, Gauge> = Family::default();
    let mut numbers = build.version.split('.');
    let mut number = || numbers.next().unwrap_or_default().to_owned();
    let labels = vec![
        ("major", number()),
        ("minor", number()),
        ("git_version", format!("v{}", build.version)),
        ("git_commit", build.commit.to_owned()),
        ("platform", format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH)),
    ];
    version.get_or_create(&labels).set(1);
    registry.register("version", "The version of this daemon", version);
}

// A counter is registered without `_total`, which the encoder appends.

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let counters = Counters::default();
    registry.register(name, help, counters.clone());
    counters
}

/// Counters whose series are all there from the start, for rates over their first increase.
fn closed<T: Closed>(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let counters = counters(registry, name, help);
    for label in T::labels() {
        drop(counters.get_or_create(&label));
    }
    counters
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let gauges = Gauges::default();
    registry.register(name, help, gauges.clone());
    gauges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo { version: "0.1.0", commit: "abc" })
    }

    #[track_caller]
    fn assert_shows(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        assert!(text.lines().any(|shown| shown == line), "no {line:?} in\n{text}");
    }

    #[test]
    fn every_metric_has_its_name_and_type() {
        let metrics = metrics();
        metrics.request("GET").add_bytes(1);
        let families: Vec<String> = metrics
            .encode()
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            families,
            [
                "dragonfly_dfdaemon_version gauge",
                "dragonfly_dfdaemon_proxy_request counter",
                "dragonfly_dfdaemon_proxy_request_running gauge",
                "dragonfly_dfdaemon_proxy_request_bytes counter",
                "dragonfly_dfdaemon_proxy_request_via_dragonfly counter",
                "dragonfly_dfdaemon_proxy_request_not_via_dragonfly counter",
                "dragonfly_dfdaemon_peer_task counter",
                "dragonfly_dfdaemon_stream_task counter",
                "dragonfly_dfdaemon_peer_task_failed counter",
                "dragonfly_dfdaemon_peer_task_cache_hit counter",
                "dragonfly_dfdaemon_prefetch_task counter",
                "dragonfly_dfdaemon_piece_task counter",
                "dragonfly_dfdaemon_piece_task_failed counter",
                "dfget_requests counter",
                "dfget_bytes counter",
                "dfget_origin_requests counter",
                "dfget_origin_insecure counter",
                "dfget_store_bytes gauge",
                "dfget_store_tasks gauge",
                "dfget_store_open gauge",
                "dfget_evicted_bytes counter",
                "dfget_rotten_blocks counter",
                "dfget_sendfile_bytes counter",
                "dfget_limited_reads counter",
                "dfget_bytes_from_peers counter",
                "dfget_bytes_from_origin counter",
                "dfget_bytes_to_peers counter",
                "dfget_pieces_from_peers counter",
                "dfget_piece_failures counter",
                "dfget_access_checks counter",
                "dfget_trace_spans counter",
                "dfget_log_write_failures counter",
            ]
        );
        assert!(!metrics.encode().contains("_total_total"));
        assert!(metrics.encode().ends_with("# EOF\n"));
    }

    #[test]
    fn samples_carry_the_names_that_dashboards_ask_for() {
        let metrics = metrics();
        let clone = metrics.clone();
        clone.via_dragonfly();
        clone.not_via_dragonfly();
        clone.task_started();
        clone.task_failed(TaskFailure::Source);
        clone.cache_hit();
        clone.prefetch_started();
        clone.piece_stored();
        clone.piece_failed();
        clone.served(Source::Cache);
        clone.served_bytes(Source::Origin, 1 << 40);
        clone.origin_request(true);
        clone.origin_request(false);
        clone.set_store(7, u64::MAX);
        assert_shows(&metrics, "dfget_store_open 0");
        clone.set_store_open(true);
        clone.evicted(5);
        clone.rotten_block();
        clone.from_peer(9);
        clone.peer_failed(PieceFailure::Wrong);
        clone.access_checked(AccessCheck::Denied);
        for line in [
            "dragonfly_dfdaemon_proxy_request_via_dragonfly_total 1",
            "dragonfly_dfdaemon_proxy_request_not_via_dragonfly_total 1",
            "dragonfly_dfdaemon_peer_task_total 1",
            "dragonfly_dfdaemon_stream_task_total 1",
            "dragonfly_dfdaemon_peer_task_failed_total{type=\"source\"} 1",
            "dragonfly_dfdaemon_peer_task_failed_total{type=\"init\"} 0",
            "dragonfly_dfdaemon_peer_task_cache_hit_total 1",
            "dragonfly_dfdaemon_prefetch_task_total 1",
            "dragonfly_dfdaemon_piece_task_total 1",
            "dragonfly_dfdaemon_piece_task_failed_total 1",
            "dfget_requests_total{source=\"cache\"} 1",
            "dfget_requests_total{source=\"tunnelled\"} 0",
            "dfget_bytes_total{source=\"origin\"} 1099511627776",
            "dfget_bytes_total{source=\"cache\"} 0",
            "dfget_origin_requests_total 2",
            "dfget_origin_insecure_total 1",
            "dfget_store_bytes 7",
            "dfget_store_tasks 9223372036854775807",
            "dfget_store_open 1",
            "dfget_evicted_bytes_total 5",
            "dfget_rotten_blocks_total 1",
            "dfget_bytes_from_peers_total 9",
            "dfget_pieces_from_peers_total 1",
            "dfget_piece_failures_total{reason=\"wrong\"} 1",
            "dfget_piece_failures_total{reason=\"broken\"} 0",
            "dfget_access_checks_total{result=\"denied\"} 1",
            "dfget_access_checks_total{result=\"grace\"} 0",
        ] {
            assert_shows(&metrics, line);
        }
        let text = metrics.encode();
        assert!(text.contains("dfget_log_write_failures_total "), "{text}");
        let version =
            "dragonfly_dfdaemon_version{major=\"0\",minor=\"1\",git_version=\"v0.1.0\",git_commit=\"abc\",";
        assert!(text.contains(version), "{text}");
    }

    #[test]
    fn a_request_runs_until_it_is_dropped_and_bytes_count_by_method() {
        let metrics = metrics();
        let first = metrics.request("GET");
        let second = metrics.request("GET");
        first.add_bytes(10);
        second.add_bytes(5);
        assert_shows(&metrics, "dragonfly_dfdaemon_proxy_request_running{method=\"GET\"} 2");
        drop((first, second));
        assert_shows(&metrics, "dragonfly_dfdaemon_proxy_request_running{method=\"GET\"} 0");
        assert_shows(&metrics, "dragonfly_dfdaemon_proxy_request_total{method=\"GET\"} 2");
        assert_shows(&metrics, "dragonfly_dfdaemon_proxy_request_bytes_total{method=\"GET\"} 15");
    }

    #[test]
    fn invented_methods_make_one_series() {
        let metrics = metrics();
        for method in ["BREW", "get", "x\"} 9\nfake 1"] {
            drop(metrics.request(method));
        }
        assert_shows(&metrics, "dragonfly_dfdaemon_proxy_request_total{method=\"other\"} 3");
        assert!(!metrics.encode().contains("fake"));
    }
}
