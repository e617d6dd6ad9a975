//! The parts of a daemon, whatever it was started for: made, drained, ended.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use dfget_config::Config;
use dfget_console::Api;
use dfget_origin::{Destinations, Limiter, OriginClient, OriginOptions, Upstream};
use dfget_proxy::{Proxy, Realms};
use dfget_storage::{Store, StoreError};
use dfget_task::Tasks;
use dfget_telemetry::{BuildInfo, Metrics};
use rustix::system::uname;
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use crate::admin::{AdminView, Children, drop_unfinished};
use crate::certificates::TrustBook;
use crate::cluster::Cluster;
use crate::live::{Watch, Watched};
use crate::signals::Signals;
use crate::traces::{self, Exporter};
use crate::{RunError, egress, settings};

/// How long responses may go on after the daemon was told to end.
const DRAIN: Duration = Duration::from_secs(30);
/// The mode that the store gives its directory.
const PRIVATE: u32 = 0o700;
/// How long downloads may take to stop after that, and the admin port.
const CLOSE: Duration = Duration::from_secs(10);

/// What lives while the daemon serves.
pub(crate) struct Parts {
    pub(crate) proxy: Proxy,
    pub(crate) tasks: Tasks,
    pub(crate) store: Option<Store>,
    /// Where the store is, or why there is none.
    pub(crate) place: Result<String, String>,
    pub(crate) metrics: Metrics,
    /// How origins are verified now.
    trust: Arc<ArcSwap<TrustBook>>,
    /// The key under which permissions are remembered.
    secret: [u8; 32],
    /// Where registries have their tokens from.
    realms: Realms,
    /// Sends spans, if somebody wants them.
    pub(crate) exporter: Option<Arc<Exporter>>,
}

// === impl Parts ===

impl Parts {
    pub(crate) fn build(
        config: &Config,
        trust: TrustBook,
        upstream: Option<Upstream>,
        destinations: Destinations,
        announce: &dyn Fn(&str),
    ) -> Result<Self, RunError> {
        let metrics = Metrics::new(BuildInfo { version: version(), commit: "" });
        make_data_dir(&config.paths.data_dir, config.data_dir_mode);
        let (store, place) = match open_store(config, announce)? {
            Ok(store) => (Some(store), Ok(config.paths.data_dir.display().to_string())),
            Err(reason) => (None, Err(reason)),
        };
        metrics.set_store_open(store.is_some());
        store.iter().for_each(drop_unfinished);
        let (tracer, spans) = traces::begin(config, &metrics);
        let counted = metrics.clone();
        let realms = Realms::default();
        let named = realms.clone();
        let limiter = limiter(config, &metrics);
        let trust = Arc::new(ArcSwap::from_pointee(trust));
        let judge = Arc::clone(&trust);
        let origin = OriginClient::new(OriginOptions {
            trust: Box::new(move |authority| judge.load().of(authority, &named)),
            timeouts: settings::timeouts(config),
            budget: settings::budget(config),
            upstream,
            limiter,
            retries: settings::retries(config),
            prefer_ipv6: config.prefer_ipv6,
            destinations,
            observe: Box::new(move |authority, insecure| {
                counted.origin_request(insecure);
                counted.ledger().registry(&authority.host_port()).asked();
            }),
            tracer,
        });
        let exporter = traces::exporter(config, spans, &origin, &metrics)?.map(Arc::new);
        // Without a store permissions live as long as the process, and so does their key.
        let secret = store.as_ref().map_or_else(fresh_secret, |store| Ok(*store.secret()))?;
        let tasks = Tasks::new(store.clone(), origin, settings::tasks(config), metrics.clone());
        let proxy = Proxy::new(settings::proxy(config, &config.proxy, secret, realms.clone()), tasks.clone());
        Ok(Self { proxy, tasks, store, place, metrics, trust, secret, realms, exporter })
    }

    /// What the API shows of them, and of the cluster that they belong to.
    pub(crate) fn api(&self, cluster: Option<&Cluster>, watch: &Watch) -> Api {
        let (tasks, metrics) = (self.tasks.clone(), self.metrics.clone());
        let view = AdminView::new(tasks, self.place.clone(), metrics, children(cluster));
        Api::with_control(Arc::new(view)).with_live(Arc::new(watch.clone()))
    }

