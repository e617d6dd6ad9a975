//! Names of hosts and peers (Dragonfly v2, identifiers).

use std::net::IpAddr;

/// `<ip>-<hostname>`: a host, the same for all that it does.
#[must_use]
pub fn host_id(ip: IpAddr, hostname: &str) -> String {
    format!("{ip}-{hostname}")
}

/// `<ip>-<hostname>-<uuid>`: one attempt to get one content.
#[must_use]
pub fn peer_id(ip: IpAddr, hostname: &str) -> String {
    format!("{ip}-{hostname}-{}", uuid::Uuid::new_v4())
}
