//! The scheduler's port and its client, over real sockets on loopback.

mod ours;
mod rig;
mod rough;
mod stock;
mod storm;
