//! The listening end: a server that answers as a test tells it and keeps a journal of what it was asked.
//!
//! Each origin has a loopback address of its own (all of 127.0.0.0/8 is this machine's) and a port the system chose:
//! while it is down nobody else can come to stand there. A connection is served by one thread, request after request,
//! until an answer ends it. When the origin is dropped all its connections end.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustls::ServerConfig;

use crate::answer::{Cut, Next, Reply};
use crate::ca::{Leaf, TestCa};
use crate::gate::PATIENCE;
use crate::message::{Headers, RequestHead, read_head};
use crate::network::{Place, at};
use crate::wire::Wire;

/// A request as the handler of an origin sees it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which connection it came on, counted from 0.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The path and query, as sent.
    pub target: String,
    /// The header fields.
    pub headers: Headers,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// A journal entry: a request and what became of its answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which connection it came on, counted from 0.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The path and query, as sent.
    pub target: String,
    /// The header fields.
    pub headers: Headers,
    /// How many bytes of the request's body have arrived.
    pub body_received: u64,
    /// The status answered; 0 while the handler thinks, and for answers that have none.
    pub status: u16,
    /// How many bytes of the answer's body were handed to the system.
    pub sent: u64,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As scripted, to its last byte.
    Whole,
    /// As scripted, by a cut.
    Cut,
    /// The peer was gone.
    PeerLeft,
}

/// A running server.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    address: SocketAddr,
    place: Option<Place>,
    scheme: &'static str,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    handler: Box<dyn Fn(&Received) -> Reply + Send + Sync>,
    tls: Option<Arc<ServerConfig>>,
    down: AtomicBool,
    connections: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    journal: Mutex<Vec<Entry>>,
    changed: Condvar,
}

// === impl Origin ===

impl Origin {
    /// An HTTPS origin whose certificate, signed by `ca`, holds for its address and `localhost`.
    pub fn https(ca: &TestCa, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let ip = own_loopback_address();
        Self::start(None, ip, Some(ca.leaf(&[&ip.to_string(), "localhost"])), handler)
    }

    /// The same at a place of a network, at that place's address.
    pub fn https_at(
        place: &Place,
        ca: &TestCa,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let ip = place.address();
        Self::start(Some(place.clone()), ip, Some(ca.leaf(&[&ip.to_string()])), handler)
    }

    /// An HTTPS origin that shows the leaf `make_leaf` gives for its address.
    pub fn https_with(
        make_leaf: impl FnOnce(&str) -> Leaf,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let ip = own_loopback_address();
        let leaf = make_leaf(&ip.to_string());
        Self::start(None, ip, Some(leaf), handler)
    }

    /// An origin without TLS.
    pub fn plain(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, own_loopback_address(), None, handler)
    }

    fn start(
        place: Option<Place>,
        ip: Ipv4Addr,
        leaf: Option<Leaf>,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let scheme = if leaf.is_some() { "https" } else { "http" };
        let listener = at(place.as_ref(), || TcpListener::bind((ip, 0)));
        let listener = listener.expect("an address of an origin's own has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls: leaf.map(Leaf::server_config),
            down: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            journal: Mutex::default(),
            changed: Condvar::new(),
        });
        let listening = Mutex::new(Some(shared.clone().listen(listener)));
        Self { shared, address, place, scheme, listening }
    }

    /// `127.x.y.z:port`, as it stands in a CONNECT.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The scheme, authority and `path` as one URL.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// What was asked so far, in the order of arrival.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal().clone()
    }

    /// The journal's entries with this method whose target contains `part`.
    #[must_use]
    pub fn asked(&self, method: &str, part: &str) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| entry.is(method, part)).collect()
    }

    /// Bytes of bodies that were sent in answer to a GET whose target contains `part`.
    #[must_use]
    pub fn body_bytes(&self, part: &str) -> u64 {
        self.shared.journal().iter().filter(|entry| entry.is("GET", part)).map(|entry| entry.sent).sum()
    }

    /// Waits until `holds` is true of the journal.
    ///
    /// # Panics
    /// If that does not come to pass within [`PATIENCE`]; the message says what was waited for and shows the journal.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&[Entry]) -> bool) {
        let (journal, result) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.journal(), PATIENCE, |journal| !holds(journal))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "waited in vain until {what}; the origin saw {journal:#?}");
    }

    /// Ends every connection and refuses new ones.
    pub fn go_down(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
        if let Some(listening) = lock(&self.listening).take() {
            // The call wakes the listener, which sees the word and goes.
            let _ = at(self.place.as_ref(), || TcpStream::connect(self.address));
            let _ = listening.join();
        }
        self.hang_up();
    }

    /// Listens again at the same address after [`Origin::go_down`].
    pub fn come_back(&self) {
        let listener = at(self.place.as_ref(), || TcpListener::bind(self.address));
        let listener = listener.expect("nobody else stands at an origin's own address");
        self.shared.down.store(false, Ordering::SeqCst);
        *lock(&self.listening) = Some(self.shared.clone().listen(listener));
    }

    /// Ends every connection that is open now.
    pub fn hang_up(&self) {
        for (_, connection) in lock(&self.shared.open).drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// How many connections were made, failed handshakes included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.go_down();
    }
}

// === impl Entry ===

impl Entry {
    /// Whether the request has this method and a target that contains `part`.
    #[must_use]
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    /// The value of the request's `Range`, if any.
    #[must_use]
    pub fn range(&self) -> Option<&str> {
        self.headers.get("range")
    }
}

