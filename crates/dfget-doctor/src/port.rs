//! Whether the ports of the daemon are free, or its own.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use dfget_config::{Config, Listen};

use crate::finding::{Area, Finding, Verdict};

/// The process that keeps sockets for services (dfget.socket), and starts them for their first client.
const SERVICE_MANAGER: u32 = 1;

/// A process that listens.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Holder {
    pid: u32,
    name: String,
}

/// How a port is.
#[derive(Debug)]
enum State {
    Free,
    /// Taken, by whom if that can be seen.
    Taken(Option<Holder>),
    Refused(io::Error),
}

pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let mut wanted = vec![("proxy.tcpListen", config.proxy.listen)];
    if let Some(hijack) = &config.proxy.hijack {
        wanted.extend(hijack.sni.iter().map(|sni| ("hijackHTTPS.sni", sni.listen)));
    }
    if config.proxy.namespace.is_some() {
        // It is not in this network.
        wanted.remove(0);
    }
    let judged = wanted.into_iter().map(|(key, listen)| judge(key, listen, state(listen)));
    judged.collect()
}

fn judge(key: &str, listen: Listen, state: State) -> Finding {
    match state {
        State::Free => Finding::good(Area::Port, format!("{listen} is free, for {key}")),
        State::Taken(Some(Holder { pid, name })) if name == "dfget" => {
            Finding::good(Area::Port, format!("{listen}, {key}, is served by dfget (process {pid})"))
        }
        State::Taken(Some(Holder { pid: SERVICE_MANAGER, name })) => Finding::new(
            Area::Port,
            Verdict::Note,
            format!(
                "{listen} is kept open by {name}, which starts the service it belongs to for its first client"
            ),
            "`systemctl status dfget.socket` says whether that is the daemon",
        ),
        State::Taken(Some(Holder { pid, name })) => Finding::new(
            Area::Port,
            Verdict::Bad,
            format!("{listen} is taken by {name} (process {pid})"),
            format!("stop that, or set another port in {key}.port and in HTTPS_PROXY"),
        ),
        State::Taken(None) => Finding::new(
            Area::Port,
            Verdict::Note,
            format!("{listen} is taken by a process of another user, which may be the daemon"),
            "as root, this command names it",
        ),
        State::Refused(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 are root's; choose another, or start as root"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "this node has no such address; look at the `listen` of that key"
                }
                _ => "choose another address",
            };
            Finding::new(Area::Port, Verdict::Bad, format!("{listen}, {key}: {error}"), remedy)
        }
    }
}

/// Of the first port of a range that is not taken, or of the last.
fn state(listen: Listen) -> State {
    let mut state = State::Free;
    for port in listen.ports.start..=listen.ports.end {
        let address = SocketAddr::new(listen.ip, port);
        state = match TcpListener::bind(address) {
            Ok(_) => return State::Free,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => State::Taken(holder(address)),
            Err(error) => return State::Refused(error),
        };
    }
    state
}

/// Who listens there, as far as this user may see it. Of several, as with a socket that a service manager has handed
/// over, the one that is not the service manager.
fn holder(address: SocketAddr) -> Option<Holder> {
    let mut manager = None;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| inode(table, address.port()))?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = descriptors.flatten().filter_map(|one| fs::read_link(one.path()).ok());
        if links.any(|link| link.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let holder = Holder { pid, name: name.trim().to_owned() };
            if pid != SERVICE_MANAGER {
                return Some(holder);
            }
            manager = Some(holder);
        }
    }
    manager
}

/// The inode of the socket that listens on a port, from `/proc/net/tcp` or `tcp6` (proc_net_tcp(5)).
fn inode(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let its = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (its == port && *state == LISTEN).then(|| inode.parse().ok())?
    })
}

/// Whether an address and a port, as a client writes them, lead to `listen`.
pub(crate) fn leads_to(proxy: &str, listen: &Listen) -> bool {
    let Some((host, port)) = proxy.rsplit_once(':') else { return false };
    let host = host.trim_matches(['[', ']']);
    let ip: Option<IpAddr> =
        if host == "localhost" { Some([127, 0, 0, 1].into()) } else { host.parse().ok() };
    let Ok(port) = port.parse::<u16>() else { return false };
    let here = ip.is_some_and(|ip| ip == listen.ip || (listen.ip.is_unspecified() && ip.is_loopback()));
    here && (listen.ports.start..=listen.ports.end).contains(&port)
}

#[cfg(test)]
mod tests {
    use dfget_config::PortRange;

    use super::*;

    #[test]
    fn who_holds_a_port_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let State::Taken(Some(holder)) = state(Listen::loopback(PortRange::exactly(port))) else {
            panic!("it is not seen");
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
        let judged =
            judge("proxy.tcpListen", Listen::loopback(PortRange::exactly(port)), State::Taken(Some(holder)));
        assert_eq!(judged.verdict, Verdict::Bad, "{judged:?}");
        drop(listener);
        assert!(matches!(state(Listen::loopback(PortRange::exactly(port))), State::Free));
    }

    #[test]
    fn a_daemon_at_its_port_is_good() {
        let holder = Holder { pid: 7, name: "dfget".to_owned() };
        let listen = Listen::loopback(PortRange::exactly(65_001));
        assert_eq!(judge("k", listen, State::Taken(Some(holder))).verdict, Verdict::Good);
        let manager = Holder { pid: SERVICE_MANAGER, name: "systemd".to_owned() };
        assert_eq!(judge("k", listen, State::Taken(Some(manager))).verdict, Verdict::Note);
        assert_eq!(judge("k", listen, State::Taken(None)).verdict, Verdict::Note);
        assert_eq!(
            judge("k", listen, State::Refused(io::ErrorKind::PermissionDenied.into())).verdict,
            Verdict::Bad
        );
    }

    #[test]
    fn a_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:FDE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0\n   \
                     1: 0100007F:FDEA 00000000:0000 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0\n";
        assert_eq!(inode(table, 65_001), Some(4242));
        assert_eq!(inode(table, 65_002), None, "it does not listen");
        assert_eq!(inode("", 65_001), None);
    }

    #[test]
    fn the_proxy_of_a_variable_is_the_daemon_or_not() {
        let listen = Listen::loopback(PortRange::exactly(65_001));
        assert!(leads_to("127.0.0.1:65001", &listen) && leads_to("localhost:65001", &listen));
        for other in ["127.0.0.1:65002", "10.0.0.1:65001", "proxy.example.com:3128", "127.0.0.1", ""] {
            assert!(!leads_to(other, &listen), "{other}");
        }
    }
}
