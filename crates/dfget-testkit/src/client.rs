//! A client of the proxy that hides nothing: the reason phrase of a refused CONNECT, the header lines as they came,
//! and how a body ended.
//!
//! It speaks HTTP/1.1 and opens a connection of its own for each [`Client::fetch`]; a test that needs to stop in the
//! middle of a body, or to send several requests on one connection, takes a [`Connection`] from [`Client::open`].

use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::incoming::{Incoming, Response, next_head};
use crate::message::Headers;
use crate::wire::Wire;

/// A client that sends everything through one proxy.
#[derive(Clone, Debug)]
pub struct Client {
    proxy: SocketAddr,
    tls: Arc<ClientConfig>,
    connect_headers: Headers,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Headers,
    body: Vec<u8>,
}

/// A connection on which requests go out and answers come in.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Wire>,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Origin,
    Absolute,
}

// === impl Client ===

impl Client {
    /// A client of the proxy at `proxy` with these TLS settings.
    #[must_use]
    pub fn new(proxy: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { proxy, tls, connect_headers: Headers::default() }
    }

    /// The same client, sending this header field with each CONNECT.
    #[must_use]
    pub fn with_connect_header(mut self, name: &str, value: &str) -> Self {
        self.connect_headers.push(name, value);
        self
    }

    /// Sends `request` on a connection of its own and reads the answer; an answer that refuses the CONNECT is returned
    /// as it is.
    ///
    /// # Errors
    /// If no answer came: the connection or the TLS handshake failed, or what came was no HTTP.
    pub fn fetch(&self, request: &Request) -> io::Result<Response> {
        match self.open(&request.url)? {
            Ok(mut connection) => connection.fetch(request),
            Err(refusal) => Ok(refusal),
        }
    }

    /// A connection on which requests to the host of `url` can be sent: for `https` a CONNECT and TLS inside, for
    /// `http` the proxy itself. The inner `Err` is the proxy's refusal of the CONNECT.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn open(&self, url: &str) -> io::Result<Result<Connection, Response>> {
        let (scheme, authority, _) = split(url)?;
        if scheme == "http" {
            let stream = BufReader::new(Wire::dial(self.proxy)?);
            return Ok(Ok(Connection { stream, form: Form::Absolute }));
        }
        let wire = match self.connect(authority)? {
            Ok(wire) => wire,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let wire = wire.start_tls(host, Arc::clone(&self.tls))?;
        Ok(Ok(Connection { stream: BufReader::new(wire), form: Form::Origin }))
    }

    /// A connection to the proxy itself, as to a registry: targets are paths, and the authority of a request's URL
    /// is its `Host` alone.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn open_registry(&self) -> io::Result<Connection> {
        Ok(Connection { stream: BufReader::new(Wire::dial(self.proxy)?), form: Form::Origin })
    }

    /// A connection to the proxy's address itself, TLS at once for the host of `url`, as a client makes it that a hosts
    /// file has led there.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn open_led(&self, url: &str) -> io::Result<Connection> {
        let (_, authority, _) = split(url)?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let wire = Wire::dial(self.proxy)?.start_tls(host, Arc::clone(&self.tls))?;
        Ok(Connection { stream: BufReader::new(wire), form: Form::Origin })
    }

    /// Asks for a tunnel to `authority` and gives it raw; the inner `Err` is the refusal.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn connect(&self, authority: &str) -> io::Result<Result<Wire, Response>> {
        let mut stream = BufReader::new(Wire::dial(self.proxy)?);
        let headers = self.connect_headers.to_wire();
        write!(stream.get_mut(), "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n")?;
        let head = next_head(&mut stream)?;
        if head.status == 200 {
            return Ok(Ok(stream.into_inner()));
        }
        Ok(Err(Incoming::new(head, "CONNECT", &mut stream).read_all()))
    }

    /// TLS settings like those of this client, with other protocols to offer.
    pub(crate) fn tls_offering(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.tls);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Sends `bytes` to the proxy's port as they are, ends the sending side, and returns all that comes back.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send_raw(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut wire = Wire::dial(self.proxy)?;
        wire.write_all(bytes)?;
        wire.finish()?;
        read_to_end(&mut wire)
    }

    /// Sends a request without a body to the proxy's port as it is and returns all that comes back; the request must
    /// make the proxy end the connection.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn ask_raw(&self, request: &str) -> io::Result<Vec<u8>> {
        let mut wire = Wire::dial(self.proxy)?;
        wire.write_all(request.as_bytes())?;
        read_to_end(&mut wire)
    }
}

