//! One life of the daemon that a configuration describes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dfget_config::{Config, Listen, Loaded, PemSource, Proxy, SniListen};
use dfget_console::{Console, Page};
use dfget_lease::{Runtime, SYSTEM_SOCKET_VARIABLE, system_socket};
use dfget_proxy::{Entrance, Hijack};
use dfget_telemetry::logging::{self, LogOptions};
use dfget_tls::{LeafCache, ServerConfig};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::admin::Socket;
use crate::cluster::{Cluster, cluster_options};
use crate::handed::Handed;
use crate::lease::{Configured, Leases, Signers};
use crate::parts::{Parts, version, within};
use crate::reload::{ConfigOrigin, Reloader};
use crate::signals::Signals;
use crate::{RunError, allocator, certificates, egress, lease, open_files, ports, service, settings, upkeep};

/// How long a slow terminal may hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to end (SIGTERM, SIGINT, SIGQUIT) or `aliveTime` is over.
///
/// `announce` is given the few lines that whoever starts the daemon should read: where it
/// listens, and which file clients must trust.
/// `origin` is what `loaded` was made from; it is read again when the file changes.
///
/// # Errors
/// [`RunError`] if it cannot start, or cannot keep what was downloaded last.
pub fn run(loaded: Loaded, origin: ConfigOrigin, announce: &dyn Fn(&str)) -> Result<(), RunError> {
    let config = &loaded.config;
    let logging = logging::init(&LogOptions {
        dir: config.paths.log_dir.as_ref().map(|dir| dir.join("daemon")),
        verbose: config.verbose,
        rotation: settings::rotation(config),
    })?;
    info!("dfget {} starts with {}", version(), loaded.source.display());
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let outcome = start(loaded, origin, announce);
    if let Err(error) = &outcome {
        error!("the daemon ends: {error}");
    }
    logging.flush(LAST_LINES);
    outcome
}

fn start(loaded: Loaded, origin: ConfigOrigin, announce: &dyn Fn(&str)) -> Result<(), RunError> {
    let config = &loaded.config;
    allocator::keep_freed_memory();
    open_files::raise_limit();
    let proxy = &config.proxy;
    let authority = match &proxy.hijack {
        Some(hijack) => certificates::authority(hijack, announce)?,
        None => None,
    };
    let own = authority.as_ref().map(|hijack| hijack.authority.certificate());
    let hosts = proxy.hijack.as_ref().map_or(&[][..], |hijack| &hijack.hosts);
    let insecure = config.download.resource_clients.https.insecure_skip_verify;
    let trust = certificates::trust(hosts, &proxy.mirrors, insecure, own, announce)?;
    let certificate = authority.as_ref().map(|hijack| hijack.authority.certificate_pem());
    let (leaves, trusted) = match authority {
        Some(hijack) => (Some(Arc::new(LeafCache::new(hijack.authority)?)), Some(hijack.cert)),
        None => (None, None),
    };
    let signing = leaves.zip(certificate).map(|(leaves, certificate)| Signing { leaves, certificate });
    let tls = proxy.tls.as_ref().map(certificates::listener).transpose()?;
    let mut handed = Handed::take();
    let listeners = Listeners::bind(config, &proxy.listen, &mut handed)?;
    handed.tell_of_the_rest(announce);
    let variable = |name: &str| std::env::var(name).ok();
    let upstream = egress::upstream(config, variable, listeners.proxy.local_addr()?, announce);
    let parts = Parts::build(config, trust, upstream, egress::destinations(config), announce)?;
    let (entrance, configured) = entrances(proxy, signing.as_ref(), tls);
    let leases = configured.map(|configured| {
        let signers = Signers::Configured(ArcSwap::from_pointee(configured));
        Leases::new(parts.proxy.clone(), parts.tasks.origin().clone(), signers, parts.place.clone())
    });
    let configuration = watch::Sender::new(Arc::new(config.clone()));
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let joined = cluster_options(config, |name| std::env::var_os(name));
    let cluster = runtime.block_on(Cluster::start(config, joined, &parts.tasks, announce));
    if let (Some(leases), Some(cluster)) = (&leases, &cluster) {
        leases.know_cluster(cluster.survey(), cluster.spreader());
    }
    let entrance = Arc::new(entrance);
    let daemon = Daemon { parts, entrance, leases, signing, cluster, configuration };
    // Who reads that it serves may tell it to end at once.
    let signals = runtime.block_on(async { Signals::new() })?;
    say(config, &listeners, trusted.as_ref(), announce);
    let served = runtime.block_on(daemon.serve(loaded, origin, listeners, signals));
    let config = Arc::clone(&daemon.configuration.borrow());
    let kept = daemon.parts.end(runtime, &config);
    served.and(kept)
}

