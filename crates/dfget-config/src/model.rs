//! The configuration as the daemon sees it: complete, typed, nothing left to check.
//!
//! Owns the types and their defaults. A [`Config`] comes out of [`load`](crate::load()) only when the
//! file holds no error, so every pattern is compiled, every number is within its bounds, and every
//! file of the hijack was readable at load. Names of fields follow the keys of `dfget.yaml`; a value
//! that the file writes as "0 = off" is an `Option` here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

use dfget_core::{
    Authority, DEFAULT_FILTER, Network, PingPath, RateLimits, RegistryUrl, Rule, Scheme, UrlFilter,
};
use regex::Regex;

use crate::{Secret, literal_host};

/// Everything the daemon needs to know, from `dfget.yaml`, the command line and the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Leave after this long without a request; `None` = never (`aliveTime`, default `0`).
    pub alive_time: Option<Duration>,
    /// Pause between two runs of the storage's clean-up (`gcInterval`, default 1 minute, never 0).
    pub gc_interval: Duration,
    /// Keep the cache over an orderly stop (`keepStorage`, default true).
    pub keep_storage: bool,
    /// A second listener for `/metrics` alone; `None` = only the admin port has it (`metrics`).
    pub metrics: Option<Listen>,
    /// Log at debug level (`verbose`, default false).
    pub verbose: bool,
    /// When a log file is full, and how long old ones stay.
    pub log_files: LogFiles,
    /// Mode of the directory of the store when it is made (`dataDirMode`, default 0700).
    pub data_dir_mode: u32,
    /// Try the IPv6 addresses of an origin first (`network.enableIPv6`, default false).
    pub prefer_ipv6: bool,
    /// Pause between two looks at the file for changes, at least a second; `None` = only when told
    /// (`reload.interval`, default 1 minute).
    pub reload_interval: Option<Duration>,
    /// Where things lie on disk.
    pub paths: Paths,
    /// What stays in the cache, and for how long.
    pub storage: Storage,
    /// The admin listener.
    pub health: Health,
    /// How blobs are downloaded.
    pub download: Download,
    /// How long a permission of the origin is remembered.
    pub access: Access,
    /// How often registries are asked what a tag means.
    pub manifests: Manifests,
    /// The nodes that feed each other.
    pub cluster: Cluster,
    /// `scheduler`, `announcer`.
    pub scheduler: Scheduler,
    /// How they know this one.
    pub host: Host,
    /// Pieces for them.
    pub upload: Upload,
    /// Where traces go; `None` = there are none (`tracing`).
    pub traces: Option<Traces>,
    /// The proxy: what there is to serve.
    pub proxy: Proxy,
}

/// Directories, all absolute. The daemon creates them with mode 0700 when they are missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// Logs go to `daemon/core.log` below it (`logDir`); `None` = to standard output (`console`).
    pub log_dir: Option<PathBuf>,
    /// The stored blobs and their index (`dataDir`).
    pub data_dir: PathBuf,
}

/// Rotation of `core.log`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogFiles {
    /// A file does not grow beyond this (`logMaxSize`, default 1024 MiB).
    pub max_bytes: u64,
    /// Old files are removed after this; `None` = never (`logMaxAge`, default 7 days).
    pub max_age: Option<Duration>,
    /// So many old files are kept; `None` = all (`logMaxBackups`, default 20).
    pub max_backups: Option<usize>,
}

/// `tracing`: a collector that takes OTLP over HTTP, and what it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Whom they are sent to (`endpoint`, `protocol`).
    pub collector: Authority,
    /// And by which path (`path`, default `/v1/traces`).
    pub path: String,
    /// What is sent along, by name (`headers`).
    pub headers: Vec<(String, Secret)>,
    /// Who sends them (`service-name`, default `dfget`).
    pub service: String,
    /// The share of the traces beginning here that is recorded, 0 to 1 (`ratio`, default 1).
    pub ratio: f64,
    /// Who vouches for the collector besides the system's authorities (`caCert`).
    pub roots: Option<PemSource>,
}

