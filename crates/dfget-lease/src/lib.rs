//! How a command and the daemon behind it find each other and agree on a lease.
//!
//! A *lease* is the right of one command (`dfget run -- …`) to a proxy of its own in a daemon that
//! may serve others too. It is asked for over a unix socket and lives as long as that connection,
//! or as the command itself: neither a crash nor a kill leaves one behind. The listening socket of
//! the proxy is the command's; the daemon is handed a copy of it, so that the port outlives the
//! daemon.
//!
//! The crate owns the messages ([`ToDaemon`], [`FromDaemon`]), how they and descriptors cross the
//! socket ([`Channel`], [`Inbox`]), who is believed at its other end ([`Peer`]), and the places
//! that all processes of a user on a host agree on ([`Runtime`]). It starts no process and serves
//! no request.

mod channel;
mod lock;
mod message;
mod peer;
mod runtime;

pub use channel::{Channel, Inbox, next, send, send_long};
pub use lock::{Lock, try_lock};
pub use message::{
    ClusterSeen, FromDaemon, Grant, LeaseRequest, Look, MemberSeen, NodeSpread, NodeTold, Nodes, NotSpread,
    PROTOCOL, SchedulerSeen, Seen, SeenContent, Sources, Spared, Spread, SpreadSeen, SpreadState, ToDaemon,
};
pub use peer::{Peer, Untrusted};
pub use runtime::{
    Runtime, RuntimeError, SYSTEM_SOCKET_VARIABLE, admin_socket, could_be_private, make_private,
    system_socket,
};
