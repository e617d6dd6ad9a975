//! A connection between two nodes, in clear or through TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use dfget_net::Socket;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::door_error::explained;

/// A connection that was let in, or that we made.
#[derive(Debug)]
pub enum PeerStream {
    /// In clear: anybody.
    Plain(Socket),
    /// Let in: the other holds the cluster's key.
    ServerTls(Box<server::TlsStream<Socket>>),
    /// Made by us: the other holds the cluster's key.
    ClientTls(Box<client::TlsStream<BufReader<Socket>>>),
}

// === impl PeerStream ===

impl PeerStream {
    /// Whether the other has shown that it holds the cluster's key.
    #[must_use]
    pub const fn is_keyed(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// The socket below, for its addresses and options. With TLS nothing must be read from or
    /// written to it.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(stream) => stream,
            Self::ServerTls(stream) => stream.get_ref().0,
            Self::ClientTls(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// The socket itself, which takes bytes from a file (`sendfile`); `None` with TLS, and in simulations.
    #[must_use]
    pub const fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => socket.system(),
            _ => None,
        }
    }

    /// Who the other is.
    ///
    /// # Errors
    /// The system no longer knows.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::ServerTls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::ClientTls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        read.map_err(explained)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::ServerTls(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::ClientTls(stream) => Pin::new(stream).poll_write(context, buffer),
        };
        written.map_err(explained)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::ServerTls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::ClientTls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        };
        written.map_err(explained)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::ServerTls(stream) => stream.is_write_vectored(),
            Self::ClientTls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::ServerTls(stream) => Pin::new(stream).poll_flush(context),
            Self::ClientTls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::ServerTls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::ClientTls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
