//! Listening sockets.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use dfget_config::Listen;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Binds the first free port of `listen`, in the network namespace that the path leads to, if one does.
///
/// # Errors
/// That of the last port tried; anything but a taken port ends the search. A namespace that is not
/// there, or not for this user to enter.
pub(crate) fn bind_in(listen: &Listen, namespace: Option<&Path>) -> io::Result<TcpListener> {
    let Some(namespace) = namespace else { return bind(listen) };
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("network namespace {}: {error}", namespace.display()))
    };
    let file = File::open(namespace).map_err(told)?;
    let listen = *listen;
    // A thread of its own, which ends with it: nothing else of the daemon is to be there.
    let there = thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        bind(&listen)
    });
    let bound = there.join().map_err(|_| io::Error::other("the thread that binds it failed"));
    bound.and_then(|bound| bound).map_err(told)
}

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
    fn what_is_no_namespace_is_named() {
        let anywhere = Listen::loopback(PortRange::exactly(0));
        let error = bind_in(&anywhere, Some(Path::new("/nowhere"))).expect_err("there is none");
        assert!(error.to_string().contains("network namespace /nowhere: "), "{error}");
        let error = bind_in(&anywhere, Some(Path::new("/etc/passwd"))).expect_err("a file is none");
        assert!(error.to_string().contains("/etc/passwd"), "{error}");
        assert!(bind_in(&anywhere, None).is_ok());
    }

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
