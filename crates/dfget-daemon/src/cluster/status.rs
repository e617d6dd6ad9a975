//! The question how a cluster is, from a command on one of its nodes.
//!
//! Whoever can read the key asks the members. Anybody else asks the daemon of this node, which has it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dfget_cluster::{ClusterError, ClusterOptions, KeyFileError, Visitor};
use dfget_lease::{Channel, ClusterSeen, FromDaemon, Peer, ToDaemon};
use dfget_proto::messages::common::v2::Host;
use dfget_scheduler::{Dragonfly, Pace, Schedulers};
use tokio::runtime::Builder;

use super::survey::{scheduler, seen};
use crate::explain::sockets;
use crate::open_files;

/// How long a daemon may take, which may have to ask a thousand members.
const PATIENCE: Duration = Duration::from_secs(5);

/// For DNS, where it names the members.
const DNS: Duration = Duration::from_millis(500);

/// For a name and for a connection; a node that is there takes much less.
const CONNECT: Duration = Duration::from_millis(1000);

/// For one member, if there are few.
const ANSWER: Duration = Duration::from_millis(2500);

/// How the members are, and who found that out.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The members.
    pub seen: ClusterSeen,
    /// The socket of the daemon that was asked; `None` = the members themselves were.
    pub by_daemon: Option<PathBuf>,
}

/// Whether the daemon of this node may answer instead of the members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AskDaemon {
    /// It is asked before them: the key that we have may be another one than its own.
    First,
    /// It is asked where we have no key.
    WithoutKey,
    /// It may belong to another cluster.
    Never,
}

/// Nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// No key, and no daemon that has one.
    #[error("{}{daemon}", cause(key))]
    Key {
        /// What is wrong with the key.
        key: ClusterError,
        /// What was tried besides, or nothing.
        daemon: String,
    },
    /// The list is empty.
    #[error(
        "no member of the cluster is known{0}: look at cluster.members, cluster.membersFile and cluster.dns"
    )]
    Nobody(String),
    /// The system gives no thread or file.
    #[error("cannot ask the members: {0}")]
    Io(#[from] std::io::Error),
}

/// What is wrong with a key, for somebody who opens no ports.
fn cause(error: &ClusterError) -> String {
    match error {
        ClusterError::Key(error) => error.to_string(),
        ClusterError::Identity(error) => error.to_string(),
        other => other.to_string(),
    }
}

// === impl StatusError ===

impl StatusError {
    /// Whether it is a matter of rights: another user could ask.
    #[must_use]
    pub fn is_not_allowed(&self) -> bool {
        let Self::Key { key: ClusterError::Key(key), .. } = self else { return false };
        match key {
            KeyFileError::Unreadable { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            KeyFileError::Owner { .. } => true,
            _ => false,
        }
    }
}

/// Asks how all members are, in about three seconds for each thousand at most; or lets this node's daemon
/// do it.
///
/// # Errors
/// [`StatusError`]: nobody can be asked.
pub fn cluster_status(options: &ClusterOptions, daemon: AskDaemon) -> Result<ClusterStatus, StatusError> {
    open_files::raise_limit();
    let mut reasons = String::new();
    if daemon == AskDaemon::First {
        match cluster_status_by_daemon() {
            Ok(status) => return Ok(status),
            Err(silent) => reasons = silent,
        }
    }
    let key = match ask_members(options)? {
        Ok(seen) => return Ok(ClusterStatus { seen, by_daemon: None }),
        Err(key) => key,
    };
    if daemon == AskDaemon::WithoutKey {
        match cluster_status_by_daemon() {
            Ok(status) => return Ok(status),
            Err(silent) => reasons = silent,
        }
    }
    Err(StatusError::Key { key, daemon: reasons })
}

/// How the schedulers of a Dragonfly cluster are: as this node's daemon sees them, which has joined it; else as we do.
///
/// # Errors
/// [`StatusError::Io`].
pub fn dragonfly_status(schedulers: &[(String, u16)]) -> Result<ClusterStatus, StatusError> {
    if let Ok(status) = cluster_status_by_daemon()
        && !status.seen.schedulers.is_empty()
    {
        return Ok(status);
    }
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let states = runtime.block_on(Dragonfly::look(schedulers.to_vec()));
    runtime.shutdown_background();
    let schedulers = states.into_iter().map(scheduler).collect();
    Ok(ClusterStatus { seen: ClusterSeen { schedulers, ..ClusterSeen::default() }, by_daemon: None })
}

fn ask_members(options: &ClusterOptions) -> Result<Result<ClusterSeen, ClusterError>, StatusError> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        let visitor = match Visitor::prepare(options, DNS).await {
            Ok(visitor) => visitor,
            Err(error) => return Ok(Err(error)),
        };
        let Visitor { members, dialer, key_fingerprint, remarks } = visitor;
        if members.borrow().all().is_empty() {
            let why = remarks.first().map_or_else(String::new, |remark| format!(" ({remark})"));
            return Err(StatusError::Nobody(why));
        }
        let pace = Pace { connect: CONNECT, answer: ANSWER, ..Pace::default() };
        let schedulers = Schedulers::new(members, dialer, Host::default, pace);
        let seen = seen(schedulers.status().await, key_fingerprint);
        Ok(Ok(ClusterSeen { remarks, ..seen }))
    });
    // A name that is still being looked up holds nobody up.
    runtime.shutdown_background();
    asked
}

/// What the first daemon of this node that answers says of its cluster.
///
/// # Errors
/// Why none answers, as the end of a sentence.
pub fn cluster_status_by_daemon() -> Result<ClusterStatus, String> {
    let mut reasons = String::new();
    for socket in sockets() {
        match ask_daemon(&socket) {
            Ok(Some(seen)) => return Ok(ClusterStatus { seen, by_daemon: Some(socket) }),
            Ok(None) => {}
            Err(reason) => reasons.push_str(&format!("; the daemon at {}: {reason}", socket.display())),
        }
    }
    if reasons.is_empty() {
        reasons.push_str("; no daemon of this node can be asked instead");
    }
    Err(reasons)
}

/// `None` if nobody is there.
fn ask_daemon(socket: &Path) -> Result<Option<ClusterSeen>, String> {
    let Ok(mut channel) = Channel::connect(socket, PATIENCE) else { return Ok(None) };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let peer = Peer::of(channel.stream()).map_err(|error| error.to_string())?;
    peer.trusted(&passwd).map_err(|error| error.to_string())?;
    channel.send(&ToDaemon::Cluster, &[]).map_err(|error| error.to_string())?;
    match channel.receive::<FromDaemon>() {
        Ok(Some(FromDaemon::Cluster(seen))) => Ok(Some(seen)),
        Ok(Some(FromDaemon::Refused { reason, .. })) => Err(reason),
        Ok(_) => Err("it gives no answer to that question".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
