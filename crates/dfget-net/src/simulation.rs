//! A network that is not the system's.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// A network on which one thread has hosts.
pub trait Network {
    /// Connects the host that is running to another.
    fn connect(&self, to: SocketAddr) -> Connecting;

    /// Listens at a port of the host that is running.
    ///
    /// # Errors
    /// The address is taken, or is none of that host.
    fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Streams>>;
}

/// A connection of such a network.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {
    /// Looks at what comes next, and leaves it there.
    fn poll_peek(&mut self, cx: &mut Context<'_>, seen: &mut ReadBuf<'_>) -> Poll<io::Result<usize>>;

    /// This end.
    ///
    /// # Errors
    /// It is not known.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The other end.
    ///
    /// # Errors
    /// It is not known.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection, and who made it.
pub type Accepted = io::Result<(Box<dyn Stream>, SocketAddr)>;

/// Connections as they come to a port.
pub trait Streams: Send + Sync {
    /// The next one. Dropped while it waits, it loses none.
    fn accept(&self) -> Pin<Box<dyn Future<Output = Accepted> + Send + '_>>;

    /// Where it listens.
    ///
    /// # Errors
    /// It is not known.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// As long as it lives, its thread has another network.
#[derive(Debug)]
pub struct Simulation {
    /// It belongs to its thread.
    thread: PhantomData<Rc<()>>,
}

thread_local! {
    static NETWORK: RefCell<Option<Rc<dyn Network>>> = const { RefCell::new(None) };
}

/// Has this thread use `network` in place of the system's. What other threads do is as ever.
#[must_use]
pub fn simulate(network: impl Network + 'static) -> Simulation {
    NETWORK.set(Some(Rc::new(network)));
    Simulation { thread: PhantomData }
}

/// The network of this thread, if it is not the system's.
pub(crate) fn simulated() -> Option<Rc<dyn Network>> {
    NETWORK.with_borrow(Clone::clone)
}

impl Drop for Simulation {
    fn drop(&mut self) {
        NETWORK.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Listener, Socket};

    /// A network without hosts.
    struct Nowhere;

    impl Network for Nowhere {
        fn connect(&self, _: SocketAddr) -> Connecting {
            Box::pin(async { Err(io::ErrorKind::HostUnreachable.into()) })
        }

        fn listen(&self, _: SocketAddr) -> io::Result<Box<dyn Streams>> {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
    }

    #[tokio::test]
    async fn a_thread_has_another_network_while_it_simulates_one_and_other_threads_the_system_s() {
        let anywhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listener = Listener::bind(anywhere).expect("the system has a port");
        let address = listener.local_addr().expect("it has an address");
        let simulation = simulate(Nowhere);
        let error = Socket::connect(address).await.expect_err("there is nobody");
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
        assert_eq!(Listener::bind(anywhere).map(drop).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        let runtime = tokio::runtime::Handle::current();
        let elsewhere = std::thread::spawn(move || {
            let _within = runtime.enter();
            Listener::bind(anywhere).is_ok()
        });
        assert!(elsewhere.join().expect("it ends"));
        drop(simulation);
        let (mut ours, accepted) = tokio::join!(Socket::connect(address), listener.accept());
        let (theirs, from) = accepted.expect("a connection");
        let ours = ours.as_mut().expect("a connection");
        assert_eq!((ours.local_addr().unwrap(), theirs.local_addr().unwrap()), (from, address));
        theirs.system().expect("the system's").try_write(b"seen").expect("there is room");
        let mut seen = [0; 8];
        for _ in 0..2 {
            assert_eq!(ours.peek(&mut seen).await.expect("it is there"), 4);
        }
    }
}
