//! Parents and children over real sockets, in clear and through TLS.

mod client;
mod server;
mod stage;
mod sync;
