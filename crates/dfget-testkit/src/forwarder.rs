//! A door to the hijack for programs that know no proxy: they connect to it as to the origin, and it leads them through a
//! CONNECT of the daemon.
//!
//! The program names its requests by the address that it connects to, and only such requests belong on that
//! connection; so the daemon finds its origin at that very address, too. The two are told apart by what they offer in
//! their first TLS record: a daemon asks its origins for `http/1.1` alone.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::Client;
use crate::wire::Wire;

/// A running forwarder; it takes nothing more when dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    down: Arc<AtomicBool>,
}

// === impl Forwarder ===

impl Forwarder {
    /// Leads those who speak HTTP/2 through the proxy of `client`, and all others to `origin`, whose certificate must
    /// hold for `127.0.0.1`.
    ///
    /// # Panics
    /// If the system has no port.
    #[must_use]
    pub fn through(client: Client, origin: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let down = Arc::new(AtomicBool::new(false));
        thread::spawn({
            let down = Arc::clone(&down);
            move || {
                for stream in listener.incoming() {
                    if down.load(Ordering::SeqCst) {
                        return;
                    }
                    let client = client.clone();
                    // Whoever breaks off is no failure of the forwarder.
                    thread::spawn(move || stream.and_then(|stream| serve(&client, address, origin, stream)));
                }
            }
        });
        Self { address, down }
    }

    /// Where it listens, and what its clients call the origin.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: &Client, here: SocketAddr, origin: SocketAddr, mut near: TcpStream) -> io::Result<()> {
    let hello = first_record(&mut near)?;
    let mut far = if offers_h2(&hello) {
        match client.connect(&here.to_string())? {
            Ok(Wire::Plain(tcp)) => tcp,
            _ => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
    } else {
        TcpStream::connect(origin)?
    };
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
    }
    far.write_all(&hello)?;
    let (mut from_far, mut to_near) = (far.try_clone()?, near.try_clone()?);
    let back = thread::spawn(move || {
        let copied = io::copy(&mut from_far, &mut to_near);
        let _ = to_near.shutdown(Shutdown::Write);
        copied
    });
    let copied = io::copy(&mut near, &mut far);
    let _ = far.shutdown(Shutdown::Write);
    let _ = back.join();
    copied.map(|_| ())
}

/// The first TLS record, with its head of five bytes (RFC 8446, 5.1).
fn first_record(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    stream.read_exact(&mut record)?;
    let len = u16::from_be_bytes([record[3], record[4]]);
    record.resize(5 + usize::from(len), 0);
    stream.read_exact(&mut record[5..])?;
    Ok(record)
}

/// Whether a ClientHello has `h2` as the first of a list of protocols.
fn offers_h2(hello: &[u8]) -> bool {
    hello.windows(5).any(|window| window[0] == 0 && window[2..] == *b"\x02h2")
}
