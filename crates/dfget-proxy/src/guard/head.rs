//! The head of a request: its grammar, and how long the body behind it is (RFC 9112, sections 2 to 6).

use http::{StatusCode, Uri};

use crate::message::Fault;

/// The longest target: what the parser behind takes.
const LONGEST_TARGET: usize = 65_000;

/// So much of a method is looked at before its line is whole.
const LONGEST_METHOD: usize = 64;

/// The longest head. Tokens of tens of kilobytes are usual with some registries.
pub(super) const LONGEST_HEAD: usize = 256 << 10;

/// The most header lines: what the parser behind takes.
const MOST_LINES: usize = 100;

/// What follows a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behind {
    /// So many bytes of a body.
    Length(u64),
    /// Chunks.
    Chunks,
    /// A tunnel, or what the client hopes to be one.
    Tunnel,
}

/// The framing that the lines seen so far tell.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    codings: Vec<Vec<u8>>,
}

/// Checks a whole head, with the empty line at its end, of which every line ends with CR LF.
pub(super) fn check(head: &[u8]) -> Result<Behind, Fault> {
    let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, http_1_0) = check_first_line(lines.next().unwrap_or_default())?;
    let mut framing = Framing::default();
    for (index, line) in lines.enumerate() {
        if index == MOST_LINES {
            return Err((
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request has more than 100 header lines",
            ));
        }
        framing.add(line)?;
    }
    if method == b"CONNECT" {
        return Ok(Behind::Tunnel);
    }
    framing.behind(http_1_0)
}

/// Looks at a head that is not yet whole: whether it can still become one that is taken.
pub(super) fn check_part(head: &[u8]) -> Result<(), Fault> {
    // Whoever speaks something else is told so before it sends an end of line.
    if !head.iter().take(LONGEST_METHOD).take_while(|byte| !byte.is_ascii_whitespace()).all(is_token) {
        return Err(NO_METHOD);
    }
    let first_line = LONGEST_TARGET + 64;
    if head.len() > first_line && !head[..first_line].contains(&b'\n') {
        return Err(TARGET_TOO_LONG);
    }
    if head.len() > LONGEST_HEAD {
        return Err((
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request's head is longer than 256 KiB",
        ));
    }
    Ok(())
}

const NO_METHOD: Fault = bad("what came is no request of HTTP: its method is none");

const TARGET_TOO_LONG: Fault =
    (StatusCode::URI_TOO_LONG, "the request's target is longer than 65000 bytes; send less in its query");

pub(super) const EMPTY_LINES: Fault = bad("there are empty lines where a request should begin");

pub(super) const BARE_LF: Fault = bad("a line of the request ends with LF alone; lines end with CR LF");

const fn bad(message: &'static str) -> Fault {
    (StatusCode::BAD_REQUEST, message)
}

