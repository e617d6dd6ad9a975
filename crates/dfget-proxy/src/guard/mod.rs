//! What comes from a client of HTTP/1, looked at before it is taken apart.
//!
//! The parser behind is lenient where a proxy must not be: it takes lines that end with LF alone, drops a
//! `Content-Length` beside a `Transfer-Encoding`, and refuses without a word. Here each head is held until it is whole
//! and found good; what would be refused reaches the parser as a request of our own making in its place, which is
//! answered by the reason. What follows it is never taken for a request.

mod head;
mod scan;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::body::ResponseBody;
use crate::message::Fault;
use crate::respond;

use scan::{Scanned, Scanner};

/// How long a client may go on sending that was answered already.
const LINGER: Duration = Duration::from_secs(2);

/// The method that stands for a request which was refused. A client that uses it itself is no worse off than with any
/// other method that nobody knows.
const REFUSED: &str = "DFGET-REFUSED";

/// The request in place of one that was refused.
const IN_ITS_PLACE: &[u8] = b"DFGET-REFUSED / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// Why the connection's last request was refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<Option<Fault>>>);

/// A connection whose incoming bytes are looked at.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    scanner: Scanner,
    /// A head that is not yet whole.
    held: Vec<u8>,
    /// What may go on.
    ready: Vec<u8>,
    ended: End,
    refusals: Refusals,
    /// Set once this side has ended the connection before the client has sent all.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// How the reading ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    NotYet,
    /// A request was refused: the answer to it ends the connection.
    Refused,
    /// The chunks of a body are broken.
    Broken,
}

// === impl Refusals ===

impl Refusals {
    /// The answer to a request that was refused.
    pub(crate) fn of<B>(&self, request: &Request<B>) -> Option<Response<ResponseBody>> {
        if request.method().as_str() != REFUSED {
            return None;
        }
        let (status, message) = self.0.lock().take()?;
        let mut response = respond::text(status, message);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(response)
    }
}

// === impl Guarded ===

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S, refusals: Refusals) -> Self {
        let scanner = Scanner::new();
        let (held, ready, ended, lingering) = (Vec::new(), Vec::new(), End::NotYet, None);
        Self { stream, scanner, held, ready, ended, refusals, lingering }
    }

    /// Looks at what has come behind the first `before` bytes of `buf`, and leaves in it what may go on.
    fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            let mut bytes = std::mem::take(&mut self.held);
            let scanned = self.scanner.scan(&bytes);
            let good = self.heed(scanned, bytes.len());
            if self.ended == End::NotYet && good == 0 {
                self.held = bytes;
                return;
            }
            if self.ended == End::NotYet {
                self.held = bytes.split_off(good);
            }
            bytes.truncate(good);
            self.ready.splice(0..0, bytes);
            return;
        }
        let bytes = &buf.filled()[before..];
        let scanned = self.scanner.scan(bytes);
        let len = bytes.len();
        let good = self.heed(scanned, len);
        if self.ended == End::NotYet {
            self.held = buf.filled()[before + good..].to_vec();
        }
        buf.set_filled(before + good);
    }

    /// How many of `len` bytes may go on.
    fn heed(&mut self, scanned: Scanned, len: usize) -> usize {
        match scanned {
            Scanned::Good(good) => good,
            Scanned::Broken => {
                // The parser finds the fault, too.
                self.ended = End::Broken;
                len
            }
            Scanned::Refused(good, fault) => {
                *self.refusals.0.lock() = Some(fault);
                self.ended = End::Refused;
                self.ready.extend_from_slice(IN_ITS_PLACE);
                good
            }
        }
    }

    /// Hands out what may go on; whether there was any.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.ready.len().min(buf.remaining());
        buf.put_slice(&self.ready[..len]);
        if len == self.ready.len() {
            // An idle connection holds nothing.
            self.ready = Vec::new();
        } else {
            self.ready.drain(..len);
        }
        len > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_out(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.ended {
                End::NotYet if this.scanner.is_tunnel() => {
                    return Pin::new(&mut this.stream).poll_read(cx, buf);
                }
                End::NotYet => {}
                // Nobody has to be woken: the answer under way ends the connection.
                End::Refused => return Poll::Pending,
                End::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.look(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Ends this side. A client that is still sending is listened to for a moment: what comes for a
    /// closed socket is answered by a reset, which can take the answer away that says why.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.ended == End::NotYet && this.scanner.is_between_requests() {
                return Poll::Ready(Ok(()));
            }
        }
        let limit = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; 4096];
        while limit.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
