//! The daemon behind `dfget run`: no port of its own, no configuration file; it serves leases and
//! leaves when the last has ended.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::time::Duration;

use dfget_cluster::ClusterOptions;
use dfget_config::{Config, Paths, Proxy as ProxyConfig, RegistryMirrors};
use dfget_console::Api;
use dfget_lease::{Lock, try_lock};
use dfget_origin::{Destinations, Upstream};
use dfget_telemetry::logging::{self, LogOptions};
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::admin::Socket;
use crate::cluster::Cluster;
use crate::lease::{Leases, Own, Signers};
use crate::parts::{Parts, within};
use crate::signals::Signals;
use crate::{RunError, allocator, certificates, open_files, upkeep};

/// Pause before the daemon looks again whether it may leave.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a slow disk may hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What a leased daemon is started with.
#[derive(Debug)]
pub struct LeasedOptions {
    /// Where it takes requests for leases.
    pub socket: PathBuf,
    /// Held by whoever starts such a daemon, and by the daemon while it leaves.
    pub lock: PathBuf,
    /// The directory of the store.
    pub data_dir: PathBuf,
    /// The directory of `daemon/core.log`.
    pub log_dir: PathBuf,
    /// Where the authorities lie that sign for hijacked hosts; `None` = in memory.
    pub ca_dir: Option<PathBuf>,
    /// The proxy that origins are reached through.
    pub upstream: Option<Upstream>,
    /// How long it stays after the last lease.
    pub linger: Duration,
    /// Log at debug level.
    pub verbose: bool,
    /// The cluster that it belongs to; `None` = it works alone.
    pub cluster: Option<LeasedCluster>,
}

/// The cluster of a leased daemon.
#[derive(Clone, Debug)]
pub struct LeasedCluster {
    /// Who the others are.
    pub options: ClusterOptions,
    /// How long the daemon stays at most after its last lease while others still pull.
    pub linger: Duration,
}

/// Serves leases until there has been none for a while, or a signal ends it. `ready` is called
/// once it can be asked for them, with what should be known of it.
///
/// # Errors
/// [`RunError`] if it cannot start, or cannot keep what was downloaded last.
pub fn run_leased(options: LeasedOptions, ready: impl FnOnce(Vec<String>)) -> Result<(), RunError> {
    // Whoever started it may end, and its terminal close.
    let _ = rustix::process::setsid();
    let logging = logging::init(&LogOptions {
        dir: Some(options.log_dir.join("daemon")),
        verbose: options.verbose,
        ..LogOptions::default()
    })?;
    info!("dfget {} serves leases at {}", env!("CARGO_PKG_VERSION"), options.socket.display());
    let outcome = start(options, ready);
    if let Err(error) = &outcome {
        error!("the daemon ends: {error}");
    }
    logging.flush(LAST_LINES);
    outcome
}

