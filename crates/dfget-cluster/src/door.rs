//! One port for TLS and plain text, and the way to such a port.
//!
//! TLS begins with 16 03 (a handshake record); no gRPC and no vortex request does. So the first bytes
//! are looked at, not taken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfget_net::Socket;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::BufReader;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::door_error::DoorError;
use crate::stream::PeerStream;

/// Who may come in at a port of the cluster. With neither, nobody may.
#[derive(Clone, Debug)]
pub struct Door {
    /// Those with the cluster's key.
    pub tls: Option<Arc<ServerConfig>>,
    /// Anybody in clear.
    pub plain: bool,
}

/// Goes to the doors of other nodes.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Shows the cluster's key and wants to see it; `None`: in clear.
    pub tls: Option<Arc<ClientConfig>>,
}

// === impl Door ===

impl Door {
    /// Lets a connection in that was accepted, or says why not; then the socket is closed.
    ///
    /// # Errors
    /// [`DoorError`]; after five seconds [`DoorError::TimedOut`], whatever the other sends.
    pub async fn admit(&self, socket: impl Into<Socket>) -> Result<PeerStream, DoorError> {
        timeout(GREETING, self.greet(socket.into())).await.unwrap_or(Err(DoorError::TimedOut))
    }

    async fn greet(&self, mut socket: Socket) -> Result<PeerStream, DoorError> {
        set_options(&socket);
        match (first_bytes(&mut socket).await?, &self.tls) {
            (First::Tls, Some(config)) => {
                let stream = TlsAcceptor::from(Arc::clone(config)).accept(socket).await;
                Ok(PeerStream::ServerTls(Box::new(stream.map_err(DoorError::of_handshake)?)))
            }
            (First::Tls, None) => Err(DoorError::NoKey),
            (First::Http, _) => Err(DoorError::Http),
            (First::Other, _) if self.plain => Ok(PeerStream::Plain(socket)),
            (First::Other, _) => Err(DoorError::PlainText),
        }
    }
}

// === impl Dialer ===

impl Dialer {
    /// Connects to the door at `to`, handshake included, in this time.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn dial(&self, to: SocketAddr, within: Duration) -> Result<PeerStream, DoorError> {
        timeout(within, self.connect(to, NOT_AHEAD)).await.unwrap_or(Err(DoorError::TimedOut))
    }

    /// The same for much that comes: what is read with TLS is read 128 KiB at once, by a buffer that stays as long
    /// as the connection.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn dial_for_bulk(&self, to: SocketAddr, within: Duration) -> Result<PeerStream, DoorError> {
        timeout(within, self.connect(to, READ_AT_ONCE)).await.unwrap_or(Err(DoorError::TimedOut))
    }

    /// With TLS, `ahead` bytes are read at once where TLS by itself reads less.
    async fn connect(&self, to: SocketAddr, ahead: usize) -> Result<PeerStream, DoorError> {
        let socket = Socket::connect(to).await.map_err(|source| DoorError::Connect { to, source })?;
        set_options(&socket);
        let Some(config) = &self.tls else { return Ok(PeerStream::Plain(socket)) };
        let name = ServerName::from(to.ip());
        // TLS reads 4 KiB at once by itself.
        let socket = BufReader::with_capacity(ahead, socket);
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await;
        Ok(PeerStream::ClientTls(Box::new(stream.map_err(DoorError::of_handshake)?)))
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum First {
    Tls,
    /// A request of HTTP/1: a browser, a scanner.
    Http,
    Other,
}

/// Looks at the first bytes until they tell.
async fn first_bytes(socket: &mut Socket) -> Result<First, DoorError> {
    let mut seen = [0; 4];
    loop {
        let length = socket.peek(&mut seen).await.map_err(DoorError::Broken)?;
        if length == 0 {
            return Err(DoorError::Left);
        }
        if let Some(first) = tell(seen.get(..length).unwrap_or_default()) {
            return Ok(first);
        }
        // The socket stays readable, so nothing wakes us when more comes.
        sleep(LOOK_AGAIN).await;
    }
}

/// `None`: more bytes must be seen. The preface of HTTP/2 begins with `PRI`.
fn tell(seen: &[u8]) -> Option<First> {
    match seen {
        [0x16, 0x03, ..] => Some(First::Tls),
        [] | [0x16] => None,
        _ => {
            let is = |method: &&[u8]| method.starts_with(seen);
            match METHODS.iter().any(is) {
                true if seen.len() < 4 => None,
                true => Some(First::Http),
                false => Some(First::Other),
            }
        }
    }
}

fn set_options(socket: &Socket) {
    let Some(socket) = socket.system() else { return };
    // Neither is needed for a right answer; a system that refuses only costs time.
    let _ = socket.set_nodelay(true);
    let alive = TcpKeepalive::new().with_time(QUIET).with_interval(PROBE).with_retries(3);
    let _ = SockRef::from(socket).set_tcp_keepalive(&alive);
}

/// Time for the first bytes and the handshake.
const GREETING: Duration = Duration::from_secs(5);
/// Bytes of TLS that are read at once.
const READ_AT_ONCE: usize = 128 << 10;
/// A buffer so small that it is never used.
const NOT_AHEAD: usize = 1;
/// Pause while the first bytes do not tell.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// After this silence the system asks whether the other is there, and then this often.
const QUIET: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
/// The beginnings of requests, four bytes each.
const METHODS: [&[u8]; 6] = [b"GET ", b"HEAD", b"POST", b"PUT ", b"CONN", b"OPTI"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_as_soon_as_they_can() {
        assert_eq!(tell(&[0x16, 0x03, 0x01]), Some(First::Tls));
        assert_eq!(tell(&[0x16]), None);
        assert_eq!(tell(&[0x16, 0x04]), Some(First::Other));
        assert_eq!(tell(&[0]), Some(First::Other));
        assert_eq!(tell(b"PRI "), Some(First::Other));
        assert_eq!(tell(b"P"), None);
        assert_eq!(tell(b"GET "), Some(First::Http));
        assert_eq!(tell(b"POS\0"), Some(First::Other));
    }
}