/// What lives while the daemon serves.
pub(crate) struct Daemon {
    parts: Parts,
    entrance: Arc<Entrance>,
    leases: Option<Leases>,
    signing: Option<Signing>,
    cluster: Option<Cluster>,
    /// The newest one.
    configuration: watch::Sender<Arc<Config>>,
}

/// Who signs for hijacked hosts, as long as the daemon runs.
struct Signing {
    leaves: Arc<LeafCache>,
    /// The authority's certificate, PEM.
    certificate: String,
}

/// The entrance by the port, and what a lease gets; the latter only where somebody signs.
fn entrances(
    proxy: &Proxy,
    signing: Option<&Signing>,
    tls: Option<Arc<ServerConfig>>,
) -> (Entrance, Option<Configured>) {
    let hosts = proxy.hijack.as_ref().map_or(&[][..], |hijack| &hijack.hosts);
    let patterns: Vec<_> = hosts.iter().map(|host| host.regx.clone()).collect();
    let token_hosts = proxy.hijack.as_ref().is_some_and(|hijack| hijack.token_hosts);
    let matching = |signing: &Signing| {
        Arc::new(Hijack::matching(patterns.clone(), Arc::clone(&signing.leaves), token_hosts))
    };
    let hijack = signing.map(matching);
    let entrance = settings::entrance(proxy, hijack.clone(), tls);
    let configured = hijack.zip(signing).map(|(hijack, signing)| Configured {
        hijack,
        patterns,
        authority: signing.certificate.clone(),
        rules: entrance.rules.clone(),
        targets: entrance.admission.targets.clone(),
    });
    (entrance, configured)
}

/// Sockets that listen already: from here on clients wait instead of being refused.
struct Listeners {
    proxy: std::net::TcpListener,
    /// Those of `hijackHTTPS.sni`, and whether they stand in another network namespace.
    sni: Vec<(std::net::TcpListener, bool)>,
    admin: std::net::TcpListener,
    metrics: Option<std::net::TcpListener>,
    leases: Option<LeaseSocket>,
    admin_socket: Option<Socket>,
}

/// The socket by which commands find this daemon.
struct LeaseSocket {
    listener: StdUnixListener,
    path: PathBuf,
    /// This daemon has made it, and takes it away.
    own: bool,
}

// === impl Daemon ===

impl Daemon {
    /// Takes over what it can of another configuration, for requests that come from now on. If that
    /// is not possible, nothing is changed.
    pub(crate) fn apply(&self, config: Config) -> Result<(), RunError> {
        let hosts = config.proxy.hijack.as_ref().map_or(&[][..], |hijack| &hijack.hosts);
        let own = self.signing.as_ref().map(|signing| signing.leaves.authority());
        let (mirrors, certificate) = (&config.proxy.mirrors, own.map(|own| own.certificate()));
        let insecure = config.download.resource_clients.https.insecure_skip_verify;
        let trust = certificates::trust(hosts, mirrors, insecure, certificate, &|_| {})?;
        let tls = config.proxy.tls.as_ref().map(certificates::listener).transpose()?;
        if let (Some(authority), Some(hijack)) = (own, &config.proxy.hijack) {
            certificates::warn_outside(authority, hijack);
        }
        self.parts.apply(&config, trust);
        if let Some(cluster) = &self.cluster {
            cluster.apply(&config);
        }
        let (entrance, configured) = entrances(&config.proxy, self.signing.as_ref(), tls);
        self.entrance.replace(entrance);
        if let (Some(leases), Some(configured)) = (&self.leases, configured) {
            leases.reconfigure(configured);
        }
        let before = self.configuration.send_replace(Arc::new(config));
        let verbose = self.configuration.borrow().verbose;
        if verbose != before.verbose {
            logging::set_verbose(verbose);
        }
        Ok(())
    }

    /// Whether there is somebody to sign for hijacked hosts.
    pub(crate) const fn can_hijack(&self) -> bool {
        self.signing.is_some()
    }