/// Returns the method, and whether the version is HTTP/1.0.
fn check_first_line(line: &[u8]) -> Result<(&[u8], bool), Fault> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request's first line is not METHOD TARGET HTTP/1.1"));
    };
    if method.is_empty() || !method.iter().all(is_token) {
        return Err(NO_METHOD);
    }
    if target.len() > LONGEST_TARGET {
        return Err(TARGET_TOO_LONG);
    }
    if Uri::try_from(target).is_err() {
        return Err(bad("the request's target is no URL and no path; escape what may not stand in one by %"));
    }
    match version {
        b"HTTP/1.1" => Ok((method, false)),
        b"HTTP/1.0" => Ok((method, true)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err((
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "only HTTP/1.1 and HTTP/1.0 are spoken on this connection",
        )),
        _ => Err(bad("the request's first line names no version of HTTP")),
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

// === impl Framing ===

impl Framing {
    fn add(&mut self, line: &[u8]) -> Result<(), Fault> {
        if let Some(b' ' | b'\t') = line.first() {
            return Err(bad("a header line of the request is folded; send it as one line"));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(bad("a header line of the request has no colon"));
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(is_token) {
            return Err(bad(
                "a header name of the request has a space or another byte that may not stand in it",
            ));
        }
        if value.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
            return Err(bad("a header value of the request has a NUL, a CR or another control character"));
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value.trim_ascii())
                .ok_or(bad("the request's Content-Length is no number of bytes"))?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err(bad("the request has two values of Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let codings =
                value.split(|&byte| byte == b',').map(|coding| coding.trim_ascii().to_ascii_lowercase());
            self.codings.extend(codings.filter(|coding| !coding.is_empty()));
            if self.codings.is_empty() {
                return Err(bad("the request's Transfer-Encoding is empty"));
            }
        }
        Ok(())
    }

    fn behind(self, http_1_0: bool) -> Result<Behind, Fault> {
        let Some((last, before)) = self.codings.split_last() else {
            return Ok(Behind::Length(self.length.unwrap_or(0)));
        };
        if self.length.is_some() {
            return Err(bad("the request has both a Content-Length and a Transfer-Encoding; send one"));
        }
        if http_1_0 {
            return Err(bad("HTTP/1.0 has no Transfer-Encoding; send a Content-Length"));
        }
        if last != b"chunked" || before.contains(last) {
            return Err(bad("the request's Transfer-Encoding does not end with one chunked"));
        }
        if !before.is_empty() {
            return Err((
                StatusCode::NOT_IMPLEMENTED,
                "of transfer codings only chunked is known here; send the body without another",
            ));
        }
        Ok(Behind::Chunks)
    }
}

/// Digits only.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(head: &str) -> Result<Behind, u16> {
        check(head.as_bytes()).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn good_heads_tell_what_follows() {
        let with = |lines: &str| checked(&format!("PUT /x?a=b HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(with(""), Ok(Behind::Length(0)));
        assert_eq!(with("Content-Length: 017\r\n"), Ok(Behind::Length(17)));
        assert_eq!(with("Content-Length:3\r\ncontent-length: 3 \r\n"), Ok(Behind::Length(3)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Behind::Chunks));
        assert_eq!(with("X-A:\r\nX-B: caf\u{e9} \t x\r\n!#$%&'*+-.^_`|~: x\r\n"), Ok(Behind::Length(0)));
        assert_eq!(checked("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"), Ok(Behind::Tunnel));
        assert_eq!(checked("GET http://a/ HTTP/1.0\r\n\r\n"), Ok(Behind::Length(0)));
        assert_eq!(checked("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Behind::Length(0)));
    }

    #[test]
    fn first_lines_that_are_none_are_told_apart() {
        let first = |line: &str| checked(&format!("{line}\r\nHost: a\r\n\r\n"));
        for line in
            ["", "GET", "GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "G{T / HTTP/1.1", "GET /a b HTTP/1.1"]
        {
            assert_eq!(first(line), Err(400), "{line:?}");
        }
        for line in ["GET / http/1.1", "GET / HTTP/11", "GET / HTTP/1.10", "GET / HTTQ/1.1"] {
            assert_eq!(first(line), Err(400), "{line:?}");
        }
        for line in ["GET / HTTP/1.2", "PRI * HTTP/2.0", "GET / HTTP/3.0", "GET / HTTP/0.9"] {
            assert_eq!(first(line), Err(505), "{line:?}");
        }
        assert_eq!(first(&format!("GET /{} HTTP/1.1", "x".repeat(LONGEST_TARGET))), Err(414));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let with = |lines: &str| checked(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        for lines in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 3",
            "Content-Length: -3",
            "Content-Length:",
            "Content-Length: 0x3",
            "Content-Length: 18446744073709551616",
            "Content-Length: 3\r\n\t4",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\u{b}: chunked",
            "X: a\u{7f}",
            "X: a\0",
            "X: a\rb",
            "X",
            ":",
        ] {
            assert_eq!(with(lines), Err(400), "{lines:?}");
        }
        assert_eq!(with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), Err(501));
        assert_eq!(with(&vec!["X: y"; MOST_LINES].join("\r\n")), Err(431));
    }

    #[test]
    fn a_head_without_an_end_is_given_up() {
        let told = |head: &[u8]| check_part(head).map_err(|(status, _)| status.as_u16());
        assert_eq!(told(b"GET /"), Ok(()));
        assert_eq!(told(b"GE"), Ok(()));
        assert_eq!(told(b"\x16\x03\x01\x02"), Err(400), "TLS");
        assert_eq!(told(&vec![b'x'; LONGEST_TARGET + 65]), Err(414));
        assert_eq!(told(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD)).as_bytes()), Err(431));
    }
}
