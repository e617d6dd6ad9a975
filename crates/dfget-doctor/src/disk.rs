//! Whether there is room where the daemon and the clients write, on a disk of this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfget_config::Loaded;
use dfget_storage::network_file_system;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use crate::finding::{Area, Finding, Verdict};

/// A directory that is written to.
struct Place {
    /// Whose it is.
    what: &'static str,
    /// How to name another one.
    other: &'static str,
    dir: PathBuf,
    /// The daemon's: there must be locks that hold, and no other node.
    is_store: bool,
    /// Whether this user is the one who writes there.
    own: bool,
}

/// What is to be known of it.
#[derive(Clone, Copy, Debug)]
struct Disk {
    free_bytes: u64,
    /// `None` = the file system does not count them.
    free_files: Option<u64>,
    read_only: bool,
    writable: bool,
    network: Option<&'static str>,
}

/// An image of usual size fits in.
const ENOUGH: u64 = 4 << 30;
/// Nothing does.
const NOTHING: u64 = 64 << 20;
/// So many files are not many.
const FEW_FILES: u64 = 1000;

pub(crate) fn findings(loaded: Option<&Loaded>, variables: &BTreeMap<String, String>) -> Vec<Finding> {
    places(loaded, variables)
        .iter()
        .map(|place| match look(&place.dir) {
            Ok(disk) => judge(place, disk),
            Err(error) => Finding::new(
                Area::Disk,
                Verdict::Bad,
                format!("{}, {}: {error}", place.dir.display(), place.what),
                place.other,
            ),
        })
        .collect()
}

fn places(loaded: Option<&Loaded>, variables: &BTreeMap<String, String>) -> Vec<Place> {
    let set = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut places = Vec::new();
    let root = rustix::process::geteuid().is_root();
    if let Some(loaded) = loaded {
        let paths = &loaded.config.paths;
        let own = |dir: &Path| root || set("HOME").is_some_and(|home| dir.starts_with(home));
        places.push(Place {
            what: "the daemon's store",
            other: "name a directory on a disk of this node in dataDir",
            dir: paths.data_dir.clone(),
            is_store: true,
            own: own(&paths.data_dir),
        });
        if let Some(dir) = &paths.log_dir {
            places.push(Place {
                what: "the daemon's log",
                other: "name another in logDir",
                dir: dir.clone(),
                is_store: false,
                own: own(dir),
            });
        }
    }
    let cache = ["APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR"].iter().find_map(|name| set(name));
    if let Some(dir) = cache.or_else(|| set("HOME").map(|home| home.join(".apptainer/cache"))) {
        let other =
            "set APPTAINER_CACHEDIR to a directory on a disk of this node, or pull with --disable-cache";
        places.push(Place { what: "Apptainer's cache", other, dir, is_store: false, own: true });
    }
    let temporary = ["APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR"].iter().find_map(|name| set(name));
    places.push(Place {
        what: "where Apptainer unpacks",
        other: "set APPTAINER_TMPDIR to a directory with more room",
        dir: temporary.unwrap_or_else(|| PathBuf::from("/tmp")),
        is_store: false,
        own: true,
    });
    places
}

fn judge(place: &Place, disk: Disk) -> Finding {
    let Place { what, other, dir, is_store, own } = place;
    let name = format!("{}, {what}", dir.display());
    let tell = |verdict, text: String| Finding::new(Area::Disk, verdict, format!("{name}: {text}"), *other);
    if disk.read_only {
        return tell(Verdict::Bad, "the file system is read-only".to_owned());
    }
    if *own && !disk.writable {
        return tell(Verdict::Bad, "you may not write there".to_owned());
    }
    if disk.free_bytes < NOTHING {
        return tell(Verdict::Bad, format!("only {} MB are free", disk.free_bytes / 1_000_000));
    }
    if disk.free_files.is_some_and(|free| free < FEW_FILES) {
        return tell(Verdict::Warning, "the file system has hardly any inode left".to_owned());
    }
    if let (Some(kind), true) = (disk.network, is_store) {
        return tell(
            Verdict::Warning,
            format!("it is on {kind}, where each node must have a directory of its own"),
        );
    }
    if disk.free_bytes < ENOUGH {
        return tell(Verdict::Warning, format!("only {} MB are free", disk.free_bytes / 1_000_000));
    }
    if let Some(kind) = disk.network {
        return tell(Verdict::Note, format!("it is on {kind}, which all nodes share"));
    }
    Finding::good(Area::Disk, format!("{name}: {} GB are free", disk.free_bytes / 1_000_000_000))
}

/// Of the directory, or of the nearest above it that is there.
fn look(dir: &Path) -> std::io::Result<Disk> {
    let near = dir.ancestors().find(|near| near.is_dir()).ok_or(std::io::ErrorKind::NotFound)?;
    let stat = statvfs(near)?;
    Ok(Disk {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        free_files: (stat.f_files > 0).then_some(stat.f_favail),
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        writable: access(near, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        network: network_file_system(near),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Disk = Disk {
        free_bytes: 100 << 30,
        free_files: Some(1_000_000),
        read_only: false,
        writable: true,
        network: None,
    };

    fn verdict(disk: Disk, is_store: bool) -> Verdict {
        let dir = PathBuf::from("/d");
        judge(&Place { what: "w", other: "o", dir, is_store, own: true }, disk).verdict
    }

    #[test]
    fn what_is_wrong_with_a_disk_is_told() {
        assert_eq!(verdict(GOOD, true), Verdict::Good);
        assert_eq!(verdict(Disk { read_only: true, ..GOOD }, true), Verdict::Bad);
        assert_eq!(verdict(Disk { writable: false, ..GOOD }, true), Verdict::Bad);
        assert_eq!(verdict(Disk { free_bytes: 1 << 20, ..GOOD }, true), Verdict::Bad);
        assert_eq!(verdict(Disk { free_bytes: 1 << 30, ..GOOD }, true), Verdict::Warning);
        assert_eq!(verdict(Disk { free_files: Some(3), ..GOOD }, true), Verdict::Warning);
        assert_eq!(verdict(Disk { free_files: None, ..GOOD }, true), Verdict::Good);
        assert_eq!(verdict(Disk { network: Some("NFS"), ..GOOD }, true), Verdict::Warning);
        assert_eq!(verdict(Disk { network: Some("NFS"), ..GOOD }, false), Verdict::Note);
    }

    #[test]
    fn a_directory_that_is_not_there_is_that_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = look(&dir.path().join("a/b/c")).unwrap();
        assert!(disk.writable && disk.free_bytes > 0, "{disk:?}");
    }
}
