//! What `/api/v1` shows of a daemon and does in its store, and where it is served.

mod control;
mod facts;
mod import;
mod offline;
mod place;
mod reading;
mod verify;
mod view;

pub(crate) use import::drop_unfinished;
pub use offline::{Offline, OfflineError, offline};
pub(crate) use place::Socket;
pub use place::admin_sockets;
pub(crate) use view::{AdminView, Children};
