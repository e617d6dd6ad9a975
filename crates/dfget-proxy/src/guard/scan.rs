//! Where a request ends and the next begins, in the bytes of one connection.

use super::head::{self, BARE_LF, Behind, EMPTY_LINES};
use crate::message::Fault;

/// The longest line of chunk framing, and the longest trailer section.
const LONGEST_FRAME: usize = 64 << 10;

/// Bytes of empty lines that are passed over before a head.
const MOST_EMPTY: usize = 64;

/// What a look at bytes led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scanned {
    /// So many bytes may go on; the rest is a head that is not yet whole.
    Good(usize),
    /// So many may go on, then comes a head that is refused.
    Refused(usize, Fault),
    /// All may go on, but there is a fault in the chunks; nothing behind it is a request.
    Broken,
}

/// The place in the stream.
#[derive(Debug)]
pub(super) struct Scanner(State);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// In a head, so many bytes of which have been looked at.
    Head {
        seen: usize,
    },
    Body(u64),
    /// In the line before a chunk.
    Size {
        size: u64,
        digits: u8,
        part: Part,
        len: usize,
    },
    Chunk(u64),
    /// Behind a chunk: the next byte must be CR, then LF.
    AfterChunk {
        cr: bool,
    },
    /// In a line behind the last chunk; `empty` until a byte of it came.
    Trailer {
        empty: bool,
        cr: bool,
        len: usize,
    },
    Tunnel,
    Broken,
}

/// A part of the line before a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Digits,
    Extension,
    Lf,
}

// === impl Scanner ===

impl Scanner {
    pub(super) const fn new() -> Self {
        Self(State::Head { seen: 0 })
    }

    /// Whether no request is under way.
    pub(super) const fn is_between_requests(&self) -> bool {
        matches!(self.0, State::Head { seen: 0 } | State::Tunnel)
    }

    /// Whether nothing more has to be looked at.
    pub(super) const fn is_tunnel(&self) -> bool {
        matches!(self.0, State::Tunnel)
    }

    /// Looks at the bytes that follow those which went on before.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.0 {
                State::Tunnel => return Scanned::Good(bytes.len()),
                State::Broken => return Scanned::Broken,
                State::Head { seen } => match scan_head(rest, seen) {
                    Err(fault) => {
                        self.0 = State::Broken;
                        return Scanned::Refused(at, fault);
                    }
                    Ok(None) => {
                        self.0 = State::Head { seen: rest.len() };
                        return Scanned::Good(at);
                    }
                    Ok(Some((len, behind))) => {
                        at += len;
                        self.0 = State::behind(behind);
                    }
                },
                State::Body(left) | State::Chunk(left) => {
                    let taken = left.min(rest.len() as u64);
                    at += usize::try_from(taken).unwrap_or(rest.len());
                    let chunk = matches!(self.0, State::Chunk(_));
                    self.0 = match (left - taken, chunk) {
                        (0, false) => State::Head { seen: 0 },
                        (0, true) => State::AfterChunk { cr: false },
                        (left, false) => State::Body(left),
                        (left, true) => State::Chunk(left),
                    };
                }
                framing => {
                    self.0 = framing.step(rest[0]);
                    at += 1;
                }
            }
        }
        if self.0 == State::Broken { Scanned::Broken } else { Scanned::Good(bytes.len()) }
    }
}

/// Looks for the end of a head that begins with `bytes`, of which `seen` were looked at before; an
/// empty line before it is passed over (RFC 9112, section 2.2).
fn scan_head(bytes: &[u8], seen: usize) -> Result<Option<(usize, Behind)>, Fault> {
    let skipped = bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    if skipped > MOST_EMPTY {
        return Err(EMPTY_LINES);
    }
    let bytes = &bytes[skipped..];
    for at in seen.saturating_sub(skipped)..bytes.len() {
        if bytes[at] != b'\n' {
            continue;
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(BARE_LF);
        }
        if bytes[..=at].ends_with(b"\r\n\r\n") {
            let behind = head::check(&bytes[..=at])?;
            return Ok(Some((skipped + at + 1, behind)));
        }
    }
    head::check_part(bytes).map(|()| None)
}

// === impl State ===

impl State {
    const SIZE: Self = Self::Size { size: 0, digits: 0, part: Part::Digits, len: 0 };

    const fn behind(behind: Behind) -> Self {
        match behind {
            Behind::Length(0) => Self::Head { seen: 0 },
            Behind::Length(length) => Self::Body(length),
            Behind::Chunks => Self::SIZE,
            Behind::Tunnel => Self::Tunnel,
        }
    }

