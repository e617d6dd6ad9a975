//! Listening sockets that a service manager opened before this process, and keeps while it restarts:
//! clients then wait in the queue of the socket instead of being refused.
//!
//! A socket is taken for the entrance that the configuration would open at its address, so that the
//! names of sockets do not matter, and a daemon without a service manager does the same.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use dfget_config::Listen;
use listenfd::ListenFd;
use tracing::{info, warn};

/// What was handed over and not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    tcp: Vec<(TcpListener, SocketAddr)>,
    unix: Vec<(UnixListener, PathBuf)>,
}

// === impl Handed ===

impl Handed {
    /// The sockets of this process's environment (`LISTEN_FDS`), which are the first that ask for them.
    pub(crate) fn take() -> Self {
        let mut descriptors = ListenFd::from_env();
        let mut handed = Self::default();
        for index in 0..descriptors.len() {
            if let Err(error) = handed.add(&mut descriptors, index) {
                warn!("socket {index} of the service manager (LISTEN_FDS) is of no use: {error}");
            }
        }
        handed
    }

    fn add(&mut self, descriptors: &mut ListenFd, index: usize) -> io::Result<()> {
        if let Ok(Some(listener)) = descriptors.take_tcp_listener(index) {
            let address = listener.local_addr()?;
            listener.set_nonblocking(true)?;
            self.tcp.push((listener, address));
        } else if let Some(listener) = descriptors.take_unix_listener(index)? {
            let address = listener.local_addr()?;
            let path = address.as_pathname().map_or_else(PathBuf::new, Path::to_path_buf);
            listener.set_nonblocking(true)?;
            self.unix.push((listener, path));
        }
        Ok(())
    }

    /// The socket at one of these addresses, if there is one.
    pub(crate) fn at(&mut self, listen: &Listen) -> Option<TcpListener> {
        let found = self.tcp.iter().position(|(_, address)| is_at(*address, listen))?;
        let (listener, address) = self.tcp.swap_remove(found);
        info!("the socket of the service manager at {address} is used");
        Some(listener)
    }

    /// The socket for leases, and where it is.
    pub(crate) fn leases(&mut self) -> Option<(UnixListener, PathBuf)> {
        self.unix.pop()
    }

    /// Says which sockets nobody takes: who connects to them waits in vain.
    pub(crate) fn tell_of_the_rest(self, announce: &dyn Fn(&str)) {
        let unix = self.unix.iter().map(|(_, path)| path.display().to_string());
        for address in self.tcp.iter().map(|(_, address)| address.to_string()).chain(unix) {
            let text = format!(
                "the service manager hands over a socket at {address}, where dfget.yaml lets nobody listen: \
                 make `ListenStream=` of dfget.socket (`systemctl edit dfget.socket`) and dfget.yaml agree"
            );
            warn!("{text}");
            announce(&format!("warning: {text}"));
        }
    }
}

/// Whether the configuration would listen there: all addresses of this machine are one with `::` too,
/// which takes clients of both kinds.
fn is_at(address: SocketAddr, listen: &Listen) -> bool {
    let same = address.ip().to_canonical() == listen.ip.to_canonical();
    let all = address.ip().is_unspecified() && listen.ip.is_unspecified();
    (same || all) && (listen.ports.start..=listen.ports.end).contains(&address.port())
}

#[cfg(test)]
mod tests {
    use dfget_config::PortRange;

    use super::*;

    #[test]
    fn a_socket_is_for_whom_the_configuration_would_let_listen_there() {
        let at = |address: &str, ip: &str, start, end| {
            let listen = Listen { ip: ip.parse().expect("an address"), ports: PortRange { start, end } };
            is_at(address.parse().expect("an address"), &listen)
        };
        assert!(at("127.0.0.1:65001", "127.0.0.1", 65001, 65001));
        assert!(at("127.0.0.1:65003", "127.0.0.1", 65001, 65535));
        assert!(at("[::ffff:127.0.0.1]:7", "127.0.0.1", 7, 7));
        assert!(at("0.0.0.0:7", "0.0.0.0", 7, 7) && at("[::]:7", "0.0.0.0", 7, 7));
        assert!(!at("127.0.0.1:65000", "127.0.0.1", 65001, 65535));
        assert!(!at("0.0.0.0:7", "127.0.0.1", 7, 7), "less than the file opens is not asked for");
        assert!(!at("127.0.0.1:7", "0.0.0.0", 7, 7));
        assert!(!at("127.0.0.2:7", "127.0.0.1", 7, 7));
        // A port that the system is to choose is none that anybody can have been told.
        assert!(!at("127.0.0.1:7", "127.0.0.1", 0, 0));
    }
}
