//! Whether there is room where the daemon and the clients write, on a disk of this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfget_config::Loaded;
use dfget_core::decimal_size;
use dfget_storage::network_file_system;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use crate::finding::{Area, Finding, Verdict};
use crate::quota::{self, Quota};

/// A directory that is written to.
struct Place {
    /// Whose it is.
    what: &'static str,
    /// How to name another one.
    other: &'static str,
    dir: PathBuf,
    /// The daemon's: there must be locks that hold, and no other node.
    store: Option<StoreBounds>,
    /// Whether this user is the one who writes there.
    own: bool,
}

/// What a store may take by the configuration.
#[derive(Clone, Copy, Debug, Default)]
struct StoreBounds {
    /// `storage.diskGCThreshold`.
    bytes: Option<u64>,
    /// Whether `storage.diskGCThresholdPercent` keeps it from filling the disk.
    percent: bool,
}

/// What is to be known of it.
#[derive(Clone, Debug)]
struct Disk {
    /// All that files take or could take.
    total_bytes: u64,
    free_bytes: u64,
    /// `None` = the file system does not count them.
    free_files: Option<u64>,
    read_only: bool,
    writable: bool,
    network: Option<&'static str>,
    quota: Quota,
}

/// An image of usual size fits in.
const ENOUGH: u64 = 4 << 30;
/// Nothing does.
const NOTHING: u64 = 64 << 20;
/// So many files are not many.
const FEW_FILES: u64 = 1000;
/// What to do about a store that may take too much.
const SET_BOUND: &str = "set storage.diskGCThreshold to less, so that what was not used for long leaves in time, or name another dataDir";

pub(crate) fn findings(loaded: Option<&Loaded>, variables: &BTreeMap<String, String>) -> Vec<Finding> {
    places(loaded, variables)
        .iter()
        .map(|place| match look(&place.dir) {
            Ok(disk) => judge(place, &disk),
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
            store: Some(StoreBounds {
                bytes: loaded.config.storage.disk_gc_threshold_bytes,
                percent: loaded.config.storage.disk_gc_threshold_percent.is_some(),
            }),
            own: own(&paths.data_dir),
        });
        if let Some(dir) = &paths.log_dir {
            places.push(Place {
                what: "the daemon's log",
                other: "name another in logDir",
                dir: dir.clone(),
                store: None,
                own: own(dir),
            });
        }
    }
    let cache = ["APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR"].iter().find_map(|name| set(name));
    if let Some(dir) = cache.or_else(|| set("HOME").map(|home| home.join(".apptainer/cache"))) {
        let other =
            "set APPTAINER_CACHEDIR to a directory on a disk of this node, or pull with --disable-cache";
        places.push(Place { what: "Apptainer's cache", other, dir, store: None, own: true });
    }
    let temporary = ["APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "TMPDIR"].iter().find_map(|name| set(name));
    places.push(Place {
        what: "where Apptainer unpacks",
        other: "set APPTAINER_TMPDIR to a directory with more room",
        dir: temporary.unwrap_or_else(|| PathBuf::from("/tmp")),
        store: None,
        own: true,
    });
    places
}

/// What is worst comes first; there is one finding for each place.
fn judge(place: &Place, disk: &Disk) -> Finding {
    let name = format!("{}, {}", place.dir.display(), place.what);
    let told = broken(place, disk)
        .or_else(|| tight(disk, NOTHING, Verdict::Bad))
        .or_else(|| few_files(disk))
        .or_else(|| shared_store(place, disk))
        .or_else(|| tight(disk, ENOUGH, Verdict::Warning));
    if let Some((verdict, text)) = told {
        return Finding::new(Area::Disk, verdict, format!("{name}: {text}"), place.other);
    }
    if let Some((verdict, text)) = place.store.and_then(|bounds| too_much(bounds, disk)) {
        return Finding::new(Area::Disk, verdict, format!("{name}: {text}"), SET_BOUND);
    }
    let unasked = unasked(disk);
    if let Some(kind) = disk.network {
        let text = format!("{name}: it is on {kind}, which all nodes share{unasked}");
        return Finding::new(Area::Disk, Verdict::Note, text, place.other);
    }
    let left = disk.quota.bounds.iter().filter_map(|bound| {
        Some(format!("; {} are left of {}", decimal_size(bound.bytes?.left), bound.name()))
    });
    let free = format!(
        "{name}: {} GB are free{}{unasked}",
        disk.free_bytes / 1_000_000_000,
        left.collect::<String>()
    );
    Finding::good(Area::Disk, free)
}

