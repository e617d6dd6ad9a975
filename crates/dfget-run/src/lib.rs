//! `dfget run -- COMMAND`: one command behind a daemon that is found or started for it.
//!
//! Data goes one way: `reference` reads from the command line which hosts its images are on,
//! `variables`, `bundle` and `store` decide (purely, but for the files they read) what the child
//! and a new daemon get, `acquire` gets a lease, `guard` watches over it, `command` runs the child.
//! Whatever fails on the way, the command runs: directly then, as if this program were not there.

mod acquire;
mod bundle;
mod cluster;
mod command;
mod guard;
mod reference;
mod report;
mod store;
mod tenancy;
mod variables;

pub use acquire::{Start, Started};
pub use cluster::{ClusterWish, StartCluster};
pub use command::CommandError;
pub use reference::References;
pub use store::stores;
pub use tenancy::{Tenancy, Wish, own_way};
pub use variables::{Variables, Way};

pub use dfget_lease::{Sources, Spared};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use dfget_core::HostlistError;
use dfget_lease::{LeaseRequest, PROTOCOL, Runtime, SYSTEM_SOCKET_VARIABLE, system_socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use crate::acquire::{Lease, Seeker};
use crate::bundle::Bundles;
use crate::command::Supervisor;
use crate::guard::{Guard, Post};
use crate::store::SystemDisks;
use crate::variables::Hijacked;

/// How long a daemon stays after its last command.
const LINGER: Duration = Duration::from_secs(3);

/// How long a daemon may take to put away what it has stored.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// What `dfget run` was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Hosts to hijack besides those of the references (`--host`).
    pub hosts: Vec<String>,
    /// Hijack every host (`--all-hosts`).
    pub all_hosts: bool,
    /// The nodes that feed each other (`--cluster`).
    pub cluster: Option<ClusterWish>,
    /// Say what is decided, and why.
    pub verbose: bool,
    /// Say nothing but errors.
    pub quiet: bool,
    /// The program and its arguments; at least the program.
    pub command: Vec<String>,
}

/// What the child's environment would be (`--dry-run`).
#[derive(Clone, Debug)]
pub struct Plan {
    /// Hosts to hijack; the token hosts of their registries come to them.
    pub hosts: Vec<String>,
    /// Every host is hijacked.
    pub all_hosts: bool,
    /// Each variable that is set anew.
    pub variables: Variables,
    /// Where the store would be.
    pub store: PathBuf,
    /// What was decided, and why.
    pub notes: Vec<String>,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// `--host` with something that is none.
    #[error("--host {0}: not a host name; write it as registry.example.org or registry.example.org:5000")]
    Host(String),
    /// `--cluster` with something that is no list of hosts.
    #[error("--cluster: {0}; write it as 'node[001-128]' or \"$SLURM_JOB_NODELIST\"")]
    Cluster(#[from] HostlistError),
    /// The command cannot be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The system refuses what is needed to run a command.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl RunError {
    /// What to exit with: 126 and 127 as a shell does, 2 for a wrong command line.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Host(_) | Self::Cluster(_) => 2,
            Self::Command(error) => error.exit_code(),
            Self::System(_) => 1,
        }
    }
}

/// What was found out before anything is begun.
struct Setting {
    options: Options,
    references: References,
    original: Variables,
    /// Names of what a `dfget run` around this one has changed.
    around: BTreeSet<String>,
    way: Way,
    notes: Vec<String>,
    /// What the user should know even without `--verbose`.
    warnings: Vec<String>,
}

/// Says what would be done, and leaves no trace.
///
/// # Errors
/// [`RunError::Host`], [`RunError::Cluster`].
pub fn plan(options: Options, variables: Variables) -> Result<Plan, RunError> {
    let mut setting = Setting::new(options, variables)?;
    let instance = setting.instance();
    let store = setting.store(&instance, Path::new("/tmp"), SystemDisks { only_look: true });
    let dir = bundle::likely_directory(setting.directory("HOME").as_deref());
    let names = dir.join("bundle-….pem").display().to_string();
    let bundles = variables::TRUST.into_iter().map(|name| (name, names.clone())).collect();
    let proxy = "http://lease:SECRET@127.0.0.1:PORT";
    let mut variables = setting.child(proxy, &bundles, &setting.references.hosts);
    // It repeats what was set before, the login at a site's proxy included; what is printed gets into logs.
    variables.remove(variables::SAVED);
    let Setting { options, references, notes, warnings, .. } = setting;
    let notes = warnings.into_iter().chain(notes).collect();
    let variables = if references.is_empty() && !options.all_hosts { Variables::new() } else { variables };
    Ok(Plan { hosts: references.hosts, all_hosts: options.all_hosts, variables, store, notes })
}

