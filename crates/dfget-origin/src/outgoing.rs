//! Our own connections, so that we know ourselves when we meet.
//!
//! A proxy that reaches itself would do so for ever: by its own port named as a target, as the site's
//! proxy or as a mirror, or by a name that leads to itself. It finds that out by the address before
//! it connects, by the other end's address after it has (where packets are redirected), and by
//! `Via` where others stand between (RFC 9110, section 7.6.3).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dfget_net::Socket;
use http::header::{HeaderMap, HeaderValue, VIA};
use parking_lot::Mutex;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What there is of us. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ourselves {
    places: Arc<Places>,
    /// By which we stand in `Via`; another one for each process.
    pseudonym: Arc<str>,
}

#[derive(Debug, Default)]
struct Places {
    /// Both ends of the connections that we opened, ours first. Ours alone would not do: the kernel may
    /// give a client of this host the same port for its connection to us.
    ends: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
    /// Where we listen.
    listening: Mutex<Vec<SocketAddr>>,
}

/// A TCP connection that we opened; known as ours until it is dropped.
#[derive(Debug)]
pub struct Outgoing {
    /// Dropped before the connection ends, and its ports can be another's.
    _ends: Option<Ends>,
    stream: Socket,
}

#[derive(Debug)]
struct Ends {
    places: Arc<Places>,
    ends: (SocketAddr, SocketAddr),
}

/// Both ends of a connection that was accepted, as whoever opened it knows them.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    peer: SocketAddr,
    here: Option<SocketAddr>,
}

/// A place where we listen; forgotten when dropped.
#[derive(Debug)]
pub struct Listening {
    places: Arc<Places>,
    address: SocketAddr,
}

// === impl Ourselves ===

impl Ourselves {
    pub(crate) fn new() -> Self {
        let pseudonym = format!("dfget-{:016x}", fastrand::u64(..)).into();
        Self { places: Arc::default(), pseudonym }
    }

    /// Notes where we listen, for as long as the result lives.
    pub(crate) fn listen(&self, address: SocketAddr) -> Listening {
        self.places.listening.lock().push(address);
        Listening { places: Arc::clone(&self.places), address }
    }

    /// Whether a connection to this address would reach ourselves.
    pub(crate) fn stand_at(&self, address: SocketAddr) -> bool {
        let listening = self.places.listening.lock();
        let ip = address.ip().to_canonical();
        listening.iter().any(|own| {
            own.port() == address.port()
                && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && is_local(ip)))
        })
    }

    /// Whether an accepted connection is one that we opened.
    pub(crate) fn opened(&self, arrival: Arrival) -> bool {
        let Some(here) = arrival.here else { return false };
        self.places.ends.lock().contains(&(canonical(arrival.peer), canonical(here)))
    }

    pub(crate) fn outgoing(&self, stream: Socket) -> Outgoing {
        let ends = stream.local_addr().and_then(|ours| Ok((canonical(ours), canonical(stream.peer_addr()?))));
        let ends = ends.ok().map(|ends| {
            self.places.ends.lock().insert(ends);
            Ends { places: Arc::clone(&self.places), ends }
        });
        Outgoing { _ends: ends, stream }
    }

    /// Whether a message has come by us before.
    pub(crate) fn are_named(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
        let mut hops = values.flat_map(|value| value.split(','));
        hops.any(|hop| hop.split_whitespace().nth(1) == Some(&*self.pseudonym))
    }

    /// Adds us to those by whom a message has come; once.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        if !self.are_named(headers)
            && let Ok(own) = HeaderValue::try_from(format!("1.1 {}", self.pseudonym))
        {
            headers.append(VIA, own);
        }
    }
}

impl fmt::Debug for Ourselves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pseudonym)
    }
}

/// Whether the address is one of this host's: only such an address can be bound.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

// === impl Arrival ===

impl Arrival {
    /// Of a connection that was accepted from `peer`. Where a packet filter has led it here, its other end
    /// is where it was led from.
    #[must_use]
    pub fn of(stream: &TcpStream, peer: SocketAddr) -> Self {
        let original = match peer.ip().to_canonical() {
            IpAddr::V4(_) => sockopt::ip_original_dst(stream).map(SocketAddr::V4),
            IpAddr::V6(_) => sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
        };
        Self { peer, here: original.ok().or_else(|| stream.local_addr().ok()) }
    }

    /// Of a connection that was not accepted from the system's network.
    #[must_use]
    pub const fn simulated(peer: SocketAddr) -> Self {
        Self { peer, here: None }
    }

    /// Whom it was accepted from.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.places.ends.lock().remove(&self.ends);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listening = self.places.listening.lock();
        if let Some(place) = listening.iter().position(|address| *address == self.address) {
            listening.swap_remove(place);
        }
    }
}

// === impl Outgoing ===

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outgoing {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_end_is_ours_while_its_connection_lives() {
        let ourselves = Ourselves::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let outgoing = ourselves.outgoing(ours.expect("a connection").into());
        let (stream, peer) = accepted.expect("a connection");
        let arrival = Arrival::of(&stream, peer);
        assert!(ourselves.opened(arrival));
        // A client of this host may have our port towards another place.
        assert!(!ourselves.opened(Arrival { peer, here: "127.0.0.1:1".parse().ok() }));
        drop(outgoing);
        assert!(!ourselves.opened(arrival));
    }

    #[test]
    fn we_stand_where_we_listen() {
        let ourselves = Ourselves::new();
        let at = |text: &str| ourselves.stand_at(text.parse().expect("an address"));
        let one = ourselves.listen("127.0.0.1:65001".parse().expect("an address"));
        assert!(at("127.0.0.1:65001") && at("[::ffff:127.0.0.1]:65001"));
        assert!(!at("127.0.0.2:65001") && !at("127.0.0.1:65002"));
        let all = ourselves.listen("0.0.0.0:65002".parse().expect("an address"));
        assert!(at("127.0.0.2:65002") && at("0.0.0.0:65002") && !at("192.0.2.1:65002"));
        drop((one, all));
        assert!(!at("127.0.0.1:65001") && !at("127.0.0.1:65002"));
    }

    #[test]
    fn we_know_our_name_among_others() {
        let (one, other) = (Ourselves::new(), Ourselves::new());
        let mut headers = HeaderMap::new();
        headers.insert(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net (squid)"));
        assert!(!one.are_named(&headers));
        one.sign(&mut headers);
        other.sign(&mut headers);
        one.sign(&mut headers);
        assert!(
            one.are_named(&headers) && other.are_named(&headers) && !Ourselves::new().are_named(&headers)
        );
        assert_eq!(headers.get_all(VIA).iter().count(), 3);
        // As a proxy between may have joined them.
        let joined: Vec<_> = headers.get_all(VIA).iter().map(|value| value.to_str().expect("text")).collect();
        let joined = HeaderMap::from_iter([(VIA, HeaderValue::try_from(joined.join(",")).expect("a value"))]);
        assert!(one.are_named(&joined) && other.are_named(&joined));
    }
}
