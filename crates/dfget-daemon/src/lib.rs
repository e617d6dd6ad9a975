//! The wiring: configuration to parts, run, drain.
//!
//! Nothing is decided here but the order: logs first, so that whatever fails can be told; then
//! what may refuse the start (certificates, ports, the store's lock); then the servers. On the
//! way down: no new connections, responses and tunnels end, downloads stop, the store is flushed.
//! A store that is broken, as opposed to one that belongs to somebody else, refuses nothing:
//! pulls then stream through.

mod admin;
mod allocator;
mod certificates;
mod cluster;
mod egress;
mod error;
mod explain;
mod handed;
mod lease;
mod leased;
mod live;
mod open_files;
mod parts;
mod pem_rules;
mod ports;
mod reload;
mod run;
mod service;
mod settings;
mod signals;
#[cfg(test)]
mod simulation;
mod traces;
mod upkeep;

pub use admin::{Offline, OfflineError, admin_sockets, offline};
pub use cluster::{
    AskDaemon, ClusterStatus, StatusError, cluster_options, cluster_status, cluster_status_by_daemon,
    dragonfly_status,
};
pub use dfget_lease::{ClusterSeen, MemberSeen, NodeTold, SchedulerSeen};
pub use dfget_telemetry::redact_url as shown_url;
pub use error::{RootsError, RunError};
pub use explain::{
    Explained, Explanation, Outcome, Question, Step, Stored, explain, sockets as daemon_sockets,
};
pub use leased::{LeasedCluster, LeasedOptions, run_leased};
pub use pem_rules::PemRules;
pub use reload::ConfigOrigin;
pub use run::run;