fn start(options: LeasedOptions, ready: impl FnOnce(Vec<String>)) -> Result<(), RunError> {
    allocator::keep_freed_memory();
    open_files::raise_limit();
    let said = std::cell::RefCell::new(Vec::new());
    let announce = |line: &str| said.borrow_mut().push(line.to_owned());
    let trust = certificates::trust(&[], &RegistryMirrors::default(), false, None, &announce)?;
    let paths = Paths { log_dir: Some(options.log_dir.clone()), data_dir: options.data_dir.clone() };
    let mut config = Config::new(ProxyConfig::default(), paths);
    // Nobody comes back to the store of a job.
    config.keep_storage = options.cluster.as_ref().is_none_or(|cluster| cluster.options.job.is_none());
    let parts = Parts::build(&config, trust, options.upstream, Destinations::of_own_user(), &announce)?;
    let signers = Signers::Own(Own::new(options.ca_dir));
    let origin = parts.tasks.origin().clone();
    let leases = Leases::new(parts.proxy.clone(), origin, signers, parts.place.clone());
    // What is left there is a dead daemon's: whoever starts this one has the lock.
    let _ = fs::remove_file(&options.socket);
    let listener = StdUnixListener::bind(&options.socket)?;
    fs::set_permissions(&options.socket, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let feeding_limit = options.cluster.as_ref().map_or(Duration::ZERO, |cluster| cluster.linger);
    let joined = options.cluster.map(|cluster| cluster.options);
    let cluster = runtime.block_on(Cluster::start(&config, joined, &parts.tasks, &announce));
    let feeding = cluster.as_ref().map(Cluster::feeding);
    if let Some(cluster) = &cluster {
        leases.know_cluster(cluster.survey(), cluster.spreader());
    }
    let watch = parts.watch(&config, cluster.as_ref());
    let api = parts.api(cluster.as_ref(), &watch);
    let admin = Socket::beside(&options.socket).map(|socket| (socket, api));
    let leaving = Leaving {
        socket: options.socket,
        lock: options.lock,
        linger: options.linger,
        feeding_limit,
        is_feeding: Box::new(move || feeding.as_ref().is_some_and(|feeding| feeding())),
    };
    let served = runtime.block_on(async {
        let listener = UnixListener::from_std(listener)?;
        // Who hears that it is ready may tell it to end at once.
        let signals = Signals::new()?;
        ready(said.take());
        let served = tokio::select! {
            served = serve(&parts, &config, &leases, listener, &leaving, admin, signals) => served,
            () = watch.keep() => Ok(None),
        };
        if let Some(cluster) = &cluster {
            cluster.close().await;
        }
        served
    });
    let kept = parts.end(runtime, &config);
    // Only now may another one begin: the store is free.
    served.map(drop).and(kept)
}

/// What is done last.
struct Leaving {
    socket: PathBuf,
    lock: PathBuf,
    linger: Duration,
    /// After its last lease the daemon stays so long at most while [`Self::is_feeding`].
    feeding_limit: Duration,
    /// Whether other nodes still need it.
    is_feeding: Box<dyn Fn() -> bool + Send + Sync>,
}

async fn serve(
    parts: &Parts,
    config: &Config,
    leases: &Leases,
    listener: UnixListener,
    leaving: &Leaving,
    admin: Option<(Socket, Api)>,
    mut signals: Signals,
) -> Result<Option<Lock>, RunError> {
    let (servers, ended) = (TaskTracker::new(), CancellationToken::new());
    if let Some(store) = parts.store.clone() {
        let sweep =
            upkeep::sweep(store, config.gc_interval, config.access.offline_grace, parts.metrics.clone());
        servers.spawn(ended.clone().run_until_cancelled_owned(sweep));
    }
    if let Some((socket, api)) = admin {
        servers.spawn(socket.serve(api, ended.clone().cancelled_owned()));
    }
    let lock = tokio::select! {
        () = leases.serve(&listener) => None,
        () = signals.end() => None,
        lock = leaving.when_unused(leases) => Some(lock),
    };
    if lock.is_none() {
        let _ = fs::remove_file(&leaving.socket);
    }
    drop(listener);
    within(&mut signals, "leases", leases.close()).await;
    parts.drain(&mut signals).await;
    ended.cancel();
    servers.close();
    servers.wait().await;
    Ok(lock)
}

// === impl Leaving ===

impl Leaving {
    /// Waits until nobody has a lease and nobody can be about to ask for one; from then on the next
    /// command finds no socket, and waits for the lock.
    async fn when_unused(&self, leases: &Leases) -> Lock {
        loop {
            leases.unused(self.linger).await;
            self.feed(|| leases.held() > 0).await;
            if let Ok(Some(lock)) = try_lock(&self.lock)
                && leases.held() == 0
            {
                info!("no command has used the daemon for {} s: leaving", self.linger.as_secs_f32());
                let _ = fs::remove_file(&self.socket);
                return lock;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Waits while other nodes still need this one, up to the limit, or until it is used again.
    async fn feed(&self, is_used: impl Fn() -> bool) {
        let begun = Instant::now();
        while (self.is_feeding)() && !is_used() && begun.elapsed() < self.feeding_limit {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn leaving(is_feeding: &Arc<AtomicBool>, limit: Duration) -> Leaving {
        let is_feeding = Arc::clone(is_feeding);
        Leaving {
            socket: PathBuf::new(),
            lock: PathBuf::new(),
            linger: Duration::ZERO,
            feeding_limit: limit,
            is_feeding: Box::new(move || is_feeding.load(Ordering::Relaxed)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_stays_while_others_pull_but_not_for_ever() {
        let feeding = Arc::new(AtomicBool::new(true));
        let limit = Duration::from_secs(600);
        let begun = Instant::now();
        leaving(&feeding, limit).feed(|| false).await;
        assert!(begun.elapsed() >= limit);

        let begun = Instant::now();
        let leaving = leaving(&feeding, limit);
        let end = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            feeding.store(false, Ordering::Relaxed);
        };
        tokio::join!(leaving.feed(|| false), end);
        assert!((Duration::from_secs(5)..limit).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_is_used_again_looks_no_longer_whether_others_pull() {
        let feeding = Arc::new(AtomicBool::new(true));
        let begun = Instant::now();
        let looks = Cell::new(0);
        let is_used = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        leaving(&feeding, Duration::from_secs(600)).feed(is_used).await;
        assert!(begun.elapsed() < Duration::from_secs(600));
    }
}
