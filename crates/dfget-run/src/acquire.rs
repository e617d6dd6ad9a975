//! A lease: from a daemon that is there, or from one that is started for it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use dfget_lease::{Channel, FromDaemon, Grant, LeaseRequest, Lock, Peer, Runtime, ToDaemon};
use serde::{Deserialize, Serialize};

use crate::cluster::StartCluster;
use crate::variables::{Variables, Way};

/// How long a daemon may take to give a lease: it asks registries for their token hosts.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a daemon may take to start, and an ending one to end.
const START_PATIENCE: Duration = Duration::from_secs(40);

/// Tries to get hold of a daemon that comes and goes.
const TRIES: usize = 3;

/// What a started daemon reads from its standard input, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Start {
    /// Where it takes requests for leases.
    pub socket: PathBuf,
    /// Held by whoever starts it, and by it while it leaves.
    pub lock: PathBuf,
    /// The store.
    pub data_dir: PathBuf,
    /// The log.
    pub log_dir: PathBuf,
    /// The authorities.
    pub ca_dir: Option<PathBuf>,
    /// Proxies on the way to origins. Not in the arguments: it may hold passwords.
    pub way: (String, String, String),
    /// How long it stays after the last lease, in milliseconds.
    pub linger_ms: u64,
    /// Log at debug level.
    pub verbose: bool,
    /// The cluster that it belongs to.
    #[serde(default)]
    pub cluster: Option<StartCluster>,
}

/// What a started daemon says on its standard output, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Started {
    /// It can be asked for leases.
    Ready(Vec<String>),
    /// It ends, and why.
    Failed(String),
}

/// What is needed to get a lease, now or again.
#[derive(Clone, Debug)]
pub(crate) struct Seeker {
    /// Where the daemon of the system is asked.
    pub(crate) system: PathBuf,
    /// Where daemons of this user are looked for.
    pub(crate) runtime: Runtime,
    /// The instance to start.
    pub(crate) instance: String,
    /// How to start it.
    pub(crate) start: Start,
    /// Its environment.
    pub(crate) variables: Variables,
    /// What is asked for.
    pub(crate) request: LeaseRequest,
}

/// A lease, for as long as its channel lives.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The connection to the daemon.
    pub(crate) channel: Channel,
    /// What it gives.
    pub(crate) grant: Grant,
}

/// Why there is none.
#[derive(Debug)]
enum Miss {
    /// Nobody is there, or whoever is there is about to leave.
    Nobody(io::Error),
    /// Somebody is there and says no, or may not be asked.
    Refused(String),
}

// === impl Seeker ===

