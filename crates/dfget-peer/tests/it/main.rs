//! Parents and children over real sockets, in clear and through TLS.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod client;
mod server;
mod stage;
mod sync;
