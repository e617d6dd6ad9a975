//! From the configuration's types to those of the parts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process;
use std::sync::Arc;

use dfget_config::{
    self as config, Concurrent, Config, Proxy, RegistryMirror, RegistryMirrors, ResourceClient,
};
use dfget_core::Backoff;
use dfget_origin::{Budget, PerScheme, Retries, Timeouts};
use dfget_proxy::{
    AccessOptions, Admission, AllowedTarget, Entrance, Hijack, Mirror, MirrorTasks, Mirrors, ProxyLogin,
    ProxyOptions, Realms,
};
use dfget_storage::Options;
use dfget_task::{SplitOptions, TaskOptions};
use dfget_telemetry::logging::Rotation;
use dfget_tls::ServerConfig;

/// Requests to an origin at once for one task: what different clients ask of one content.
const MOST_FETCHES: usize = 4;

pub(crate) fn store(config: &Config) -> Options {
    let percent = |percent: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above 0 and up to 100")]
        let whole = percent.ceil() as u8;
        whole.clamp(1, 100)
    };
    Options {
        dir: config.paths.data_dir.clone(),
        quota_bytes: config.storage.disk_gc_threshold_bytes,
        disk_percent: config.storage.disk_gc_threshold_percent.map(percent),
        expire: config.storage.task_expire_time,
    }
}

pub(crate) fn rotation(config: &Config) -> Rotation {
    let files = &config.log_files;
    Rotation { file_bytes: files.max_bytes, kept_files: files.max_backups, kept_for: files.max_age }
}

/// How a broken download is continued.
pub(crate) fn retries(config: &Config) -> Retries {
    let Concurrent { init_backoff, max_backoff, max_attempts, .. } = config.download.concurrent;
    Retries { between: Backoff { first: init_backoff, ceiling: max_backoff }, most: max_attempts }
}

pub(crate) fn tasks(config: &Config) -> TaskOptions {
    TaskOptions {
        reuse: config.storage.multiplex,
        finish_abandoned: config.download.finish_abandoned,
        prefetch: config.download.prefetch,
        most_fetches: MOST_FETCHES.max(config.download.concurrent.streams),
        split: SplitOptions {
            most: config.download.concurrent.streams,
            least_bytes: config.download.concurrent.threshold_size_bytes,
            below_speed: config.download.concurrent.threshold_speed_bytes,
        },
    }
}

pub(crate) fn timeouts(config: &Config) -> PerScheme<Timeouts> {
    let stall = config.download.stall_timeout;
    // The first byte may take longer than a later one: some registries fetch the content only now.
    let usual = Timeouts { stall, head: stall * 2, ..Timeouts::default() };
    let of = |client: &ResourceClient| Timeouts {
        connect: client.dial_timeout.unwrap_or(usual.connect),
        handshake: client.tls_handshake_timeout.unwrap_or(usual.handshake),
        head: client.response_header_timeout.unwrap_or(usual.head),
        stall,
        keep_alive: client.keep_alive.unwrap_or(usual.keep_alive),
        idle: client.idle_conn_timeout.unwrap_or(usual.idle),
        most_idle: client.max_idle_conns.or(usual.most_idle),
    };
    let clients = &config.download.resource_clients;
    PerScheme { http: of(&clients.http), https: of(&clients.https) }
}

pub(crate) fn budget(config: &Config) -> Option<Budget> {
    let budget = config.download.origin_budget?;
    Some(Budget { requests: budget.requests, per: budget.per })
}

/// Who may come by the port of the configuration, and where to.
pub(crate) fn admission(proxy: &Proxy) -> Admission {
    let login =
        proxy.basic_auth.as_ref().map(|login| ProxyLogin::basic(&login.username, login.password.expose()));
    let targets = proxy.white_list.iter().map(|entry| AllowedTarget {
        host: entry.host.clone(),
        regx: entry.regx.clone(),
        ports: entry.ports.clone(),
    });
    Admission { login, targets: targets.collect() }
}

/// The entrance by the port of the configuration.
pub(crate) fn entrance(
    proxy: &Proxy,
    hijack: Option<Arc<Hijack>>,
    tls: Option<Arc<ServerConfig>>,
) -> Entrance {
    Entrance {
        rules: proxy.rules.clone(),
        admission: admission(proxy),
        mirrors: mirrors(&proxy.mirrors),
        hijack,
        tls,
        ..Entrance::default()
    }
}

/// The registries that the port serves as a mirror of.
pub(crate) fn mirrors(mirrors: &RegistryMirrors) -> Mirrors {
    let tasks = |tasks: config::MirrorTasks| match tasks {
        config::MirrorTasks::Digests => MirrorTasks::Digests,
        config::MirrorTasks::Rules => MirrorTasks::Rules,
        config::MirrorTasks::Nothing => MirrorTasks::Nothing,
    };
    let mirror = |mirror: &RegistryMirror| Mirror { url: mirror.url.clone(), tasks: tasks(mirror.tasks) };
    Mirrors {
        main: mirrors.main.as_ref().map(mirror),
        dynamic: mirrors.dynamic.map(tasks),
        extra: mirrors.extra.iter().map(mirror).collect(),
    }
}

pub(crate) fn proxy(config: &Config, proxy: &Proxy, secret: [u8; 32], realms: Realms) -> ProxyOptions {
    let address = address(config.prefer_ipv6);
    ProxyOptions {
        filter: proxy.default_filter.clone(),
        tag: proxy.default_tag.clone().unwrap_or_default(),
        application: proxy.default_application.clone().unwrap_or_default(),
        access: AccessOptions { ttl: config.access.ttl, offline_grace: config.access.offline_grace },
        freshness: config.manifests.freshness,
        realms,
        priority: proxy.default_priority,
        dump_headers: proxy.dump_headers,
        address,
        max_concurrency: proxy.max_concurrency,
        peer_prefix: format!("{address}-{}", process::id()),
        secret,
    }
}

/// The address by which this node is known to its network; loopback where it has none.
fn address(prefer_ipv6: bool) -> IpAddr {
    // Connecting a datagram socket sends nothing: it asks the routing table for our side's address.
    let routed = |any: IpAddr, there: IpAddr| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let v4 = || routed(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = || routed(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let found = if prefer_ipv6 { v6().or_else(v4) } else { v4() };
    found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