    /// What a live view shows of them. It is up to date for as long as [`Watch::keep`] runs.
    pub(crate) fn watch(&self, config: &Config, cluster: Option<&Cluster>) -> Watch {
        let nodename = || uname().nodename().to_string_lossy().into_owned();
        Watch::new(Watched {
            tasks: self.tasks.clone(),
            place: self.place.clone(),
            host: config.host.hostname.clone().unwrap_or_else(nodename),
            children: children(cluster),
            survey: cluster.map(Cluster::survey),
        })
    }

    /// Takes over what a running daemon can of another configuration: all but its entrances. What
    /// is under way goes on as it began. A part that learns a new key gets its new value here.
    pub(crate) fn apply(&self, config: &Config, trust: TrustBook) {
        self.trust.store(Arc::new(trust));
        let origin = self.tasks.origin();
        origin.set_timeouts(settings::timeouts(config));
        origin.set_destinations(egress::destinations(config));
        origin.set_budget(settings::budget(config));
        origin.set_limiter(limiter(config, &self.metrics));
        origin.forget_connections();
        self.tasks.set_options(settings::tasks(config));
        self.proxy.set_options(settings::proxy(config, &config.proxy, self.secret, self.realms.clone()));
        if let Some(store) = &self.store {
            store.set_limits(&settings::store(config));
        }
    }

    /// Lets what is under way end; a second signal cuts it short.
    pub(crate) async fn drain(&self, signals: &mut Signals) {
        info!("ending: no new connections; {} are still served", self.proxy.connections());
        tokio::select! {
            all = self.proxy.close(DRAIN) => if !all {
                warn!("{} connections were cut after {} s", self.proxy.connections(), DRAIN.as_secs());
            },
            () = signals.end() => warn!("told twice to end: {} connections are cut", self.proxy.connections()),
        }
        within(signals, "downloads", self.tasks.close()).await;
    }

    /// Makes durable what was downloaded, whatever else went wrong.
    pub(crate) fn end(&self, runtime: Runtime, config: &Config) -> Result<(), RunError> {
        runtime.shutdown_timeout(Duration::from_secs(1));
        if let Some(store) = &self.store {
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
}

/// Who asks for what, if there is anybody.
fn children(cluster: Option<&Cluster>) -> Option<Children> {
    let askers = cluster?.askers();
    Some(Box::new(move |task: &str| askers.of(task)))
}

/// What bounds how fast contents are read, if anything does.
fn limiter(config: &Config, metrics: &Metrics) -> Option<Limiter> {
    let (limits, held_up) = (config.download.rate_limits, metrics.clone());
    limits.is_any().then(|| Limiter::new(&limits, move || held_up.read_limited()))
}

/// Waits for `work` a while, and no longer than until the next signal.
pub(crate) async fn within(signals: &mut Signals, what: &str, work: impl Future<Output = ()>) {
    tokio::select! {
        ended = tokio::time::timeout(CLOSE, work) => if ended.is_err() {
            warn!("{what} did not end within {} s and are cut", CLOSE.as_secs());
        },
        () = signals.end() => warn!("told again to end: {what} are cut"),
    }
}

/// Makes the directory of the store with its mode, where that is not the store's own. What it
/// cannot do, the store will find and tell.
fn make_data_dir(path: &Path, mode: u32) {
    if mode == PRIVATE || path.exists() {
        return;
    }
    let made = fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path);
    let set = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    if let Err(error) = set {
        warn!("{} is not made with mode {mode:04o}: {error}", path.display());
    }
}

/// Opens the store. One that belongs to somebody else refuses the start; one that is broken is
/// done without, which is said aloud.
fn open_store(config: &Config, announce: &dyn Fn(&str)) -> Result<Result<Store, String>, RunError> {
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
            Ok(Ok(store))
        }
        Err(error @ (StoreError::Io { .. } | StoreError::Index { .. })) => {
            let dir = config.paths.data_dir.display();
            let what = format!(
                "no cache, pulls stream through: {error}; mend {dir} (`ls -ld {dir}`, `df {dir}`) or set \
                 `dataDir` to another directory, then restart"
            );
            error!("{what}");
            announce(&format!("warning: {what}"));
            Ok(Err(error.to_string()))
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

pub(crate) const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
