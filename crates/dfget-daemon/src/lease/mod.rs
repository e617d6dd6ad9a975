//! Leases: a proxy of its own for each command that asks for one over the unix socket.
//!
//! A lease is an entrance to the daemon's proxy on a listening socket that the command owns. It
//! ends when the command says so, or when both the connection that asked for it and the command
//! itself are gone; so a killed `dfget run` cuts nobody off who still pulls, and nothing is ever
//! left over.

mod challenge;
mod look;
mod serve;
mod signers;
mod spread;

pub(crate) use serve::{Leases, refuse};
pub(crate) use signers::{Configured, Own, Signers};