/// Runs the command, behind a daemon where that can be had; returns the code to exit with.
/// `say` is given each line that the user should read.
///
/// # Errors
/// [`RunError`] if the command could not be run at all.
pub fn run(options: Options, variables: Variables, say: fn(&str)) -> Result<u8, RunError> {
    let mut setting = Setting::new(options, variables)?;
    let program = setting.options.command.first().cloned().unwrap_or_default();
    let path = setting.original.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    command::look_up(&program, path)?;
    let mut child = Command::new(&program);
    child.args(&setting.options.command[1..]);
    let leased =
        if setting.references.is_empty() && !setting.options.all_hosts { None } else { setting.lease() };
    setting.tell(say);
    let Some((lease, post)) = leased else {
        // As if we were not there.
        let mut supervisor = Supervisor::new()?;
        let mut child = supervisor.start(&mut child)?;
        return Ok(supervisor.wait(&mut child)?);
    };
    let port = post.listener.local_addr()?.port();
    let proxy = format!("http://lease:{}@127.0.0.1:{port}", post.seeker.request.secret);
    let hosts = [setting.references.hosts.clone(), lease.grant.hosts.clone()].concat();
    child.envs(setting.child(&proxy, &post.bundles.files, &hosts));
    let daemon = Feeding::of(&setting, &lease);
    let mut supervisor = Supervisor::new()?;
    let guard = Guard::begin(lease, post)?;
    let mut child = supervisor.start(&mut child)?;
    if let Ok(pidfd) = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        guard.child(pidfd);
    }
    let code = supervisor.wait(&mut child)?;
    let spared = guard.finish();
    if let Some(line) = spared.and_then(report::line).filter(|_| !setting.options.quiet) {
        say(&line);
    }
    if let Some(daemon) = daemon {
        daemon.stay(&mut || supervisor.is_called());
    }
    Ok(code)
}

/// A daemon that may still feed other nodes when its command has ended.
#[derive(Debug)]
pub struct Feeding {
    daemon: OwnedFd,
    limit: Duration,
}

// === impl Feeding ===

impl Feeding {
    /// `None`: there is no cluster, or the daemon is gone already.
    fn of(setting: &Setting, lease: &Lease) -> Option<Self> {
        let limit = setting.options.cluster.as_ref()?.linger;
        let pid = Pid::from_raw(i32::try_from(lease.grant.pid).ok()?)?;
        Some(Self { daemon: pidfd_open(pid, PidfdFlags::empty()).ok()?, limit })
    }

    /// Returns when the daemon has ended, when it should have, or when `is_called` says so.
    pub fn stay(&self, is_called: &mut dyn FnMut() -> bool) {
        let end = Instant::now() + self.limit + LINGER + AFTERWARDS;
        while Instant::now() < end && !is_called() {
            let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            // It becomes readable at the end of the process (pidfd_open(2)).
            if poll(&mut [PollFd::new(&self.daemon, PollFlags::IN)], Some(&pause)) != Ok(0) {
                return;
            }
        }
    }
}

// === impl Setting ===

impl Setting {
    fn new(options: Options, variables: Variables) -> Result<Self, RunError> {
        let mut references = References::of_command(&options.command);
        for host in &options.hosts {
            if !references.add_host(host) {
                return Err(RunError::Host(host.clone()));
            }
        }
        if let Some(cluster) = &options.cluster {
            cluster.check()?;
        }
        let (original, around) = variables::original(variables);
        let mut setting = Self {
            options,
            references,
            original,
            around,
            way: Way::default(),
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        setting.way = setting.read_way();
        if setting.options.all_hosts {
            setting.notes.push("hijacking every host".to_owned());
        } else if setting.references.is_empty() {
            setting.warnings.push(
                "no image reference in the command: it runs directly; name its registries by --host, or use \
                 --all-hosts"
                    .to_owned(),
            );
        } else {
            setting.notes.push(format!("hijacking {}", setting.references.hosts.join(", ")));
        }
        Ok(setting)
    }

    /// The proxy that was set before, unless it cannot be used.
    fn read_way(&mut self) -> Way {
        let way = Way::of(&self.original);
        match way.upstream() {
            Ok(None) => {}
            Ok(Some(_)) => {
                self.notes.push("origins are reached through the proxy that was set before".to_owned())
            }
            Err(error) => {
                self.warnings
                    .push(format!("HTTPS_PROXY or HTTP_PROXY cannot be used: {error}; going without"));
                return Way { no: way.no, ..Way::default() };
            }
        }
        way
    }

    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.original.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn cluster(&self) -> Option<StartCluster> {
        let wish = self.options.cluster.as_ref()?;
        Some(wish.start(&self.original, geteuid().is_root()))
    }

    fn instance(&self) -> String {
        let set = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let way =
            [set(&self.way.https), set(&self.way.http), set(&self.way.no).filter(|_| !self.way.is_direct())];
        let cluster = self.cluster().map(|cluster| cluster.identity());
        let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| self.original.get(name).map(String::as_str));
        Runtime::instance(&[
            ("https", way[0].as_deref()),
            ("http", way[1].as_deref()),
            ("no", way[2].as_deref()),
            ("file", trust[0]),
            ("dir", trust[1]),
            ("cluster", cluster.as_deref()),
        ])
    }

