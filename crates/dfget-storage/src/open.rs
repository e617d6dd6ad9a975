//! How a store opens: the directory, the lock, the index, the files, in this order.
//!
//! Index and files are made to agree: a row without its file and a file without its row are both
//! dropped, they are what a crash leaves. A damaged index is moved aside and a new one begun, which
//! costs the cache and nothing else; one of a newer version is left alone and the start refused.

use std::{
    collections::{HashMap, hash_map},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;

use crate::{
    entry::Entry,
    error::StoreError,
    evict::Limits,
    files::Files,
    home::{self, OpenWarning},
    index::{Batch, EntryRow, Index, Loaded, OpenError},
    key::FileId,
    queue::Queue,
    shared::Shared,
    store::Options,
    time::to_unix,
};

/// What was found when the store opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenReport {
    /// Complete entries.
    pub complete: usize,
    /// Partial ones, to be resumed.
    pub partial: usize,
    /// Bytes of all on disk.
    pub bytes: u64,
    /// Files the index knew nothing of, now removed.
    pub orphans: u64,
    /// Entries the index knew whose file was gone, now forgotten.
    pub lost: u64,
    /// The damaged index and the reason, if a new one had to be begun.
    pub rebuilt: Option<Rebuilt>,
    /// What the administrator should know.
    pub warnings: Vec<OpenWarning>,
}

/// A damaged index that was moved aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rebuilt {
    /// Where it lies now; it may be deleted, and is when the next one comes.
    pub kept: PathBuf,
    /// What was wrong with it.
    pub cause: String,
}

/// Opens the store without its thread.
///
/// # Errors
/// See [`Store::open`](crate::Store::open).
pub(crate) fn open(options: Options, now: SystemTime) -> Result<(Arc<Shared>, OpenReport), StoreError> {
    let Options { dir, quota_bytes, disk_percent, expire } = options;
    let now = to_unix(now);
    home::make_store_dir(&dir)?;
    let (lock, no_lock) = home::lock(&dir)?;
    let mut report = OpenReport::default();
    report.warnings.extend(home::network_warning(&dir));
    report.warnings.extend(no_lock);
    let (index, loaded, rebuilt) = open_index(&dir.join("index.redb"), now)?;
    report.rebuilt = rebuilt;
    let files = Files::prepare(&dir)?;
    let known = reconcile(&index, &files, loaded.entries, &mut report)?;
    let shared = Arc::new(Shared {
        files,
        index,
        pool: Arc::default(),
        queue: Queue::default(),
        entries: Mutex::default(),
        grants: Mutex::new(loaded.grants),
        limits: Mutex::new(Limits { quota_bytes, disk_percent, expire }),
        secret: loaded.secret,
        eviction: Mutex::default(),
        commit_turn: Mutex::default(),
        _lock: lock,
        dir,
    });
    let mut entries = shared.entries.lock();
    for (mut row, bytes) in known {
        row.accessed = row.accessed.min(now);
        let entry = Entry::from_row(row, bytes, &shared);
        entries.insert(entry.key(), Arc::new(entry));
    }
    drop(entries);
    Ok((shared, report))
}

/// Opens the index, or begins a new one if that which is there is damaged.
fn open_index(path: &Path, now: u64) -> Result<(Index, Loaded, Option<Rebuilt>), StoreError> {
    let cause = match Index::open(path) {
        Ok((index, loaded)) => return Ok((index, loaded, None)),
        Err(OpenError::Fatal(error)) => return Err(error),
        Err(OpenError::Broken(cause)) => cause,
    };
    let kept = path.with_file_name(format!("{BROKEN}{now}"));
    fs::rename(path, &kept).map_err(StoreError::io("move aside", path))?;
    drop_older(&kept);
    match Index::open(path) {
        Ok((index, loaded)) => Ok((index, loaded, Some(Rebuilt { kept, cause }))),
        Err(OpenError::Fatal(error)) => Err(error),
        Err(OpenError::Broken(again)) => Err(StoreError::io("begin", path)(io::Error::other(again))),
    }
}

/// Removes the damaged indices that were moved aside earlier: one is enough to look into, and each
/// may be large. One that cannot be removed is in nobody's way.
fn drop_older(kept: &Path) {
    let Some(items) = kept.parent().and_then(|dir| fs::read_dir(dir).ok()) else { return };
    for item in items.flatten() {
        let name = item.file_name();
        let moved_at = name.to_str().and_then(|name| name.strip_prefix(BROKEN));
        if moved_at.is_some_and(|at| at.parse::<u64>().is_ok()) && item.path() != kept {
            let path = item.path();
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old damaged index stays; remove it");
            }
        }
    }
}

/// Drops rows without file, files without row, and the older of two rows of one name.
fn reconcile(
    index: &Index,
    files: &Files,
    rows: Vec<EntryRow>,
    report: &mut OpenReport,
) -> Result<Vec<(EntryRow, u64)>, StoreError> {
    let (found, foreign) = files.list()?;
    let mut found: HashMap<FileId, u64> = found.into_iter().collect();
    let mut known = HashMap::new();
    let mut batch = Batch::default();
    for row in rows {
        let Some(&bytes) = found.get(&row.id) else {
            batch.forgotten.push(row.id);
            continue;
        };
        match known.entry(row.key.clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert((row, bytes));
            }
            hash_map::Entry::Occupied(mut place) => {
                let newer = (row.complete, row.created) > {
                    let (held, _) = place.get();
                    (held.complete, held.created)
                };
                let older = if newer { place.insert((row, bytes)).0 } else { row };
                batch.forgotten.push(older.id);
            }
        }
    }
    for (row, bytes) in known.values() {
        found.remove(&row.id);
        report.bytes += bytes;
        if row.complete {
            report.complete += 1;
        } else {
            report.partial += 1;
        }
    }
    for id in found.keys() {
        files.unlink(*id)?;
    }
    report.orphans = found.len() as u64 + foreign;
    report.lost = batch.forgotten.len() as u64;
    if !batch.forgotten.is_empty() {
        index.apply(&batch)?;
    }
    Ok(known.into_values().collect())
}

/// A damaged index is kept under this name and the second at which it was moved aside.
const BROKEN: &str = "index.redb.broken-";
