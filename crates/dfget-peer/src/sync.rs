//! The child's side: which pieces a parent has.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dfget_cluster::{Dialer, PeerStream};
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_client::DfdaemonUploadClient;
use dfget_proto::messages::dfdaemon::v2::{SyncPiecesRequest, SyncPiecesResponse};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::client::{Patience, PeerClient};
use crate::error::PeerError;

/// What a parent tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SyncItem {
    /// All that it has now.
    All {
        /// Unit n is bit n % 8, from the lowest, of byte n / 8.
        have: Vec<u8>,
        /// Length of the content in bytes.
        total: u64,
        /// Its port of pieces.
        pieces: SocketAddr,
        /// It found that bytes of others were wrong, and has begun anew without them.
        round: u32,
    },
    /// A piece that it has: it is a peer of another kind, which knows no units.
    One {
        /// From 0.
        number: u32,
        /// Where in the content it begins.
        offset: u64,
        /// Its bytes.
        length: u64,
        /// Its port of pieces.
        pieces: SocketAddr,
    },
}

/// What a parent tells, as it comes.
#[derive(Debug)]
pub struct SyncStream {
    items: Streaming<SyncPiecesResponse>,
    over: bool,
}

/// Leads gRPC through a door.
#[derive(Clone, Debug)]
struct Connector {
    dialer: Dialer,
    to: SocketAddr,
    within: Duration,
}

// === impl PeerClient ===

impl PeerClient {
    /// Listens to a parent, whose gRPC is at `grpc`, tell of its pieces of a task.
    ///
    /// `count` is the number of the content's pieces if it is known, else 0: a peer of Dragonfly wants to hear
    /// which pieces are of interest, and our own tell of all.
    ///
    /// # Errors
    /// [`PeerError`]; a parent without the task is [`ErrorKind::Missing`](crate::ErrorKind::Missing).
    pub async fn sync(
        &self,
        grpc: SocketAddr,
        task: &str,
        count: u32,
        patience: &Patience,
    ) -> Result<SyncStream, PeerError> {
        let channel = self.channel(grpc, patience).await?;
        let mut client = DfdaemonUploadClient::new(channel).max_decoding_message_size(MOST_ITEM);
        let request = SyncPiecesRequest {
            host_id: self.inner.host_id.clone(),
            task_id: task.to_owned(),
            interested_piece_numbers: (0..count.min(MOST_NAMED)).collect(),
            all: true,
        };
        let answer = timeout(patience.answer, client.sync_pieces(request)).await;
        let answer = answer.map_err(|_| PeerError::broken("it does not answer in time"))?;
        let items = answer.map_err(|status| error(&status))?.into_inner();
        Ok(SyncStream { items, over: false })
    }

    /// A connection to the gRPC port of another node.
    pub(crate) async fn channel(&self, grpc: SocketAddr, patience: &Patience) -> Result<Channel, PeerError> {
        let connector = Connector { dialer: self.inner.dialer.clone(), to: grpc, within: patience.connect };
        let endpoint = Endpoint::from_shared(format!("http://{grpc}"));
        let endpoint = endpoint.map_err(|error| PeerError::broken(error.to_string()))?;
        let endpoint = endpoint
            .http2_keep_alive_interval(ASK_ALIVE)
            .keep_alive_timeout(ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        let channel = timeout(patience.connect, endpoint.connect_with_connector(connector)).await;
        channel
            .map_err(|_| PeerError::broken("it cannot be reached in time"))?
            .map_err(|error| PeerError::broken(innermost(&error)))
    }
}

// === impl SyncStream ===

impl SyncStream {
    /// The next item; `None` when the parent has told all, after an error too.
    ///
    /// # Errors
    /// [`PeerError`]: the parent is gone, its download has failed, or it tells what cannot be. A parent that is
    /// silent is waited for as long as its system says that it lives: five seconds after that it is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<SyncItem, PeerError>> {
        if self.over {
            return None;
        }
        let item = match self.items.message().await {
            Ok(item) => item.map(read),
            Err(status) => Some(Err(error(&status))),
        };
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

fn read(item: SyncPiecesResponse) -> Result<SyncItem, PeerError> {
    let SyncPiecesResponse { number, offset, length, ip, tcp_port, have, total, round, .. } = item;
    let ip = ip.parse::<IpAddr>().map_err(|_| PeerError::wrong("it names no address of its pieces"))?;
    let port = tcp_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or_else(|| PeerError::wrong("it names no port of its pieces"))?;
    let pieces = SocketAddr::new(ip, port);
    if total > 0 {
        return Ok(SyncItem::All { have, total, pieces, round });
    }
    if length == 0 || offset.checked_add(length).is_none() {
        return Err(PeerError::wrong("it names a piece without bytes"));
    }
    Ok(SyncItem::One { number, offset, length, pieces })
}

pub(crate) fn error(status: &Status) -> PeerError {
    let text = format!("it says: {}", innermost(status));
    match status.code() {
        Code::NotFound => PeerError::missing(text),
        Code::OutOfRange => PeerError::wrong(text),
        _ => PeerError::broken(text),
    }
}

/// What is at the bottom of an error; those above it say little.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    let text =
        at.downcast_ref::<Status>().map_or_else(|| at.to_string(), |status| status.message().to_owned());
    text.chars().filter(|c| !c.is_control()).take(MOST_TEXT).collect()
}

// === impl Connector ===

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<PeerStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<PeerStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { dialer, to, within } = self.clone();
        Box::pin(async move {
            let stream = dialer.dial(to, within).await;
            stream.map(TokioIo::new).map_err(io::Error::other)
        })
    }
}

/// How often a silent parent is asked whether it lives, and how long it may take to say so.
const ASK_ALIVE: Duration = Duration::from_secs(2);
const ALIVE_WITHIN: Duration = Duration::from_secs(3);
/// The longest item that is taken, in bytes.
const MOST_ITEM: usize = 512 << 10;
/// Pieces that are named one by one.
const MOST_NAMED: u32 = 1 << 14;
/// The longest text of another node that is kept, in characters.
const MOST_TEXT: usize = 300;
