//! The heart of the store: all entries by name, and how one leaves.
//!
//! Locks are taken in the order eviction → names → entry → queue. None is held while the disk works,
//! but for the first: it is the turn of those who make room, and no reader waits for it.

use std::{collections::HashMap, fmt, fs::File, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use crate::{
    buffer::Pool,
    entry::Entry,
    evict::{Limits, Peak},
    files::Files,
    index::Index,
    key::EntryKey,
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
    pub(crate) limits: Mutex<Limits>,
    pub(crate) secret: [u8; 32],
    /// One eviction at a time, and what the last ones saw.
    pub(crate) eviction: Mutex<Peak>,
    /// One commit at a time.
    pub(crate) commit_turn: Mutex<()>,
    /// Held for as long as the store is open.
    pub(crate) _lock: File,
}

impl Shared {
    /// Removes `entry`: it is not found any more, its file goes, its readers read on.
    pub(crate) fn remove(&self, entry: &Entry) {
        if self.take_out(entry) {
            self.forget(entry, true);
        }
    }

    /// Removes `entry` unless it is being written. Returns whether it did.
    pub(crate) fn remove_idle(&self, entry: &Entry) -> bool {
        let taken = {
            let mut entries = self.entries.lock();
            let key = entry.key();
            let is_it = entries.get(&key).is_some_and(|named| named.id == entry.id && !named.is_pinned());
            if is_it {
                entries.remove(&key);
            }
            is_it && entry.set_removed()
        };
        if taken {
            self.forget(entry, true);
        }
        taken
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
        } else if let Some(file) = entry.open_file() {
            self.files.note_unlinked(&file, entry.allocated_bytes());
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
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// So many files may stay open without a reader.
const IDLE_FILES: usize = 64;
