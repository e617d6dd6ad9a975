//! Where TCP connections to other hosts come from: the system, or the network of a simulation.
//!
//! What a node opens and takes, towards other nodes and towards origins, comes through [`Socket::connect`]
//! and [`Listener`]. They are the system's, always, but on a thread on which a test has begun to
//! [`simulate`] another network: so one process can hold a whole cluster, each node the real code. No
//! feature and no type of the callers depends on it, so that what is tested is what is built.

mod listener;
mod simulation;
mod socket;

pub use listener::Listener;
pub use simulation::{Accepted, Connecting, Network, Simulation, Stream, Streams, simulate};
pub use socket::Socket;
