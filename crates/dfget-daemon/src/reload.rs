//! Reading the configuration again while the daemon runs.
//!
//! Owns when the files are looked at and what is said of it; what becomes of the values is decided
//! in [`Daemon::apply`]. A file that cannot be used changes nothing, whoever asked for it.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfget_config::{ConfigErrors, Environment, LoadOptions, Loaded, Settings, load};
use dfget_core::{Redirect, Rule};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::run::Daemon;
use crate::{service, signals};

/// A file of this size is none of ours.
const LIMIT_BYTES: u64 = 4 << 20;

/// How long a changed file must stay as it is before it is read: its writer may be at work.
const SETTLED: Duration = Duration::from_millis(100);

/// So often a file may change while it is looked at; then it is read as it is.
const MOST_CHANGES: usize = 20;

/// Keys whose new values a running daemon takes over; all others need a restart.
const LIVE: &[&str] = &[
    "access.offlineGrace",
    "access.ttl",
    "aliveTime",
    "cluster.dns",
    "cluster.members",
    "cluster.membersFile",
    "download.concurrent.goroutineCount",
    "download.concurrent.thresholdSize",
    "download.concurrent.thresholdSpeed",
    "download.finishAbandoned",
    "download.originBudget.per",
    "download.originBudget.requests",
    "download.perTaskRateLimit",
    "download.prefetch",
    "download.redirects.allow",
    "download.redirects.downgrade",
    "download.resolve",
    "download.stallTimeout",
    "download.totalRateLimit",
    "download.trafficShaperType",
    "gcInterval",
    "keepStorage",
    "manifests.freshness",
    "proxy.basicAuth.password",
    "proxy.basicAuth.username",
    "proxy.defaultApplication",
    "proxy.defaultFilter",
    "proxy.defaultPriority",
    "proxy.defaultTag",
    "proxy.dumpHTTPContent",
    "proxy.extraRegistryMirrors",
    HOSTS,
    "proxy.hijackHTTPS.tokenHosts",
    "proxy.maxConcurrency",
    "proxy.proxies",
    "proxy.registryMirror.certs",
    "proxy.registryMirror.direct",
    "proxy.registryMirror.dynamic",
    "proxy.registryMirror.insecure",
    "proxy.registryMirror.url",
    "proxy.registryMirror.useProxies",
    "proxy.security.caCert",
    "proxy.security.cert",
    "proxy.security.insecure",
    "proxy.security.key",
    "proxy.security.tlsVerify",
    "proxy.whiteList",
    "reload.interval",
    "storage.diskGCThreshold",
    "storage.diskGCThresholdPercent",
    "storage.multiplex",
    "storage.taskExpireTime",
    "upload.rateLimit",
    "verbose",
];

const HOSTS: &str = "proxy.hijackHTTPS.hosts";

/// Who began alone stays alone.
const CLUSTER: &str = "cluster.";

/// What a configuration was made from.
#[derive(Clone, Debug)]
pub struct ConfigOrigin {
    /// What the command line says of it.
    options: LoadOptions,
    /// Where names of files and variables are looked up.
    environment: Environment,
    /// A SIGHUP has come since this was made.
    hung_up: Arc<AtomicBool>,
}

// === impl ConfigOrigin ===

impl ConfigOrigin {
    /// To be made before the configuration is read: from now on SIGHUP and SIGUSR1 do not end the
    /// process.
    ///
    /// # Errors
    /// The system takes no handlers of signals.
    pub fn new(options: LoadOptions, environment: Environment) -> std::io::Result<Self> {
        Ok(Self { options, environment, hung_up: signals::survive()? })
    }
}

/// Follows the files of the configuration.
pub(crate) struct Reloader {
    origin: ConfigOrigin,
    /// What the daemon was started with: some of it holds until its end.
    started: Settings,
    current: Settings,
    rules: Vec<Rule>,
    interval: Option<Duration>,
    source: PathBuf,
    source_is_file: bool,
    files: Vec<PathBuf>,
    /// The files as they were when they were read last.
    seen: Option<Fingerprint>,
}

/// Tells contents of files apart; `None` for one that cannot be read.
type Fingerprint = Vec<Option<u64>>;

// === impl Reloader ===

impl Reloader {
    pub(crate) fn new(loaded: Loaded, mut origin: ConfigOrigin) -> Self {
        let Loaded { config, source, settings, files, .. } = loaded;
        // Another file that has appeared since is not what this daemon was started with.
        origin.options.config = Some(source.clone());
        Self {
            origin,
            started: settings.clone(),
            current: settings,
            rules: config.proxy.rules,
            interval: config.reload_interval,
            source_is_file: files.first().is_some_and(|path| is_read_again(path)),
            source,
            files,
            seen: None,
        }
    }

