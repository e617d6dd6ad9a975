//! Keys to types: the part of the file that is about the daemon.
//!
//! Reads every key that has an effect, with its default from the model. A value that is wrong has
//! been reported by its reader; the default stands in for it until the report stops the load.

mod authority;
mod cluster;
mod egress;
mod mirror;
mod node;
mod pem;
mod proxy;
mod scheduler;
mod tls;
mod tracing;

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

pub(crate) use cluster::cluster;
pub(crate) use proxy::proxy;
pub(crate) use scheduler::scheduler;

use dfget_core::{PingPath, RateLimits, Share};

use crate::{
    Access, Code, Concurrent, Config, Download, Environment, Health, Listen, Manifests, OriginBudget, Paths,
    Proxy, Storage,
    places::Places,
    read::{ADDRESS, BYTES, Expected, Field, IP, PERCENT, Section},
    report::{Report, Subject},
    scalar,
};

/// What is needed besides the keys themselves.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) environment: &'a Environment,
    /// The directory of each file that was read, absolute, by the number in its marks.
    pub(crate) directories: &'a [PathBuf],
    /// The command line asks for the log on standard output.
    pub(crate) console: bool,
    /// Whether `cert` and `key` must be there and be of use.
    pub(crate) needs_authority: bool,
}

/// Fills in everything around the proxy.
pub(crate) fn daemon(section: &Section<'_>, proxy: Proxy, paths: Paths, context: &mut Context<'_>) -> Config {
    let defaults = Config::new(proxy, paths);
    let report = &mut *context.report;
    let mut config = Config {
        alive_time: section.bound(report, "aliveTime", defaults.alive_time),
        gc_interval: section.duration(report, "gcInterval", defaults.gc_interval),
        keep_storage: section.boolean(report, "keepStorage", defaults.keep_storage),
        metrics: metrics(section, report),
        verbose: section.boolean(report, "verbose", defaults.verbose),
        log_files: node::log_files(section, report),
        data_dir_mode: node::data_dir_mode(section, defaults.data_dir_mode, report),
        prefer_ipv6: section.section(report, "network").boolean(report, "enableIPv6", defaults.prefer_ipv6),
        reload_interval: reload(&section.section(report, "reload"), defaults.reload_interval, report),
        storage: storage(&section.section(report, "storage"), report),
        health: health(&section.section(report, "health"), report),
        download: download(&section.section(report, "download"), report),
        access: access(&section.section(report, "access"), report),
        manifests: manifests(&section.section(report, "manifests"), report),
        cluster: defaults.cluster,
        scheduler: defaults.scheduler,
        host: cluster::host(&section.section(report, "host"), report),
        upload: cluster::upload(&section.section(report, "upload"), report),
        traces: None,
        paths: defaults.paths,
        proxy: defaults.proxy,
    };
    if let (Some(field), Duration::ZERO) = (section.get("gcInterval"), config.gc_interval) {
        let expected = Expected { what: "a duration above 0", example: "1m" };
        field.bad_value(context.report, expected, "the clean-up cannot run without a pause");
    }
    config.traces = tracing::tracing(section, context);
    config
}

fn reload(section: &Section<'_>, default: Option<Duration>, report: &mut Report) -> Option<Duration> {
    let interval = section.bound(report, "interval", default);
    if let (Some(field), Some(pause)) = (section.get("interval"), interval)
        && pause < Duration::from_secs(1)
    {
        let expected = Expected { what: "a duration from 1s, or 0 for never", example: "1m" };
        field.bad_value(report, expected, "a file is looked at once in a second at most");
    }
    interval
}

fn metrics(section: &Section<'_>, report: &mut Report) -> Option<Listen> {
    let field = section.get("metrics")?;
    section.text(report, "metrics", ADDRESS.example)?;
    let listen = field.parse(report, ADDRESS, scalar::address)?;
    if field.text(report, ADDRESS)?.starts_with(':') {
        let port = listen.ports.start;
        report.warn(
            field.value(),
            Code::Suspicious,
            format!("without an address it listens on {listen} only, for this host"),
            format!("write `metrics: 0.0.0.0:{port}` if other hosts read it, else `metrics: {listen}`"),
        );
    }
    Some(listen)
}

