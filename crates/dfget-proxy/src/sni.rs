//! Clients that a hosts file or DNS has led here (`hijackHTTPS.sni`): TLS at once, and the name that the
//! client asks for says where it wants to go.
//!
//! A name that `hosts` matches is hijacked as if it had come by CONNECT. Any other name gets its own host:
//! the bytes of the client are handed on as they are, the first ones included, and so it does where our
//! authority does not sign for it. A client without a name is told so by an alert.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use dfget_core::{Authority, Scheme};
use dfget_origin::{Arrival, ConnectError, Verdict, keep_alive};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::{debug, warn};

use crate::connect::{Signer, is_untrusted};
use crate::entrance::Entrance;
use crate::handler::Proxy;

/// How long a client may take to say which host it wants, and again for its side of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Encrypted bytes given to the kernel at once.
const WRITE_AT_ONCE: usize = 256 << 10;

/// Why a client is turned away (RFC 8446, section 6.2).
#[derive(Clone, Copy)]
enum Alert {
    AccessDenied = 49,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// The client's side of a connection; what has been read of it is kept until it is known what for.
struct Recorded {
    stream: TcpStream,
    /// `None` once nobody needs it any more.
    read: Option<Vec<u8>>,
}

/// Where a connection came in.
#[derive(Clone, Copy)]
struct Came {
    arrival: Arrival,
    /// The port that we listen on, which is the origin's too.
    port: u16,
    /// Its addresses mean nothing here: it was accepted in another network namespace.
    foreign: bool,
}

impl Proxy {
    async fn serve_sni(&self, listener: TcpListener, entrance: Arc<Entrance>, foreign: bool) {
        let Ok(address) = listener.local_addr() else { return };
        let _listening = (!foreign).then(|| self.origin().listen(address));
        let serve = |stream: TcpStream, peer| {
            let (proxy, entrance) = (self.clone(), Arc::clone(&entrance));
            let came = Came { arrival: Arrival::of(&stream, peer), port: address.port(), foreign };
            self.inner.tracker.spawn(async move { proxy.serve_named(&entrance, stream, came).await });
        };
        self.accept(&listener, &entrance, serve).await;
    }

    /// Takes connections that begin with TLS, in the background, until [`Self::close`] is called or the
    /// entrance closes. `foreign`: the listener stands in another network namespace.
    pub fn spawn_serve_sni(&self, listener: TcpListener, entrance: Arc<Entrance>, foreign: bool) {
        let proxy = self.clone();
        self.inner.tracker.spawn(async move { proxy.serve_sni(listener, entrance, foreign).await });
    }

    async fn serve_named(&self, entrance: &Arc<Entrance>, stream: TcpStream, came: Came) {
        let entrance = &entrance.current();
        keep_alive(&stream);
        let recorded = Recorded { stream, read: Some(Vec::new()) };
        // rustls bounds the length of a hello, and sends the alert where it is none.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), recorded);
        let start = tokio::select! {
            start = Box::pin(timeout(HANDSHAKE, hello)) => start,
            () = self.too_late() => return,
        };
        let mut start = match start {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => return debug!("{} speaks no TLS: {error}", came.arrival.peer()),
            Err(_) => return debug!("{} began no TLS handshake", came.arrival.peer()),
        };
        let target = match self.wanted(entrance, &start, came) {
            Ok(target) => target,
            Err((alert, why)) => return self.turn_away(&mut start.io, alert, why).await,
        };
        match self.signer(entrance, &target) {
            Some(Signer { leaves, lenient }) => {
                let failed = match self.verify(&target, &HeaderMap::new()).await {
                    Ok(()) => None,
                    Err(error) if lenient && is_untrusted(&error) => {
                        return self.hand_on(entrance, target, start.io).await;
                    }
                    // Nobody may see our good certificate in place of a bad one.
                    Err(error) if matches!(error.verdict(), Verdict::Bad) && is_untrusted(&error) => {
                        let why = format!("a client of {} is turned away: {error}", target.host_port());
                        return self.turn_away(&mut start.io, Alert::InternalError, why).await;
                    }
                    Err(error) => Some(error),
                };
                start.io.read = None;
                match leaves.server_config(&target.host, SystemTime::now()) {
                    Ok(config) => self.open(entrance, target, start, config, failed).await,
                    Err(error) => {
                        let why = format!("no certificate for {}: {error}", target.host);
                        self.turn_away(&mut start.io, Alert::InternalError, why).await;
                    }
                }
            }
            None => self.hand_on(entrance, target, start.io).await,
        }
    }