/// What was not looked at, and what would tell.
fn unasked(disk: &Disk) -> String {
    let command = disk.quota.unasked;
    command
        .map(|command| format!("; a quota of yours is not known here: `{command}` tells"))
        .unwrap_or_default()
}

/// Nothing can be written at all.
fn broken(place: &Place, disk: &Disk) -> Option<(Verdict, String)> {
    if disk.read_only {
        return Some((Verdict::Bad, "the file system is read-only".to_owned()));
    }
    (place.own && !disk.writable).then(|| (Verdict::Bad, "you may not write there".to_owned()))
}

/// There are fewer bytes than `enough`, on the disk or by a quota.
fn tight(disk: &Disk, enough: u64, verdict: Verdict) -> Option<(Verdict, String)> {
    if disk.free_bytes < enough {
        return Some((verdict, format!("only {} MB are free", disk.free_bytes / 1_000_000)));
    }
    let bounds = disk.quota.bounds.iter();
    let (left, bound) =
        bounds.filter_map(|bound| Some((bound.bytes?.left, bound))).min_by_key(|(left, _)| *left)?;
    let text = || format!("only {} MB are left of {}", left / 1_000_000, bound.name());
    (left < enough).then(|| (verdict, text()))
}

fn few_files(disk: &Disk) -> Option<(Verdict, String)> {
    if disk.free_files.is_some_and(|free| free < FEW_FILES) {
        return Some((Verdict::Warning, "the file system has hardly any inode left".to_owned()));
    }
    let mut bounds = disk.quota.bounds.iter();
    let bound = bounds.find(|bound| bound.files.is_some_and(|files| files.left < FEW_FILES))?;
    let of = bound.files.map(|files| files.limit).unwrap_or_default();
    Some((Verdict::Warning, format!("{} quota of {of} files leaves hardly any", bound.whose)))
}

fn shared_store(place: &Place, disk: &Disk) -> Option<(Verdict, String)> {
    place.store?;
    let kind = disk.network?;
    let unasked = unasked(disk);
    let text = format!("it is on {kind}, where each node must have a directory of its own{unasked}");
    Some((Verdict::Warning, text))
}

/// The store may take what it will never get: then it fills the disk, or a quota, before anything leaves.
fn too_much(bounds: StoreBounds, disk: &Disk) -> Option<(Verdict, String)> {
    let all = disk.quota.bounds.iter();
    let quota = all.filter_map(|bound| Some((bound.bytes?.limit, bound))).min_by_key(|(limit, _)| *limit);
    if let Some((limit, bound)) = quota
        && bounds.bytes.is_none_or(|bytes| bytes > limit)
    {
        let takes = bounds.bytes.map_or_else(|| "all that is free".to_owned(), decimal_size);
        let text = format!("the store may take {takes}, and {} is less", bound.name());
        return Some((Verdict::Warning, text));
    }
    let bytes = bounds.bytes.filter(|bytes| *bytes > disk.total_bytes)?;
    // Where the disk's own bound holds, the other one only says nothing.
    let verdict = if bounds.percent { Verdict::Note } else { Verdict::Warning };
    let (takes, has) = (decimal_size(bytes), decimal_size(disk.total_bytes));
    Some((verdict, format!("the store may take {takes}, and the whole disk has {has}")))
}

