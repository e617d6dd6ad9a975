//! Turmoil's network, as the daemon's connections use it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use dfget_net::{Accepted, Connecting, Network, Stream, Streams};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the simulation that runs on this thread.
pub(super) struct Turmoil;

#[derive(Debug)]
struct Wire(TcpStream);

struct Port(TcpListener);

// === impl Turmoil ===

impl Network for Turmoil {
    fn connect(&self, to: SocketAddr) -> Connecting {
        Box::pin(async move { Ok(Box::new(Wire(TcpStream::connect(to).await?)) as Box<dyn Stream>) })
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Streams>> {
        let bound = TcpListener::bind(at).now_or_never().ok_or(io::ErrorKind::WouldBlock)?;
        Ok(Box::new(Port(bound?)))
    }
}

// === impl Port ===

impl Streams for Port {
    fn accept(&self) -> Pin<Box<dyn Future<Output = Accepted> + Send + '_>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(Wire(stream)) as Box<dyn Stream>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

// === impl Wire ===

impl Stream for Wire {
    fn poll_peek(&mut self, cx: &mut Context<'_>, seen: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_peek(cx, seen)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
