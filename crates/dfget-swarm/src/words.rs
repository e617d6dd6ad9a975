//! The words that both cores share.

use std::net::IpAddr;
use std::sync::Arc;

/// Names one swarm: a content as one authority gives it.
///
/// Peers feed each other only what the very authority has delivered that the asking client's
/// credential was checked at: who knows the digest of somebody's private content cannot have it by
/// asking for it at a registry of their own.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SwarmKey {
    /// Id of the task: 64 hex digits.
    pub task: Arc<str>,
    /// `scheme://host[:port]` of the origin.
    pub authority: Arc<str>,
}

/// A host as its announcement describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostInfo {
    /// `<ip>-<hostname>`.
    pub id: Arc<str>,
    /// Its name.
    pub hostname: String,
    /// The address by which it wants to be reached.
    pub ip: IpAddr,
    /// Its gRPC port.
    pub port: u16,
    /// Data centre; empty = not told.
    pub idc: String,
    /// Levels of a place, split by `|`, from the largest (`site|row|rack`); empty = not told.
    pub location: String,
    /// What its uplink bears, in bytes a second; 0 = not told.
    pub uplink: u64,
    /// It has shown the key of the cluster.
    pub keyed: bool,
    /// It hands nothing out.
    pub disable_shared: bool,
}

/// A peer to ask for pieces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent {
    /// Id of the peer.
    pub peer: Arc<str>,
    /// Where it is.
    pub host: Arc<HostInfo>,
    /// It has all of the content, verified.
    pub complete: bool,
}
