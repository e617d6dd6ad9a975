//! From the configuration's types to those of the parts.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process;
use std::sync::Arc;

use dfget_config::{Config, Proxy, ResourceClient};
use dfget_origin::{PerScheme, Timeouts};
use dfget_proxy::{AccessOptions, Admission, AllowedTarget, Entrance, Hijack, ProxyLogin, ProxyOptions};
use dfget_storage::Options;
use dfget_task::{SplitOptions, TaskOptions};

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
pub(crate) fn entrance(proxy: &Proxy, hijack: Option<Arc<Hijack>>) -> Entrance {
    Entrance { rules: proxy.rules.clone(), admission: admission(proxy), hijack, ..Entrance::default() }
}

pub(crate) fn proxy(config: &Config, proxy: &Proxy, secret: [u8; 32]) -> ProxyOptions {
    ProxyOptions {
        filter: proxy.default_filter.clone(),
        tag: proxy.default_tag.clone().unwrap_or_default(),
        application: proxy.default_application.clone().unwrap_or_default(),
        access: AccessOptions { ttl: config.access.ttl, offline_grace: config.access.offline_grace },
        max_concurrency: proxy.max_concurrency,
        peer_prefix: format!("{}-{}", address(), process::id()),
        secret,
    }
}

/// The address by which this node is known to its network; loopback where it has none.
fn address() -> IpAddr {
    // Connecting a datagram socket sends nothing: it asks the routing table for our side's address.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
