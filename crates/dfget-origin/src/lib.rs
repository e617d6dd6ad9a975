//! HTTP(S) to origins: the registries and web servers that contents come from.
//!
//! It owns the connections (a small pool per authority, verified before they are used), what
//! is sent on a request and what is not, redirects and their policy, and the resumable stream
//! that hides broken, reset and stalled connections. It knows no task, no store and no client;
//! it never invents a credential and never sends one to another authority.
//!
//! Towards origins it speaks HTTP/1.1 only: one connection a stream is what large contents
//! want, and one slow stream then cannot hold up another.

mod address;
mod budget;
mod client;
mod connect;
mod decode;
mod destination;
mod error;
mod fetch;
pub mod headers;
mod limit;
mod outgoing;
mod pool;
mod redirect;
mod resume;
mod spans;
mod upstream;

pub use address::AddressClass;
pub use budget::{Budget, Reason};
pub use client::{
    Body, BoxError, Observer, OriginClient, OriginOptions, PerScheme, Retries, ServerWide, Timeouts, Trust,
    empty_body,
};
pub use connect::keep_alive;
pub use destination::{Destinations, Judge, Redirects};
pub use error::{ConnectError, FetchError, OriginError, Verdict};
pub use fetch::{Answer, FetchRequest};
pub use limit::{Flow, Limiter};
pub use outgoing::{Arrival, Listening, Outgoing, is_local};
pub use redirect::RedirectError;
pub use resume::{ContentStream, Identity};
pub use upstream::{Upstream, UpstreamError};
