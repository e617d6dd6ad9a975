//! The socket of the API, beside the one for leases.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use dfget_console::{Api, serve_socket};
use dfget_lease::{Runtime, SYSTEM_SOCKET_VARIABLE, admin_socket, system_socket};
use tokio::net::UnixListener;
use tracing::{info, warn};

/// A socket that listens; its file goes with it.
pub(crate) struct Socket {
    listener: StdUnixListener,
    file: OwnFile,
}

/// Where a daemon's API may be asked for: root's daemon first, then this user's own, whichever of them run.
#[must_use]
pub fn admin_sockets() -> Vec<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut sockets = vec![admin_socket(&system_socket(directory(SYSTEM_SOCKET_VARIABLE).as_deref()))];
    let (xdg, temporary) = (directory("XDG_RUNTIME_DIR"), directory("TMPDIR"));
    if let Ok(runtime) = Runtime::find(xdg.as_deref(), temporary.as_deref()) {
        sockets.extend(runtime.admin_sockets());
    }
    sockets
}

/// Removed when it is dropped.
struct OwnFile(PathBuf);

// === impl Socket ===

impl Socket {
    /// Listens beside the socket for leases at `leases`, whose directory is there. `None` if it cannot
    /// be; pulls work all the same, and the log says why.
    pub(crate) fn beside(leases: &Path) -> Option<Self> {
        let path = admin_socket(leases);
        match bind(&path) {
            Ok(listener) => Some(Self { listener, file: OwnFile(path) }),
            Err(error) => {
                warn!("no API for `dfget cache` at {}: {error}", path.display());
                None
            }
        }
    }

    /// Serves until `shutdown` is over.
    pub(crate) async fn serve(self, api: Api, shutdown: impl Future<Output = ()>) {
        let Self { listener, file } = self;
        match UnixListener::from_std(listener) {
            Ok(listener) => {
                info!("serve the API at {}", file.0.display());
                serve_socket(listener, api, shutdown).await;
            }
            Err(error) => warn!("no API for `dfget cache`: {error}"),
        }
    }
}

/// Nobody but the owner, and root, can connect: the mode says so, and the kernel is asked again who it is.
fn bind(path: &Path) -> io::Result<StdUnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::other("another daemon serves it there"));
    }
    let _ = fs::remove_file(path);
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

// === impl OwnFile ===

impl Drop for OwnFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
