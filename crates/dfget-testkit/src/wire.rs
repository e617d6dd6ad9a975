//! A TCP or TLS stream that can end in every way a peer can.
//!
//! | end | plain TCP | TLS |
//! |---|---|---|
//! | [`Wire::finish`] | FIN | close_notify, then FIN |
//! | [`Wire::cut`] | FIN | FIN without close_notify: a truncation in the eyes of TLS |
//! | [`Wire::reset`] | RST | RST |
//!
//! Every stream has a read time-out of [`PATIENCE`], so that a test that waits for bytes that never come fails.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::gate::PATIENCE;

/// One end of a connection.
#[derive(Debug)]
pub enum Wire {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS, as the side that was called.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// TLS, as the side that calls.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects to `address`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn dial(address: SocketAddr) -> io::Result<Self> {
        Self::plain(TcpStream::connect(address)?)
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn plain(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Plain(tcp))
    }

    /// Shakes hands as the side that was called.
    ///
    /// # Errors
    /// What made the handshake fail.
    pub fn accept_tls(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Server(Box::new(stream)))
    }

    /// Shakes hands as the side that calls; `host` is the name or address the certificate must hold for.
    ///
    /// # Errors
    /// What made the handshake fail; [`io::ErrorKind::InvalidInput`] if `host` is none or the wire is TLS already.
    pub fn start_tls(self, host: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let Self::Plain(tcp) = self else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Client(Box::new(stream)))
    }

    /// The socket underneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Server(stream) => &stream.sock,
            Self::Client(stream) => &stream.sock,
        }
    }

    /// The protocol agreed by ALPN, if TLS and if any.
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        let name = match self {
            Self::Plain(_) => None,
            Self::Server(stream) => stream.conn.alpn_protocol(),
            Self::Client(stream) => stream.conn.alpn_protocol(),
        };
        name.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Says that nothing more is sent, as a good peer does; reading goes on.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => {}
            Self::Server(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
            Self::Client(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
        }
        self.tcp().shutdown(Shutdown::Write)
    }

    /// Ends the stream by a bare FIN: under TLS the peer can tell it from a good end.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn cut(&mut self) -> io::Result<()> {
        self.flush()?;
        self.tcp().shutdown(Shutdown::Write)
    }

    /// Ends the stream by RST. Bytes that the peer's system has not taken yet are lost with it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn reset(mut self) -> io::Result<()> {
        self.flush()?;
        rustix::net::sockopt::set_socket_linger(self.tcp(), Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads until the peer ends the stream, well or badly, and throws away what it says; false if it did not within
    /// [`PATIENCE`].
    pub fn wait_for_end(&mut self) -> bool {
        let mut scratch = [0; 4096];
        loop {
            match self.read(&mut scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !is_timeout(&error),
            }
        }
    }
}

/// Whether `error` says that the peer sent nothing for [`PATIENCE`].
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Server(stream) => stream.read(buffer),
            Self::Client(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Server(stream) => stream.write(bytes),
            Self::Client(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Server(stream) => stream.flush(),
            Self::Client(stream) => stream.flush(),
        }
    }
}
