//! All that is handed out, and the limits of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::Door;
use dfget_net::Listener;
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_server::DfdaemonUploadServer;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::holdings::{Holdings, Refusal, UploadEvent};
use crate::places::Places;
use crate::rate::Bucket;
use crate::seldom::Seldom;
use crate::server;
use crate::service::{MOST_REQUEST, UploadService};

/// Limits of what is handed out.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    /// Where children find the port of pieces, as they are told.
    pub pieces: SocketAddr,
    /// Bytes a second to all children together; 0 = no limit.
    pub rate: u64,
    /// Pieces that are sent at once; the others wait in the order in which they came.
    pub at_once: usize,
    /// Connections to the port of pieces, of all and of one address.
    pub connections: usize,
    /// Of one address.
    pub connections_of_one: usize,
    /// Streams of news that there may be at once.
    pub streams: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How long a child may take for one go, of half a MiB at most.
    pub stall: Duration,
}

/// The parent's side. Clones share the same limits.
#[derive(Clone)]
pub struct Uploads {
    pub(crate) shared: Arc<Shared>,
}

/// What all connections and streams share.
pub(crate) struct Shared {
    pub(crate) options: UploadOptions,
    pub(crate) holdings: Arc<dyn Holdings>,
    pub(crate) places: Arc<Places>,
    pub(crate) turns: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
    rate: Mutex<Bucket>,
    began: Instant,
    strangers: Seldom,
}

// === impl UploadOptions ===

impl UploadOptions {
    /// No limit of the rate, and sane ones of all else. `pieces` is what children are told.
    #[must_use]
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self {
            pieces: SocketAddr::new(ip, port),
            rate: 0,
            at_once: 8,
            connections: 4096,
            connections_of_one: 128,
            streams: 4096,
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(10),
        }
    }
}

// === impl Uploads ===

impl Uploads {
    /// Hands out what `holdings` finds.
    #[must_use]
    pub fn new(options: UploadOptions, holdings: Arc<dyn Holdings>) -> Self {
        let began = Instant::now();
        let shared = Shared {
            places: Places::new(options.connections, options.connections_of_one),
            turns: Semaphore::new(options.at_once.clamp(1, Semaphore::MAX_PERMITS)),
            streams: Arc::new(Semaphore::new(options.streams.clamp(1, Semaphore::MAX_PERMITS))),
            rate: Mutex::new(Bucket::new(options.rate, Duration::ZERO)),
            began,
            strangers: Seldom::default(),
            options,
            holdings,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Another rate from now on, in bytes a second; 0 = no limit.
    pub fn set_rate(&self, rate: u64) {
        self.shared.rate.lock().set_rate(rate, self.shared.began.elapsed());
    }

    /// Answers at the port of pieces until `shutdown`; then those who are being sent a piece have five seconds to
    /// get the rest of it.
    ///
    /// # Cancel safety
    /// Dropped, it leaves its connections to themselves until they end.
    pub async fn serve(&self, listener: impl Into<Listener>, door: Door, shutdown: CancellationToken) {
        server::serve(&self.shared, listener.into(), door, shutdown).await;
    }

    /// The service that tells which pieces are here, and the bandwidth. Whoever mounts it puts an
    /// [`Asker`](crate::Asker) into the extensions of each request; without one, asks a stranger without a key.
    #[must_use]
    pub fn service(&self) -> DfdaemonUploadServer<UploadService> {
        let service = UploadService::new(Arc::clone(&self.shared));
        DfdaemonUploadServer::new(service).max_decoding_message_size(MOST_REQUEST)
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// How much to send in one go.
    pub(crate) fn chunk(&self) -> u64 {
        self.rate.lock().chunk()
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn may_send(&self, bytes: u64) {
        let wait = self.rate.lock().take(bytes, self.began.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn refused(&self, why: Refusal) {
        self.holdings.happened(UploadEvent::Refused(why));
    }

    /// One line for what a stranger did, unless there was one just now.
    pub(crate) fn complain(&self, from: SocketAddr, what: &dyn fmt::Display) {
        if let Some(left_out) = self.strangers.say(std::time::Instant::now()) {
            tracing::warn!(%from, left_out, "a peer was turned away from the port of pieces: {what}");
        }
    }
}
