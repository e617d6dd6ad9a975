//! Connections: accepted, served, drained.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use dfget_core::Authority;
use dfget_origin::{Arrival, ConnectError, keep_alive};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use crate::body::ResponseBody;
use crate::connect::HANDSHAKE;
use crate::entrance::Entrance;
use crate::guard::{Guarded, Refusals};
use crate::handler::Proxy;
use crate::in_clear::{FilesToSend, InClear};
use crate::respond;

/// A connection on which no request comes for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// How long who has connected before the daemon was told to end, and cannot know that, may take to his first request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

/// Header fields of one HTTP/2 request, in bytes. Tokens of tens of kilobytes are usual with some registries.
const LONGEST_HEADERS: u32 = 128 << 10;

/// Wait after a failed accept: the usual cause, too many open files, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Proxy {
    /// Takes connections until [`Self::close`] is called, or the entrance closes.
    pub async fn serve(&self, listener: TcpListener, entrance: Arc<Entrance>) {
        let _listening = listener.local_addr().ok().map(|address| self.origin().listen(address));
        let serve = |stream, peer| {
            keep_alive(&stream);
            let (proxy, entrance) = (self.clone(), Arc::clone(&entrance));
            self.inner.tracker.spawn(async move { proxy.accept_client(&entrance, stream, peer).await });
        };
        self.accept(&listener, &entrance, serve).await;
    }

    /// Gives each connection to `serve` until the daemon or the entrance ends.
    pub(crate) async fn accept(
        &self,
        listener: &TcpListener,
        entrance: &Entrance,
        serve: impl Fn(TcpStream, SocketAddr),
    ) {
        loop {
            let accepted = tokio::select! {
                () = self.inner.closing.cancelled() => return,
                () = entrance.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => serve(stream, peer),
                Err(error) => {
                    warn!("cannot accept a connection: {error}; if it is for open files, raise LimitNOFILE");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Stops taking connections, lets running responses end, for at most `limit`; returns
    /// whether all have.
    pub async fn close(&self, limit: Duration) -> bool {
        self.inner.closing.cancel();
        self.inner.tracker.close();
        timeout(limit, self.inner.tracker.wait()).await.is_ok()
    }

    /// Serves an entrance in the background, until either closes.
    pub fn spawn_serve(&self, listener: TcpListener, entrance: Arc<Entrance>) {
        let proxy = self.clone();
        self.inner.tracker.spawn(async move { proxy.serve(listener, entrance).await });
    }

    /// How many connections and tunnels there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Serves a connection of the listener, over TLS if that is asked for there.
    async fn accept_client(&self, entrance: &Arc<Entrance>, stream: TcpStream, peer: SocketAddr) {
        let arrival = Arrival::of(&stream, peer);
        let Some(config) = &entrance.current().tls else {
            let (stream, files) = InClear::new(stream);
            return self.serve_client(entrance, arrival, stream, Some(files)).await;
        };
        let accept = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        let accepted = tokio::select! {
            accepted = Box::pin(timeout(HANDSHAKE, accept)) => accepted,
            () = self.too_late() => return,
            () = entrance.closing.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => Box::pin(self.serve_client(entrance, arrival, stream, None)).await,
            Ok(Err(error)) => info!(
                "a client could not begin TLS with the proxy's port (proxy.security): {error}; its proxy must be \
                 set as https://, and it must trust the port's certificate"
            ),
            Err(_) => debug!("a client began no TLS handshake with the proxy's port"),
        }
    }

    /// Answers what comes on a connection that no listener of the system has taken, in clear, until it ends.
    pub async fn serve_connection<S>(&self, entrance: &Arc<Entrance>, arrival: Arrival, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_client(entrance, arrival, stream, None).await;
    }

    /// Answers what comes on a connection; `files`: what the kernel is to send on it.
    async fn serve_client<S>(
        &self,
        entrance: &Arc<Entrance>,
        arrival: Arrival,
        stream: S,
        files: Option<FilesToSend>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = |mut request: Request<Incoming>| {
            let (proxy, entrance) = (self.clone(), Arc::clone(entrance));
            if let Some(files) = &files {
                request.extensions_mut().insert(files.clone());
            }
            // What hyper keeps for the next request, and moves for each, is a pointer then.
            Box::pin(async move { proxy.answer(&entrance, arrival, request).await })
        };
        self.serve_http1(entrance, stream, answer).await;
    }

    pub(crate) async fn serve_hijacked<S>(
        &self,
        entrance: &Arc<Entrance>,
        authority: Authority,
        stream: TlsStream<S>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = |request| {
            let (proxy, entrance, authority) = (self.clone(), Arc::clone(entrance), authority.clone());
            Box::pin(async move { proxy.answer_hijacked(&entrance, &authority, request).await })
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_http2(entrance, stream, answer).await;
        } else {
            self.serve_http1(entrance, stream, answer).await;
        }
    }

    /// Answers every request of an opened connection by why there is no way to its origin.
    pub(crate) async fn serve_failure<S>(
        &self,
        entrance: &Arc<Entrance>,
        error: Arc<ConnectError>,
        stream: TlsStream<S>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = |_| std::future::ready(respond::connect_failed(&error));
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_http2(entrance, stream, answer).await;
        } else {
            self.serve_http1(entrance, stream, answer).await;
        }
    }

    async fn serve_http1<S, F>(&self, entrance: &Entrance, stream: S, answer: impl Fn(Request<Incoming>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Response<ResponseBody>>,
    {
        let (refusals, begun) = (Refusals::default(), Notify::new());
        let stream = Guarded::new(stream, refusals.clone());
        let service = service_fn(|request| {
            begun.notify_one();
            let answered = refusals.of(&request).ok_or_else(|| answer(request));
            async move {
                match answered {
                    Ok(refused) => Ok::<_, Infallible>(refused),
                    Err(answer) => Ok(answer.await),
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.drive(entrance, &begun, connection, http1::UpgradeableConnection::graceful_shutdown).await;
    }

    async fn serve_http2<S, F>(&self, entrance: &Entrance, stream: S, answer: impl Fn(Request<Incoming>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let begun = Notify::new();
        let service = service_fn(|request| {
            begun.notify_one();
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            .adaptive_window(true)
            .max_concurrent_streams(256)
            .max_header_list_size(LONGEST_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(entrance, &begun, connection, http2::Connection::graceful_shutdown).await;
    }

    /// Serves a connection to its end; once the daemon or the entrance ends, only what is under way on it.
    /// `begun` is told of each request.
    async fn drive<C>(
        &self,
        entrance: &Entrance,
        begun: &Notify,
        connection: C,
        end: impl FnOnce(Pin<&mut C>),
    ) where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.last_request(entrance, begun) => {
                end(connection.as_mut());
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!("connection ended: {error}");
        }
    }

    /// Until a connection is to take no more requests: with its entrance at once; with the daemon when it has had
    /// one, or when none has come for a while.
    async fn last_request(&self, entrance: &Entrance, begun: &Notify) {
        let with_the_daemon = async {
            self.inner.closing.cancelled().await;
            let _ = timeout(FIRST_REQUEST, begun.notified()).await;
        };
        tokio::select! {
            () = with_the_daemon => {}
            () = entrance.closing.cancelled() => {}
        }
    }

    /// Until it is too late for a connection without a request: a while after the daemon was told to end.
    pub(crate) async fn too_late(&self) {
        self.inner.closing.cancelled().await;
        sleep(FIRST_REQUEST).await;
    }
}