impl Default for Traces {
    /// For a collector of this host.
    fn default() -> Self {
        Self {
            collector: Authority { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: 4318 },
            path: "/v1/traces".to_owned(),
            headers: Vec::new(),
            service: "dfget".to_owned(),
            ratio: 1.0,
            roots: None,
        }
    }
}

/// `storage`.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Forget a task that nobody read for this long; `None` = never (`taskExpireTime`, default 168 h).
    pub task_expire_time: Option<Duration>,
    /// Serve finished tasks again (`multiplex`, default true). False: each download starts anew.
    pub multiplex: bool,
    /// Bytes the store may take before the least recently used tasks go; `None` = no such bound
    /// (`diskGCThreshold`, default `0`).
    pub disk_gc_threshold_bytes: Option<u64>,
    /// Use of the whole disk, above 0 up to 100, at which the least recently used tasks go; `None`
    /// = no such bound (`diskGCThresholdPercent`, default 95).
    pub disk_gc_threshold_percent: Option<f64>,
}

/// `health`: the admin listener with `/server/ping` and `/metrics`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Path that answers a liveness probe (`path`, default `/server/ping`).
    pub path: PingPath,
    /// Where it listens (`tcpListen`, default 127.0.0.1, first free port from 40901).
    pub listen: Listen,
}

/// `download`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Download {
    /// A request for a range also starts the download of the whole blob (`prefetch`, default false).
    pub prefetch: bool,
    /// A client that leaves does not stop the download it began (`finishAbandoned`, default true).
    pub finish_abandoned: bool,
    /// An origin that sends no byte for so long is asked again where it stopped (`stallTimeout`,
    /// default 30 s, never 0).
    pub stall_timeout: Duration,
    /// Bytes a second from all origins and for each task (`totalRateLimit`, `perTaskRateLimit`,
    /// `trafficShaperType`; default: no limit).
    pub rate_limits: RateLimits,
    /// Several ranges of one blob at once (`concurrent`).
    pub concurrent: Concurrent,
    /// Requests to one origin at most; `None` = as many as there are (`originBudget`).
    pub origin_budget: Option<OriginBudget>,
    /// Connections to origins (`resourceClients`).
    pub resource_clients: ResourceClients,
    /// What redirects may lead to (`redirects`).
    pub redirects: RedirectPolicy,
    /// Addresses of hosts that are not looked up, by name in lower case (`resolve`).
    pub resolve: BTreeMap<String, IpAddr>,
    /// Where members of the cluster reach the daemon (`peerGRPC.tcpListen`).
    pub peer_grpc: PeerListen,
}

/// `cluster`: the nodes that feed each other. Without `members`, `members_file` and `dns` there is
/// no cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cluster {
    /// Hostlists as they were written, each checked (`members`, or `--cluster`).
    pub members: Vec<String>,
    /// A file of hostlists, absolute (`membersFile`). It need not be there yet.
    pub members_file: Option<PathBuf>,
    /// A name whose addresses are members, and their port (`dns`).
    pub dns: Option<(String, u16)>,
    /// Where the key lies, absolute (`keyFile`).
    pub key_file: PathBuf,
    /// Whether a missing key is made there: of a plain user, in the home directory.
    pub make_key: bool,
    /// The gRPC port (`port`, or `--cluster-port`); `None` = as `download.peerGRPC` or the job says,
    /// else 65000.
    pub port: Option<u16>,
    /// Let in peers without TLS (`allowPlaintextPeers`, default false).
    pub allow_plaintext_peers: bool,
    /// Who may have what was fetched with a credential (`sharePrivate`, default `keyed`).
    pub share_private: SharePrivate,
}

/// `scheduler` and `announcer`: a Dragonfly cluster that this daemon joins, instead of one of daemons like
/// itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scheduler {
    /// Where its schedulers are, names or addresses, with their ports (`netAddrs`, or `--scheduler`).
    pub addresses: Vec<(String, u16)>,
    /// How often this host is announced to them (`announcer.schedulerInterval`, default 1 minute).
    pub announce_interval: Duration,
}