    /// Whether this daemon belongs to a cluster.
    pub(crate) const fn has_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    async fn serve(
        &self,
        loaded: Loaded,
        origin: ConfigOrigin,
        listeners: Listeners,
        mut signals: Signals,
    ) -> Result<(), RunError> {
        let config = &loaded.config;
        let (servers, ended) = (TaskTracker::new(), CancellationToken::new());
        let exporting = self.export();
        let watch = self.parts.watch(config, self.cluster.as_ref());
        servers.spawn(ended.clone().run_until_cancelled_owned(watch.clone().keep()));
        let life = service::tell_of_life(
            listeners.admin.local_addr()?,
            config.health.path.as_str().to_owned(),
            format!("proxy on {}", listeners.proxy.local_addr()?),
        );
        let admin = TcpListener::from_std(listeners.admin)?;
        let api = self.parts.api(self.cluster.as_ref(), &watch);
        let page = Page::new(&api, admin.local_addr()?)?;
        let api = api.with_page(page.address());
        let console = Console::new(self.parts.metrics.clone(), config.health.path.clone()).with_page(page);
        servers.spawn(dfget_console::serve(admin, console, ended.clone().cancelled_owned()));
        if let Some(listener) = listeners.metrics {
            let console = Console::metrics_only(self.parts.metrics.clone());
            let listener = TcpListener::from_std(listener)?;
            servers.spawn(dfget_console::serve(listener, console, ended.clone().cancelled_owned()));
        }
        if let Some(socket) = listeners.admin_socket {
            servers.spawn(socket.serve(api, ended.clone().cancelled_owned()));
        }
        if let Some(store) = self.parts.store.clone() {
            let configuration = self.configuration.subscribe();
            let sweep = upkeep::sweep_as_configured(store, configuration, self.parts.metrics.clone());
            servers.spawn(ended.clone().run_until_cancelled_owned(sweep));
        }
        for (listener, foreign) in listeners.sni {
            let listener = TcpListener::from_std(listener)?;
            self.parts.proxy.spawn_serve_sni(listener, Arc::clone(&self.entrance), foreign);
        }
        let listener = TcpListener::from_std(listeners.proxy)?;
        let mut reloader = Reloader::new(loaded, origin);
        let hung_up = signals.hung_up();
        let idle = upkeep::idle_as_configured(
            self.parts.proxy.clone(),
            self.parts.tasks.clone(),
            self.configuration.subscribe(),
        );
        let lease_path =
            listeners.leases.as_ref().filter(|leases| leases.own).map(|leases| leases.path.clone());
        servers.spawn(ended.clone().run_until_cancelled_owned(life));
        tokio::select! {
            () = self.parts.proxy.serve(listener, Arc::clone(&self.entrance)) => {}
            () = self.serve_leases(listeners.leases) => {}
            () = signals.end() => {}
            () = reloader.follow(self, &hung_up) => {}
            () = idle => {}
        }
        service::stopping();
        if let Some(path) = lease_path {
            let _ = fs::remove_file(path);
        }
        if let Some(leases) = &self.leases {
            within(&mut signals, "leases", leases.close()).await;
        }
        self.parts.drain(&mut signals).await;
        if let Some(cluster) = &self.cluster {
            within(&mut signals, "connections of other nodes", cluster.close()).await;
        }
        ended.cancel();
        servers.close();
        within(&mut signals, "requests of the admin port", servers.wait()).await;
        if let Some((exporting, ended)) = exporting {
            ended.cancel();
            within(&mut signals, "traces", exporting.wait()).await;
        }
        Ok(())
    }

    /// Sends spans from now on, if somebody wants them, until the token is cancelled.
    fn export(&self) -> Option<(TaskTracker, CancellationToken)> {
        let exporter = Arc::clone(self.parts.exporter.as_ref()?);
        let (exporting, ended) = (TaskTracker::new(), CancellationToken::new());
        info!("traces go to {}", exporter.collector());
        let until = ended.clone();
        exporting.spawn(async move { exporter.run(until).await });
        exporting.close();
        Some((exporting, ended))
    }

    /// Serves leases, if there are any to be had; never returns before the daemon ends.
    async fn serve_leases(&self, socket: Option<LeaseSocket>) {
        if let Some(LeaseSocket { listener, path, .. }) = socket {
            match (UnixListener::from_std(listener), &self.leases) {
                (Ok(listener), Some(leases)) => {
                    info!("serve leases for `dfget run` at {}", path.display());
                    leases.serve(&listener).await;
                }
                (Ok(listener), None) => lease::refuse(&listener).await,
                (Err(error), _) => warn!("no leases for `dfget run`: {error}"),
            }
        }
        std::future::pending().await
    }
}

// === impl Listeners ===

