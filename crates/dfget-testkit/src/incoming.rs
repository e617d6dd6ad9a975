//! Answers as a client reads them, and how their bodies end.
//!
//! A body is read by steps, each of which either takes bytes that are there or moves on in the framing, so that a test
//! can stop anywhere. What a body lacks is never an error here but an [`End`].

use std::io::{self, BufRead, BufReader, Read};

use crate::message::{Headers, ResponseHead, read_head};
use crate::wire::{Wire, is_timeout};

/// An answer with its whole body, or as much of it as came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// How the body ended.
    pub end: End,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Status line and header fields.
    pub head: ResponseHead,
    stream: &'a mut BufReader<Wire>,
    framing: Framing,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last byte that Content-Length promised; also where there is none to come.
    Length,
    /// With the last chunk.
    LastChunk,
    /// With an orderly end of the connection, where the head promised nothing else.
    Close,
    /// Before what the head promised was there, by a FIN.
    Truncated,
    /// Before what the head promised was there, by a reset.
    Reset,
    /// Not at all: nothing came for the time the kit waits.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunk(u64),
    NextChunk,
    Close,
    Ended(End),
}

// === impl Response ===

impl Response {
    /// Whether the body came as whole as the head promised.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.end, End::Length | End::LastChunk | End::Close)
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

// === impl Incoming ===

impl<'a> Incoming<'a> {
    /// The answer to a request with this method, of which `head` was read from `stream`.
    pub(crate) fn new(head: ResponseHead, method: &str, stream: &'a mut BufReader<Wire>) -> Self {
        let framing = Framing::of(&head, method);
        Self { head, stream, framing }
    }

    /// Reads `len` bytes of the body, less only if it ends before.
    pub fn read(&mut self, len: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < len {
            let before = body.len();
            self.read_some(&mut body, len - before);
            if body.len() == before && matches!(self.framing, Framing::Ended(_)) {
                break;
            }
        }
        body
    }

    /// Reads the body to its end.
    #[must_use]
    pub fn read_all(mut self) -> Response {
        let mut body = Vec::new();
        loop {
            if let Framing::Ended(end) = self.framing {
                let ResponseHead { status, reason, headers } = self.head;
                return Response { status, reason, headers, body, end };
            }
            self.read_some(&mut body, usize::MAX);
        }
    }

    /// Makes one step: reads at most `limit` bytes of the body, or moves on in its framing.
    fn read_some(&mut self, body: &mut Vec<u8>, limit: usize) {
        self.framing = match self.framing {
            Framing::Length(0) => Framing::Ended(End::Length),
            Framing::NextChunk => self.next_chunk(),
            Framing::Chunk(0) => match self.stream.read_exact(&mut [0; 2]) {
                Ok(()) => Framing::NextChunk,
                Err(error) => Framing::Ended(End::early(&error)),
            },
            Framing::Length(left) => {
                self.copy(body, limit, left).map_or_else(Framing::Ended, Framing::Length)
            }
            Framing::Chunk(left) => self.copy(body, limit, left).map_or_else(Framing::Ended, Framing::Chunk),
            Framing::Close => match self.copy(body, limit, u64::MAX) {
                Ok(_) => Framing::Close,
                Err(_) if self.at_orderly_end() => Framing::Ended(End::Close),
                Err(end) => Framing::Ended(end),
            },
            Framing::Ended(end) => Framing::Ended(end),
        };
    }

    /// Takes what is there, at most `limit` and `left` bytes; returns what is left after it.
    fn copy(&mut self, body: &mut Vec<u8>, limit: usize, left: u64) -> Result<u64, End> {
        let part = self.stream.fill_buf().map_err(|error| End::early(&error))?;
        let len = part.len().min(limit).min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Err(End::Truncated);
        }
        body.extend_from_slice(&part[..len]);
        self.stream.consume(len);
        Ok(left - len as u64)
    }

    fn at_orderly_end(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]))
    }

    fn next_chunk(&mut self) -> Framing {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Framing::Ended(End::Truncated),
            Ok(_) => {}
            Err(error) => return Framing::Ended(End::early(&error)),
        }
        let size = line.trim().split(';').next().unwrap_or_default();
        match u64::from_str_radix(size, 16) {
            Ok(0) => match read_head(self.stream) {
                Ok(Some(_)) => Framing::Ended(End::LastChunk),
                Ok(None) => Framing::Ended(End::Truncated),
                Err(error) => Framing::Ended(End::early(&error)),
            },
            Ok(len) => Framing::Chunk(len),
            Err(_) => Framing::Ended(End::Truncated),
        }
    }
}

// === impl End ===

impl End {
    /// What an error says of a body that was not at its end.
    fn early(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ if is_timeout(error) => Self::Stalled,
            _ => Self::Truncated,
        }
    }
}

// === impl Framing ===

impl Framing {
    fn of(head: &ResponseHead, method: &str) -> Self {
        let chunked = head.headers.get("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let length = head.headers.get("content-length").and_then(|value| value.parse().ok());
        match length {
            _ if method == "HEAD" || matches!(head.status, 204 | 304) => Self::Length(0),
            _ if chunked => Self::NextChunk,
            Some(length) => Self::Length(length),
            None => Self::Close,
        }
    }
}

/// Reads a head that must come.
pub(crate) fn next_head(stream: &mut BufReader<Wire>) -> io::Result<ResponseHead> {
    let head = read_head(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    ResponseHead::parse(&head)
}
