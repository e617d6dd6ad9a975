//! The admin port: is the daemon there, and what has it counted; and the API, which tells more.
//!
//! `GET /server/ping` and `GET /metrics`, for anyone who can reach the port; neither tells a name
//! of a host or a repository, neither changes anything. The web page ([`Page`]) and what it asks are for those
//! alone who have the token that the socket hands out. Every other path is 404. What a
//! connection can cost is bounded: one request, ten seconds, 64 connections at once.
//!
//! `/api/v1` ([`Api`]) tells names, and is served on a unix socket to the daemon's own user and to
//! root ([`serve_socket`]). What is told comes from a [`View`]: this crate owns paths and JSON, and
//! knows nothing of stores and tasks.

mod accept;
mod api;
mod live;
mod page;
mod routes;
mod serve;
mod socket;

pub use api::{
    Api, Collected, Content, Contents, Control, Counters, Evicted, Failed, Gc, Import, Keeping, Kept, Keys,
    Kind, Node, NodeStore, Order, Origin, Parent, Reading, RegistryUse, Removed, Selection, ServedBy, Stat,
    TaskBytes, TaskSeen, Tasks, Verified, Verify, View, stat,
};
pub use live::{
    EndedTask, History, Live, LiveCluster, LiveMember, LiveStore, LiveTask, LiveView, MOST_MEMBERS,
    MOST_NODES, MOST_TASKS, Neighbour, Rates, RegistryLine, RemarkLine, TaskParent,
};
pub use page::{Page, PageAddress};
pub use routes::Console;
pub use serve::serve;
pub use socket::{serve_socket, serve_stream};
