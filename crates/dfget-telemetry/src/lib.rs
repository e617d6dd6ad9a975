//! What dfget tells its operators, and what it must not tell anyone.
//!
//! [`logging`] writes the log that sites know from Dragonfly; [`Metrics`] counts what a scrape
//! asks for; [`redact_url`] keeps credentials out of both. Neither a full disk nor a
//! closed terminal ever stops the daemon: what could not be written is counted and dropped.

pub mod logging;

mod console;
mod log_file;
mod log_line;
mod metrics;
mod redact;

pub use metrics::{
    AccessCheck, BuildInfo, Counts, Metrics, PieceFailure, RunningRequest, Served, Source, TaskFailure,
};
pub use redact::redact_url;
