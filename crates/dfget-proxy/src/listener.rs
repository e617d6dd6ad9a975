//! Connections: accepted, served, drained.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use dfget_core::Authority;
use dfget_origin::keep_alive;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::body::ResponseBody;
use crate::handler::Proxy;

/// A connection on which no request comes for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Wait after a failed accept: the usual cause, too many open files, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Proxy {
    /// Takes connections until [`Self::close`] is called.
    pub async fn serve(&self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.inner.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    keep_alive(&stream);
                    let proxy = self.clone();
                    self.inner.tracker.spawn(async move { proxy.serve_client(stream).await });
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}; if it is for open files, raise LimitNOFILE");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Stops taking connections, lets running responses end, for at most `limit`; returns
    /// whether all have.
    pub async fn close(&self, limit: Duration) -> bool {
        self.inner.closing.cancel();
        self.inner.tracker.close();
        tokio::time::timeout(limit, self.inner.tracker.wait()).await.is_ok()
    }

    /// How many connections and tunnels there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.tracker.len()
    }

    async fn serve_client(&self, stream: tokio::net::TcpStream) {
        let answer = |request| {
            let proxy = self.clone();
            async move { proxy.answer(request).await }
        };
        self.serve_http1(stream, answer).await;
    }

    pub(crate) async fn serve_hijacked<S>(&self, authority: Authority, stream: TlsStream<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = |request| {
            let (proxy, authority) = (self.clone(), authority.clone());
            async move { proxy.answer_hijacked(&authority, request).await }
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_http2(stream, answer).await;
        } else {
            self.serve_http1(stream, answer).await;
        }
    }

    async fn serve_http1<S, F>(&self, stream: S, answer: impl Fn(Request<Incoming>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Response<ResponseBody>>,
    {
        let service = service_fn(|request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        self.drive(connection, http1::UpgradeableConnection::graceful_shutdown).await;
    }

    async fn serve_http2<S, F>(&self, stream: S, answer: impl Fn(Request<Incoming>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let service = service_fn(|request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            .adaptive_window(true)
            .max_concurrent_streams(256)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(connection, http2::Connection::graceful_shutdown).await;
    }

    /// Serves a connection to its end; once the daemon ends, only what is under way on it.
    async fn drive<C>(&self, connection: C, end: impl FnOnce(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.inner.closing.cancelled() => {
                end(connection.as_mut());
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!("connection ended: {error}");
        }
    }
}
