//! Pieces between nodes: handed out, and fetched.
//!
//! - [`Uploads`] is the parent's side: the port of pieces ([`Uploads::serve`]) and the service that tells
//!   which pieces are here ([`Uploads::service`]). What it may hand out, and to whom, [`Holdings`] says.
//! - [`PeerClient`] is the child's side: [`PeerClient::sync`] and [`PeerClient::fetch`].
//!
//! Both sides are Dragonfly's on the wire. Neither trusts the other: a parent looks at every request as if
//! it came from a stranger, and what a child gets here is only what a CRC-32 can tell; that the bytes are
//! those of the content its digest says later.

mod client;
mod connection;
mod error;
mod hashes;
mod holdings;
mod link;
mod places;
mod rate;
mod seldom;
mod send;
mod server;
mod service;
mod sync;
mod teller;
mod uploads;

pub use client::{Patience, PeerClient};
pub use error::{ErrorKind, PeerError};
pub use holdings::{Asker, Holding, Holdings, Refusal, UploadEvent};
pub use server::listen;
pub use service::UploadService;
pub use sync::{SyncItem, SyncStream};
pub use uploads::{UploadOptions, Uploads};