    /// Reads the files again whenever they have changed or `hung_up` says so; never returns.
    pub(crate) async fn follow(&mut self, daemon: &Daemon, hung_up: &Arc<Notify>) {
        if self.origin.hung_up.load(Ordering::Relaxed) {
            hung_up.notify_one();
        }
        loop {
            let pause = async {
                match self.interval.filter(|_| self.source_is_file) {
                    Some(interval) => tokio::time::sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                () = pause => false,
                () = hung_up.notified() => true,
            };
            if !self.source_is_file {
                // A pipe gives its content once.
                warn!("SIGHUP: {} is no regular file and cannot be read again", self.source.display());
            } else if told {
                service::reloading();
                self.read(daemon, told).await;
                service::reloaded();
            } else if self.has_changed().await {
                self.read(daemon, told).await;
            }
        }
    }

    /// Whether the files are others than those read last; waits until their writer is done.
    async fn has_changed(&self) -> bool {
        let Some(mut now) = self.fingerprint().await else { return false };
        if self.seen.as_ref() == Some(&now) {
            return false;
        }
        for _ in 0..MOST_CHANGES {
            tokio::time::sleep(SETTLED).await;
            let Some(later) = self.fingerprint().await else { return false };
            if later == now {
                break;
            }
            now = later;
        }
        self.seen.as_ref() != Some(&now)
    }

    async fn fingerprint(&self) -> Option<Fingerprint> {
        let (files, environment) = (self.files.clone(), self.origin.environment.clone());
        // Where it hangs nothing else does: the file may lie on a disk of the network.
        tokio::task::spawn_blocking(move || fingerprint(&files, &environment)).await.ok()
    }

    async fn read(&mut self, daemon: &Daemon, told: bool) {
        let (origin, files) = (self.origin.clone(), self.files.clone());
        let read = tokio::task::spawn_blocking(move || {
            // Before the files are read: a change in between is then seen at the next look.
            let seen = fingerprint(&files, &origin.environment);
            let outcome = load(&origin.options, &origin.environment);
            let read = match &outcome {
                Ok(loaded) => loaded.files.clone(),
                Err(failed) => failed.files.clone(),
            };
            let seen = if read == files { seen } else { fingerprint(&read, &origin.environment) };
            (outcome, read, seen)
        });
        let Ok((outcome, files, seen)) = read.await else { return };
        self.files = files;
        self.seen = Some(seen);
        match outcome {
            Ok(loaded) => self.take(loaded, daemon, told),
            Err(failed) => self.refuse(&failed, told),
        }
    }

    fn refuse(&self, failed: &ConfigErrors, told: bool) {
        error!(
            "{}config file {} cannot be used, the old configuration stays in effect: {}",
            by_signal(told),
            self.source.display(),
            match failed.errors.len() {
                1 => "1 error".to_owned(),
                number => format!("{number} errors"),
            }
        );
        for error in &failed.errors {
            error!("{error}");
        }
    }

    fn take(&mut self, loaded: Loaded, daemon: &Daemon, told: bool) {
        let Loaded { config, warnings, settings, .. } = loaded;
        let changed = settings.changed(&self.current);
        if changed.is_empty() && !told {
            return;
        }
        let (rules, interval) = (config.proxy.rules.clone(), config.reload_interval);
        if let Err(error) = daemon.apply(config) {
            error!(
                "{}config file {} cannot be used, the old configuration stays in effect: {error}",
                by_signal(told),
                self.source.display()
            );
            return;
        }
        self.say(&changed, told);
        if !changed.is_empty() {
            for warning in &warnings {
                warn!("{warning}");
            }
        }
        if changed.iter().any(|key| key == "proxy.proxies") {
            info!("previous rules: {}", shown(&self.rules));
            info!("current rules: {}", shown(&rules));
            info!("update proxy rules");
        }
        let late = self.needing_restart(&settings, daemon.can_hijack(), daemon.has_cluster());
        if !late.is_empty() {
            warn!("not in effect before the daemon is restarted: {}", late.join(", "));
        }
        self.rules = rules;
        self.interval = interval;
        self.current = settings;
    }

    fn say(&self, changed: &[String], told: bool) {
        let source = self.source.display();
        if changed.is_empty() {
            info!("{}config file {source} is read again, nothing in it has changed", by_signal(told));
        } else {
            info!("{}config file {source} changed: {}", by_signal(told), changed.join(", "));
        }
    }

    /// Keys whose values are not those that the daemon was started with, and that it cannot change.
    fn needing_restart(&self, settings: &Settings, can_hijack: bool, has_cluster: bool) -> Vec<String> {
        let mut keys = settings.changed(&self.started);
        keys.retain(|key| {
            let without_hijack = key == HOSTS && !can_hijack;
            let without_cluster = key.starts_with(CLUSTER) && !has_cluster;
            !LIVE.contains(&key.as_str()) || without_hijack || without_cluster
        });
        keys
    }
}

/// Whether a path gives its content more than once: a regular file, or one that was removed since it was read and may
/// come back. What a shell has under `/dev/fd` does neither.
fn is_read_again(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(there) => there.is_file(),
        Err(error) => {
            error.kind() == ErrorKind::NotFound && !["/dev", "/proc"].iter().any(|of| path.starts_with(of))
        }
    }
}

