//! What an origin sends in answer to one request, byte by byte.
//!
//! An [`Answer`] is a head, a body, the way the body's end is marked ([`Framing`]) and the way it is sent: whole, or
//! by [`Answer::cut_after`], [`Answer::hold_after`]… in parts with something between them. The head tells of the
//! framing alone, never of the faults, so that a client sees them only when they happen.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::gate::Gate;
use crate::message::Headers;
use crate::wire::Wire;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It is answered.
    Answer(Answer),
    /// These bytes go out as they are, then the connection ends.
    Raw(Vec<u8>),
    /// The connection ends without a byte.
    Cut(Cut),
    /// Nothing comes; the connection stays until the peer gives it up.
    Silence,
}

/// How a connection ends that should have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As a good peer ends it: under TLS with close_notify.
    Finish,
    /// A bare FIN.
    Fin,
    /// A reset.
    Reset,
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By `Content-Length`, the true one.
    Length,
    /// By a `Content-Length` that says this many bytes, whatever the body has. The connection ends after the body.
    Declared(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// One answer. Build it from [`Answer::new`].
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    reason: String,
    headers: Headers,
    body: Arc<[u8]>,
    part: Range<usize>,
    framing: Framing,
    before: Vec<u8>,
    acts: Vec<Act>,
}

/// A step in the sending of a body; offsets count from the body's first byte.
#[derive(Clone, Debug)]
enum Act {
    SendTo(u64),
    Wait(Gate),
    WaitForPeerToLeave,
    Cut(Cut),
}

/// What the connection is good for after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request.
    Request,
    /// Nothing: end it like this.
    End(Cut),
    /// Nothing: the peer has left.
    PeerLeft,
}

// === impl Reply ===

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

// === impl Answer ===

impl Answer {
    /// An answer without header fields and with an empty body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: reason_phrase(status).to_owned(),
            headers: Headers::default(),
            body: Arc::new([]),
            part: 0..0,
            framing: Framing::Length,
            before: Vec::new(),
            acts: Vec::new(),
        }
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Arc<[u8]>>) -> Self {
        self.body = body.into();
        self.part = 0..self.body.len();
        self
    }

    /// Sends of the body this part only, as a 206 does. Bytes outside the body are left out.
    #[must_use]
    pub fn part(mut self, part: Range<usize>) -> Self {
        let end = part.end.min(self.body.len());
        self.part = part.start.min(end)..end;
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Sets how the body's end is marked; [`Framing::Length`] unless told.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Changes the reason phrase.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// Sends these bytes before the head: an interim answer, say.
    #[must_use]
    pub fn preceded_by(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.before = bytes.into();
        self
    }

    /// Ends the connection after the head and `bytes` of the body.
    #[must_use]
    pub fn cut_after(mut self, bytes: u64, how: Cut) -> Self {
        self.acts.extend([Act::SendTo(bytes), Act::Cut(how)]);
        self
    }

    /// Sends `bytes` of the body, then nothing until `gate` opens, then the rest.
    #[must_use]
    pub fn hold_after(mut self, bytes: u64, gate: &Gate) -> Self {
        self.acts.extend([Act::SendTo(bytes), Act::Wait(gate.clone())]);
        self
    }

    /// Sends `bytes` of the body, then nothing more: the connection stays until the peer gives it up.
    #[must_use]
    pub fn stall_after(mut self, bytes: u64) -> Self {
        self.acts.extend([Act::SendTo(bytes), Act::WaitForPeerToLeave]);
        self
    }

    /// Makes a 206 of it, all else unchanged.
    #[must_use]
    pub fn turned_partial(mut self) -> Self {
        self.status = 206;
        self.reason(reason_phrase(206))
    }

    /// Puts `value` in the place of every header field `name`.
    #[must_use]
    pub fn replace_header(mut self, name: &str, value: &str) -> Self {
        self.headers.remove(name);
        self.header(name, value)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Sends the answer; `sent` is told the count of body bytes after each write.
    pub(crate) fn play(&self, wire: &mut Wire, to_head: bool, sent: &mut dyn FnMut(u64)) -> io::Result<Next> {
        wire.write_all(&self.before)?;
        wire.write_all(self.head().as_bytes())?;
        wire.flush()?;
        if to_head || matches!(self.status, 204 | 304) {
            return Ok(Next::Request);
        }
        let body = self.body.get(self.part.clone()).unwrap_or_default();
        let mut at = 0;
        for act in self.acts.iter().chain([&Act::SendTo(u64::MAX)]) {
            match act {
                Act::SendTo(end) => {
                    let end = usize::try_from(*end).unwrap_or(usize::MAX).min(body.len());
                    for slice in body.get(at..end).unwrap_or_default().chunks(WRITE_SIZE) {
                        self.send(wire, slice)?;
                        at += slice.len();
                        sent(at as u64);
                    }
                }
                Act::Wait(gate) if gate.wait() => {}
                Act::Wait(_) => return Ok(Next::End(Cut::Reset)),
                Act::WaitForPeerToLeave => {
                    wire.wait_for_end();
                    return Ok(Next::PeerLeft);
                }
                Act::Cut(how) => return Ok(Next::End(*how)),
            }
        }
        if self.framing == Framing::Chunked {
            wire.write_all(b"0\r\n\r\n")?;
        }
        wire.flush()?;
        Ok(match self.framing {
            Framing::Length | Framing::Chunked => Next::Request,
            Framing::Declared(_) | Framing::Close => Next::End(Cut::Finish),
        })
    }

    fn head(&self) -> String {
        let framing = match self.framing {
            Framing::Length if matches!(self.status, 204 | 304) => String::new(),
            Framing::Length => format!("Content-Length: {}\r\n", self.part.len()),
            Framing::Declared(len) => format!("Content-Length: {len}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Close => "Connection: close\r\n".to_owned(),
        };
        format!("HTTP/1.1 {} {}\r\n{}{framing}\r\n", self.status, self.reason, self.headers.to_wire())
    }

    fn send(&self, wire: &mut Wire, slice: &[u8]) -> io::Result<()> {
        if self.framing == Framing::Chunked {
            write!(wire, "{:x}\r\n", slice.len())?;
            wire.write_all(slice)?;
            wire.write_all(b"\r\n")?;
        } else {
            wire.write_all(slice)?;
        }
        wire.flush()
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        206 => "Partial Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

const WRITE_SIZE: usize = 32 * 1024;
