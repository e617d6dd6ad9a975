//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use dfget_config::Listen;

/// Binds the first free port of `listen`.
///
/// # Errors
/// That of the last port tried; anything but a taken port ends the search.
pub(crate) fn bind(listen: &Listen) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in listen.ports.start..=listen.ports.end {
        match TcpListener::bind(SocketAddr::new(listen.ip, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use dfget_config::PortRange;

    use super::*;

    #[test]
    fn a_range_gives_its_first_free_port_and_a_taken_one_is_an_error() {
        let taken = bind(&Listen::loopback(PortRange::exactly(0))).expect("some port is free");
        let port = taken.local_addr().expect("it is bound").port();
        let exact = bind(&Listen::loopback(PortRange::exactly(port))).expect_err("the port is taken");
        assert_eq!(exact.kind(), io::ErrorKind::AddrInUse);
        let next =
            bind(&Listen::loopback(PortRange { start: port, end: u16::MAX })).expect("a later one is free");
        assert!(next.local_addr().expect("it is bound").port() > port);
    }
}
