//! The proxy of a site: it takes CONNECT alone, and leads to one origin whatever name it is asked for, as if it knew
//! names that nobody else here can resolve.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::message::{RequestHead, read_head};

/// A running proxy; it takes nothing more when dropped.
#[derive(Debug)]
pub struct SiteProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    origin: SocketAddr,
    asked: Mutex<Vec<Asked>>,
    down: AtomicBool,
}

/// A CONNECT that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `host:port`.
    pub target: String,
    /// The value of `Proxy-Authorization`.
    pub login: Option<String>,
}

// === impl SiteProxy ===

impl SiteProxy {
    /// A proxy that leads to `origin`.
    ///
    /// # Panics
    /// If the system has no port.
    #[must_use]
    pub fn to(origin: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { origin, asked: Mutex::default(), down: AtomicBool::new(false) });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.down.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // Whoever breaks off is no failure of the proxy.
                    thread::spawn(move || stream.and_then(|stream| shared.serve(stream)));
                }
            }
        });
        Self { shared, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SiteProxy {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        // The call wakes the listener, which sees the word and goes.
        let _ = TcpStream::connect(self.address);
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        // A client sends nothing behind its CONNECT before that is answered.
        let mut reader = BufReader::new(client.try_clone()?);
        let Some(head) = read_head(&mut reader)? else { return Ok(()) };
        let head = RequestHead::parse(&head)?;
        if head.method != "CONNECT" {
            return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
        }
        let login = head.headers.get("proxy-authorization").map(str::to_owned);
        let asked = Asked { target: head.target, login };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let origin = TcpStream::connect(self.origin)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut from_client, mut to_origin) = (client.try_clone()?, origin.try_clone()?);
        let up = thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_origin);
            to_origin.shutdown(Shutdown::Write)
        });
        let (mut from_origin, mut to_client) = (origin, client);
        let _ = io::copy(&mut from_origin, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
        let _ = up.join();
        Ok(())
    }
}
