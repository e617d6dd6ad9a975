//! One connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::simulation::{Stream, simulated};

/// A TCP connection.
#[derive(Debug)]
pub enum Socket {
    /// The system's.
    System(TcpStream),
    /// Of a simulation.
    Simulated(Box<dyn Stream>),
}

// === impl Socket ===

impl Socket {
    /// Connects to `to`.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let connecting = simulated().map(|network| network.connect(to));
        match connecting {
            None => TcpStream::connect(to).await.map(Self::System),
            Some(connecting) => connecting.await.map(Self::Simulated),
        }
    }

    /// The system's socket, for its options, and for what the kernel is to send by itself.
    #[must_use]
    pub const fn system(&self) -> Option<&TcpStream> {
        match self {
            Self::System(stream) => Some(stream),
            Self::Simulated(_) => None,
        }
    }

    /// Looks at what comes next, and leaves it there; 0 = nothing more comes.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn peek(&mut self, seen: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::System(stream) => stream.peek(seen).await,
            Self::Simulated(stream) => {
                let mut seen = ReadBuf::new(seen);
                poll_fn(|cx| {
                    ready!(stream.poll_peek(cx, &mut seen))?;
                    Poll::Ready(Ok(seen.filled().len()))
                })
                .await
            }
        }
    }

    /// This end.
    ///
    /// # Errors
    /// The system does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(stream) => stream.local_addr(),
            Self::Simulated(stream) => stream.local_addr(),
        }
    }

    /// The other end.
    ///
    /// # Errors
    /// The system no longer knows.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(stream) => stream.peer_addr(),
            Self::Simulated(stream) => stream.peer_addr(),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::System(stream)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Simulated(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::System(stream) => stream.is_write_vectored(),
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