    /// Where a client wants to go, or why it does not get there.
    fn wanted(
        &self,
        entrance: &Entrance,
        start: &StartHandshake<Recorded>,
        came: Came,
    ) -> Result<Authority, (Alert, String)> {
        let hello = start.client_hello();
        let Some(name) = hello.server_name() else {
            let port = came.port;
            return Err((
                Alert::UnrecognizedName,
                format!("clients of port {port} name no host (SNI), so nobody knows where they want to go"),
            ));
        };
        let target = Authority::parse(Scheme::Https, &format!("{name}:{}", came.port));
        let target = target.map_err(|error| {
            (Alert::UnrecognizedName, format!("clients of port {} ask for what is {error}", came.port))
        })?;
        let place = target.host_port();
        if !came.foreign && self.origin().is_own_connection(came.arrival) {
            let why = format!(
                "{place} leads back to this proxy: tell where it really is by download.resolve, or take it out \
                 of the hosts file"
            );
            return Err((Alert::InternalError, why));
        }
        if entrance.admission.admits_target(&target) {
            Ok(target)
        } else {
            Err((Alert::AccessDenied, format!("{place} is not in the whiteList of this proxy")))
        }
    }

    /// Says by an alert that there is no way, and once for each reason in the log.
    async fn turn_away(&self, stream: &mut Recorded, alert: Alert, why: String) {
        let record = [21, 3, 3, 0, 2, 2, alert as u8];
        // A client that has left needs no word.
        let _ = stream.write_all(&record).await;
        let _ = stream.shutdown().await;
        if self.is_new(why.clone()) {
            warn!("{why}");
        }
    }

    /// Finishes the handshake with our certificate and answers requests; with `failed` by its words.
    async fn open(
        &self,
        entrance: &Arc<Entrance>,
        target: Authority,
        start: StartHandshake<Recorded>,
        config: Arc<tokio_rustls::rustls::ServerConfig>,
        failed: Option<Arc<ConnectError>>,
    ) {
        let accepted = tokio::select! {
            accepted = Box::pin(timeout(HANDSHAKE, start.into_stream(config))) => accepted,
            () = self.too_late() => return,
        };
        match accepted {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
                match failed {
                    None => Box::pin(self.serve_hijacked(entrance, target, stream)).await,
                    Some(error) => Box::pin(self.serve_failure(entrance, error, stream)).await,
                }
            }
            Ok(Err(error)) => entrance.handshake_refused(&target, &error, entrance.lenient),
            Err(_) => debug!("a client does not finish the TLS handshake for {}", target.host_port()),
        }
    }

    /// Hands a connection on to the host that it is for, from its first byte.
    async fn hand_on(&self, entrance: &Arc<Entrance>, target: Authority, mut stream: Recorded) {
        let opened = match self.inner.slots.take().await {
            Ok(_slot) => self.origin().tunnel(&target, &HeaderMap::new()).await.map_err(|error| {
                let remedy = match error.verdict() {
                    Verdict::Loop => "; tell where it really is by download.resolve",
                    _ => "",
                };
                format!("no connection: {error}{remedy}")
            }),
            Err(busy) => Err(busy.to_string()),
        };
        let sent = match opened {
            Ok(mut origin) => {
                let first = stream.read.take().unwrap_or_default();
                origin.write_all(&first).await.map(|()| origin).map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        match sent {
            Ok(origin) => self.copy(entrance, &target, stream, origin).await,
            Err(why) => self.turn_away(&mut stream, Alert::InternalError, why).await,
        }
    }
}

// === impl Recorded ===

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let (Poll::Ready(Ok(())), Some(read)) = (&polled, &mut self.read) {
            read.extend_from_slice(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
