//! One connection to an origin: name, address, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dfget_core::{Authority, Scheme};
use dfget_net::Socket;
use http::HeaderMap;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::{ipv6_first, literal};
use crate::client::Timeouts;
use crate::outgoing::{Ourselves, Outgoing};
use crate::upstream::Via;
use crate::{AddressClass, ConnectError, Destinations, Trust, Upstream};

/// A connection on which nothing came for so long is probed.
pub(crate) const VANISHED_AFTER: Duration = Duration::from_secs(60);

/// Bytes read from a socket at once.
const READ_AT_ONCE: usize = 128 << 10;

/// A byte stream to an origin.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(Outgoing),
    /// Records have 16 KiB at most; what is read from the socket at once are many of them.
    Tls(Box<TlsStream<BufReader<Outgoing>>>),
}

/// A TCP connection on the way to an origin.
pub(crate) struct Reached {
    pub(crate) stream: Outgoing,
    /// The origin's address; `None` where a proxy resolves its name.
    pub(crate) address: Option<IpAddr>,
    /// The proxy at the other end, where that takes requests as they are.
    pub(crate) upstream: Option<Via>,
}

/// What a connection is opened by.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) upstream: Option<&'a Upstream>,
    pub(crate) destinations: &'a Destinations,
    pub(crate) ourselves: &'a Ourselves,
    /// The class of the address that the request first went to, when the connection is for a redirect of
    /// it; only addresses that such a redirect may lead to are tried then.
    pub(crate) registry: Option<AddressClass>,
    /// Try IPv6 addresses first.
    pub(crate) prefer_ipv6: bool,
}

/// Opens a connection to `authority`: by TCP, or through the site's proxy. `trail`: by whom the wish for
/// it has come (`Via`), for the next proxy to know.
///
/// # Errors
/// As [`Way::tcp`]; what the proxy refuses is told in its words.
pub(crate) async fn reach(
    authority: &Authority,
    way: Way<'_>,
    trail: &HeaderMap,
) -> Result<Reached, ConnectError> {
    let Some(via) = way.upstream.and_then(|upstream| upstream.via(authority)) else {
        let permitted = |address| way.destinations.permits(authority, address, way.registry);
        let (stream, address) = way.tcp(authority, permitted).await?;
        return Ok(Reached { stream, address: Some(address), upstream: None });
    };
    let address = literal(&authority.host);
    if let Some(address) = address
        && !way.destinations.permits(authority, address, way.registry)
    {
        return Err(way.forbidden(authority, address));
    }
    let proxy = Authority { scheme: Scheme::Http, host: via.host.clone(), port: via.port };
    let mut stream = match way.tcp(&proxy, |_| true).await {
        Ok((stream, _)) => stream,
        Err(error @ (ConnectError::TimedOut { .. } | ConnectError::Loop { .. })) => return Err(error),
        Err(error) => return Err(via.failed(authority, error.to_string())),
    };
    if Via::takes_requests(authority) {
        return Ok(Reached { stream, address, upstream: Some(via) });
    }
    match timeout(way.timeouts.connect, via.open(&mut stream, authority, trail)).await {
        Err(_) => Err(timed_out(authority, way.timeouts.connect)),
        Ok(opened) => opened.map(|()| Reached { stream, address, upstream: None }),
    }
}

// === impl Way ===

impl Way<'_> {
    /// Opens a TCP connection to one of the permitted addresses of `authority`.
    async fn tcp(
        &self,
        authority: &Authority,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Result<(Outgoing, IpAddr), ConnectError> {
        let limit = self.timeouts.connect;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let (mut refused, mut ourselves) = (None, false);
        for address in self.resolve(authority).await? {
            if !permitted(address.ip()) {
                refused = Some(address.ip());
                continue;
            }
            if self.ourselves.stand_at(address) {
                ourselves = true;
                continue;
            }
            match timeout(limit, Socket::connect(address)).await {
                Ok(Ok(stream)) => {
                    if let Some(stream) = stream.system() {
                        keep_alive_after(stream, self.timeouts.keep_alive);
                    }
                    return Ok((self.ourselves.outgoing(stream), address.ip()));
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        let host_port = authority.host_port();
        Err(match refused {
            Some(address) => self.forbidden(authority, address),
            None if ourselves => ConnectError::Loop { host_port, through: String::new() },
            None if last.kind() == io::ErrorKind::TimedOut => timed_out(authority, limit),
            None => ConnectError::Connect { host_port, source: last },
        })
    }

    async fn resolve(&self, authority: &Authority) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Some(addresses) = self.destinations.resolve.get(&authority.host) {
            return Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, authority.port)).collect());
        }
        let lookup = tokio::net::lookup_host((authority.host.as_str(), authority.port));
        let found = timeout(self.timeouts.connect, lookup)
            .await
            .map_err(|_| timed_out(authority, self.timeouts.connect))?
            .map_err(|source| ConnectError::Resolve { host: authority.host.clone(), source })?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        if self.prefer_ipv6 {
            ipv6_first(&mut addresses);
        }
        Ok(addresses)
    }

    fn forbidden(&self, authority: &Authority, address: IpAddr) -> ConnectError {
        let host_port = authority.host_port();
        match self.registry {
            Some(_) => ConnectError::Forbidden { host_port, address },
            None => ConnectError::Refused { host_port, address },
        }
    }
}

/// Sets a connection up for requests: what is sent leaves at once, and a peer that has vanished is
/// noticed within minutes, so that its descriptor is not held for ever.
pub fn keep_alive(stream: &TcpStream) {
    keep_alive_after(stream, VANISHED_AFTER);
}

fn keep_alive_after(stream: &TcpStream, quiet: Duration) {
    // Neither is needed for a right answer; a system that refuses only costs time.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(quiet));
}

/// Puts TLS on a TCP connection, where the authority's scheme has it, and verifies the origin.
pub(crate) async fn secure(
    stream: Outgoing,
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
    match timeout(timeouts.handshake, handshake).await {
        Err(_) => Err(timed_out(authority, timeouts.handshake)),
        Ok(Err(error)) => Err(failed(dfget_tls::describe_io(&error))),
        Ok(Ok(stream)) => Ok(Wire::Tls(Box::new(stream))),
    }
}

fn timed_out(authority: &Authority, after: Duration) -> ConnectError {
    ConnectError::TimedOut { host_port: authority.host_port(), after }
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