    fn store(&mut self, instance: &str, last: &Path, disks: SystemDisks) -> PathBuf {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().replace('/', "_");
        let mut notes = Vec::new();
        let dir =
            store::directory(&self.original, &host, instance, last, &disks, &mut |note| notes.push(note));
        self.notes.extend(notes);
        self.notes.push(format!("store: {}", dir.display()));
        dir
    }

    fn bundle_dir(&self) -> Result<PathBuf, String> {
        bundle::directory(self.directory("HOME").as_deref())
    }

    /// A lease with all that is needed to hold it; `None` with a warning where there is none.
    fn lease(&mut self) -> Option<(Lease, Post)> {
        match self.try_lease() {
            Ok(leased) => Some(leased),
            Err(reason) => {
                self.warnings
                    .push(format!("no daemon: {reason}; the command runs directly, without a cache"));
                None
            }
        }
    }

    fn try_lease(&mut self) -> Result<(Lease, Post), String> {
        // Without a place to meet a daemon nothing else matters.
        let runtime = self.runtime()?;
        let bundle_dir = self.bundle_dir()?;
        let (lease, listener, seeker) = self.seek(runtime)?;
        let mut notes = Vec::new();
        let authorities = &lease.grant.authorities;
        let bundles = Bundles::plan(&bundle_dir, &self.original, authorities, &mut |note| notes.push(note));
        self.warnings.append(&mut notes);
        bundles.write().map_err(|error| {
            format!("the bundle of authorities cannot be written to {}: {error}", bundle_dir.display())
        })?;
        bundle::clean(&bundle_dir, SystemTime::now());
        Ok((lease, Post { listener, seeker, bundles, say: say_lost, fail_open: true }))
    }

    /// Where daemons of this user are met.
    fn runtime(&self) -> Result<Runtime, String> {
        let (xdg, temporary) = (self.directory("XDG_RUNTIME_DIR"), self.directory("TMPDIR"));
        Runtime::find(xdg.as_deref(), temporary.as_deref()).map_err(|error| error.to_string())
    }

    /// A lease on a socket of ours, and how to find the next one.
    fn seek(&mut self, runtime: Runtime) -> Result<(Lease, TcpListener, Seeker), String> {
        let instance = self.instance();
        let data_dir = self.store(&instance, runtime.dir(), SystemDisks::default());
        let start = Start {
            socket: runtime.socket(&instance),
            lock: runtime.lock(&instance),
            log_dir: data_dir.join("log"),
            ca_dir: Some(data_dir.join("ca")),
            data_dir: data_dir.join("store"),
            way: (self.way.https.clone(), self.way.http.clone(), self.way.no.clone()),
            linger_ms: u64::try_from(LINGER.as_millis()).unwrap_or(u64::MAX),
            verbose: self.options.verbose,
            cluster: self.cluster(),
        };
        let request = LeaseRequest {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            secret: fresh_secret().map_err(|error| error.to_string())?,
            hosts: self.references.hosts.clone(),
            all_hosts: self.options.all_hosts,
            images: self.references.images.clone(),
            trusts: Vec::new(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(|error| format!("no port to listen on: {error}"))?;
        let system = system_socket(self.directory(SYSTEM_SOCKET_VARIABLE).as_deref());
        let variables = self.original.clone();
        let seeker = Seeker { system, runtime, instance, start, variables, request };
        let mut notes = Vec::new();
        let found = seeker.find(&listener, &mut |note| notes.push(note));
        self.notes.append(&mut notes);
        let lease = found?;
        self.warnings.extend(lease.grant.notes.clone());
        if !lease.grant.hosts.is_empty() {
            self.notes.push(format!("hijacked: {}", lease.grant.hosts.join(", ")));
        }
        Ok((lease, listener, seeker))
    }

    fn child(&self, proxy: &str, bundles: &BTreeMap<&'static str, String>, hosts: &[String]) -> Variables {
        let hijacked = if self.options.all_hosts { Hijacked::All } else { Hijacked::Hosts(hosts) };
        let plain = self.references.plain;
        variables::for_child(&self.original, &self.around, proxy, hijacked, plain, bundles)
    }

    fn tell(&self, say: fn(&str)) {
        if !self.options.quiet {
            self.warnings.iter().for_each(|line| say(line));
        }
        if self.options.verbose {
            self.notes.iter().for_each(|line| say(line));
        }
    }
}

/// Says that the daemon is gone, from the thread of the guard.
fn say_lost(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "dfget run: {line}");
}

/// 32 random bytes, as text that needs no escape in a URL.
fn fresh_secret() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