// === impl Request ===

impl Request {
    /// A GET of `url` (`http` or `https`, authority with a port).
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A request with another method.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        let url = url.into();
        Self { method: method.to_owned(), url, headers: Headers::default(), body: Vec::new() }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Adds `Authorization`.
    #[must_use]
    pub fn authorization(self, value: &str) -> Self {
        self.header("Authorization", value)
    }

    /// Adds `Range`.
    #[must_use]
    pub fn range(self, value: &str) -> Self {
        self.header("Range", value)
    }

    /// Sets the body, sent with its Content-Length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.headers.remove("Content-Length");
        let len = self.body.len().to_string();
        self.header("Content-Length", len)
    }

    pub(crate) fn parts(&self) -> (&str, &str, &Headers, &[u8]) {
        (&self.method, &self.url, &self.headers, &self.body)
    }

    fn head_to_wire(&self, form: Form) -> io::Result<String> {
        let (_, authority, path) = split(&self.url)?;
        let target = if form == Form::Absolute { self.url.as_str() } else { path };
        Ok(format!(
            "{} {target} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n",
            self.method,
            self.headers.to_wire()
        ))
    }
}

// === impl Connection ===

impl Connection {
    /// Sends `request` and reads the answer.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn fetch(&mut self, request: &Request) -> io::Result<Response> {
        self.send_head(request)?;
        self.send(&request.body)?;
        Ok(self.receive(&request.method)?.read_all())
    }

    /// Sends `request` and reads the head of the answer.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn start(&mut self, request: &Request) -> io::Result<Incoming<'_>> {
        self.send_head(request)?;
        self.send(&request.body)?;
        self.receive(&request.method)
    }

    /// Sends the head of `request` alone; its body is up to the caller.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn send_head(&mut self, request: &Request) -> io::Result<()> {
        let head = request.head_to_wire(self.form)?;
        self.send(head.as_bytes())
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Reads the head of the answer to a request with this method, interim answers (1xx) left out.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn receive(&mut self, method: &str) -> io::Result<Incoming<'_>> {
        let mut head = next_head(&mut self.stream)?;
        while matches!(head.status, 100..=199) {
            head = next_head(&mut self.stream)?;
        }
        Ok(Incoming::new(head, method, &mut self.stream))
    }

    /// Leaves at once, by a reset, as a killed client does.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn leave(self) -> io::Result<()> {
        self.stream.into_inner().reset()
    }

    /// The protocol that ALPN chose.
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        self.stream.get_ref().alpn()
    }
}

/// All that comes until the peer ends the connection, by a reset too.
fn read_to_end(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match wire.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(answer),
    }
}

