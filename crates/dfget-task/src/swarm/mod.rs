//! A download in a cluster: most bytes from peers, some from the origin.
//!
//! What is asked of whom is decided by the scheduler of the task and by the picker, both pure
//! (`dfget-swarm`). The conductor here carries it out beside the task's own fetches from the origin,
//! which are then held to the pieces that the scheduler has given to this node. Whatever the cluster
//! does not bring, the origin does: a swarm can make a download faster and never impossible.

mod conductor;
mod hashes;
mod mend;
mod network;
mod share;
mod state;

pub(crate) use mend::Suspects;
pub use network::{
    Boxed, Heard, Held, Holding, Join, Membership, Network, Offer, Orders, PieceHashes, Told, WantedPiece,
};
pub(crate) use state::{Layout, Swarm};
