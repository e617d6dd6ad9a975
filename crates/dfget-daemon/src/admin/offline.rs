//! The API without a daemon: over a store that nobody else has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use dfget_config::Config;
use dfget_console::Api;
use dfget_storage::{Options, Store, StoreError};
use dfget_telemetry::{BuildInfo, Metrics};

use super::AdminView;
use super::drop_unfinished;
use crate::parts::version;
use crate::settings;

/// A store that is open for this process alone. What was changed is kept when it goes.
pub struct Offline {
    /// What can be asked of it, and done.
    pub api: Api,
    /// What whoever opened it should know.
    pub notes: Vec<String>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// There is none.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// A daemon has it, and serves no API to this user.
    #[error("{0}; that daemon serves no API to you: ask as its own user or as root, or end it first")]
    Held(StoreError),
    /// It is somebody else's.
    #[error("the store in {} is not yours: ask as its owner", .0.display())]
    NotAllowed(PathBuf),
    /// It is broken.
    #[error(transparent)]
    Store(StoreError),
}

/// Opens the store in `dir`, or of `config` with its limits; `make` = one may be made.
///
/// # Errors
/// [`OfflineError`] by cause.
pub fn offline(config: Option<&Config>, dir: &Path, make: bool) -> Result<Offline, OfflineError> {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match std::fs::metadata(dir.join("index.redb")) {
        Ok(_) => {}
        Err(error) if denied(&error) => return Err(OfflineError::NotAllowed(dir.to_owned())),
        Err(_) if make => {}
        Err(_) => return Err(OfflineError::Missing(dir.to_owned())),
    }
    let unlimited = Options { dir: dir.to_owned(), quota_bytes: None, disk_percent: None, expire: None };
    let options =
        config.map_or(unlimited, |config| Options { dir: dir.to_owned(), ..settings::store(config) });
    let (store, report) = Store::open(options, SystemTime::now()).map_err(|error| match error {
        StoreError::Locked { .. } => OfflineError::Held(error),
        StoreError::NotOurs { .. } => OfflineError::NotAllowed(dir.to_owned()),
        StoreError::Io { ref source, .. } if denied(source) => OfflineError::NotAllowed(dir.to_owned()),
        other => OfflineError::Store(other),
    })?;
    drop_unfinished(&store);
    let metrics = Metrics::new(BuildInfo { version: version(), commit: "" });
    let view = AdminView::offline(store, dir.display().to_string(), metrics);
    let mut notes: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
    notes.extend(report.rebuilt.map(|rebuilt| {
        let kept = rebuilt.kept.display();
        format!("the index was damaged ({}) and begun anew; the old one lies at {kept}", rebuilt.cause)
    }));
    Ok(Offline { api: Api::with_control(Arc::new(view)), notes })
}