fn storage(section: &Section<'_>, report: &mut Report) -> Storage {
    node::strategy(section, report);
    let defaults = Storage::default();
    let bytes = |report: &mut Report| section.get("diskGCThreshold")?.parse(report, BYTES, scalar::bytes);
    let percent =
        |report: &mut Report| section.get("diskGCThresholdPercent")?.parse(report, PERCENT, scalar::percent);
    Storage {
        task_expire_time: section.bound(report, "taskExpireTime", defaults.task_expire_time),
        multiplex: section.boolean(report, "multiplex", defaults.multiplex),
        disk_gc_threshold_bytes: match bytes(report) {
            Some(bytes) => (bytes > 0).then_some(bytes),
            None => defaults.disk_gc_threshold_bytes,
        },
        disk_gc_threshold_percent: match percent(report) {
            Some(percent) => (percent > 0.0).then_some(percent),
            None => defaults.disk_gc_threshold_percent,
        },
    }
}

fn health(section: &Section<'_>, report: &mut Report) -> Health {
    let defaults = Health::default();
    let path = match section.text(report, "path", PING.example) {
        Some(_) => section.get("path").and_then(|field| ping_path(field, report)),
        None => None,
    };
    let path = path.unwrap_or(defaults.path);
    Health { path, listen: listen(&section.section(report, "tcpListen"), defaults.listen, report) }
}

fn ping_path(field: &Field<'_>, report: &mut Report) -> Option<PingPath> {
    let path = PingPath::parse(field.text(report, PING)?);
    path.map_err(|error| field.bad_value(report, PING, error)).ok()
}

/// A `tcpListen`.
fn listen(section: &Section<'_>, default: Listen, report: &mut Report) -> Listen {
    let ip = match section.text(report, "listen", IP.example) {
        Some(_) => section.get("listen").and_then(|field| field.parse(report, IP, scalar::ip)),
        None => None,
    };
    let ports = section.get("port").and_then(|field| field.ports(report));
    Listen { ip: ip.unwrap_or(default.ip), ports: ports.unwrap_or(default.ports) }
}

fn download(section: &Section<'_>, report: &mut Report) -> Download {
    let defaults = Download::default();
    let stall_timeout = section.duration(report, "stallTimeout", defaults.stall_timeout);
    if let (Some(field), Duration::ZERO) = (section.get("stallTimeout"), stall_timeout) {
        let expected = Expected { what: "a duration above 0", example: "30s" };
        field.bad_value(report, expected, "no origin answers in no time");
    }
    Download {
        prefetch: section.boolean(report, "prefetch", defaults.prefetch),
        finish_abandoned: section.boolean(report, "finishAbandoned", defaults.finish_abandoned),
        stall_timeout,
        rate_limits: RateLimits {
            total: rate_limit(section, "totalRateLimit", report),
            per_task: rate_limit(section, "perTaskRateLimit", report),
            share: share(section, report),
        },
        concurrent: concurrent(&section.section(report, "concurrent"), report),
        origin_budget: origin_budget(&section.section(report, "originBudget"), report),
        resource_clients: egress::resource_clients(section, report),
        redirects: egress::redirects(section, report),
        resolve: egress::resolve(section, report),
        peer_grpc: cluster::peer_grpc(section, report),
    }
}

fn origin_budget(section: &Section<'_>, report: &mut Report) -> Option<OriginBudget> {
    let requests = section.get("requests").and_then(|field| field.integer(report, 0, 100_000));
    let per = section.duration(report, "per", Duration::from_secs(1));
    if let (Some(field), Duration::ZERO) = (section.get("per"), per) {
        let expected = Expected { what: "a duration above 0", example: "1s" };
        field.bad_value(report, expected, "no request fits into no time");
        return None;
    }
    let requests = requests.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0)?;
    Some(OriginBudget { requests, per })
}

fn manifests(section: &Section<'_>, report: &mut Report) -> Manifests {
    let defaults = Manifests::default();
    Manifests { freshness: section.duration(report, "freshness", defaults.freshness) }
}

