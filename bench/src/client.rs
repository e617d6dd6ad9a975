//! A client of HTTP/1.1, by hand: one request after the other, on one connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::tls::{TlsSettings, TlsStream, Trust};

/// A way to a registry.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the connection goes.
    pub address: SocketAddr,
    /// Whether there is a proxy that is asked by CONNECT, or the server itself.
    pub connect: bool,
    /// The registry's name.
    pub host: String,
    /// The registry's port.
    pub port: u16,
    /// What the handshake needs.
    pub tls: TlsSettings,
    /// Whether it is spoken to without TLS.
    pub plain: bool,
}

/// An open connection.
pub struct Connection {
    stream: Stream,
    host: String,
}

/// Where bytes come from.
enum Stream {
    Tls(Box<TlsStream>),
    Plain { tcp: TcpStream, buffer: Vec<u8> },
}

/// How an answer came.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When the first byte of the body was there; of an empty one, when the head was.
    pub first_byte: Instant,
    /// When the last was.
    pub end: Instant,
    /// Bytes of the body.
    pub length: u64,
}

// === impl Target ===

impl Target {
    /// Opens a connection, by CONNECT if there is a proxy, and makes the handshake.
    ///
    /// # Errors
    /// A step fails; a refused CONNECT is told with its status line.
    pub fn open(&self, trust: Trust) -> io::Result<Connection> {
        let mut tcp = TcpStream::connect(self.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let host = format!("{}:{}", self.host, self.port);
        if self.plain {
            return Ok(Connection { stream: Stream::Plain { tcp, buffer: vec![0; PLAIN_BUFFER] }, host });
        }
        if self.connect {
            connect(&mut tcp, &self.host, self.port)?;
        }
        let tls = TlsStream::handshake(tcp, &self.host, trust, &self.tls)?;
        Ok(Connection { stream: Stream::Tls(Box::new(tls)), host })
    }

    /// The whole of `path` over a connection of its own.
    ///
    /// # Errors
    /// A step fails, or the answer is not the whole of it.
    pub fn get(&self, path: &str, size: u64) -> io::Result<Answer> {
        let answer = self.open(Trust::Accept)?.get(path, |_| ControlFlow::Continue(()))?;
        whole(answer, size)
    }
}

/// Checks the length.
///
/// # Errors
/// It is another than `size`.
pub fn whole(answer: Answer, size: u64) -> io::Result<Answer> {
    if answer.length == size {
        Ok(answer)
    } else {
        Err(io::Error::other(format!("{} bytes came instead of {size}", answer.length)))
    }
}

/// Asks a proxy for a way to `host`. What follows its answer is not read.
fn connect(tcp: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    tcp.write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes())?;
    // The server of a handshake waits for its client: nothing comes behind this head.
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = tcp.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..count]);
    }
    match status(&head) {
        Some(200) => Ok(()),
        _ => Err(io::Error::other(format!("CONNECT was answered by {}", first_line(&head)))),
    }
}

// === impl Stream ===