/// `cluster.sharePrivate`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SharePrivate {
    /// Members that have shown the cluster's key.
    #[default]
    Keyed,
    /// Nobody.
    Never,
    /// Anybody who may come in.
    All,
}

/// `host`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Data centre (`idc`).
    pub idc: String,
    /// Levels of a place, split by `|` (`location`).
    pub location: String,
    /// Name in the cluster; `None` = the system's (`hostname`).
    pub hostname: Option<String>,
    /// Address in the cluster; `None` = found out (`advertiseIP`).
    pub advertise_ip: Option<IpAddr>,
}

/// `upload`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Upload {
    /// Bytes a second to all peers; `None` = no limit (`rateLimit`).
    pub rate_limit: Option<NonZeroU64>,
    /// Where peers fetch pieces (`tcpListen`).
    pub listen: PeerListen,
}

/// Where a port for members opens, as far as the file says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerListen {
    /// `listen`; `None` = all addresses.
    pub ip: Option<IpAddr>,
    /// `port`; `None` = by `cluster.port`.
    pub port: Option<u16>,
}

/// `download.originBudget`: so many requests to one origin in any stretch of `per`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OriginBudget {
    /// Never 0 (`requests`, default 0 = no budget).
    pub requests: u32,
    /// Never 0 (`per`, default 1 s).
    pub per: Duration,
}

/// `download.resourceClients`, for the protocols that are fetched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResourceClients {
    /// Without TLS.
    pub http: ResourceClient,
    /// With TLS.
    pub https: ResourceClient,
}

/// Connections to origins of one protocol; `None` = dfget's own bound, also where the file says 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResourceClient {
    /// The URL of the site's proxy, with its login (`proxy`).
    pub proxy: Option<Secret>,
    /// Bound of a connect (`dialTimeout`).
    pub dial_timeout: Option<Duration>,
    /// After so long without a byte a connection is probed (`keepAlive`).
    pub keep_alive: Option<Duration>,
    /// Idle connections kept, to all origins together (`maxIdleConns`).
    pub max_idle_conns: Option<usize>,
    /// How long an idle connection is kept (`idleConnTimeout`).
    pub idle_conn_timeout: Option<Duration>,
    /// Bound of the wait for the head of an answer (`responseHeaderTimeout`).
    pub response_header_timeout: Option<Duration>,
    /// Bound of a TLS handshake (`tlsHandshakeTimeout`).
    pub tls_handshake_timeout: Option<Duration>,
    /// Verify no certificate, but for hosts with `certs` of their own (`insecureSkipVerify`).
    pub insecure_skip_verify: bool,
}

/// `download.redirects`: what redirects of origins may lead to besides the usual.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedirectPolicy {
    /// Addresses (`allow`).
    pub networks: Vec<Network>,
    /// Hosts, in lower case (`allow`).
    pub hosts: Vec<String>,
    /// From https to http (`downgrade`, default false).
    pub downgrade: bool,
}

/// `download.concurrent`: when a blob is fetched by several ranges at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Concurrent {
    /// Streams of one blob at most; 1 = one at a time (`goroutineCount`, default 4).
    pub streams: usize,
    /// Bytes that must be left to come (`thresholdSize`, default 16 MiB).
    pub threshold_size_bytes: u64,
    /// Bytes a second below which one stream counts as slow (`thresholdSpeed`, default 100 MiB).
    pub threshold_speed_bytes: u64,
    /// Wait before a broken stream goes on for the first time (`initBackoff`, default 0.2 s).
    pub init_backoff: Duration,
    /// Wait before it goes on, at most (`maxBackoff`, default 10 s).
    pub max_backoff: Duration,
    /// Tries in a row that may bring no byte, at least 1 (`maxAttempts`, default 8).
    pub max_attempts: u32,
}

/// `access`: memory of what the origin allowed to whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// How long a yes of the origin holds before it is asked again (`ttl`, default 60 s). Zero: it
    /// is asked for each request.
    pub ttl: Duration,
    /// While the origin does not answer, how long after its last yes a client is still served;
    /// `None` = not at all (`offlineGrace`, default 24 h).
    pub offline_grace: Option<Duration>,
}

