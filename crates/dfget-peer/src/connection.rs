//! One connection to the port of pieces: requests come, answers go, in the same order.
//!
//! A child may ask ahead. What it asked stays in the socket until its turn comes, but for what fits into one
//! read; so neither side can make the other keep much.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::{PeerStream, describe_io};
use dfget_proto::vortex::{Asked, FrameError, REQUEST_LEN, Request, Step};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::holdings::{Asker, Refusal};
use crate::send;
use crate::uploads::Shared;

/// What a child has said and was not looked at yet.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Where what is not looked at yet begins.
    from: usize,
}

/// Why a connection ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The child does not speak as it should.
    #[error("{0}")]
    Malformed(#[from] FrameError),
    /// It sends frames without end that mean nothing here.
    #[error("it sends nothing but frames that mean nothing here")]
    Chatter,
    /// It does not take what is sent.
    #[error("it takes no more bytes")]
    Stalled,
    /// What was begun cannot be ended.
    #[error("a piece cannot be read to its end")]
    Unreadable,
    /// It is gone.
    #[error("{}", describe_io(.0))]
    Broken(#[from] io::Error),
}

/// Answers until the child leaves, is silent for too long, or `shutdown`.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    mut stream: PeerStream,
    from: SocketAddr,
    shutdown: &CancellationToken,
) {
    if let PeerStream::ServerTls(stream) = &mut stream {
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    }
    let asker = Asker { keyed: stream.is_keyed(), address: from };
    match exchange(shared, &mut stream, &asker, shutdown).await {
        Ok(()) => {}
        Err(end @ (End::Malformed(_) | End::Chatter)) => {
            shared.refused(Refusal::Malformed);
            shared.complain(from, &end);
            return;
        }
        Err(end) => {
            if matches!(end, End::Stalled) {
                shared.refused(Refusal::Stalled);
            }
            tracing::debug!(%from, "a connection for pieces ends: {end}");
            return;
        }
    }
    let _ = timeout(GOODBYE, stream.shutdown()).await;
}

async fn exchange(
    shared: &Arc<Shared>,
    stream: &mut PeerStream,
    asker: &Asker,
    shutdown: &CancellationToken,
) -> Result<(), End> {
    let mut inbox = Inbox::default();
    loop {
        let request = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            request = timeout(shared.options.idle, inbox.next(stream)) => request,
        };
        let Ok(request) = request else { return Ok(()) };
        let Some(request) = request? else { return Ok(()) };
        send::answer(shared, stream, asker, &request).await?;
    }
}

// === impl Inbox ===

impl Inbox {
    /// The next request; `None` if the child leaves.
    async fn next(&mut self, stream: &mut PeerStream) -> Result<Option<Request>, End> {
        let mut unknown = 0;
        loop {
            match Asked::decode(&self.bytes[self.from..])? {
                Step::Frame(asked, len) => {
                    self.from += len;
                    match asked {
                        Asked::Piece(request) => return Ok(Some(request)),
                        Asked::Close => return Ok(None),
                        Asked::Unknown if unknown < CHATTER => unknown += 1,
                        Asked::Unknown => return Err(End::Chatter),
                    }
                }
                Step::More(wanted) => {
                    if !self.fill(stream, wanted).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads once, into room for `wanted` bytes at the least; `false` at the end.
    async fn fill(&mut self, stream: &mut PeerStream, wanted: usize) -> io::Result<bool> {
        self.bytes.drain(..self.from);
        self.from = 0;
        let room = wanted.max(AHEAD) - self.bytes.len();
        self.bytes.reserve_exact(room);
        let mut limited = stream.take(room as u64);
        Ok(limited.read_buf(&mut self.bytes).await? > 0)
    }
}

/// Requests that are read ahead.
const AHEAD: usize = 16 * REQUEST_LEN;
/// Frames without meaning that are skipped before a request.
const CHATTER: u32 = 16;
/// Bytes that TLS gives to the kernel at once.
const TLS_BUFFER: usize = 256 << 10;
/// Time to end a connection in good order.
const GOODBYE: Duration = Duration::from_secs(1);
