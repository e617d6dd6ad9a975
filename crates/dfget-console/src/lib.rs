//! The admin port: is the daemon there, and what has it counted.
//!
//! `GET /server/ping` and `GET /metrics`, for anyone who can reach the port; neither tells a name
//! of a host or a repository, neither changes anything, and every other path is 404. What a
//! connection can cost is bounded: one request, ten seconds, 64 connections at once.

mod routes;
mod serve;

pub use routes::Console;
pub use serve::serve;