/// `manifests`: what registries are asked at each pull, and answer alike for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manifests {
    /// How long what a tag means, and the answer to `/v2/`, is taken for unchanged for the same
    /// credential (`freshness`, default 10 s). Zero: the registry is asked for each request.
    pub freshness: Duration,
}

/// The proxy: keys that may stand at the top level of the file or under `proxy`.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where clients connect (`tcpListen`, default 127.0.0.1:65001).
    pub listen: Listen,
    /// The network namespace it listens in, an absolute path (`tcpListen.namespace`); `None` = the daemon's own.
    pub namespace: Option<PathBuf>,
    /// Query keys that are no part of a blob's identity (`defaultFilter`, default
    /// [`DEFAULT_FILTER`]). Empty only when the file says `defaultFilter: ""`.
    pub default_filter: UrlFilter,
    /// Part of the task id (`defaultTag`).
    pub default_tag: Option<String>,
    /// Part of the task id (`defaultApplication`).
    pub default_application: Option<String>,
    /// Priority of tasks whose request names none, 0 to 6 (`defaultPriority`, default 0).
    pub default_priority: u8,
    /// Log the headers of requests and answers at debug level, without secrets (`dumpHTTPContent`,
    /// default false).
    pub dump_headers: bool,
    /// TLS of the port; `None` = plain HTTP (`security`).
    pub tls: Option<ProxyTls>,
    /// What a client must send as `Proxy-Authorization`; `None` = nothing (`basicAuth`).
    pub basic_auth: Option<BasicAuth>,
    /// Targets that may be reached at all; empty = every target (`whiteList`).
    pub white_list: Vec<WhiteListEntry>,
    /// Requests that run at once; `None` = without bound (`maxConcurrency`, default 0).
    pub max_concurrency: Option<usize>,
    /// What becomes a task; the first match wins (`proxies`).
    pub rules: Vec<Rule>,
    /// Which HTTPS connections are opened; `None` = all are tunnelled unseen (`hijackHTTPS`).
    pub hijack: Option<Hijack>,
    /// Which registries are served to clients that take the port for one (`registryMirror`,
    /// `extraRegistryMirrors`).
    pub mirrors: RegistryMirrors,
}

/// `proxy.security`: how the port speaks TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyTls {
    /// Certificate of the port, then those that lead to a root (`cert`).
    pub cert: PemSource,
    /// Its private key (`key`).
    pub key: PemSource,
    /// Authorities of the certificates that clients must have; `None` = they need none (`caCert`,
    /// with `tlsVerify`).
    pub clients: Option<PemSource>,
}

/// `basicAuth`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BasicAuth {
    /// Never empty; holds no `:`.
    pub username: String,
    /// Never empty.
    pub password: Secret,
}

/// One entry of `whiteList`: at least one of `host` and `regx` is there.
#[derive(Clone, Debug)]
pub struct WhiteListEntry {
    /// This host exactly.
    pub host: Option<String>,
    /// Any host in which this is found.
    pub regx: Option<Regex>,
    /// Ports of it that may be reached; empty = all.
    pub ports: Vec<u16>,
}

/// `hijackHTTPS`.
#[derive(Clone, Debug)]
pub struct Hijack {
    /// Who signs the certificates that are shown for the hosts.
    pub authority: HijackAuthority,
    /// Hosts whose connections are opened; the first match wins (`hosts`).
    pub hosts: Vec<HijackHost>,
    /// Hosts that these name in their challenges, for tokens, are opened too (`tokenHosts`, default true).
    pub token_hosts: bool,
    /// Listeners for clients that begin with TLS (`sni`).
    pub sni: Vec<SniListen>,
}

/// One entry of `hijackHTTPS.sni`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SniListen {
    /// Where it listens (default 127.0.0.1:443).
    pub listen: Listen,
    /// The network namespace it listens in, an absolute path (`namespace`); `None` = the daemon's own.
    pub namespace: Option<PathBuf>,
}

