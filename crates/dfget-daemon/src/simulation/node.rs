//! One node: the daemon, and the client that pulls by it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dfget_config::{Cluster as ClusterConfig, Config, Paths, Proxy as ProxyConfig, RegistryMirrors};
use dfget_core::Rule;
use dfget_origin::{Arrival, Destinations};
use dfget_proxy::{Entrance, Proxy};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::origin::{CREDENTIAL, Origin};
use crate::cluster::{Cluster, cluster_options};
use crate::parts::Parts;
use crate::{certificates, settings};

/// Where the registry is.
pub(super) const REGISTRY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 73, 9, 9));

/// What a node does, and how far it is. Outlives the node's crashes.
pub(super) struct Node {
    pub(super) number: u8,
    config: Config,
    /// How often the daemon has been killed: each life has a directory of its own for the store.
    lives: AtomicU32,
    origin: Arc<Origin>,
    /// The client is to pull.
    pub(super) pull: watch::Sender<bool>,
    outcome: Mutex<Option<Result<(), String>>>,
    /// Bytes from peers and from the origin, as the daemon counts them, since it began.
    parts: Mutex<Option<dfget_telemetry::Metrics>>,
}

pub(super) fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 73, 0, number))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

// === impl Node ===

impl Node {
    /// The node of this number, from 1, of so many; `place` is a directory that all have.
    pub(super) fn new(number: u8, of: u8, place: &Path, uplink: u64, origin: Arc<Origin>) -> Self {
        let rule =
            Rule { regx: "blobs/sha256".parse().unwrap(), use_https: false, direct: false, redirect: None };
        let proxy = ProxyConfig { rules: vec![rule], ..ProxyConfig::default() };
        let paths = Paths { log_dir: None, data_dir: place.to_owned() };
        let mut config = Config::new(proxy, paths);
        config.storage.disk_gc_threshold_percent = None;
        config.cluster = ClusterConfig {
            members: vec![format!("10.73.0.[1-{of}]")],
            key_file: place.join("cluster.key"),
            ..ClusterConfig::default()
        };
        config.host.hostname = Some(format!("node{number}"));
        config.host.advertise_ip = Some(address(number));
        config.upload.rate_limit = NonZeroU64::new(uplink);
        let pull = watch::Sender::new(false);
        Self {
            number,
            config,
            lives: AtomicU32::new(0),
            origin,
            pull,
            outcome: Mutex::default(),
            parts: Mutex::default(),
        }
    }

    /// Where its store is in this life.
    pub(super) fn store(&self) -> PathBuf {
        let life = self.lives.load(Ordering::Relaxed);
        self.config.paths.data_dir.join(format!("store-{}-{life}", self.number))
    }

    /// The next time it begins with an empty store, or with the files that it left. They are copied, for
    /// what a killed process held open is held open here still.
    pub(super) fn next_life(&self, wiped: bool) {
        let old = self.store();
        self.lives.fetch_add(1, Ordering::Relaxed);
        if !wiped && old.exists() {
            copy(&old, &self.store());
        }
    }

    /// How its client's pull has ended.
    pub(super) fn outcome(&self) -> Option<Result<(), String>> {
        self.outcome.lock().clone()
    }

    /// Bytes from peers, from the origin, and to peers, since the daemon began.
    pub(super) fn exchanged(&self) -> [u64; 3] {
        self.parts.lock().as_ref().map_or([0; 3], dfget_telemetry::Metrics::exchanged)
    }

    /// The daemon, until it is killed.
    pub(super) async fn run(self: Arc<Self>) -> turmoil::Result {
        let quiet = |_: &str| {};
        let trust = certificates::trust(&[], &RegistryMirrors::default(), false, None, &quiet)?;
        let mut config = self.config.clone();
        config.paths.data_dir = self.store();
        let parts = Parts::build(&config, trust, None, Destinations::of_own_user(), &quiet)?;
        *self.parts.lock() = Some(parts.metrics.clone());
        let options = cluster_options(&config, |_| None);
        let said = Mutex::new(String::new());
        let say = |line: &str| said.lock().push_str(line);
        let cluster = Cluster::start(&config, options, &parts.tasks, &say).await;
        let _cluster = cluster.ok_or_else(|| said.lock().clone())?;
        let entrance = Arc::new(settings::entrance(&config.proxy, None, None));
        let mut pull = self.pull.subscribe();
        pull.wait_for(|begun| *begun).await?;
        if self.outcome().is_none() {
            let outcome = self.fetch(&parts.proxy, &entrance).await;
            *self.outcome.lock() = Some(outcome);
        }
        std::future::pending().await
    }

    /// Pulls by the proxy, as any client does, and looks at every byte.
    async fn fetch(&self, proxy: &Proxy, entrance: &Arc<Entrance>) -> Result<(), String> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let arrival = Arrival::simulated(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000));
        let mut connections = JoinSet::new();
        let (proxy, entrance) = (proxy.clone(), Arc::clone(entrance));
        connections.spawn(async move { proxy.serve_connection(&entrance, arrival, theirs).await });
        let told = |error: hyper::Error| format!("{error:?}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.map_err(told)?;
        connections.spawn(async move { drop(connection.await) });
        let request = Request::get(format!("http://{REGISTRY}{}", self.origin.path()))
            .header(HOST, REGISTRY.to_string())
            .header(AUTHORIZATION, CREDENTIAL)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let mut response = sender.send_request(request).await.map_err(told)?;
        let mut left = &self.origin.blob.bytes[..];
        let mut wrong = response.status() != StatusCode::OK;
        let mut text = Vec::new();
        while let Some(frame) = response.frame().await {
            let Ok(data) = frame.map_err(told)?.into_data() else { continue };
            if wrong {
                text.extend_from_slice(&data);
                continue;
            }
            match left.split_at_checked(data.len()) {
                Some((same, rest)) if same == data => left = rest,
                _ => wrong = true,
            }
        }
        match (response.status(), left.len()) {
            (StatusCode::OK, 0) if !wrong => Ok(()),
            (StatusCode::OK, left) => Err(format!("other bytes came, or not all: {left} are left")),
            (status, _) => Err(format!("{status}: {}", String::from_utf8_lossy(&text))),
        }
    }
}
