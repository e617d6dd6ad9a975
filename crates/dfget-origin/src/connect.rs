//! One connection to an origin: name, address, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dfget_core::{Authority, Scheme};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{error::Elapsed, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::ipv6_first;
use crate::client::Timeouts;
use crate::upstream::Via;
use crate::{AddressClass, ConnectError, Trust, Upstream};

/// A connection on which nothing came for so long is probed.
const VANISHED_AFTER: Duration = Duration::from_secs(60);

/// Bytes read from a socket at once.
const READ_AT_ONCE: usize = 128 << 10;

/// A byte stream to an origin.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    /// Records have 16 KiB at most; what is read from the socket at once are many of them.
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

/// A TCP connection on the way to an origin.
pub(crate) struct Reached {
    pub(crate) stream: TcpStream,
    /// The class of the origin's address; what a proxy resolves counts as the network's.
    pub(crate) class: AddressClass,
    /// The proxy at the other end, where that takes requests as they are.
    pub(crate) upstream: Option<Via>,
}

/// Opens a connection to `authority`: by TCP, or through the site's proxy.
///
/// # Errors
/// As [`tcp`]; what the proxy refuses is told in its words.
pub(crate) async fn reach(
    authority: &Authority,
    registry: Option<AddressClass>,
    timeouts: &Timeouts,
    upstream: Option<&Upstream>,
    prefer_ipv6: bool,
) -> Result<Reached, ConnectError> {
    let Some(via) = upstream.and_then(|upstream| upstream.via(authority)) else {
        let (stream, address) = tcp(authority, registry, timeouts, prefer_ipv6).await?;
        return Ok(Reached { stream, class: AddressClass::of(address), upstream: None });
    };
    let class = match authority.host.parse::<IpAddr>() {
        Ok(address) => {
            let class = AddressClass::of(address);
            if registry.is_some_and(|registry| !class.may_follow(registry)) {
                return Err(ConnectError::Forbidden { host_port: authority.host_port(), address });
            }
            class
        }
        Err(_) => AddressClass::Network,
    };
    let proxy = Authority { scheme: Scheme::Http, host: via.host.clone(), port: via.port };
    let (mut stream, _) = tcp(&proxy, None, timeouts, prefer_ipv6).await?;
    if Via::takes_requests(authority) {
        return Ok(Reached { stream, class, upstream: Some(via) });
    }
    match timeout(timeouts.connect, via.open(&mut stream, authority)).await {
        Err(_) => Err(timed_out(authority, timeouts)),
        Ok(Err(source)) => Err(ConnectError::Connect { host_port: authority.host_port(), source }),
        Ok(Ok(())) => Ok(Reached { stream, class, upstream: None }),
    }
}

/// Opens a TCP connection to `authority`.
///
/// `registry` is the class of the address that the request first went to, when this connection
/// is for a redirect of it; only addresses that such a redirect may lead to are tried then.
async fn tcp(
    authority: &Authority,
    registry: Option<AddressClass>,
    timeouts: &Timeouts,
    prefer_ipv6: bool,
) -> Result<(TcpStream, IpAddr), ConnectError> {
    let late = |_: Elapsed| timed_out(authority, timeouts);
    let lookup = tokio::net::lookup_host((authority.host.as_str(), authority.port));
    let mut addresses: Vec<SocketAddr> = timeout(timeouts.connect, lookup)
        .await
        .map_err(late)?
        .map_err(|source| ConnectError::Resolve { host: authority.host.clone(), source })?
        .collect();
    if prefer_ipv6 {
        ipv6_first(&mut addresses);
    }
    let forbidden = |address: &SocketAddr| {
        registry.is_some_and(|registry| !AddressClass::of(address.ip()).may_follow(registry))
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut refused = None;
    for address in addresses {
        if forbidden(&address) {
            refused = Some(address.ip());
            continue;
        }
        match timeout(timeouts.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                keep_alive(&stream);
                return Ok((stream, address.ip()));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    let host_port = authority.host_port();
    Err(match refused {
        Some(address) => ConnectError::Forbidden { host_port, address },
        None if last.kind() == io::ErrorKind::TimedOut => timed_out(authority, timeouts),
        None => ConnectError::Connect { host_port, source: last },
    })
}

/// Sets a connection up for requests: what is sent leaves at once, and a peer that has vanished is
/// noticed within minutes, so that its descriptor is not held for ever.
pub fn keep_alive(stream: &TcpStream) {
    // Neither is needed for a right answer; a system that refuses only costs time.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(VANISHED_AFTER));
}

/// Puts TLS on a TCP connection, where the authority's scheme has it, and verifies the origin.
pub(crate) async fn secure(
    stream: TcpStream,
    authority: &Authority,
    trust: &Trust,
    timeouts: &Timeouts,
) -> Result<Wire, ConnectError> {
    if authority.scheme == Scheme::Http {
        return Ok(Wire::Plain(stream));
    }
    let failed = |reason: String| ConnectError::Tls { host_port: authority.host_port(), reason };
    let name = ServerName::try_from(authority.host.clone())
        .map_err(|_| failed("not a name that a certificate could be for".to_owned()))?;
    let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
    let handshake = TlsConnector::from(Arc::clone(&trust.config)).connect(name, stream);
    match timeout(timeouts.connect, handshake).await {
        Err(_) => Err(timed_out(authority, timeouts)),
        Ok(Err(error)) => Err(failed(dfget_tls::describe_io(&error))),
        Ok(Ok(stream)) => Ok(Wire::Tls(Box::new(stream))),
    }
}

fn timed_out(authority: &Authority, timeouts: &Timeouts) -> ConnectError {
    ConnectError::TimedOut { host_port: authority.host_port(), after: timeouts.connect }
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
