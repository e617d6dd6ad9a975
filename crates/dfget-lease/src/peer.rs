//! Who is at the other end of a unix socket.

use std::os::fd::AsFd;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, getuid};

/// The process at the other end, as the kernel noted it when the connection was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// Somebody else sits on the socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it belongs to process {} of user {}, who is neither you, root nor dragonfly", .0.pid, .0.uid)]
pub struct Untrusted(pub Peer);

impl Peer {
    /// Who is at the other end of `socket`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn of(socket: impl AsFd) -> std::io::Result<Self> {
        let credentials = socket_peercred(socket)?;
        let pid = u32::try_from(Pid::as_raw(Some(credentials.pid))).unwrap_or(0);
        Ok(Self { pid, uid: credentials.uid.as_raw() })
    }

    /// Whether a daemon of this user may be trusted with a command's traffic: one's own, root's, and
    /// that of the user `dragonfly`, by the text of `/etc/passwd`.
    ///
    /// # Errors
    /// [`Untrusted`] with who it is.
    pub fn trusted(self, passwd: &str) -> Result<Self, Untrusted> {
        let dragonfly = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some("dragonfly")).then(|| fields.nth(1)).flatten()?.parse::<u32>().ok()
        });
        let own = self.uid == getuid().as_raw();
        if own || self.uid == 0 || Some(self.uid) == dragonfly { Ok(self) } else { Err(Untrusted(self)) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_oneself_root_and_dragonfly_are_trusted() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnotdragonfly:x:7:7:::\ndragonfly:x:4711:4711:::\n";
        let trusted = |uid| Peer { pid: 1, uid }.trusted(passwd).is_ok();
        let own = getuid().as_raw();
        assert!(trusted(own) && trusted(0) && trusted(4711));
        assert!(!trusted(7) || own == 7);
        let refused = Peer { pid: 12, uid: own + 77 }.trusted("").unwrap_err();
        assert!(refused.to_string().contains(&format!("process 12 of user {}", own + 77)));
    }

    #[test]
    fn the_kernel_tells_who_it_is() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: getuid().as_raw() });
    }
}
