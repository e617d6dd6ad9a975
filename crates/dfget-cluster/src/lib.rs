//! Who belongs to the cluster, and by which key its nodes know each other.
//!
//! All nodes hold one key of 32 bytes ([`ClusterKey`]). From it every node makes the same
//! certificate authority, and with it a certificate of its own ([`Identity`]): who can show one holds
//! the key. The ports of a node are [`Door`]s, which take TLS and, if allowed, plain text on one port;
//! [`Dialer`] goes to the doors of others. Who the others are, [`Members`] says, from what [`Sources`]
//! name; [`ClusterSetup`] puts all that together for a daemon.

mod door;
mod door_error;
mod guest;
mod identity;
mod key;
mod key_file;
mod leaves;
mod local;
mod members;
mod setup;
mod sources;
mod stream;
mod visitor;

pub use door::{Dialer, Door};
pub use door_error::{DoorError, describe_io};
pub use guest::Guest;
pub use identity::{Identity, IdentityError};
pub use key::{ClusterKey, KeyError};
pub use key_file::{KeyFileError, read_key, read_or_make_key};
pub use local::{cluster_hostname, local_addresses, port_of_job, slurm_job, system_hostname};
pub use members::{Itself, Member, Members};
pub use setup::{Bind, ClusterError, ClusterOptions, ClusterSetup};
pub use sources::{MemberControl, MemberWatch, Sources};
pub use stream::PeerStream;
pub use visitor::Visitor;
