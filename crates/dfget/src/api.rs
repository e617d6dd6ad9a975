//! A client of the daemon's API, over its unix socket.
//!
//! Which daemon: that of the system, else one of this user's own. Whoever listens is asked by the
//! kernel who it is, so that nothing is told to, or believed of, somebody else's program.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use dfget_console::{Api, Failed, serve_stream};
use dfget_daemon::admin_sockets;
use dfget_lease::Peer;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// How long a daemon may take to say anything at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer longer than this is none of ours.
const LONGEST: usize = 256 << 20;

/// A connection to a daemon. Calls wait for their answers.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Outgoing>,
    socket: PathBuf,
    /// What this very process serves.
    own: Option<Api>,
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

/// Why something that was sent was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// It could not be read to its end.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It was not wanted.
    #[error(transparent)]
    Call(#[from] CallError),
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
        Self::over(runtime, stream, socket, None).map_err(failed)
    }

    /// A client of an API that this very process serves.
    ///
    /// # Errors
    /// The system has no sockets or no threads.
    pub(crate) fn of(api: Api, place: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let near = pair(&runtime, &api)?;
        Self::over(runtime, near, place, Some(api))
    }

    fn over(runtime: Runtime, stream: UnixStream, socket: &Path, own: Option<Api>) -> io::Result<Self> {
        let sender = greet(&runtime, stream)?;
        Ok(Self { runtime, sender, socket: socket.to_owned(), own })
    }

    /// Connects again if the other end has closed: whoever answers before it has read all does.
    fn renew(&mut self) -> Result<(), CallError> {
        let Self { runtime, sender, socket, own } = self;
        // The task of the connection runs only while somebody waits.
        runtime.block_on(tokio::task::yield_now());
        if !sender.is_closed() {
            return Ok(());
        }
        let stream = match own {
            Some(api) => pair(runtime, api),
            None => runtime.block_on(UnixStream::connect(&*socket)),
        };
        let renewed = stream.and_then(|stream| greet(runtime, stream));
        *sender = renewed.map_err(|error| broken(socket, error))?;
        Ok(())
    }

    /// What the daemon tells at `path` (with its query).
    ///
    /// # Errors
    /// [`CallError`]
    pub(crate) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        let body = self.exchange(Method::GET, path, Outgoing::whole(Bytes::new()))?;
        self.read(&body)
    }

    /// What the daemon answers to `body`, in JSON.
    ///
    /// # Errors
    /// [`CallError`]
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        let body = self.exchange(method, path, Outgoing::whole(body.into()))?;
        self.read(&body)
    }

    /// Has `each` hear every line of the answer as it comes.
    ///
    /// # Errors
    /// [`CallError`]
    pub(crate) fn lines<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T),
    ) -> Result<(), CallError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        let response = self.begin(Method::POST, path, Outgoing::whole(body.into()))?;
        let (mut body, mut line) = (response.into_body(), Vec::new());
        while let Some(part) = self.part(&mut body)? {
            for piece in part.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    each(self.line(&line)?);
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// Has `each` hear the bytes of the answer, all of them.
    ///
    /// # Errors
    /// [`CallError`], and what `each` says.
    pub(crate) fn bytes<E: From<CallError>>(
        &mut self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let response = self.begin(Method::GET, path, Outgoing::whole(Bytes::new()))?;
        let mut body = response.into_body();
        while let Some(part) = self.part(&mut body)? {
            each(&part)?;
        }
        Ok(())
    }

    /// Sends `size` bytes from `reader`.
    ///
    /// # Errors
    /// [`UploadError`]. After one of reading, the connection is of no more use.
    pub(crate) fn upload<T: DeserializeOwned>(
        &mut self,
        path: &str,
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<T, UploadError> {
        self.renew()?;
        let (parts, receiver) = channel(WAITING);
        let request = self.request(Method::POST, path, Outgoing::Parts { receiver, left: size })?;
        let Self { runtime, sender, socket, .. } = self;
        let answered = runtime.block_on(async {
            let sent = async {
                sender.ready().await?;
                sender.send_request(request).await
            };
            let feeding = feed(reader, size, parts);
            let (mut sent, mut feeding) = (pin!(sent), pin!(feeding));
            let answer = tokio::select! {
                // Whoever answers before the end wants no more.
                answer = &mut sent => answer,
                fed = &mut feeding => {
                    fed.map_err(UploadError::Read)?;
                    sent.await
                }
            };
            let answer = answer.map_err(|error| broken(socket, error))?;
            let status = answer.status();
            let body = collect(answer.into_body()).await.map_err(|error| broken(socket, error))?;
            Ok::<_, UploadError>((status, body))
        });
        let (status, body) = answered?;
        self.succeeded(status, &body)?;
        Ok(self.read(&body)?)
    }

    fn request(&self, method: Method, path: &str, body: Outgoing) -> Result<Request<Outgoing>, CallError> {
        let request = Request::builder().method(method).uri(path).header("host", "dfget").body(body);
        request.map_err(|error| self.broken(error))
    }

    /// The whole answer, if it is a good one.
    fn exchange(&mut self, method: Method, path: &str, body: Outgoing) -> Result<Vec<u8>, CallError> {
        let answer = self.begin(method, path, body)?;
        let Self { runtime, socket, .. } = self;
        runtime.block_on(collect(answer.into_body())).map_err(|reason| broken(socket, reason))
    }

    /// The head of the answer, if it is a good one.
    fn begin(&mut self, method: Method, path: &str, body: Outgoing) -> Result<Response<Incoming>, CallError> {
        self.renew()?;
        let request = self.request(method, path, body)?;
        let Self { runtime, sender, socket, .. } = self;
        let answered = runtime.block_on(async {
            sender.ready().await.map_err(|error| error.to_string())?;
            let answer = timeout(PATIENCE, sender.send_request(request)).await;
            let answer = answer.map_err(|_| "it takes too long".to_owned())?;
            let answer = answer.map_err(|error| error.to_string())?;
            match answer.status() {
                StatusCode::OK => Ok(Ok(answer)),
                status => Ok(Err((status, collect(answer.into_body()).await?))),
            }
        });
        match answered.map_err(|reason: String| broken(socket, reason))? {
            Ok(answer) => Ok(answer),
            Err((status, body)) => Err(self.failed(status, &body)),
        }
    }

    /// The next part of an answer, however long that takes.
    fn part(&self, body: &mut Incoming) -> Result<Option<Bytes>, CallError> {
        self.runtime.block_on(async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(error))?;
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Ok(None)
        })
    }

    /// A line of an answer: what is meant, or why there is nothing more.
    fn line<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<Failed>(line) {
            Ok(failed) => CallError::Failed(failed),
            Err(_) => self.broken(error),
        })
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(body).map_err(|error| self.broken(error))
    }

    fn succeeded(&self, status: StatusCode, body: &[u8]) -> Result<(), CallError> {
        if status == StatusCode::OK { Ok(()) } else { Err(self.failed(status, body)) }
    }

    fn failed(&self, status: StatusCode, body: &[u8]) -> CallError {
        match serde_json::from_slice::<Failed>(body) {
            Ok(failed) => CallError::Failed(Failed { status: status.as_u16(), ..failed }),
            Err(_) => self.broken(format!("it says {status}")),
        }
    }

    fn broken(&self, reason: impl ToString) -> CallError {
        broken(&self.socket, reason)
    }
}

