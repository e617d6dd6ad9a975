//! One life of the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_config::{Config, Listen, Loaded};
use dfget_console::Console;
use dfget_origin::{OriginClient, OriginOptions};
use dfget_proxy::{Entrance, Hijack, Proxy};
use dfget_storage::{Store, StoreError};
use dfget_task::Tasks;
use dfget_telemetry::logging::{self, LogOptions};
use dfget_telemetry::{BuildInfo, Metrics};
use dfget_tls::LeafCache;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::signals::Signals;
use crate::{RunError, certificates, open_files, ports, settings, upkeep};

/// How long responses may go on after the daemon was told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long downloads may take to stop after that, and the admin port.
const CLOSE: Duration = Duration::from_secs(10);
/// How long a slow terminal may hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to end (SIGTERM, SIGINT, SIGQUIT) or `aliveTime` is over.
///
/// `announce` is given the few lines that whoever starts the daemon should read: where it
/// listens, and which file clients must trust.
///
/// # Errors
/// [`RunError`] if it cannot start, or cannot keep what was downloaded last.
pub fn run(loaded: Loaded, announce: &dyn Fn(&str)) -> Result<(), RunError> {
    let Loaded { config, warnings, source } = loaded;
    let logging = logging::init(&LogOptions {
        dir: config.paths.log_dir.as_ref().map(|dir| dir.join("daemon")),
        verbose: config.verbose,
    })?;
    info!("dfget {} starts with {}", version(), source.display());
    for warning in &warnings {
        warn!("{warning}");
    }
    let outcome = start(&config, announce);
    if let Err(error) = &outcome {
        error!("the daemon ends: {error}");
    }
    logging.flush(LAST_LINES);
    outcome
}

fn start(config: &Config, announce: &dyn Fn(&str)) -> Result<(), RunError> {
    open_files::raise_limit();
    let proxy = &config.proxy;
    let authority = proxy.hijack.as_ref().map(certificates::authority).transpose()?;
    let own = authority.as_ref().map(|authority| authority.certificate());
    let hosts = proxy.hijack.as_ref().map_or(&[][..], |hijack| &hijack.hosts);
    let trust = certificates::trust(hosts, own, announce)?;
    let leaves = authority.map(LeafCache::new).transpose()?;
    let listeners = Listeners::bind(config, &proxy.listen)?;
    let metrics = Metrics::new(BuildInfo { version: version(), commit: "" });
    let store = open_store(config, announce)?;
    metrics.set_store_open(store.is_some());
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let counted = metrics.clone();
    let origin = OriginClient::new(OriginOptions {
        trust: Box::new(move |authority| trust.of(authority)),
        timeouts: settings::timeouts(config),
        upstream: None,
        observe: Box::new(move |insecure| counted.origin_request(insecure)),
    });
    let hosts = hosts.iter().map(|host| host.regx.clone()).collect();
    let hijack = leaves.map(|leaves| Arc::new(Hijack::matching(hosts, leaves)));
    // Without a store permissions live as long as the process, and so does their key.
    let secret = store.as_ref().map_or_else(fresh_secret, |store| Ok(*store.secret()))?;
    let tasks = Tasks::new(store.clone(), origin, settings::tasks(config), metrics.clone());
    let daemon = Daemon {
        proxy: Proxy::new(settings::proxy(config, proxy, secret), tasks.clone()),
        entrance: Arc::new(settings::entrance(proxy, hijack)),
        tasks,
        store,
        metrics,
    };
    say(config, &listeners, announce);
    let served = runtime.block_on(daemon.serve(config, listeners));
    let kept = end(runtime, &daemon, config);
    served.and(kept)
}

/// The parts that live while the daemon serves.
struct Daemon {
    proxy: Proxy,
    entrance: Arc<Entrance>,
    tasks: Tasks,
    store: Option<Store>,
    metrics: Metrics,
}

/// Sockets that listen already: from here on clients wait instead of being refused.
struct Listeners {
    proxy: std::net::TcpListener,
    admin: std::net::TcpListener,
    metrics: Option<std::net::TcpListener>,
}

// === impl Daemon ===

impl Daemon {
    async fn serve(&self, config: &Config, listeners: Listeners) -> Result<(), RunError> {
        let (servers, ended) = (TaskTracker::new(), CancellationToken::new());
        let console = Console::new(self.metrics.clone(), config.health.path.clone());
        let admin = TcpListener::from_std(listeners.admin)?;
        servers.spawn(dfget_console::serve(admin, console, ended.clone().cancelled_owned()));
        if let Some(listener) = listeners.metrics {
            let console = Console::metrics_only(self.metrics.clone());
            let listener = TcpListener::from_std(listener)?;
            servers.spawn(dfget_console::serve(listener, console, ended.clone().cancelled_owned()));
        }
        if let Some(store) = self.store.clone() {
            let sweep =
                upkeep::sweep(store, config.gc_interval, config.access.offline_grace, self.metrics.clone());
            servers.spawn(until(ended.clone(), sweep));
        }
        let listener = TcpListener::from_std(listeners.proxy)?;
        let mut signals = Signals::new()?;
        tokio::select! {
            () = self.proxy.serve(listener, Arc::clone(&self.entrance)) => {}
            () = signals.end() => {}
            () = self.idle(config) => {}
        }
        self.drain(&mut signals).await;
        ended.cancel();
        servers.close();
        within(CLOSE, &mut signals, "requests of the admin port", servers.wait()).await;
        Ok(())
    }

