//! What this node is in a cluster that is not made of daemons like it: one of Dragonfly, whose schedulers and peers
//! speak in clear.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::door::{Dialer, Door};
use crate::local::{cluster_hostname, local_addresses, system_hostname};
use crate::setup::{ClusterError, ClusterOptions, first_address};

/// What this node is there, and what its ports need.
#[derive(Debug)]
pub struct Guest {
    /// Its name.
    pub hostname: String,
    /// The address at which others reach it.
    pub ip: IpAddr,
    /// `<ip>-<hostname>`.
    pub host_id: String,
    /// Where the gRPC port opens.
    pub grpc: SocketAddr,
    /// Where the piece port opens.
    pub pieces: SocketAddr,
    /// Lets anybody in, in clear.
    pub door: Door,
    /// Goes to others in clear.
    pub dialer: Dialer,
}

// === impl Guest ===

impl Guest {
    /// Finds out who this node is; its address is the one from which it reaches the first of the schedulers, unless
    /// it has been said. Of `options` neither members nor key are looked at. Opens no port.
    ///
    /// # Errors
    /// [`ClusterError::Port`].
    pub async fn prepare(
        options: &ClusterOptions,
        schedulers: &[(String, u16)],
    ) -> Result<Self, ClusterError> {
        let (grpc, pieces) = options.ports()?;
        let own = options.hostname.clone().unwrap_or_else(system_hostname).to_ascii_lowercase();
        let hostname = cluster_hostname(&own, options.job);
        let ip = match options.advertise {
            Some(ip) => ip,
            None => address_towards(schedulers).await.unwrap_or_else(|| first_address(&local_addresses())),
        };
        let any: IpAddr =
            if ip.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Ok(Self {
            host_id: dfget_proto::host_id(ip, &hostname),
            hostname,
            ip,
            grpc: SocketAddr::new(options.grpc.ip.unwrap_or(any), grpc),
            pieces: SocketAddr::new(options.pieces.ip.unwrap_or(any), pieces),
            door: Door { tls: None, plain: true },
            dialer: Dialer { tls: None },
        })
    }
}

/// The address of this node from which the first of these is reached that has one. Nothing is sent.
async fn address_towards(schedulers: &[(String, u16)]) -> Option<IpAddr> {
    for (host, port) in schedulers {
        let found = tokio::net::lookup_host((host.as_str(), *port));
        let Ok(Ok(found)) = tokio::time::timeout(LOOK_UP, found).await else { continue };
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        if let Some(ip) = found.into_iter().find_map(route) {
            return Some(ip);
        }
    }
    None
}

fn route(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// For one name, before the ports open.
const LOOK_UP: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_is_reached_where_it_reaches_the_scheduler_from_unless_it_says_otherwise() {
        let schedulers = [("127.0.0.1".to_owned(), 8002)];
        let mut options = ClusterOptions { hostname: Some("N1".to_owned()), ..ClusterOptions::default() };
        let guest = Guest::prepare(&options, &schedulers).await.unwrap();
        assert_eq!(
            (guest.host_id.as_str(), guest.grpc.port(), guest.pieces.port()),
            ("127.0.0.1-n1", 65_000, 65_002)
        );
        options.advertise = Some("192.0.2.7".parse().unwrap());
        let guest = Guest::prepare(&options, &schedulers).await.unwrap();
        assert_eq!(guest.host_id, "192.0.2.7-n1");
        assert!(guest.door.plain && guest.door.tls.is_none() && guest.dialer.tls.is_none());
    }
}
