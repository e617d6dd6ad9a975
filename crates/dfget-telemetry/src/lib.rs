//! What dfget tells its operators, and what it must not tell anyone.
//!
//! [`logging`] writes the log that sites know from Dragonfly; [`Metrics`] counts what a scrape
//! asks for; [`redact_url`] keeps credentials out of both. Neither a full disk nor a
//! closed terminal ever stops the daemon: what could not be written is counted and dropped.

pub mod logging;

mod console;
mod ledger;
mod log_file;
mod log_line;
mod metrics;
mod redact;
mod remarks;

pub use ledger::{Book, Ledger, OTHERS, RegistryCount};
pub use metrics::{
    AccessCheck, BuildInfo, Counts, Metrics, PieceFailure, RunningRequest, Served, Source, TaskFailure,
    TracedSpans,
};
pub use redact::redact_url;
pub use remarks::Remark;
