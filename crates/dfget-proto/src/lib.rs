//! The wire between the members of a cluster.
//!
//! The messages are Dragonfly's (version 2), made by our own build from `proto/`; what dfget's own
//! daemons say beyond them has field numbers from 1001 on, or the service `dfget.v1.Cluster`.

pub mod messages;
mod names;
mod ring;
pub mod vortex;

pub use names::{host_id, peer_id};
pub use ring::Ring;
