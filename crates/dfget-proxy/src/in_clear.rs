//! A connection without TLS, over which the kernel sends parts of files.
//!
//! HTTP is hyper's; it knows bodies of bytes only. A body that has a part of a file puts that into a line of the
//! connection and hands bytes of the same number out in its place, which lie at a place in memory that nothing else
//! does. Where those come to the connection, in their turn, the part is sent instead.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dfget_storage::FilePart;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The longest part that is sent at once, in bytes.
pub(crate) const LONGEST: usize = 256 << 10;

/// What is handed out in the place of a part. Nobody reads it, so it takes no memory.
static STAND_IN: [u8; LONGEST] = [0; LONGEST];

/// The parts that a connection is to send, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilesToSend(Arc<Mutex<VecDeque<FilePart>>>);

/// The connection.
#[derive(Debug)]
pub(crate) struct InClear {
    stream: TcpStream,
    files: FilesToSend,
}

// === impl FilesToSend ===

impl FilesToSend {
    /// Puts a part in the line, which is at most [`LONGEST`]; returns what must be written in its place, whole and in
    /// its turn.
    pub(crate) fn push(&self, part: FilePart) -> Bytes {
        let len = usize::try_from(part.len()).unwrap_or(LONGEST).min(LONGEST);
        self.0.lock().push_back(part);
        Bytes::from_static(&STAND_IN[..len])
    }

    /// Sends of the first part what the socket takes.
    fn send(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut files = self.0.lock();
        let part = files.front_mut().ok_or(io::ErrorKind::InvalidData)?;
        let sent = part.send(stream.as_fd())?;
        if part.is_empty() {
            files.pop_front();
        }
        Ok(sent)
    }
}

fn stands_in(slice: &IoSlice<'_>) -> bool {
    STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}

// === impl InClear ===

impl InClear {
    /// The connection, and where its bodies put parts.
    pub(crate) fn new(stream: TcpStream) -> (Self, FilesToSend) {
        let files = FilesToSend::default();
        (Self { stream, files: files.clone() }, files)
    }

    fn poll_send_file(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || self.files.send(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for InClear {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for InClear {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(slices.len());
        let slices = &slices[first..];
        if slices.first().is_some_and(stands_in) {
            return this.poll_send_file(cx);
        }
        let own = slices.iter().position(stands_in).unwrap_or(slices.len());
        Pin::new(&mut this.stream).poll_write_vectored(cx, &slices[..own])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
