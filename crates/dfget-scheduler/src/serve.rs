//! The gRPC port: connections come in through the door, and all services answer on each.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use dfget_cluster::{Door, PeerStream};
use dfget_net::{Listener, Socket};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower_service::Service as _;

use crate::limits;
use crate::meter::Meter;

/// Who is at the other end of a connection: an extension of each request that [`serve_grpc`] hands to
/// the services.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The other has shown the cluster's key.
    pub keyed: bool,
    /// Where it called from.
    pub address: SocketAddr,
    pub(crate) meter: Arc<Meter>,
}

/// Answers on `listener` until `shutdown` is over, then lets streams end for two seconds at most.
///
/// Every connection that the door lets in reaches all `routes`; a [`Caller`] goes with each request.
/// Who is not let in costs one line in the log, at most one a minute for each address.
///
/// # Cancel safety
/// Dropping the future closes the listener and every connection.
pub async fn serve_grpc(
    listener: impl Into<Listener>,
    door: Door,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let port = Arc::new(Port {
        door,
        router: routes.prepare().into_axum_router(),
        stop: CancellationToken::new(),
        complaints: Mutex::default(),
    });
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits::CONNECTIONS => match accepted {
                Ok((socket, address)) => {
                    connections.spawn(Arc::clone(&port).answer(socket, address));
                }
                Err(error) => {
                    tracing::warn!(%error, "the gRPC port cannot accept a connection");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
    drop(listener);
    port.stop.cancel();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ended = timeout(GRACE, all_ended).await;
}

struct Port {
    door: Door,
    router: Router,
    stop: CancellationToken,
    /// When something was last said of an address.
    complaints: Mutex<HashMap<IpAddr, Instant>>,
}

// === impl Port ===

impl Port {
    async fn answer(self: Arc<Self>, socket: Socket, address: SocketAddr) {
        match self.door.admit(socket).await {
            Ok(stream) => self.converse(stream, address).await,
            Err(error) if error.is_idle() => {
                tracing::debug!(peer = %address, %error, "a connection came to nothing")
            }
            Err(error) if self.may_complain(address.ip(), Instant::now()) => {
                tracing::warn!(peer = %address, "a connection to the gRPC port is refused: {error}");
            }
            Err(_) => {}
        }
    }

    async fn converse(&self, stream: PeerStream, address: SocketAddr) {
        let caller = Caller { keyed: stream.is_keyed(), address, meter: Arc::new(Meter::new()) };
        let router = self.router.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(caller.clone());
            router.clone().call(request)
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(16 << 10);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let silent = async {
            sleep(FIRST_REQUEST).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = silent => return tracing::debug!(peer = %address, "a connection to the gRPC port asks nothing"),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match ended {
            Ok(()) => {}
            Err(error) if is_nonsense(&error) && self.may_complain(address.ip(), Instant::now()) => {
                tracing::warn!(
                    peer = %address,
                    "a connection to the gRPC port is closed: it speaks no gRPC ({error}): find out which program there has this port, or set another cluster.port on all nodes"
                );
            }
            Err(error) => {
                tracing::debug!(peer = %address, %error, "a connection to the gRPC port broke");
            }
        }
    }

    /// Whether a line about this address is due. While too many addresses call, only the first do.
    fn may_complain(&self, ip: IpAddr, now: Instant) -> bool {
        let mut complaints = self.complaints.lock();
        complaints.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        let due = complaints.len() < MOST_COMPLAINTS && !complaints.contains_key(&ip);
        if due {
            complaints.insert(ip, now);
        }
        due
    }
}

/// Whether the other has said what cannot be, and is not only gone.
fn is_nonsense(error: &hyper::Error) -> bool {
    let is_gone = error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    !is_gone && !error.is_timeout() && !error.is_canceled()
}

/// The other is asked so often whether it is there, and has so long to answer.
pub(crate) const PING: Duration = Duration::from_secs(2);
pub(crate) const PONG: Duration = Duration::from_secs(3);
/// A connection that has not asked anything by then is closed.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(60);
const MOST_COMPLAINTS: usize = 64;
/// Out of file descriptors, most often: trying again at once would only burn the processor.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);
