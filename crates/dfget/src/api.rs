//! A client of the daemon's API, over its unix socket.
//!
//! Which daemon: that of the system, else one of this user's own. Whoever listens is asked by the
//! kernel who it is, so that nothing is told to, or believed of, somebody else's program.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dfget_console::Failed;
use dfget_daemon::admin_sockets;
use dfget_lease::Peer;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How long a daemon may take to say anything at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer longer than this is none of ours.
const LONGEST: usize = 256 << 20;

/// A connection to a daemon. Calls wait for their answers.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    socket: PathBuf,
}

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDaemon {
    /// None runs where this user could ask it.
    #[error("no daemon runs on this node for you: start `dfget daemon`, or look while a `dfget run` pulls")]
    None,
    /// One runs, for others.
    #[error("the daemon at {} belongs to another user: ask as root, or as its own user", .0.display())]
    NotAllowed(PathBuf),
    /// Something else listens there.
    #[error("the daemon at {} is not asked: {reason}", socket.display())]
    Untrusted {
        /// Where.
        socket: PathBuf,
        /// Who it is.
        reason: String,
    },
    /// The socket, or this process, has a trouble of its own.
    #[error("the daemon at {} cannot be asked: {source}", socket.display())]
    Io {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The daemon says no, and why.
    #[error("{}", .0.error)]
    Failed(Failed),
    /// It went away, or what it says is no answer.
    #[error("the daemon at {} gives no answer: {reason}; is it of another version?", socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

// === impl Client ===

impl Client {
    /// Connects to the first daemon that may be asked.
    ///
    /// # Errors
    /// [`NoDaemon`]: of several that may not be asked, the first.
    pub(crate) fn find() -> Result<Self, NoDaemon> {
        let mut refused = None;
        for socket in admin_sockets() {
            match Self::connect(&socket) {
                Ok(client) => return Ok(client),
                Err(NoDaemon::None) => {}
                Err(other) => drop(refused.get_or_insert(other)),
            }
        }
        Err(refused.unwrap_or(NoDaemon::None))
    }

    /// Connects to the daemon at `socket`.
    ///
    /// # Errors
    /// [`NoDaemon`]
    pub(crate) fn connect(socket: &Path) -> Result<Self, NoDaemon> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoDaemon::None,
            io::ErrorKind::PermissionDenied => NoDaemon::NotAllowed(socket.to_owned()),
            _ => NoDaemon::Io { socket: socket.to_owned(), source },
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let stream = runtime.block_on(UnixStream::connect(socket)).map_err(failed)?;
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let untrusted = |reason: String| NoDaemon::Untrusted { socket: socket.to_owned(), reason };
        let peer = Peer::of(&stream).map_err(failed)?;
        peer.trusted(&passwd).map_err(|error| untrusted(error.to_string()))?;
        Self::over(runtime, stream, socket).map_err(failed)
    }

    /// A client of whoever answers at the other end of `stream`.
    pub(crate) fn over(runtime: Runtime, stream: UnixStream, socket: &Path) -> io::Result<Self> {
        let (sender, connection) =
            runtime.block_on(handshake(TokioIo::new(stream))).map_err(io::Error::other)?;
        runtime.spawn(connection);
        Ok(Self { runtime, sender, socket: socket.to_owned() })
    }

    /// Where the daemon was found.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the daemon tells at `path` (with its query).
    ///
    /// # Errors
    /// [`CallError`]
    pub(crate) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// What the daemon answers.
    ///
    /// # Errors
    /// [`CallError`]
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let request =
            Request::builder().method(method).uri(path).header("host", "dfget").body(Full::new(body));
        let request = request.map_err(|error| self.broken(error))?;
        let Self { runtime, sender, .. } = self;
        let answered = runtime.block_on(async {
            sender.ready().await.map_err(|error| error.to_string())?;
            let answer = timeout(PATIENCE, sender.send_request(request)).await;
            let answer = answer.map_err(|_| "it takes too long".to_owned())?;
            let answer = answer.map_err(|error| error.to_string())?;
            let status = answer.status();
            Ok((status, collect(answer.into_body()).await?))
        });
        let (status, body) = answered.map_err(|reason: String| self.broken(reason))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.broken(error));
        }
        let failed: Result<Failed, _> = serde_json::from_slice(&body);
        Err(match failed {
            Ok(failed) => CallError::Failed(Failed { status: status.as_u16(), ..failed }),
            Err(_) => self.broken(format!("it says {status}")),
        })
    }

    fn broken(&self, reason: impl ToString) -> CallError {
        CallError::Broken { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(bytes) = frame.data_ref() {
            all.extend_from_slice(bytes);
        }
        if all.len() > LONGEST {
            return Err("its answer has no end".to_owned());
        }
    }
    Ok(all)
}
