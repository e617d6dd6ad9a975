//! The HTTP(S) proxy: listener, CONNECT, hijack, rules, access check, forwarding.
//!
//! Each request goes one way: admission (who may use the proxy, for which target) → CONNECT
//! (hijacked, or a blind tunnel), absolute-form, or as to a registry (mirror) → rule → task or forward. It decides who may
//! have a stored content and turns every error into an answer; it fetches and stores nothing
//! itself, and it changes nothing in what it forwards but what concerns one connection only.

mod accelerate;
mod accelerated;
mod access;
mod admission;
mod answer;
mod answers;
mod body;
mod collapse;
mod condition;
mod connect;
mod dump;
mod entrance;
mod forward;
mod guard;
mod handler;
mod identify;
mod in_clear;
mod listener;
mod message;
mod mirror;
mod multipart;
mod permission;
mod realms;
mod respond;
mod slots;
mod sni;
mod spans;
mod tagged;
mod token;
mod turns;
mod upload;
mod wishes;
mod with_peers;

pub use access::AccessOptions;
pub use admission::{Admission, AllowedTarget, ProxyLogin};
pub use entrance::{Distrust, Entrance, Hijack, Successor, Tallied, Tally};
pub use handler::{Proxy, ProxyOptions};
pub use identify::{Identified, asks_for_a_task, identify, refused_headers};
pub use mirror::{Led, Mirror, MirrorTasks, Mirrors};
pub use realms::Realms;
