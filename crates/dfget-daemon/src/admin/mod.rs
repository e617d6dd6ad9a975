//! What `/api/v1` shows of a daemon, and where it is served.

mod facts;
mod place;
mod view;

pub(crate) use place::Socket;
pub use place::admin_sockets;
pub(crate) use view::{AdminView, Children};
