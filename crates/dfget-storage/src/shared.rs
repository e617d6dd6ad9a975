//! The heart of the store: all entries by name, and how one leaves.
//!
//! Locks are taken in the order names → entry → queue, and none is held while the disk works.

use std::{collections::HashMap, fmt, fs::File, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use crate::{
    buffer::Pool,
    entry::Entry,
    evict::{self, Candidate, Disk, Limits, Reason},
    files::Files,
    index::Index,
    key::{EntryKey, FileId},
    queue::Queue,
};

/// What all handles of one store share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) files: Files,
    pub(crate) index: Index,
    pub(crate) pool: Arc<Pool>,
    pub(crate) queue: Queue,
    pub(crate) entries: Mutex<HashMap<EntryKey, Arc<Entry>>>,
    pub(crate) grants: Mutex<HashMap<[u8; 32], u64>>,
    pub(crate) limits: Limits,
    pub(crate) secret: [u8; 32],
    /// One commit at a time.
    pub(crate) commit_turn: Mutex<()>,
    /// Held for as long as the store is open.
    pub(crate) _lock: File,
}

/// An entry that left the store for age or space.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evicted {
    /// The name it had.
    pub key: EntryKey,
    /// Bytes it took on disk.
    pub bytes: u64,
    /// Why it left.
    pub reason: Reason,
}

impl Shared {
    /// Evicts what the limits ask for; `now` in seconds since 1970.
    pub(crate) fn evict(&self, limits: Limits, disk: Option<Disk>, now: u64) -> Vec<Evicted> {
        let (names, candidates): (Vec<_>, Vec<_>) = {
            let entries = self.entries.lock();
            let all = entries.iter().map(|(key, entry)| {
                let candidate = Candidate {
                    bytes: entry.allocated_bytes(),
                    accessed: entry.accessed_unix(),
                    pinned: entry.is_pinned(),
                };
                ((key.clone(), entry.id), candidate)
            });
            all.unzip()
        };
        let mut evicted = Vec::new();
        for (i, reason) in evict::plan(&candidates, limits, disk, now) {
            let (key, id) = &names[i];
            if self.evict_one(key, *id) {
                evicted.push(Evicted { key: key.clone(), bytes: candidates[i].bytes, reason });
            }
        }
        evicted
    }

    /// Evicts entries for `bytes` that did not fit on the disk, and some more, so that the next
    /// write need not do the same. Returns whether any left.
    pub(crate) fn make_room(&self, bytes: u64) -> bool {
        let limits = Limits { wanted_bytes: bytes.max(ROOM_BYTES), ..Limits::default() };
        let evicted = self.evict(limits, None, u64::MAX);
        if !evicted.is_empty() {
            let freed: u64 = evicted.iter().map(|entry| entry.bytes).sum();
            tracing::info!(
                entries = evicted.len(),
                bytes = freed,
                dir = %self.dir.display(),
                "the disk is full: the least recently used entries left"
            );
        }
        !evicted.is_empty()
    }

    /// Removes `entry`: it is not found any more, its file goes, its readers read on.
    pub(crate) fn remove(&self, entry: &Entry) {
        if self.take_out(entry) {
            self.forget(entry, true);
        }
    }

    /// Takes `entry` out of the names and marks it removed, both at once, so that nobody can give
    /// it a name again. Returns whether [`Self::forget`] is due.
    pub(crate) fn take_out(&self, entry: &Entry) -> bool {
        let mut entries = self.entries.lock();
        let key = entry.key();
        if entries.get(&key).is_some_and(|named| named.id == entry.id) {
            entries.remove(&key);
        }
        entry.set_removed()
    }

    /// Lets go of an entry that was marked removed while the names were locked, by the one who
    /// marked it. `held` says whether somebody may read it.
    pub(crate) fn forget(&self, entry: &Entry, held: bool) {
        if held {
            // its readers need the file and the CRCs after both are gone; one that cannot have
            // them gets errors, as after any failure of the disk
            let kept = entry.file().and_then(|_| entry.loaded().map(drop));
            if let Err(error) = kept {
                tracing::debug!(%error, "an entry cannot be read on after its removal");
            }
        }
        entry.block_left.notify_all();
        if let Err(error) = self.files.unlink(entry.id) {
            tracing::warn!(%error, "a file that is no longer wanted stays until the next start");
        }
        self.queue.forget(entry.id);
    }

    /// Closes the files of entries that nobody uses, if many are open.
    pub(crate) fn rest_idle(&self) {
        if self.files.open_count() <= IDLE_FILES {
            return;
        }
        let entries = self.entries.lock();
        // nobody gets hold of an entry while the names are locked
        for entry in entries.values().filter(|entry| Arc::strong_count(entry) == 1) {
            entry.rest();
        }
    }

    fn evict_one(&self, key: &EntryKey, id: FileId) -> bool {
        let (entry, held) = {
            let mut entries = self.entries.lock();
            let is_same = |entry: &Arc<Entry>| entry.id == id && !entry.is_pinned();
            if !entries.get(key).is_some_and(is_same) {
                return false;
            }
            let Some(entry) = entries.remove(key) else { return false };
            entry.set_removed();
            let held = Arc::strong_count(&entry) > 1;
            (entry, held)
        };
        self.forget(&entry, held);
        true
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Freed at least when a write found no space.
const ROOM_BYTES: u64 = 64 << 20;
/// So many files may stay open without a reader.
const IDLE_FILES: usize = 64;