fn fingerprint(files: &[PathBuf], environment: &Environment) -> Fingerprint {
    let of = |path: &PathBuf| {
        let content = environment.files.read(path, LIMIT_BYTES).ok()?;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Some(hasher.finish())
    };
    files.iter().map(of).collect()
}

const fn by_signal(told: bool) -> &'static str {
    if told { "SIGHUP: " } else { "" }
}

/// Rules as the log shows them.
fn shown(rules: &[Rule]) -> String {
    let rule = |rule: &Rule| {
        let mut text = format!("{{regx: {}", rule.regx.as_str());
        if rule.use_https {
            text.push_str(", useHTTPS");
        }
        if rule.direct {
            text.push_str(", direct");
        }
        if let Some(Redirect::Host(to) | Redirect::Replace(to)) = &rule.redirect {
            text.push_str(&format!(", redirect: {}", dfget_telemetry::redact_url(to)));
        }
        text + "}"
    };
    format!("[{}]", rules.iter().map(rule).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use dfget_config::load_without_authority;
    use regex::Regex;

    use crate::PemRules;

    use super::*;

    /// Keys that hold from the start to the end of a daemon.
    const FIXED: &[&str] = &[
        "announcer.schedulerInterval",
        "cluster.allowPlaintextPeers",
        "cluster.keyFile",
        "cluster.port",
        "cluster.sharePrivate",
        "console",
        "dataDir",
        "dataDirMode",
        "download.concurrent.initBackoff",
        "download.concurrent.maxAttempts",
        "download.concurrent.maxBackoff",
        "download.peerGRPC.tcpListen.listen",
        "download.peerGRPC.tcpListen.port",
        "download.resourceClients",
        "health.path",
        "health.tcpListen.listen",
        "health.tcpListen.port",
        "host.advertiseIP",
        "host.hostname",
        "host.idc",
        "host.location",
        "logDir",
        "logMaxAge",
        "logMaxBackups",
        "logMaxSize",
        "metrics",
        "network.enableIPv6",
        "proxy.hijackHTTPS.cert",
        "proxy.hijackHTTPS.key",
        "proxy.hijackHTTPS.sni",
        "proxy.tcpListen.listen",
        "proxy.tcpListen.namespace",
        "proxy.tcpListen.port",
        "scheduler.netAddrs",
        "service-name",
        "storage.strategy",
        "tracing.caCert",
        "tracing.endpoint",
        "tracing.headers",
        "tracing.path",
        "tracing.protocol",
        "tracing.ratio",
        "upload.tcpListen.listen",
        "upload.tcpListen.port",
    ];

    #[test]
    fn of_each_key_it_is_decided_whether_a_running_daemon_takes_it_over() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("dfget.yaml");
        fs::write(&file, "dataDir: /d\nlogDir: /l\nproxies: [{regx: a}]\n").expect("it can be written");
        let options = LoadOptions { config: Some(file), ..LoadOptions::default() };
        let environment = Environment::current(Arc::new(PemRules)).expect("a directory to work in");
        let settings = load_without_authority(&options, &environment).expect("a good file").settings;
        let mut keys: Vec<String> = settings
            .iter()
            .filter(|setting| !setting.is_section())
            // What stands below an item of a list, or a free name, is decided with it.
            .map(|setting| setting.key.split('[').next().unwrap_or_default().replace(".NAME", "\0"))
            .map(|key| key.split('\0').next().unwrap_or_default().to_owned())
            .collect();
        keys.sort();
        keys.dedup();
        // A section that is not set has no value of its own.
        let has_children = |key: &str| keys.iter().any(|other| other.starts_with(&format!("{key}.")));
        for key in keys.iter().filter(|key| !has_children(key)) {
            let decided = (LIVE.contains(&key.as_str()), FIXED.contains(&key.as_str()));
            assert!(
                decided.0 != decided.1,
                "{key}: put it into LIVE if `apply` hands it on, else into FIXED"
            );
        }
        for key in LIVE.iter().chain(FIXED) {
            assert!(keys.iter().any(|known| known == key), "{key} is no key");
        }
    }

    #[test]
    fn rules_are_shown_as_they_are_written() {
        let rule = |regx: &str, direct, redirect| Rule {
            regx: Regex::new(regx).expect("a pattern"),
            use_https: false,
            direct,
            redirect,
        };
        let redirect = Some(Redirect::Host("mirror.test".to_owned()));
        let rules = [rule("blobs/sha256.*", false, None), rule("x", true, redirect)];
        assert_eq!(shown(&rules), "[{regx: blobs/sha256.*}, {regx: x, direct, redirect: mirror.test}]");
        assert_eq!(shown(&[]), "[]");
    }

    #[test]
    fn what_is_removed_may_come_back_and_what_is_no_file_may_not() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("dfget.yaml");
        assert!(is_read_again(&file), "removed since it was read");
        fs::write(&file, "").expect("it can be written");
        assert!(is_read_again(&file));
        assert!(!is_read_again(home.path()));
        assert!(!is_read_again(Path::new("/dev/null")));
        assert!(!is_read_again(Path::new("/dev/fd/63")), "of a shell that has closed it");
    }
}