/// Scheme, authority and path of a URL.
pub(crate) fn split(url: &str) -> io::Result<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Ok((scheme, authority, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{self, Answer, Cut, Reply};
    use crate::ca::TestCa;
    use crate::content::Blob;
    use crate::incoming::End;
    use crate::registry::Registry;

    /// A connection to the registry itself, without a proxy between.
    fn direct(registry: &Registry, ca: &TestCa) -> Connection {
        let authority = registry.origin.authority();
        let (host, _) = authority.split_once(':').expect("an authority has a port");
        let wire = Wire::dial(authority.parse().expect("an address")).expect("it listens");
        let wire = wire.start_tls(host, ca.client_config(&["http/1.1"])).expect("its certificate is good");
        Connection { stream: BufReader::new(wire), form: Form::Origin }
    }

    fn fetch(change: impl FnOnce(Answer) -> Reply + Send + 'static) -> io::Result<Response> {
        let ca = TestCa::new("test authority");
        let registry = Registry::https(&ca);
        let url = registry.put("some/image", &Blob::random(100_000, 1));
        registry.next_blob(change);
        direct(&registry, &ca).fetch(&Request::get(url))
    }

    #[test]
    fn each_scripted_end_is_seen_as_what_it_is() {
        type Case = (fn(Answer) -> Reply, End, usize);
        let cases: [Case; 8] = [
            (|answer| answer.into(), End::Length, 100_000),
            (|answer| answer.framing(answer::Framing::Chunked).into(), End::LastChunk, 100_000),
            (|answer| answer.framing(answer::Framing::Close).into(), End::Close, 100_000),
            (|answer| answer.framing(answer::Framing::Declared(99_000)).into(), End::Length, 99_000),
            (|answer| answer.framing(answer::Framing::Declared(101_000)).into(), End::Truncated, 100_000),
            (|answer| answer.cut_after(1, Cut::Finish).into(), End::Truncated, 1),
            (
                |answer| answer.framing(answer::Framing::Close).cut_after(9, Cut::Fin).into(),
                End::Truncated,
                9,
            ),
            (
                |answer| answer.framing(answer::Framing::Chunked).cut_after(40_000, Cut::Fin).into(),
                End::Truncated,
                40_000,
            ),
        ];
        for (index, (change, end, len)) in cases.into_iter().enumerate() {
            let response = fetch(change).expect("a head comes");
            assert_eq!((response.end, response.body.len()), (end, len), "case {index}");
            assert!(response.body == Blob::random(100_000, 1).bytes[..len], "case {index}");
        }
    }

    #[test]
    fn a_reset_is_seen_as_a_reset_and_a_missing_head_is_an_error() {
        let response = fetch(|answer| answer.cut_after(10, Cut::Reset).into()).expect("a head comes");
        assert_eq!(response.end, End::Reset);
        assert!(fetch(|_| Reply::Cut(Cut::Finish)).is_err());
        assert!(fetch(|_| Reply::Raw(b"what is this?\r\n\r\n".to_vec())).is_err());
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let response =
            fetch(|answer| answer.preceded_by(*b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").into());
        assert_eq!(response.expect("the final head comes").status, 200);
    }

    #[test]
    fn the_registry_cuts_ranges_as_rfc_9110_says() {
        let ca = TestCa::new("test authority");
        let registry = Registry::https(&ca);
        let blob = Blob::random(1000, 2);
        let url = registry.put("some/image", &blob);
        let mut connection = direct(&registry, &ca);
        let cases = [
            ("bytes=0-0", 206, "bytes 0-0/1000"),
            ("bytes=990-2000", 206, "bytes 990-999/1000"),
            ("bytes=400-", 206, "bytes 400-999/1000"),
            ("bytes=-5", 206, "bytes 995-999/1000"),
            ("bytes=1000-", 416, "bytes */1000"),
            ("bytes=-0", 416, "bytes */1000"),
        ];
        for (range, status, content_range) in cases {
            let response = connection.fetch(&Request::get(&url).range(range)).expect("an answer");
            assert_eq!(response.status, status, "{range}");
            assert_eq!(response.header("content-range"), Some(content_range), "{range}");
            assert!(response.is_complete(), "{range}");
        }
    }

    #[test]
    fn a_right_opens_its_own_repository_until_it_is_taken_away() {
        let ca = TestCa::new("test authority");
        let registry = Registry::https(&ca);
        let url = registry.put("secret/image", &Blob::random(10, 3));
        registry.grant("secret/image", "Bearer a");
        registry.grant("other/image", "Bearer b");
        let mut connection = direct(&registry, &ca);
        let mut status = |authorization: &str| {
            let request = Request::get(&url).authorization(authorization);
            connection.fetch(&request).expect("an answer").status
        };
        assert_eq!((status("Bearer a"), status("Bearer b"), status("")), (200, 401, 401));
        registry.revoke("secret/image", "Bearer a");
        assert_eq!(status("Bearer a"), 401);
    }

    #[test]
    fn a_pushed_blob_is_there() {
        let ca = TestCa::new("test authority");
        let registry = Registry::https(&ca);
        let blob = Blob::random(500, 4);
        let mut connection = direct(&registry, &ca);
        let mut send = |method: &str, path: String, body: &[u8]| {
            let request = Request::new(method, registry.origin.url(&path)).body(body);
            connection.fetch(&request).expect("an answer").status
        };
        assert_eq!(send("POST", "/v2/a/b/blobs/uploads/".to_owned(), b""), 202);
        assert_eq!(send("PATCH", "/v2/a/b/blobs/uploads/1".to_owned(), &blob.bytes), 202);
        assert_eq!(send("PUT", format!("/v2/a/b/blobs/uploads/1?digest={}", blob.digest), b""), 201);
        assert_eq!(send("GET", format!("/v2/a/b/blobs/{}", blob.digest), b""), 200);
    }
}