/// The near end of a connection to this process itself.
fn pair(runtime: &Runtime, api: &Api) -> io::Result<UnixStream> {
    let (near, far) = runtime.block_on(async { UnixStream::pair() })?;
    runtime.spawn(serve_stream(far, api.clone()));
    Ok(near)
}

fn greet(runtime: &Runtime, stream: UnixStream) -> io::Result<SendRequest<Outgoing>> {
    let shaken = runtime.block_on(handshake(TokioIo::new(stream)));
    let (sender, connection) = shaken.map_err(io::Error::other)?;
    runtime.spawn(connection);
    Ok(sender)
}

fn broken(socket: &Path, reason: impl ToString) -> CallError {
    CallError::Broken { socket: socket.to_owned(), reason: reason.to_string() }
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

/// Reads `size` bytes and sends them on. Nothing else is done meanwhile, and need not be.
async fn feed(reader: &mut dyn Read, size: u64, parts: Sender<Bytes>) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let mut part = vec![0; usize::try_from(left).unwrap_or(PART).min(PART)];
        let read = match reader.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        part.truncate(read);
        left -= read as u64;
        // Nobody takes it any more: the answer says why.
        if parts.send(part.into()).await.is_err() {
            std::future::pending::<()>().await;
        }
        // The next read may wait for long.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A body that is sent.
enum Outgoing {
    Whole(Option<Bytes>),
    /// As they come; broken off if they end before their time.
    Parts {
        receiver: Receiver<Bytes>,
        left: u64,
    },
}

// === impl Outgoing ===

impl Outgoing {
    const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Parts { left: 0, .. } => Poll::Ready(None),
            Self::Parts { receiver, left } => receiver.poll_recv(context).map(|part| match part {
                Some(part) => {
                    *left = left.saturating_sub(part.len() as u64);
                    Some(Ok(Frame::data(part)))
                }
                None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Parts { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Parts { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

/// Bytes that are read at once, and parts that wait to be sent.
const PART: usize = 256 << 10;
const WAITING: usize = 2;
