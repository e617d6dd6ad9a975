//! `dfget.yaml` into one typed, complete [`Config`].

mod diagnostic;
mod model;
mod secret;

pub use diagnostic::{Code, Diagnostic, Location, Severity};
pub use model::{
    Access, BasicAuth, Config, Download, Health, Hijack, HijackHost, Listen, Paths, PemSource, PortRange,
    Proxy, Redirect, Rule, Storage, WhiteListEntry,
};
pub use secret::Secret;

use std::path::PathBuf;

/// A configuration without errors, and what should be said about it all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// In the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The file it came from; `None` when there was none and these are the defaults.
    pub source: Option<PathBuf>,
}