impl Stream {
    fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.send(data),
            Self::Plain { tcp, .. } => tcp.write_all(data),
        }
    }

    fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        match self {
            Self::Tls(tls) => tls.receive(),
            Self::Plain { tcp, buffer } => {
                let count = tcp.read(buffer)?;
                Ok((count > 0).then(|| &buffer[..count]))
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Asks for `path` and gives the body, piece by piece, to `sink`, which may break off.
    ///
    /// # Errors
    /// The connection breaks, or the answer is another than 200.
    pub fn get(&mut self, path: &str, sink: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<Answer> {
        self.get_with(path, "", sink)
    }

    /// The same with more lines in the head of the request, each with its line break.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_with(
        &mut self,
        path: &str,
        lines: &str,
        mut sink: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<Answer> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: dfget-bench\r\nAccept: */*\r\n{lines}\r\n",
            self.host
        );
        self.stream.send(request.as_bytes())?;
        let mut head = Vec::new();
        let body_start = loop {
            head.extend_from_slice(self.stream.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?);
            if let Some(position) = head.windows(4).position(|part| part == b"\r\n\r\n") {
                break position + 4;
            }
            if head.len() > MAX_HEAD {
                return Err(io::Error::other("the head is too long"));
            }
        };
        let mut first_byte = Instant::now();
        let early = head.split_off(body_start);
        if status(&head) != Some(200) {
            return Err(io::Error::other(format!("{path} was answered by {}", first_line(&head))));
        }
        let mut framing = Framing::of(&head)?;
        let mut length = 0;
        let mut take = |data: &[u8], framing: &mut Framing| -> io::Result<ControlFlow<()>> {
            framing.take(data, |part| {
                if length == 0 {
                    first_byte = Instant::now();
                }
                length += part.len() as u64;
                sink(part)
            })
        };
        let mut flow = if early.is_empty() { ControlFlow::Continue(()) } else { take(&early, &mut framing)? };
        while flow.is_continue() && !framing.is_over() {
            match self.stream.receive()? {
                Some(data) => flow = take(data, &mut framing)?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(Answer { first_byte, end: Instant::now(), length })
    }
}

/// Where a body ends.
#[derive(Debug)]
enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// After the last chunk.
    Chunked(Chunk),
}

/// What the next byte of a chunked body is.
#[derive(Debug, PartialEq)]
enum Chunk {
    /// A part of a size, of which these bytes were seen.
    Size(Vec<u8>),
    /// Data; so many bytes of it, and the line break, are left.
    Data(u64),
    /// Nothing.
    Over,
}

// === impl Framing ===

impl Framing {
    fn of(head: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let value = |name: &str| {
            text.lines().find_map(|line| {
                line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned())
            })
        };
        if value("transfer-encoding").is_some_and(|value| value == "chunked") {
            return Ok(Self::Chunked(Chunk::Size(Vec::new())));
        }
        let length = value("content-length").ok_or_else(|| io::Error::other("no length"))?;
        length.parse().map(Self::Length).map_err(io::Error::other)
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Over))
    }

    /// Takes what came, and hands on what is of the body.
    fn take(
        &mut self,
        data: &[u8],
        mut sink: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let chunk = match self {
            Self::Length(left) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| io::Error::other("more than was told"))?;
                return Ok(sink(data));
            }
            Self::Chunked(chunk) => chunk,
        };
        let mut rest = data;
        while let Some((&byte, behind)) = rest.split_first() {
            match chunk {
                Chunk::Size(seen) if byte == b'\n' => {
                    let text = String::from_utf8_lossy(seen);
                    let size = text.split(';').next().unwrap_or_default().trim();
                    match u64::from_str_radix(size, 16).map_err(io::Error::other)? {
                        0 => *chunk = Chunk::Over,
                        size => *chunk = Chunk::Data(size + LINE_BREAK),
                    }
                    rest = behind;
                }
                Chunk::Size(seen) => {
                    seen.push(byte);
                    rest = behind;
                }
                Chunk::Data(left) => {
                    let count = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    let (part, behind) = rest.split_at(count);
                    let content = usize::try_from(left.saturating_sub(LINE_BREAK))
                        .map_or(count, |left| left.min(count));
                    *left -= count as u64;
                    if *left == 0 {
                        *chunk = Chunk::Size(Vec::new());
                    }
                    rest = behind;
                    if content > 0 && sink(&part[..content]).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                // The empty line that ends it.
                Chunk::Over => break,
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn status(head: &[u8]) -> Option<u16> {
    first_line(head).split(' ').nth(1)?.parse().ok()
}

/// The status line. The line break that ended a chunked body before it may stand in front of it.
fn first_line(head: &[u8]) -> String {
    String::from_utf8_lossy(head).trim_start().lines().next().unwrap_or_default().to_owned()
}

/// A server that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// As much as comes at once over TLS.
const PLAIN_BUFFER: usize = 256 << 10;
const MAX_HEAD: usize = 64 * 1024;
const LINE_BREAK: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let raw = b"5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\n\r\n";
        for size in 1..=raw.len() {
            let mut framing = Framing::of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            let mut body = Vec::new();
            for part in raw.chunks(size) {
                let flow = framing.take(part, |data| {
                    body.extend_from_slice(data);
                    ControlFlow::Continue(())
                });
                assert!(flow.unwrap().is_continue());
            }
            assert!(framing.is_over());
            assert_eq!(body, b"hello, world");
        }
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        let mut framing = Framing::of(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\n").unwrap();
        assert!(framing.take(b"ab", |_| ControlFlow::Continue(())).unwrap().is_continue());
        assert!(!framing.is_over());
        assert!(framing.take(b"c", |_| ControlFlow::Continue(())).unwrap().is_continue());
        assert!(framing.is_over());
        framing.take(b"d", |_| ControlFlow::Continue(())).unwrap_err();
    }
}