impl Listeners {
    /// Takes what was handed over, and opens the rest.
    fn bind(config: &Config, proxy: &Listen, handed: &mut Handed) -> Result<Self, RunError> {
        let sni = |handed: &mut Handed, sni: &SniListen| {
            let key = "hijackHTTPS.sni[].port";
            let listener = open(handed, &sni.listen, sni.namespace.as_deref(), "SNI listener", key)?;
            Ok::<_, RunError>((listener, sni.namespace.is_some()))
        };
        let (namespace, key) = (config.proxy.namespace.as_deref(), "proxy.tcpListen.port");
        let hijack = config.proxy.hijack.as_ref();
        let given = handed.leases().map(|(listener, path)| LeaseSocket { listener, path, own: false });
        let path = given.as_ref().map(|given| given.path.clone()).or_else(socket_path);
        // By default the admin port is the first free one of many: a socket at one of those is not meant for it.
        let (health, mut nothing) = (&config.health.listen, Handed::default());
        let meant = health.ports.start == health.ports.end;
        let own = || path.as_deref().filter(|_| hijack.is_some()).and_then(lease_socket);
        Ok(Self {
            proxy: open(handed, proxy, namespace, "proxy", key)?,
            sni: hijack
                .iter()
                .flat_map(|hijack| &hijack.sni)
                .map(|listen| sni(handed, listen))
                .collect::<Result<_, _>>()?,
            admin: {
                let handed = if meant { &mut *handed } else { &mut nothing };
                open(handed, health, None, "admin port", "health.tcpListen.port")?
            },
            metrics: config
                .metrics
                .as_ref()
                .map(|listen| open(handed, listen, None, "metrics", "metrics"))
                .transpose()?,
            leases: given.or_else(own),
            admin_socket: path.as_deref().and_then(Socket::beside),
        })
    }
}

/// The socket for one entrance: that of the service manager, or one that is opened now.
fn open(
    handed: &mut Handed,
    listen: &Listen,
    namespace: Option<&Path>,
    what: &'static str,
    key: &'static str,
) -> Result<std::net::TcpListener, RunError> {
    // What a service manager opens stands in its own network.
    if let Some(listener) = namespace.is_none().then(|| handed.at(listen)).flatten() {
        return Ok(listener);
    }
    ports::bind_in(listen, namespace).map_err(|source| RunError::Port { listen: *listen, what, key, source })
}

/// The socket by which commands find this daemon: everybody's for root's daemon, else the user's
/// own. Its directory is there. Without it pulls by the port work all the same.
fn socket_path() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if !rustix::process::geteuid().is_root() {
        let (xdg, temporary) = (directory("XDG_RUNTIME_DIR"), directory("TMPDIR"));
        let runtime = Runtime::find(xdg.as_deref(), temporary.as_deref());
        return runtime
            .inspect_err(|error| warn!("no leases for `dfget run`, no API for `dfget cache`: {error}"))
            .map(|runtime| runtime.daemon_socket())
            .ok();
    }
    let path = system_socket(directory(SYSTEM_SOCKET_VARIABLE).as_deref());
    if let Some(directory) = path.parent()
        && let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)
    {
        warn!("no leases for `dfget run`, no API for `dfget cache`: {}: {error}", directory.display());
        return None;
    }
    Some(path)
}

fn lease_socket(path: &Path) -> Option<LeaseSocket> {
    match bind_lease_socket(path, rustix::process::geteuid().is_root()) {
        Ok(listener) => Some(LeaseSocket { listener, path: path.to_owned(), own: true }),
        Err(error) => {
            warn!("no leases for `dfget run` at {}: {error}", path.display());
            None
        }
    }
}

fn bind_lease_socket(path: &Path, for_everybody: bool) -> std::io::Result<StdUnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::other("another daemon serves them there"));
    }
    let _ = fs::remove_file(path);
    let listener = StdUnixListener::bind(path)?;
    // Who asks is told by the kernel, and gets what its own credentials fetch.
    fs::set_permissions(path, fs::Permissions::from_mode(if for_everybody { 0o666 } else { 0o600 }))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// `trusted` is what clients must trust.
fn say(config: &Config, listeners: &Listeners, trusted: Option<&PemSource>, announce: &dyn Fn(&str)) {
    let shown = |listener: &std::net::TcpListener| {
        listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    };
    let proxy = shown(&listeners.proxy);
    info!("serve health and metrics at tcp://{}", shown(&listeners.admin));
    if let Some(metrics) = &listeners.metrics {
        info!("started metrics server at tcp://{}", shown(metrics));
    }
    for (listener, _) in &listeners.sni {
        info!("serve clients that begin with TLS at tcp://{}", shown(listener));
    }
    info!("serve proxy at tcp://{proxy}");
    if config.proxy.mirrors.is_enabled() {
        let registries = config.proxy.mirrors.configured().map(|mirror| mirror.url.to_string());
        let any = config.proxy.mirrors.dynamic.map(|_| "any registry that a client names".to_owned());
        let all: Vec<String> = registries.chain(any).collect();
        info!("serve there as a mirror of {}", all.join(", "));
    }
    if let Some(log_dir) = &config.paths.log_dir {
        announce(&format!("log: {}", log_dir.join("daemon").join("core.log").display()));
    }
    if let Some(cert) = trusted {
        let hint = certificates::hint(cert, proxy, config.proxy.tls.is_some());
        info!("{hint}");
        announce(&hint);
    }
    // The last line, for those who wait for it: with it all is said.
    announce(&format!("dfget daemon: proxy on {proxy}, admin on {}", shown(&listeners.admin)));
}
