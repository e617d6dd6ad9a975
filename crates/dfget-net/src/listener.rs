//! A port.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::simulation::{Streams, simulated};
use crate::socket::Socket;

/// Connections that the kernel keeps until they are accepted.
const WAITING: u32 = 1024;

/// A port that listens.
pub enum Listener {
    /// The system's.
    System(TcpListener),
    /// Of a simulation.
    Simulated(Box<dyn Streams>),
}

// === impl Listener ===

impl Listener {
    /// Listens at `address`, even if connections to an earlier process there are not yet forgotten.
    ///
    /// # Errors
    /// Somebody else listens there, or it is no address of this machine.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        if let Some(network) = simulated() {
            return network.listen(address).map(Self::Simulated);
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(WAITING).map(Self::System)
    }

    /// The next connection, and who made it.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::System(listener) => {
                listener.accept().await.map(|(stream, from)| (Socket::System(stream), from))
            }
            Self::Simulated(streams) => {
                streams.accept().await.map(|(stream, from)| (Socket::Simulated(stream), from))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(listener) => listener.local_addr(),
            Self::Simulated(streams) => streams.local_addr(),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::System(listener)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.local_addr()).finish()
    }
}