// === impl Shared ===

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// Bytes that a connection has under way, at most; the kernel takes them twice.
const SEND_BUFFER: usize = 128 << 10;

impl Shared {
    /// Accepts until the origin goes down.
    fn listen(self: Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        thread::spawn(move || {
            for stream in listener.incoming() {
                if self.down.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&self);
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    // A peer that breaks off is what many tests are about, and no failure of the kit.
                    let _ = shared.serve(number, stream);
                    lock(&shared.open).remove(&number);
                });
            }
        })
    }

    fn serve(&self, connection: u64, tcp: TcpStream) -> io::Result<()> {
        lock(&self.open).insert(connection, tcp.try_clone()?);
        // What the kernel takes counts as sent: no more than this is when the peer breaks off.
        rustix::net::sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER)?;
        if self.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        let wire = match &self.tls {
            Some(config) => Wire::accept_tls(tcp, Arc::clone(config))?,
            None => Wire::plain(tcp)?,
        };
        let mut stream = BufReader::new(wire);
        if stream.fill_buf()?.first() == Some(&TLS_HANDSHAKE) {
            // As web servers do that are asked for TLS on their plain port.
            stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
            return end(stream.into_inner(), Cut::Finish);
        }
        while let Some(head) = read_head(&mut stream)? {
            let head = RequestHead::parse(&head)?;
            let index = self.open_entry(connection, &head);
            let body = self.read_body(index, &head, &mut stream)?;
            let RequestHead { method, target, headers } = head;
            let received = Received { connection, method, target, headers, body };
            let reply = (self.handler)(&received);
            let next = self.reply(index, &reply, received.method == "HEAD", stream.get_mut());
            let outcome = match &next {
                Ok(Next::Request) | Ok(Next::End(Cut::Finish)) => Outcome::Whole,
                Ok(Next::End(_)) => Outcome::Cut,
                Ok(Next::PeerLeft) | Err(_) => Outcome::PeerLeft,
            };
            self.note(index, |entry| entry.outcome = Some(outcome));
            match next? {
                Next::Request => {}
                Next::End(how) => {
                    lock(&self.open).remove(&connection);
                    return end(stream.into_inner(), how);
                }
                Next::PeerLeft => return Ok(()),
            }
        }
        Ok(())
    }

    fn reply(&self, index: usize, reply: &Reply, to_head: bool, wire: &mut Wire) -> io::Result<Next> {
        match reply {
            Reply::Answer(answer) => {
                self.note(index, |entry| entry.status = answer.status());
                answer.play(wire, to_head, &mut |sent| self.note(index, |entry| entry.sent = sent))
            }
            Reply::Raw(bytes) => {
                wire.write_all(bytes)?;
                wire.flush()?;
                Ok(Next::End(Cut::Finish))
            }
            Reply::Cut(how) => Ok(Next::End(*how)),
            Reply::Silence => {
                wire.wait_for_end();
                Ok(Next::PeerLeft)
            }
        }
    }

    fn open_entry(&self, connection: u64, head: &RequestHead) -> usize {
        let mut journal = self.journal();
        journal.push(Entry {
            connection,
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body_received: 0,
            status: 0,
            sent: 0,
            outcome: None,
        });
        self.changed.notify_all();
        journal.len() - 1
    }

    /// Reads a request's body, noting each part as it comes.
    fn read_body(
        &self,
        index: usize,
        head: &RequestHead,
        stream: &mut BufReader<Wire>,
    ) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut take = |stream: &mut BufReader<Wire>, mut left: u64| -> io::Result<()> {
            while left > 0 {
                let part = stream.fill_buf()?;
                let len = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if len == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                body.extend_from_slice(&part[..len]);
                stream.consume(len);
                left -= len as u64;
                self.note(index, |entry| entry.body_received += len as u64);
            }
            Ok(())
        };
        if head.headers.get("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                stream.by_ref().take(64).read_line(&mut line)?;
                let len = u64::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
                take(stream, len)?;
                stream.read_exact(&mut [0; 2])?;
                if len == 0 {
                    break;
                }
            }
        } else if let Some(len) = head.headers.get("content-length") {
            take(stream, len.parse().map_err(|_| io::ErrorKind::InvalidData)?)?;
        }
        Ok(body)
    }

    fn note(&self, index: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.journal().get_mut(index) {
            change(entry);
        }
        self.changed.notify_all();
    }

    fn journal(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.journal)
    }
}

/// Ends a connection; after a FIN it waits for the peer, so that the bytes sent are not overtaken by a reset.
fn end(mut wire: Wire, how: Cut) -> io::Result<()> {
    match how {
        Cut::Finish => wire.finish()?,
        Cut::Fin => wire.cut()?,
        Cut::Reset => return wire.reset(),
    }
    wire.wait_for_end();
    Ok(())
}

/// A loopback address that no other origin of this process has.
fn own_loopback_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    let [.., process] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + process % 128, high, low)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content type that a TLS client's first record has (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;

    #[test]
    fn an_origin_that_is_down_refuses_and_answers_again_when_back() {
        let origin = Origin::plain(|_| Answer::new(200).into());
        origin.go_down();
        assert!(TcpStream::connect(origin.address).is_err());
        origin.come_back();
        let mut stream = TcpStream::connect(origin.address).expect("it is back");
        stream.write_all(b"GET /x HTTP/1.1\r\n\r\n").expect("it reads");
        let mut start = [0; 15];
        stream.read_exact(&mut start).expect("it answers");
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        assert_eq!(origin.asked("GET", "/x").len(), 1);
    }
}
