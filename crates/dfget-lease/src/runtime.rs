//! The places that all processes of one user on one host agree on.
//!
//! A directory of one's own that is not shared between hosts: below `$XDG_RUNTIME_DIR` where that
//! is there, else in `/tmp`, where anybody may have made one of that name before. So each candidate
//! must be a real directory, be ours, and be closed to others.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dfget_core::Digest;
use rustix::process::geteuid;

/// Where the daemon of the system is asked for leases.
const SYSTEM_SOCKET: &str = "/run/dragonfly/lease.sock";

/// The variable that names another place for it, for tests: those of one machine must neither meet
/// its daemon nor each other's.
pub const SYSTEM_SOCKET_VARIABLE: &str = "DFGET_SYSTEM_SOCKET";

/// Where the daemon of the system is asked for leases; `named` is the value of
/// [`SYSTEM_SOCKET_VARIABLE`]. Whoever listens there is asked by the kernel who it is, so that the
/// variable gives nobody a right.
#[must_use]
pub fn system_socket(named: Option<&Path>) -> PathBuf {
    named.filter(|path| path.is_absolute()).unwrap_or_else(|| Path::new(SYSTEM_SOCKET)).to_owned()
}

/// Where the daemon that gives leases at `leases` serves its API.
#[must_use]
pub fn admin_socket(leases: &Path) -> PathBuf {
    if leases.file_name().is_some_and(|name| name == "lease.sock") {
        return leases.with_file_name("admin.sock");
    }
    leases.with_extension("admin")
}

/// The directory of sockets and locks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Runtime {
    dir: PathBuf,
}

/// No directory can be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "no directory for sockets: {tried}; set XDG_RUNTIME_DIR to a directory of this host that only you can enter"
)]
pub struct RuntimeError {
    tried: String,
}

// === impl Runtime ===

impl Runtime {
    /// The first usable one of `$XDG_RUNTIME_DIR/dragonfly`, `/tmp/dfget-UID` and
    /// `$TMPDIR/dfget-UID`; it is made if it is missing.
    ///
    /// # Errors
    /// [`RuntimeError`] with what is wrong about each.
    pub fn find(xdg_runtime_dir: Option<&Path>, temporary: Option<&Path>) -> Result<Self, RuntimeError> {
        let own = format!("dfget-{}", geteuid().as_raw());
        let xdg = xdg_runtime_dir.map(|dir| dir.join("dragonfly"));
        let rest = [Some(Path::new("/tmp")), temporary].into_iter().flatten().map(|dir| dir.join(&own));
        let mut tried = Vec::new();
        for dir in xdg.into_iter().chain(rest) {
            // A socket's path has at most 107 bytes, and names of ours go below it.
            let usable = if dir.as_os_str().len() > 70 {
                Err(io::Error::other("its path is too long for a socket"))
            } else {
                make_private(&dir)
            };
            match usable {
                Ok(()) => return Ok(Self { dir }),
                Err(error) => tried.push(format!("{}: {error}", dir.display())),
            }
        }
        Err(RuntimeError { tried: tried.join(", ") })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The socket of the daemon that this user started by `dfget daemon`.
    #[must_use]
    pub fn daemon_socket(&self) -> PathBuf {
        self.dir.join("daemon.sock")
    }

    /// The socket of the daemon of this instance, which `dfget run` starts.
    #[must_use]
    pub fn socket(&self, instance: &str) -> PathBuf {
        self.dir.join(format!("{instance}.sock"))
    }

    /// Where daemons of this user serve their API, whichever of them run: that of `dfget daemon` first.
    #[must_use]
    pub fn admin_sockets(&self) -> Vec<PathBuf> {
        let own = admin_socket(&self.daemon_socket());
        let mut sockets: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|item| Some(item.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "admin"))
            .collect();
        // The plain instance before those with a way of their own.
        sockets.sort_by_key(|path| (*path != own, path.as_os_str().len(), path.clone()));
        sockets
    }

    /// The lock under which the daemon of this instance is started, and leaves.
    #[must_use]
    pub fn lock(&self, instance: &str) -> PathBuf {
        self.dir.join(format!("{instance}.lock"))
    }

    /// The name of the instance for commands that reach origins in this way: those with the same
    /// upstream proxy and trust share a daemon, others do not.
    #[must_use]
    pub fn instance(way: &[(&str, Option<&str>)]) -> String {
        let set: Vec<_> =
            way.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        if set.is_empty() {
            return "run".to_owned();
        }
        let digest = Digest::sha256(set.join("\0").as_bytes()).hex();
        format!("run-{}", &digest[..12])
    }
}

/// Whether [`make_private`] would do, as far as can be told without making anything.
///
/// # Errors
/// As there.
pub fn could_be_private(dir: &Path) -> io::Result<()> {
    let writable = |dir: &Path| {
        let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(dir, wanted).map_err(io::Error::from)
    };
    match fs::symlink_metadata(dir) {
        Ok(found) => check_own(&found).and_then(|()| writable(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let near = dir.ancestors().skip(1).find(|ancestor| ancestor.exists());
            near.map_or(Err(error), writable)
        }
        Err(error) => Err(error),
    }
}

fn check_own(found: &fs::Metadata) -> io::Result<()> {
    if !found.is_dir() {
        return Err(io::Error::other("not a directory"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to user {}", found.uid())));
    }
    Ok(())
}

/// Makes a directory that only we can enter, or checks the one that is there.
///
/// # Errors
/// It is not a directory, not ours, or cannot be written.
pub fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(dir)?;
    check_own(&found)?;
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    writable.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_ours_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::find(Some(root.path()), None).unwrap();
        assert_eq!(runtime.dir(), root.path().join("dragonfly"));
        let mode = fs::metadata(runtime.dir()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::set_permissions(runtime.dir(), Permissions::from_mode(0o755)).unwrap();
        Runtime::find(Some(root.path()), None).unwrap();
        assert_eq!(fs::metadata(runtime.dir()).unwrap().mode() & 0o777, 0o700, "it is closed again");
    }

    #[test]
    fn a_link_or_a_file_in_the_place_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("dragonfly")).unwrap();
        let runtime = Runtime::find(Some(root.path()), None).unwrap();
        assert!(!runtime.dir().starts_with(root.path()));
        let missing = Runtime::find(Some(&root.path().join("missing")), None).unwrap();
        assert_eq!(missing, runtime);
    }

    #[test]
    fn each_daemon_has_an_api_of_its_own() {
        assert_eq!(admin_socket(&system_socket(None)), Path::new("/run/dragonfly/admin.sock"));
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::find(Some(root.path()), None).unwrap();
        let sockets = [runtime.socket("run-1"), runtime.socket("run"), runtime.daemon_socket()]
            .map(|path| admin_socket(&path));
        for path in sockets.iter().chain([&runtime.lock("run"), &runtime.socket("run")]) {
            fs::write(path, "").unwrap();
        }
        let [hashed, plain, own] = sockets;
        assert_eq!(runtime.admin_sockets(), [own, plain, hashed]);
    }

    #[test]
    fn commands_share_an_instance_that_reach_origins_alike() {
        assert_eq!(Runtime::instance(&[("HTTPS_PROXY", None)]), "run");
        let one = Runtime::instance(&[("HTTPS_PROXY", Some("http://a")), ("NO_PROXY", None)]);
        let same = Runtime::instance(&[("HTTPS_PROXY", Some("http://a"))]);
        let other = Runtime::instance(&[("HTTPS_PROXY", Some("http://b"))]);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(one.len() < 24 && one.starts_with("run-"));
    }
}
