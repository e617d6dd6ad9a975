//! Whether a daemon runs on this node, for whom.

use std::os::unix::net::UnixStream;
use std::path::Path;

use dfget_lease::Peer;

use crate::finding::{Area, Finding, Verdict};

/// What is at a socket.
#[derive(Debug)]
enum At {
    /// Nothing.
    Nobody,
    /// A daemon that this user may trust, of this process.
    Daemon(u32),
    /// Something else.
    Other(String),
}

pub(crate) fn findings() -> Vec<Finding> {
    let places = dfget_daemon::daemon_sockets();
    let seen: Vec<_> = places.iter().map(|place| (place.as_path(), look(place))).collect();
    judge(&seen)
}

fn judge(seen: &[(&Path, At)]) -> Vec<Finding> {
    let finding = |(place, at): &(&Path, At)| match at {
        At::Nobody => None,
        At::Daemon(pid) => {
            let text = match pid {
                1 => {
                    format!("systemd keeps {} open, for a daemon that it starts when needed", place.display())
                }
                pid => format!("process {pid} answers at {}", place.display()),
            };
            Some(Finding::good(Area::Daemon, text))
        }
        At::Other(reason) => Some(Finding::new(
            Area::Daemon,
            Verdict::Warning,
            format!("{}: {reason}", place.display()),
            "commands do not use it; stop it, or remove the socket",
        )),
    };
    let findings: Vec<_> = seen.iter().filter_map(finding).collect();
    if !findings.is_empty() {
        return findings;
    }
    vec![Finding::new(
        Area::Daemon,
        Verdict::Note,
        "none runs on this node, or none that you may ask",
        "`dfget daemon` starts one; `dfget run` starts its own",
    )]
}

fn look(place: &Path) -> At {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};

    let stream = match UnixStream::connect(place) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return At::Nobody,
        Err(error) => return At::Other(error.to_string()),
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match Peer::of(&stream).map(|peer| peer.trusted(&passwd)) {
        Ok(Ok(peer)) => At::Daemon(peer.pid),
        Ok(Err(untrusted)) => At::Other(untrusted.to_string()),
        Err(error) => At::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_is_enough_and_a_stranger_at_a_socket_is_told() {
        let (one, other) = (Path::new("/run/a.sock"), Path::new("/tmp/b.sock"));
        let of = |seen: &[(&Path, At)]| judge(seen).iter().map(|one| one.verdict).collect::<Vec<_>>();
        assert_eq!(of(&[(one, At::Nobody), (other, At::Daemon(7))]), [Verdict::Good]);
        assert_eq!(of(&[(one, At::Nobody), (other, At::Nobody)]), [Verdict::Note]);
        assert_eq!(of(&[(one, At::Other("it is user 5".to_owned()))]), [Verdict::Warning]);
    }
}