    /// Takes one byte of chunk framing (RFC 9112, section 7.1).
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Size { len: LONGEST_FRAME, .. } | Self::Trailer { len: LONGEST_FRAME, .. } => Self::Broken,
            Self::Size { size, digits, part, len } => {
                let len = len + 1;
                match (part, byte) {
                    (Part::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                        let digit = char::from(byte).to_digit(16).unwrap_or_default();
                        Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1, part, len }
                    }
                    (Part::Digits, b';' | b' ' | b'\t') if digits > 0 => {
                        Self::Size { size, digits, part: Part::Extension, len }
                    }
                    (Part::Digits, b'\r') if digits > 0 => Self::Size { size, digits, part: Part::Lf, len },
                    (Part::Extension, b'\r') => Self::Size { size, digits, part: Part::Lf, len },
                    (Part::Extension, byte) if byte != b'\n' => Self::Size { size, digits, part, len },
                    (Part::Lf, b'\n') if size == 0 => Self::Trailer { empty: true, cr: false, len: 0 },
                    (Part::Lf, b'\n') => Self::Chunk(size),
                    _ => Self::Broken,
                }
            }
            Self::AfterChunk { cr: false } if byte == b'\r' => Self::AfterChunk { cr: true },
            Self::AfterChunk { cr: true } if byte == b'\n' => Self::SIZE,
            Self::Trailer { empty, cr: false, len } => match byte {
                b'\r' => Self::Trailer { empty, cr: true, len: len + 1 },
                b'\n' => Self::Broken,
                _ => Self::Trailer { empty: false, cr: false, len: len + 1 },
            },
            Self::Trailer { empty: true, cr: true, .. } if byte == b'\n' => Self::Head { seen: 0 },
            Self::Trailer { empty: false, cr: true, len } if byte == b'\n' => {
                Self::Trailer { empty: true, cr: false, len: len + 1 }
            }
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    const PUT: &str = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\r\n\r\n\n";
    const CHUNKED: &str = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                           5;a=\"b\"\r\nGET /\r\n00a \r\n0123456789\r\n0\r\nX-A: b\r\nX-B:\r\n\r\n";

    /// All that goes on of `bytes` that come in pieces, and how it ends.
    fn passed(pieces: &[&[u8]]) -> (usize, Option<Scanned>) {
        let mut scanner = Scanner::new();
        let (mut held, mut passed) = (Vec::new(), 0);
        for piece in pieces {
            held.extend_from_slice(piece);
            match scanner.scan(&held) {
                Scanned::Good(len) => {
                    held.drain(..len);
                    passed += len;
                }
                other => return (passed, Some(other)),
            }
        }
        (passed, None)
    }

    #[test]
    fn requests_in_a_row_go_on_and_half_a_head_waits() {
        let all = format!("{GET}{PUT}{CHUNKED}\r\n{GET}");
        assert_eq!(passed(&[all.as_bytes()]), (all.len(), None));
        assert_eq!(passed(&[all.as_bytes(), b"GET /x HT"]), (all.len(), None));
        let empty = "\r\n".repeat(33);
        assert_eq!(passed(&[empty.as_bytes()]).1, Some(Scanned::Refused(0, EMPTY_LINES)));
        assert_eq!(passed(&[b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"\x16\x03\n\0"]).1, None);
    }

    #[test]
    fn a_second_head_is_looked_at_like_the_first() {
        for before in ["", GET, PUT, CHUNKED] {
            let all = format!("{before}GET /x HTTP/1.1\nHost: a\n\n");
            let refused = Some(Scanned::Refused(before.len(), BARE_LF));
            assert_eq!(passed(&[all.as_bytes()]).1, refused, "{before:?}");
        }
    }

    #[test]
    fn a_fault_in_the_chunks_is_found() {
        let head = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunks in [
            "\r\n",
            ";a\r\n",
            "g\r\n",
            "3\n",
            "3\rx",
            "3;a\nb\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc\rx",
            "00000000000000001\r\n",
            "0\r\n\n",
            "0\r\nX-A: b\n\r\n",
            "0\r\n\rx",
        ] {
            let all = format!("{head}{chunks}");
            assert_eq!(passed(&[all.as_bytes()]).1, Some(Scanned::Broken), "{chunks:?}");
        }
        let endless = format!("{head}3;{}", "x".repeat(LONGEST_FRAME + 1));
        assert_eq!(passed(&[endless.as_bytes()]).1, Some(Scanned::Broken));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            order in proptest::collection::vec(0..5_usize, 1..5), cuts in proptest::collection::vec(1..40_usize, 1..60)
        ) {
            let messages = [GET, PUT, CHUNKED, "\r\n", "GET /x HTTP/1.1\r\nA : b\r\n\r\n"];
            let all: String = order.iter().map(|&index| messages[index]).collect();
            let mut pieces = Vec::new();
            let mut rest = all.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let (whole, end) = passed(&[all.as_bytes()]);
            let (cut, cut_end) = passed(&pieces);
            match (end, cut_end) {
                (Some(Scanned::Refused(at, fault)), Some(Scanned::Refused(more, same))) => {
                    prop_assert_eq!((whole + at, fault), (cut + more, same));
                }
                (end, cut_end) => prop_assert_eq!((whole, end), (cut, cut_end)),
            }
        }

        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), chunked: bool) {
            let head = if chunked { CHUNKED.split_at(61).0 } else { "" };
            let mut scanner = Scanner::new();
            let all = [head.as_bytes(), &bytes].concat();
            if let Scanned::Good(len) | Scanned::Refused(len, _) = scanner.scan(&all) {
                prop_assert!(len <= all.len());
            }
        }
    }
}
