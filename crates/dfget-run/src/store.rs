//! Where the daemon of a command keeps its store: on a disk of this node.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::geteuid;

use crate::variables::Variables;

/// Less room than this is none.
const LEAST_FREE: u64 = 64 << 20;

/// What is to be known of directories.
pub(crate) trait Disks {
    /// The kind of a network file system, if the directory is on one.
    fn network(&self, dir: &Path) -> Option<&'static str>;

    /// Bytes that may be written there.
    ///
    /// # Errors
    /// It cannot be used at all.
    fn free(&self, dir: &Path) -> io::Result<u64>;

    /// Makes the directory, private, with what is missing above it.
    ///
    /// # Errors
    /// The file system refuses.
    fn make(&self, dir: &Path) -> io::Result<()>;
}

/// The disks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemDisks {
    /// Only look, and make nothing.
    pub(crate) only_look: bool,
}

/// The directory for the store of an instance on this host: the first that is on a disk of the
/// node, and can be written, of `$SLURM_TMPDIR`, `$TMPDIR`, the user's cache directory, `/tmp` and
/// `/var/tmp`; `last` where all fail. `note` hears of what was passed over.
pub(crate) fn directory(
    variables: &Variables,
    host: &str,
    instance: &str,
    last: &Path,
    disks: &dyn Disks,
    note: &mut dyn FnMut(String),
) -> PathBuf {
    for (base, below) in candidates(variables) {
        let dir = base.join(below).join(host).join(instance);
        let reason = match nearest(&base)
            .map_or_else(|| Err(io::ErrorKind::NotFound.into()), |near| usable(disks, &near, &dir))
        {
            Ok(None) => return dir,
            Ok(Some(kind)) => format!("it is on {kind}"),
            Err(error) => error.to_string(),
        };
        note(format!("no store in {}: {reason}", base.display()));
    }
    let dir = last.join("store").join(instance);
    note(format!("the store is in {}; set TMPDIR to a disk of this node", dir.display()));
    let _ = disks.make(&dir);
    dir
}

/// The stores that commands of this user have left on this host, what was used last first.
#[must_use]
pub fn stores(variables: &Variables) -> Vec<PathBuf> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().replace('/', "_");
    let instances = candidates(variables)
        .into_iter()
        .filter_map(|(base, below)| fs::read_dir(base.join(below).join(&host)).ok());
    let indices = instances.flatten().filter_map(|instance| {
        let dir = instance.ok()?.path().join("store");
        Some((fs::metadata(dir.join("index.redb")).ok()?.modified().ok()?, dir))
    });
    let mut stores: Vec<_> = indices.collect();
    stores.sort_unstable_by(|one, other| other.cmp(one));
    stores.into_iter().map(|(_, dir)| dir).collect()
}

/// `Ok(Some)` names the network file system that the directory is on.
fn usable(disks: &dyn Disks, near: &Path, dir: &Path) -> io::Result<Option<&'static str>> {
    if let Some(kind) = disks.network(near) {
        return Ok(Some(kind));
    }
    let free = disks.free(near)?;
    if free < LEAST_FREE {
        return Err(io::Error::other(format!("only {} MB are free", free / 1_000_000)));
    }
    disks.make(dir)?;
    Ok(None)
}

fn candidates(variables: &Variables) -> Vec<(PathBuf, PathBuf)> {
    let own = PathBuf::from(format!("dfget-{}", geteuid().as_raw()));
    let absolute = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let temporary =
        ["SLURM_TMPDIR", "TMPDIR"].iter().filter_map(|name| absolute(name)).map(|dir| (dir, own.clone()));
    let last = ["/tmp", "/var/tmp"].map(|dir| (PathBuf::from(dir), own.clone()));
    temporary.chain(cache.map(|dir| (dir, PathBuf::from("dragonfly/run")))).chain(last).collect()
}

fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|ancestor| ancestor.is_dir()).map(Path::to_path_buf)
}

// === impl SystemDisks ===

impl Disks for SystemDisks {
    fn network(&self, dir: &Path) -> Option<&'static str> {
        dfget_storage::network_file_system(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let disk = statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        if self.only_look {
            return dir.ancestors().take(3).try_for_each(dfget_lease::could_be_private);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Above it may lie what somebody else has put into a directory for everybody.
        let mine = dir.ancestors().take(3).all(|part| dfget_lease::make_private(part).is_ok());
        if !mine {
            return Err(io::Error::other("what is there is not ours alone"));
        }
        let probe = dir.join(".probe");
        let written = fs::write(&probe, [0; 4096]);
        let _ = fs::remove_file(probe);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        network: &'static [&'static str],
        full: &'static [&'static str],
        locked: &'static [&'static str],
    }

    impl Disks for Fake {
        fn network(&self, dir: &Path) -> Option<&'static str> {
            self.network.iter().any(|path| dir.starts_with(path)).then_some("NFS")
        }

        fn free(&self, dir: &Path) -> io::Result<u64> {
            Ok(if self.full.iter().any(|path| dir.starts_with(path)) { 1_000_000 } else { 1 << 40 })
        }

        fn make(&self, dir: &Path) -> io::Result<()> {
            let locked = self.locked.iter().any(|path| dir.starts_with(path));
            if locked { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
        }
    }

    fn found(fake: &Fake, pairs: &[(&str, &str)]) -> (String, Vec<String>) {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut notes = Vec::new();
        let dir = directory(&variables, "n1", "run", Path::new("/run/x"), fake, &mut |note| notes.push(note));
        (dir.display().to_string().replace(&format!("dfget-{}", geteuid().as_raw()), "dfget-ME"), notes)
    }

    // Directories that every machine has stand in for those of a job.
    const JOB: [(&str, &str); 4] =
        [("SLURM_TMPDIR", "/usr"), ("TMPDIR", "/etc"), ("XDG_CACHE_HOME", "/proc"), ("HOME", "/sys")];

    #[test]
    fn the_disks_of_the_job_come_first() {
        let good = Fake { network: &[], full: &[], locked: &[] };
        assert_eq!(found(&good, &JOB).0, "/usr/dfget-ME/n1/run");
        assert_eq!(found(&good, &JOB[1..]).0, "/etc/dfget-ME/n1/run");
        assert_eq!(found(&good, &JOB[2..]).0, "/proc/dragonfly/run/n1/run");
        assert_eq!(found(&good, &JOB[3..]).0, "/sys/.cache/dragonfly/run/n1/run");
        assert_eq!(found(&good, &[("TMPDIR", "relative")]).0, "/tmp/dfget-ME/n1/run");
    }

    #[test]
    fn what_is_shared_full_or_locked_is_passed_over_and_told() {
        let bad = Fake { network: &["/usr"], full: &["/etc"], locked: &["/proc"] };
        let (dir, notes) = found(&bad, &JOB);
        assert_eq!(dir, "/tmp/dfget-ME/n1/run");
        let notes = notes.join("\n");
        assert!(notes.contains("/usr: it is on NFS") && notes.contains("/etc: only 1 MB"), "{notes}");
        assert!(notes.contains("/proc: "), "{notes}");
        let none = Fake { network: &["/"], full: &[], locked: &[] };
        let (dir, notes) = found(&none, &JOB);
        assert_eq!(dir, "/run/x/store/run");
        assert!(notes.last().is_some_and(|note| note.contains("set TMPDIR")), "{notes:?}");
    }
}
