//! What is stored of a content: asked of the daemon that runs, else read from its store.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dfget_core::{Authority, ContentKey, unix_seconds};
use dfget_lease::{
    Channel, FromDaemon, Look, Peer, Runtime, SYSTEM_SOCKET_VARIABLE, SeenContent, ToDaemon, system_socket,
};
use dfget_storage::{PeekError, peek};
use dfget_task::entry_names;

/// How long a daemon may take for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stored {
    /// All of it.
    Whole {
        /// Its length.
        bytes: u64,
        /// When it was last used.
        last_used: SystemTime,
    },
    /// Some of it, from a download that goes on or will.
    Part {
        /// The length of the whole, if known.
        total: Option<u64>,
        /// When it was last used.
        last_used: SystemTime,
    },
    /// Nothing.
    Nothing,
    /// It cannot be found out, and why.
    Unknown(String),
}

/// Looks for a content in the store in `data_dir`.
pub(super) fn look(key: &ContentKey, authority: &Authority, data_dir: &Path) -> Stored {
    let names = entry_names(key, authority);
    let asked = Look { names: names.iter().map(|name| name.as_str().to_owned()).collect() };
    let mut refused = None;
    for socket in sockets() {
        match ask(&socket, &asked, data_dir) {
            Ok(Some(contents)) => return of_contents(&contents),
            Ok(None) => {}
            Err(reason) => refused = Some(format!("the daemon at {}: {reason}", socket.display())),
        }
    }
    match peek(data_dir, &names) {
        Ok(found) => {
            let content = |peeked: Option<dfget_storage::Peeked>| {
                peeked.map(|peeked| SeenContent {
                    complete: peeked.complete,
                    total: peeked.total,
                    bytes: 0,
                    accessed: unix_seconds(peeked.accessed),
                })
            };
            of_contents(&found.into_iter().map(content).collect::<Vec<_>>())
        }
        Err(error @ PeekError::Held(_)) => Stored::Unknown(refused.unwrap_or_else(|| error.to_string())),
        Err(error) => Stored::Unknown(error.to_string()),
    }
}

fn of_contents(contents: &[Option<SeenContent>]) -> Stored {
    let content = contents.iter().flatten().max_by_key(|content| content.complete);
    let Some(content) = content else { return Stored::Nothing };
    let last_used = UNIX_EPOCH + Duration::from_secs(content.accessed);
    match content.total {
        Some(bytes) if content.complete => Stored::Whole { bytes, last_used },
        total => Stored::Part { total, last_used },
    }
}

/// Where a daemon with a configuration file may be asked: root's, and this user's own.
#[must_use]
pub fn sockets() -> Vec<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut sockets = vec![system_socket(directory(SYSTEM_SOCKET_VARIABLE).as_deref())];
    if !rustix::process::geteuid().is_root() {
        let (xdg, temporary) = (directory("XDG_RUNTIME_DIR"), directory("TMPDIR"));
        sockets
            .extend(Runtime::find(xdg.as_deref(), temporary.as_deref()).map(|run| run.daemon_socket()).ok());
    }
    sockets
}

/// `None` if nobody is there who keeps the store in `data_dir`.
fn ask(socket: &Path, look: &Look, data_dir: &Path) -> Result<Option<Vec<Option<SeenContent>>>, String> {
    let Ok(mut channel) = Channel::connect(socket, PATIENCE) else { return Ok(None) };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let peer = Peer::of(channel.stream()).map_err(|error| error.to_string())?;
    peer.trusted(&passwd).map_err(|error| error.to_string())?;
    channel.send(&ToDaemon::Look(look.clone()), &[]).map_err(|error| error.to_string())?;
    match channel.receive::<FromDaemon>() {
        Ok(Some(FromDaemon::Seen(seen))) => {
            let same = seen.store.as_deref().is_some_and(|store| Path::new(store) == data_dir);
            Ok(same.then_some(seen.contents))
        }
        Ok(Some(FromDaemon::Refused { reason, .. })) => Err(reason),
        Ok(_) => Err("it gives no answer to that question".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