    async fn idle(&self, config: &Config) {
        match config.alive_time {
            Some(limit) => upkeep::idle(self.proxy.clone(), self.tasks.clone(), limit).await,
            None => std::future::pending().await,
        }
    }

    /// Lets what is under way end; a second signal cuts it short.
    async fn drain(&self, signals: &mut Signals) {
        info!("ending: no new connections; {} are still served", self.proxy.connections());
        tokio::select! {
            all = self.proxy.close(DRAIN) => if !all {
                warn!("{} connections were cut after {} s", self.proxy.connections(), DRAIN.as_secs());
            },
            () = signals.end() => warn!("told twice to end: {} connections are cut", self.proxy.connections()),
        }
        within(CLOSE, signals, "downloads", self.tasks.close()).await;
    }
}

// === impl Listeners ===

impl Listeners {
    fn bind(config: &Config, proxy: &Listen) -> Result<Self, RunError> {
        let bind = |listen: &Listen, what, key| {
            ports::bind(listen).map_err(|source| RunError::Port { listen: *listen, what, key, source })
        };
        Ok(Self {
            proxy: bind(proxy, "proxy", "proxy.tcpListen.port")?,
            admin: bind(&config.health.listen, "admin port", "health.tcpListen.port")?,
            metrics: config.metrics.as_ref().map(|listen| bind(listen, "metrics", "metrics")).transpose()?,
        })
    }
}

fn say(config: &Config, listeners: &Listeners, announce: &dyn Fn(&str)) {
    let shown = |listener: &std::net::TcpListener| {
        listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    };
    let proxy = shown(&listeners.proxy);
    info!("serve health and metrics at tcp://{}", shown(&listeners.admin));
    if let Some(metrics) = &listeners.metrics {
        info!("started metrics server at tcp://{}", shown(metrics));
    }
    info!("serve proxy at tcp://{proxy}");
    announce(&format!("dfget daemon: proxy on {proxy}, admin on {}", shown(&listeners.admin)));
    if let Some(log_dir) = &config.paths.log_dir {
        announce(&format!("log: {}", log_dir.join("daemon").join("core.log").display()));
    }
    if let Some(hijack) = &config.proxy.hijack {
        let hint = certificates::hint(&hijack.cert, proxy);
        info!("{hint}");
        announce(&hint);
    }
}

/// Opens the store. One that belongs to somebody else refuses the start; one that is broken is
/// done without, which is said aloud.
fn open_store(config: &Config, announce: &dyn Fn(&str)) -> Result<Option<Store>, RunError> {
    let say = |warning: String| {
        warn!("{warning}");
        announce(&format!("warning: {warning}"));
    };
    match Store::open(settings::store(config), SystemTime::now()) {
        Ok((store, report)) => {
            info!(
                "store opened: {} tasks and {} partial ones, {} bytes",
                report.complete, report.partial, report.bytes
            );
            for warning in &report.warnings {
                say(warning.to_string());
            }
            if let Some(rebuilt) = &report.rebuilt {
                say(format!(
                    "the index was damaged ({}) and begun anew; the old one lies at {1}, remove it with `rm {1}`",
                    rebuilt.cause,
                    rebuilt.kept.display()
                ));
            }
            Ok(Some(store))
        }
        Err(error @ (StoreError::Io { .. } | StoreError::Index { .. })) => {
            let dir = config.paths.data_dir.display();
            let what = format!(
                "no cache, pulls stream through: {error}; mend {dir} (`ls -ld {dir}`, `df {dir}`) or set \
                 `dataDir` to another directory, then restart"
            );
            error!("{what}");
            announce(&format!("warning: {what}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn fresh_secret() -> Result<[u8; 32], RunError> {
    let mut secret = [0; 32];
    rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(secret)
}

/// Makes durable what was downloaded, whatever else went wrong.
fn end(runtime: Runtime, daemon: &Daemon, config: &Config) -> Result<(), RunError> {
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(store) = &daemon.store {
        if !config.keep_storage {
            info!("keepStorage is false: the cache is emptied");
            for entry in store.entries() {
                store.remove(&entry);
            }
        }
        store.flush().map_err(|source| RunError::Flush { dir: config.paths.data_dir.clone(), source })?;
    }
    info!("the daemon has ended");
    Ok(())
}

async fn until(ended: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = ended.cancelled() => {}
        () = work => {}
    }
}

/// Waits for `work` at most `limit`, and no longer than until the next signal.
async fn within(limit: Duration, signals: &mut Signals, what: &str, work: impl Future<Output = ()>) {
    tokio::select! {
        ended = tokio::time::timeout(limit, work) => if ended.is_err() {
            warn!("{what} did not end within {} s and are cut", limit.as_secs());
        },
        () = signals.end() => warn!("told again to end: {what} are cut"),
    }
}

const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
