//! Who belongs to the cluster, and by which key its nodes know each other.
//!
//! All nodes hold one key of 32 bytes ([`ClusterKey`]). From it every node makes the same
//! certificate authority, and with it a certificate of its own ([`Identity`]): who can show one holds
//! the key. The ports of a node are [`Door`]s, which take TLS and, if allowed, plain text on one port;
//! [`Dialer`] goes to the doors of others.

mod door;
mod door_error;
mod identity;
mod key;
mod leaves;
mod stream;

pub use door::{Dialer, Door};
pub use door_error::{DoorError, describe_io};
pub use identity::{Identity, IdentityError};
pub use key::{ClusterKey, KeyError};
pub use stream::PeerStream;