/// Where the authority of the hijack is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HijackAuthority {
    /// The configuration names it.
    Named {
        /// Its certificate (`cert`).
        cert: PemSource,
        /// Its private key (`key`).
        key: PemSource,
    },
    /// The configuration names none: dfget's own is used.
    Own(OwnAuthority),
}

/// The authority that is made where the configuration names none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OwnAuthority {
    /// Its certificate, an absolute path.
    pub cert: PathBuf,
    /// Its private key, beside it.
    pub key: PathBuf,
    /// Whether it is there already; else it is to be made.
    pub exists: bool,
    /// The hosts that it is made for: those that the patterns of `hosts` spell, each once. Without
    /// any there is nothing to sign for.
    pub hosts: Vec<String>,
}

/// One entry of `hijackHTTPS.hosts`.
#[derive(Clone, Debug)]
pub struct HijackHost {
    /// Searched, not anchored, in `host:port` of the CONNECT.
    pub regx: Regex,
    /// Do not verify this origin's certificate (`insecure`).
    pub insecure: bool,
    /// Authorities trusted for this origin besides the system's (`certs`).
    pub certs: Vec<PemSource>,
}

/// `registryMirror` and `extraRegistryMirrors`.
#[derive(Clone, Debug, Default)]
pub struct RegistryMirrors {
    /// Where requests go that name no other registry; `None` = they are refused (`url`).
    pub main: Option<RegistryMirror>,
    /// Clients may name any registry; what of those is cached. `None` = they may not (`dynamic`).
    pub dynamic: Option<MirrorTasks>,
    /// Served to clients that name their host (`extraRegistryMirrors`).
    pub extra: Vec<RegistryMirror>,
}

/// One registry that is served as a mirror.
#[derive(Clone, Debug)]
pub struct RegistryMirror {
    /// Where it is (`url`).
    pub url: RegistryUrl,
    /// Do not verify its certificate (`insecure`).
    pub insecure: bool,
    /// Authorities trusted for it besides the system's (`certs`).
    pub certs: Vec<PemSource>,
    /// What of it is cached.
    pub tasks: MirrorTasks,
}

/// What of a mirror is cached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MirrorTasks {
    /// Blobs and manifests by digest.
    #[default]
    Digests,
    /// What `proxies` say (`useProxies`).
    Rules,
    /// Nothing (`direct`, which wins over `useProxies`).
    Nothing,
}

/// Where PEM text comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PemSource {
    /// An absolute path; the file could be read when the configuration was loaded.
    File(PathBuf),
    /// The text itself stands in the configuration.
    Inline(Secret),
}

/// An address and the ports to try on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listen {
    /// Loopback unless the file names another.
    pub ip: IpAddr,
    /// The first of these that is free.
    pub ports: PortRange,
}

/// Ports from `start` to `end`, both included; `start <= end`.
///
/// `start == end` means exactly this port; port 0 alone lets the system choose one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortRange {
    /// The first port to try.
    pub start: u16,
    /// The last port to try.
    pub end: u16,
}

// === impl HijackHost ===

impl HijackHost {
    /// The host that the pattern spells, see [`literal_host`].
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        literal_host(self.regx.as_str())
    }
}

// === impl RegistryMirrors ===

impl RegistryMirrors {
    /// Whether any registry is served.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.main.is_some() || self.dynamic.is_some() || !self.extra.is_empty()
    }

    /// Every registry that is configured, in the order of the file.
    pub fn configured(&self) -> impl Iterator<Item = &RegistryMirror> {
        self.main.iter().chain(&self.extra)
    }
}

// === impl Listen ===

impl Listen {
    /// Loopback with the given ports.
    #[must_use]
    pub const fn loopback(ports: PortRange) -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), ports }
    }
}

impl std::fmt::Display for Listen {
    /// `127.0.0.1:65001`, or `127.0.0.1:40901-65535` for a range.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PortRange { start, end } = self.ports;
        write!(f, "{}", std::net::SocketAddr::new(self.ip, start))?;
        if start == end { Ok(()) } else { write!(f, "-{end}") }
    }
}