impl Seeker {
    /// Gets a lease on `listener`. `note` hears what was tried.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub(crate) fn find(&self, listener: &TcpListener, note: &mut dyn FnMut(String)) -> Result<Lease, String> {
        // Those have a cluster of their own, or none.
        let others = match &self.start.cluster {
            None => vec![self.system.clone(), self.runtime.daemon_socket()],
            Some(_) => Vec::new(),
        };
        for socket in others {
            match self.ask(&socket, listener) {
                Ok(lease) => {
                    note(format!("using the daemon at {} (process {})", socket.display(), lease.grant.pid));
                    return Ok(lease);
                }
                Err(Miss::Refused(reason)) => {
                    note(format!("not the daemon at {}: {reason}", socket.display()))
                }
                Err(Miss::Nobody(_)) => {}
            }
        }
        let socket = self.runtime.socket(&self.instance);
        let mut last = String::new();
        for _ in 0..TRIES {
            match self
                .ask(&socket, listener)
                .or_else(|miss| self.start_and_ask(miss, &socket, listener, note))
            {
                Ok(lease) => {
                    note(format!("using the daemon of this user (process {})", lease.grant.pid));
                    return Ok(lease);
                }
                Err(Miss::Refused(reason)) => return Err(reason),
                Err(Miss::Nobody(error)) => last = error.to_string(),
            }
        }
        Err(format!(
            "the daemon at {} comes and goes ({last}); its log is in {}",
            socket.display(),
            self.start.log_dir.display()
        ))
    }

    /// Nobody was there: under the lock, somebody may be by now, else one is started.
    fn start_and_ask(
        &self,
        miss: Miss,
        socket: &Path,
        listener: &TcpListener,
        note: &mut dyn FnMut(String),
    ) -> Result<Lease, Miss> {
        let Miss::Nobody(_) = miss else { return Err(miss) };
        let path = self.runtime.lock(&self.instance);
        let locked = Lock::take(&path, START_PATIENCE);
        let lock = match locked {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                return Err(Miss::Refused(format!(
                    "another process starts or ends the daemon and does not get done ({} is locked)",
                    path.display()
                )));
            }
            Err(error) => return Err(Miss::Refused(format!("{} cannot be locked: {error}", path.display()))),
        };
        let lease = match self.ask(socket, listener) {
            Err(Miss::Nobody(_)) => {
                for line in self.start_daemon().map_err(Miss::Refused)? {
                    note(line);
                }
                note("started a daemon".to_owned());
                self.ask(socket, listener)
            }
            found => found,
        };
        drop(lock);
        lease
    }

    fn ask(&self, socket: &Path, listener: &TcpListener) -> Result<Lease, Miss> {
        let silent = || {
            let socket = socket.display();
            Miss::Refused(format!(
                "whoever listens at {socket} does not answer; end it if it is a dfget that hangs"
            ))
        };
        let mut channel = Channel::connect(socket, LEASE_PATIENCE).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => silent(),
            _ => Miss::Nobody(error),
        })?;
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let peer = Peer::of(channel.stream()).map_err(Miss::Nobody)?;
        peer.trusted(&passwd).map_err(|untrusted| Miss::Refused(untrusted.to_string()))?;
        let sent = channel.send(&ToDaemon::Lease(self.request.clone()), &[listener.as_fd()]);
        // Who says no at once may close before all was read.
        let answer = channel.receive::<FromDaemon>();
        match answer {
            Ok(Some(FromDaemon::Granted(grant))) => Ok(Lease { channel, grant }),
            Ok(Some(FromDaemon::Refused { version, reason, .. })) => {
                Err(Miss::Refused(format!("the daemon ({}, dfget {version}) says: {reason}", name(peer.pid))))
            }
            Ok(None) => {
                Err(Miss::Nobody(sent.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Miss::Nobody(error)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(silent()),
            Ok(Some(_)) | Err(_) => Err(Miss::Refused(format!(
                "{} at {} gives no answer that this version understands; if it is an older dfget, end it when its \
                 commands have ended",
                name(peer.pid),
                socket.display()
            ))),
        }
    }

    /// Starts a daemon and waits until it can be asked; returns what it has to say.
    fn start_daemon(&self) -> Result<Vec<String>, String> {
        let failed = |error: io::Error| format!("no daemon can be started: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("leased-daemon").current_dir("/").env_clear().envs(&self.variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            let line = serde_json::to_string(&self.start).map_err(|error| failed(error.into()))?;
            // One that has ended already says why.
            let _ = input.write_all(line.as_bytes());
        }
        let (told, heard) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(output).read_line(&mut line);
                let _ = told.send(line);
            });
        }
        let line = heard.recv_timeout(START_PATIENCE).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(Started::Ready(notes)) => Ok(notes),
            Ok(Started::Failed(reason)) => Err(reason),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the daemon did not start; its log is in {}", self.start.log_dir.display()))
            }
        }
    }
}

// === impl Start ===

impl Start {
    /// The proxies on the way to origins.
    #[must_use]
    pub fn way(&self) -> Way {
        let (https, http, no) = self.way.clone();
        Way { https, http, no }
    }
}

/// What a user is to look for: a service manager keeps the socket of the node's service, and is not what answers.
fn name(pid: u32) -> String {
    if pid == 1 { "dfget.service".to_owned() } else { format!("process {pid}") }
}
