//! HTTP/1.1 heads as text, taken apart without judgement.
//!
//! Order, case and repetition of header fields are kept as they came: a test that asks whether a line was passed on
//! unchanged needs them. Anything that is no head at all is an [`io::ErrorKind::InvalidData`].

use std::io::{self, BufRead};

/// Header fields in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

/// A request line with its header fields.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// `GET`, `CONNECT`…
    pub method: String,
    /// The request target as sent: origin form, absolute form or an authority.
    pub target: String,
    /// The header fields.
    pub headers: Headers,
}

/// A status line with its header fields.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The three digits.
    pub status: u16,
    /// The reason phrase; Go clients print it when a CONNECT is refused.
    pub reason: String,
    /// The header fields.
    pub headers: Headers,
}

// === impl Headers ===

impl Headers {
    /// The first value of the field `name`, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of the field `name`, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Takes out every field `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The fields as they go over the wire, the empty line not included.
    #[must_use]
    pub fn to_wire(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> io::Result<Self> {
        let mut headers = Self::default();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed(line))?;
            headers.push(name, value.trim());
        }
        Ok(headers)
    }
}

// === impl RequestHead ===

impl RequestHead {
    /// Takes a head apart that [`read_head`] gave.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is no request.
    pub fn parse(head: &str) -> io::Result<Self> {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed(first));
        };
        Ok(Self { method: method.to_owned(), target: target.to_owned(), headers: Headers::parse(lines)? })
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Takes a head apart that [`read_head`] gave.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is no response.
    pub fn parse(head: &str) -> io::Result<Self> {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let rest = first.strip_prefix("HTTP/1.1 ").ok_or_else(|| malformed(first))?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = status.parse().map_err(|_| malformed(first))?;
        Ok(Self { status, reason: reason.to_owned(), headers: Headers::parse(lines)? })
    }
}

/// Reads up to the empty line; `None` if the peer ended the stream before the first byte.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::UnexpectedEof`] if it ends inside the head; [`io::ErrorKind::InvalidData`] if
/// the bytes are no text or the head has more than 1 MiB.
pub fn read_head(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        if stream.read_until(b'\n', &mut head)? == 0 {
            return if start == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if matches!(&head[start..], b"\r\n" | b"\n") {
            head.truncate(start);
            let text = String::from_utf8(head).map_err(|_| malformed("bytes that are no UTF-8"))?;
            return Ok(Some(text));
        }
        if head.len() > HEAD_LIMIT {
            return Err(malformed("a head of more than 1 MiB"));
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP/1.1 head: {what:?}"))
}

const HEAD_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_to_its_empty_line_and_no_further() {
        let mut wire: &[u8] = b"HTTP/1.1 502 the cause: x\r\nA: 1\r\na: 2\r\n\r\nbody";
        let text = read_head(&mut wire).expect("a head").expect("not ended");
        let head = ResponseHead::parse(&text).expect("a response");
        assert_eq!((head.status, head.reason.as_str()), (502, "the cause: x"));
        assert_eq!(head.headers.all("A").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(wire, b"body");
    }

    #[test]
    fn an_end_before_a_head_is_no_error_and_inside_it_is_one() {
        assert!(read_head(&mut &b""[..]).expect("a clean end").is_none());
        assert!(read_head(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
    }

    #[test]
    fn garbage_is_neither_request_nor_response() {
        assert!(RequestHead::parse("\u{16}\u{3}garbage").is_err());
        assert!(RequestHead::parse("GET /").is_err());
        assert!(ResponseHead::parse("SSH-2.0-x").is_err());
    }
}