// === impl PortRange ===

impl PortRange {
    /// Exactly this port.
    #[must_use]
    pub const fn exactly(port: u16) -> Self {
        Self { start: port, end: port }
    }
}

// === impl LogFiles ===

impl Default for LogFiles {
    fn default() -> Self {
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        Self { max_bytes: 1024 << 20, max_age: Some(week), max_backups: Some(20) }
    }
}

// === impl Storage ===

impl Default for Storage {
    fn default() -> Self {
        Self {
            task_expire_time: Some(Duration::from_secs(168 * 60 * 60)),
            multiplex: true,
            disk_gc_threshold_bytes: None,
            disk_gc_threshold_percent: Some(95.0),
        }
    }
}

// === impl Health ===

impl Default for Health {
    fn default() -> Self {
        Self {
            path: PingPath::default(),
            listen: Listen::loopback(PortRange { start: 40901, end: u16::MAX }),
        }
    }
}

// === impl Download ===

impl Default for Download {
    fn default() -> Self {
        Self {
            prefetch: false,
            finish_abandoned: true,
            stall_timeout: Duration::from_secs(30),
            rate_limits: RateLimits::default(),
            concurrent: Concurrent::default(),
            origin_budget: None,
            resource_clients: ResourceClients::default(),
            redirects: RedirectPolicy::default(),
            resolve: BTreeMap::new(),
            peer_grpc: PeerListen::default(),
        }
    }
}

// === impl Scheduler ===

impl Default for Scheduler {
    fn default() -> Self {
        Self { addresses: Vec::new(), announce_interval: Duration::from_mins(1) }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Whether members are named anywhere.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        !self.members.is_empty() || self.members_file.is_some() || self.dns.is_some()
    }
}

// === impl Concurrent ===

impl Default for Concurrent {
    fn default() -> Self {
        Self {
            streams: 4,
            threshold_size_bytes: 16 << 20,
            threshold_speed_bytes: 100 << 20,
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            max_attempts: 8,
        }
    }
}

// === impl Access ===

impl Default for Access {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60), offline_grace: Some(Duration::from_secs(24 * 60 * 60)) }
    }
}

// === impl Manifests ===

impl Default for Manifests {
    fn default() -> Self {
        Self { freshness: Duration::from_secs(10) }
    }
}

// === impl Proxy ===

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(PortRange::exactly(65001)),
            namespace: None,
            default_filter: UrlFilter::new(DEFAULT_FILTER.iter().copied()),
            default_tag: None,
            default_application: None,
            default_priority: 0,
            dump_headers: false,
            tls: None,
            basic_auth: None,
            white_list: Vec::new(),
            max_concurrency: None,
            rules: Vec::new(),
            hijack: None,
            mirrors: RegistryMirrors::default(),
        }
    }
}

// === impl Config ===

impl Config {
    /// The proxy and the directories given, and every other key at its default.
    #[must_use]
    pub fn new(proxy: Proxy, paths: Paths) -> Self {
        Self {
            alive_time: None,
            gc_interval: Duration::from_secs(60),
            keep_storage: true,
            metrics: None,
            verbose: false,
            log_files: LogFiles::default(),
            data_dir_mode: 0o700,
            prefer_ipv6: false,
            reload_interval: Some(Duration::from_secs(60)),
            paths,
            storage: Storage::default(),
            health: Health::default(),
            download: Download::default(),
            access: Access::default(),
            manifests: Manifests::default(),
            cluster: Cluster::default(),
            scheduler: Scheduler::default(),
            host: Host::default(),
            upload: Upload::default(),
            traces: None,
            proxy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_is_shown_as_a_client_would_type_it() {
        assert_eq!(Proxy::default().listen.to_string(), "127.0.0.1:65001");
        assert_eq!(Health::default().listen.to_string(), "127.0.0.1:40901-65535");
        let v6 = Listen { ip: "::1".parse().unwrap(), ports: PortRange::exactly(7) };
        assert_eq!(v6.to_string(), "[::1]:7");
    }
}
