//! One connection to one scheduler.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dfget_cluster::Dialer;
use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use dfget_proto::messages::grpc::health::v1::health_client::HealthClient;
use dfget_proto::messages::scheduler::v2::AnnounceHostRequest;
use dfget_proto::messages::scheduler::v2::scheduler_client::SchedulerClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::limits;
use crate::serve::{PING, PONG};

/// A connection, which is known to be gone as soon as it is.
#[derive(Debug)]
pub(crate) struct Line {
    wire: Wire,
    gone: CancellationToken,
    /// See [`Manners::interval`].
    interval: Option<Duration>,
    /// This host has been announced on it.
    announced: tokio::sync::Mutex<bool>,
    used: Mutex<Instant>,
}

/// What is kept to on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Whether the other end is asked, again and again, if it is there. Dragonfly's scheduler ends connections that
    /// do so more often than every five minutes (grpc-go, `keepalive.EnforcementPolicy`).
    pub(crate) pings: bool,
    /// How often this host says that it will announce itself; `None` = once for a connection.
    pub(crate) interval: Option<Duration>,
}

/// The HTTP/2 connection, as the generated clients want it.
#[derive(Clone, Debug)]
pub(crate) struct Wire(SendRequest<Body>);

// === impl Manners ===

impl Manners {
    /// Those of dfget's own daemons.
    pub(crate) const OWN: Self = Self { pings: true, interval: None };
}

// === impl Line ===

impl Line {
    /// Connects. The error says why not.
    pub(crate) async fn connect(
        dialer: &Dialer,
        to: SocketAddr,
        within: Duration,
        manners: Manners,
        tasks: &TaskTracker,
    ) -> Result<Self, String> {
        let stream = dialer.dial(to, within).await.map_err(|error| error.to_string())?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if manners.pings {
            builder.keep_alive_interval(PING).keep_alive_timeout(PONG).keep_alive_while_idle(true);
        }
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        tasks.spawn(async move {
            let _guard = guard;
            if let Err(error) = connection.await {
                tracing::debug!(scheduler = %to, %error, "a connection to a scheduler broke");
            }
        });
        Ok(Self {
            wire: Wire(sender),
            gone,
            interval: manners.interval,
            announced: tokio::sync::Mutex::new(false),
            used: Mutex::new(Instant::now()),
        })
    }

    /// Whether the other end may still be there.
    pub(crate) fn is_open(&self) -> bool {
        !self.gone.is_cancelled()
    }

    /// For how long nobody has asked for it.
    pub(crate) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }

    /// Notes that somebody asks for it.
    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(crate) fn scheduler(&self) -> SchedulerClient<Wire> {
        SchedulerClient::with_origin(self.wire.clone(), origin()).max_decoding_message_size(limits::MESSAGE)
    }

    pub(crate) fn health(&self) -> HealthClient<Wire> {
        HealthClient::with_origin(self.wire.clone(), origin()).max_decoding_message_size(limits::MESSAGE)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Wire> {
        ClusterClient::with_origin(self.wire.clone(), origin()).max_decoding_message_size(limits::MESSAGE)
    }

    /// Announces this host, if that has not been done on this connection or has to be done `again`.
    pub(crate) async fn announce(&self, host: Host, again: bool) -> Result<(), Status> {
        let mut announced = self.announced.lock().await;
        if *announced && !again {
            return Ok(());
        }
        let interval = self.interval.and_then(|interval| interval.try_into().ok());
        let request = AnnounceHostRequest { host: Some(host), interval };
        self.scheduler().announce_host(request).await?;
        *announced = true;
        Ok(())
    }
}

/// The dialled address says where; nobody looks at this.
fn origin() -> Uri {
    Uri::from_static("http://scheduler")
}

// === impl Wire ===

impl Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