/// Of the directory, or of the nearest above it that is there.
fn look(dir: &Path) -> std::io::Result<Disk> {
    let near = dir.ancestors().find(|near| near.is_dir()).ok_or(std::io::ErrorKind::NotFound)?;
    let stat = statvfs(near)?;
    // As `df` counts: what is kept for root is neither.
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    Ok(Disk {
        total_bytes: used.saturating_add(stat.f_bavail).saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        free_files: (stat.f_files > 0).then_some(stat.f_favail),
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        writable: access(near, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        network: network_file_system(near),
        quota: quota::look(near),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Bound, Room};

    fn good() -> Disk {
        Disk {
            total_bytes: 200 << 30,
            free_bytes: 100 << 30,
            free_files: Some(1_000_000),
            read_only: false,
            writable: true,
            network: None,
            quota: Quota::default(),
        }
    }

    fn told(disk: &Disk, store: Option<StoreBounds>) -> Finding {
        let dir = PathBuf::from("/d");
        judge(&Place { what: "w", other: "o", dir, store, own: true }, disk)
    }

    fn verdict(disk: &Disk, is_store: bool) -> Verdict {
        told(disk, is_store.then(StoreBounds::default)).verdict
    }

    fn bound(limit: u64, left: u64, files: u64) -> Quota {
        let bytes = Some(Room { limit, left });
        let files = Some(Room { limit: 500_000, left: files });
        Quota { bounds: vec![Bound { whose: "your".to_owned(), bytes, files }], unasked: None }
    }

    #[test]
    fn what_is_wrong_with_a_disk_is_told() {
        assert_eq!(verdict(&good(), true), Verdict::Good);
        assert_eq!(verdict(&Disk { read_only: true, ..good() }, true), Verdict::Bad);
        assert_eq!(verdict(&Disk { writable: false, ..good() }, true), Verdict::Bad);
        assert_eq!(verdict(&Disk { free_bytes: 1 << 20, ..good() }, true), Verdict::Bad);
        assert_eq!(verdict(&Disk { free_bytes: 1 << 30, ..good() }, true), Verdict::Warning);
        assert_eq!(verdict(&Disk { free_files: Some(3), ..good() }, true), Verdict::Warning);
        assert_eq!(verdict(&Disk { free_files: None, ..good() }, true), Verdict::Good);
        assert_eq!(verdict(&Disk { network: Some("NFS"), ..good() }, true), Verdict::Warning);
        assert_eq!(verdict(&Disk { network: Some("NFS"), ..good() }, false), Verdict::Note);
    }

    #[test]
    fn a_home_with_a_quota_that_is_nearly_full_is_told_although_the_disk_is_not() {
        let told = |limit, left, files| {
            let found = told(&Disk { quota: bound(limit, left, files), ..good() }, None);
            (found.verdict, found.text)
        };
        let (gb, many) = (1_000_000_000, 100_000);
        let full = told(20 * gb, 0, many);
        assert_eq!(full, (Verdict::Bad, "/d, w: only 0 MB are left of your quota of 20.0 GB".to_owned()));
        let little = told(20 * gb, 2 * gb, many);
        assert_eq!(
            little,
            (Verdict::Warning, "/d, w: only 2000 MB are left of your quota of 20.0 GB".to_owned())
        );
        let files = told(20 * gb, 12 * gb, 12);
        assert_eq!(
            files,
            (Verdict::Warning, "/d, w: your quota of 500000 files leaves hardly any".to_owned())
        );
        let (verdict, text) = told(20 * gb, 12 * gb, many);
        assert!(text.ends_with("107 GB are free; 12.0 GB are left of your quota of 20.0 GB"), "{text}");
        assert_eq!(verdict, Verdict::Good);
    }

    #[test]
    fn a_store_that_may_take_more_than_there_is_is_told_with_both_sizes() {
        let told = |bytes, percent, quota| {
            let found = told(&Disk { quota, ..good() }, Some(StoreBounds { bytes, percent }));
            (found.verdict, found.text, found.remedy.unwrap_or_default())
        };
        let (verdict, text, remedy) = told(Some(1 << 40), false, Quota::default());
        assert!(text.ends_with("the store may take 1.10 TB, and the whole disk has 215 GB"), "{text}");
        assert!(verdict == Verdict::Warning && remedy.contains("storage.diskGCThreshold"), "{remedy}");
        assert_eq!(told(Some(1 << 40), true, Quota::default()).0, Verdict::Note);
        assert_eq!(told(Some(50 << 30), false, Quota::default()).0, Verdict::Good);
        let twenty = || bound(20_000_000_000, 12_000_000_000, 100_000);
        let (verdict, text, _) = told(Some(50_000_000_000), true, twenty());
        assert!(text.ends_with("the store may take 50.0 GB, and your quota of 20.0 GB is less"), "{text}");
        assert_eq!(verdict, Verdict::Warning);
        let (verdict, text, _) = told(None, true, twenty());
        assert!(
            text.ends_with("the store may take all that is free, and your quota of 20.0 GB is less"),
            "{text}"
        );
        assert_eq!(verdict, Verdict::Warning);
        assert_eq!(told(Some(10_000_000_000), true, twenty()).0, Verdict::Good);
    }

    #[test]
    fn a_quota_that_cannot_be_asked_is_said_with_the_command_that_tells() {
        let quota = Quota { bounds: Vec::new(), unasked: Some("lfs quota -h") };
        let disk = Disk { network: Some("Lustre"), quota, ..good() };
        let found = told(&disk, None);
        assert_eq!(found.verdict, Verdict::Note);
        let text = "/d, w: it is on Lustre, which all nodes share; a quota of yours is not known here: `lfs quota -h` tells";
        assert_eq!(found.text, text);
    }

    #[test]
    fn a_directory_that_is_not_there_is_that_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = look(&dir.path().join("a/b/c")).unwrap();
        assert!(disk.writable && disk.free_bytes > 0 && disk.total_bytes >= disk.free_bytes, "{disk:?}");
    }
}