/// Bytes a second; none for 0.
fn rate_limit(section: &Section<'_>, name: &str, report: &mut Report) -> Option<NonZeroU64> {
    const RATE: Expected = Expected { what: "a number of bytes per second", example: "100Mi" };
    let field = section.get(name)?;
    let rate = field.parse(report, RATE, scalar::rate).and_then(NonZeroU64::new)?;
    if rate.get() < LITTLE {
        report.warn(
            field.value(),
            Code::Suspicious,
            format!("so little that a pull takes very long, in bytes a second (got {})", field.shown()),
            format!("write the unit, for example {}", field.line("100Mi")),
        );
    }
    Some(rate)
}

/// A rate that is hardly meant, in bytes a second.
const LITTLE: u64 = 1 << 20;

fn share(section: &Section<'_>, report: &mut Report) -> Share {
    let kinds = Expected { what: "`plain` or `sampling`", example: "sampling" };
    let Some(field) = section.get("trafficShaperType") else { return Share::default() };
    match field.text(report, kinds) {
        Some("" | "plain") | None => Share::Arrival,
        Some("sampling") => Share::Need,
        Some(_) => {
            field.bad_value(report, kinds, "there is no such way to share a rate");
            Share::default()
        }
    }
}

fn concurrent(section: &Section<'_>, report: &mut Report) -> Concurrent {
    let defaults = Concurrent::default();
    let size = section.get("thresholdSize").and_then(|field| field.parse(report, BYTES, scalar::rate));
    let speed = section.get("thresholdSpeed").and_then(|field| field.parse(report, BYTES, scalar::bytes));
    let count = section.get("goroutineCount").and_then(|field| field.integer(report, 0, 64));
    let attempts = section.get("maxAttempts").and_then(|field| field.integer(report, 0, 1000));
    let attempts = attempts.map(|attempts| u32::try_from(attempts).unwrap_or(1).max(1));
    let streams = count.map(|count| usize::try_from(count).unwrap_or(1).max(1));
    Concurrent {
        streams: streams.unwrap_or(defaults.streams),
        threshold_size_bytes: size.unwrap_or(defaults.threshold_size_bytes),
        threshold_speed_bytes: speed.unwrap_or(defaults.threshold_speed_bytes),
        init_backoff: node::seconds(section, "initBackoff", report).unwrap_or(defaults.init_backoff),
        max_backoff: node::seconds(section, "maxBackoff", report).unwrap_or(defaults.max_backoff),
        max_attempts: attempts.unwrap_or(defaults.max_attempts),
    }
}

fn access(section: &Section<'_>, report: &mut Report) -> Access {
    let defaults = Access::default();
    Access {
        ttl: section.duration(report, "ttl", defaults.ttl),
        offline_grace: section.bound(report, "offlineGrace", defaults.offline_grace),
    }
}

/// Where things lie on disk.
pub(crate) fn directories(section: &Section<'_>, places: &Places, context: &mut Context<'_>) -> Paths {
    let console = section.boolean(context.report, "console", false) || context.console;
    let mut directory = |name: &str, default: &Option<PathBuf>| {
        let set = directory(section, name, context);
        set.or_else(|| default.clone()).unwrap_or_else(|| no_place(name, context))
    };
    let data_dir = directory("dataDir", &places.data_dir);
    let log_dir = (!console).then(|| directory("logDir", &places.log_dir));
    Paths { log_dir, data_dir }
}

fn no_place(name: &str, context: &mut Context<'_>) -> PathBuf {
    let subject = Subject { key: Some(name.to_owned()), ..Subject::default() };
    let problem = "no place for it: the system's directories cannot be written, and there is no `HOME`";
    let remedy = format!("set `HOME`, or write `{name}: /some/path` in the configuration file");
    context.report.error(subject, Code::MissingKey, problem, remedy);
    PathBuf::new()
}

/// A directory; a relative one lies in the working directory, as in 2.0.9, which is said.
fn directory(section: &Section<'_>, name: &str, context: &mut Context<'_>) -> Option<PathBuf> {
    let text = section.text(context.report, name, "/some/path")?;
    let path = context.environment.working_directory.join(text);
    if let (Some(field), false) = (section.get(name), text.starts_with('/')) {
        context.report.warn(
            field.value(),
            Code::Suspicious,
            format!("a relative name depends on where the daemon is started (got `{text}`)"),
            format!("write {}", field.line(&path.display().to_string())),
        );
    }
    Some(path)
}

const PING: Expected = Expected { what: "a plain path", example: "/server/ping" };
