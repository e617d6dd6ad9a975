//! Room on the disk: what leaves at a sweep, and what leaves for a writer that found none.
//!
//! [`evict`] decides, this module counts and acts. One eviction runs at a time; a writer that had to
//! wait for another's tries again before it plans its own, for the space may be there by then.

use std::sync::{Arc, atomic::Ordering};

use rustix::io::Errno;

use crate::{
    entry::Entry,
    error::StoreError,
    evict::{self, Candidate, Disk, Limits, Reason, SMALL_BYTES},
    home,
    key::{EntryKey, FileId},
    shared::Shared,
};

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
    /// Evicts what the limits ask for, given the state of the disk, if known; `now` in seconds
    /// since 1970.
    pub(crate) fn sweep(&self, disk: Option<Disk>, now: u64) -> Vec<Evicted> {
        let mut peak = self.eviction.lock();
        // the next sweep must not take others for space that comes when a reader has finished
        let freeing = self.files.freeing_bytes();
        let disk = disk.map(|disk| Disk { free: disk.free.saturating_add(freeing), ..disk });
        let (names, candidates) = self.candidates();
        let plan = evict::sweep_plan(&candidates, *self.limits.lock(), disk, &mut peak, now);
        self.evict(&names, &candidates, plan)
    }

    /// Evicts as [`Self::sweep`] does, but by these limits; or only tells what would leave.
    pub(crate) fn shrink(&self, limits: Limits, disk: Option<Disk>, dry_run: bool, now: u64) -> Vec<Evicted> {
        let mut peak = self.eviction.lock();
        let freeing = self.files.freeing_bytes();
        let disk = disk.map(|disk| Disk { free: disk.free.saturating_add(freeing), ..disk });
        let (names, candidates) = self.candidates();
        let mut seen = *peak;
        let noted = if dry_run { &mut seen } else { &mut *peak };
        let plan = evict::sweep_plan(&candidates, limits, disk, noted, now);
        if !dry_run {
            return self.evict(&names, &candidates, plan);
        }
        let told = plan.into_iter().map(|(i, reason)| {
            let key = names[i].0.clone();
            Evicted { key, bytes: candidates[i].bytes, reason }
        });
        told.collect()
    }

    /// Calls `write`, which writes `len` bytes of `entry`. Where the disk is full, it is called
    /// again after another writer has made room, and once more after old entries left for this one.
    ///
    /// # Errors
    /// What the last call of `write` said.
    pub(crate) fn write_with_room(
        &self,
        entry: &Entry,
        len: u64,
        mut write: impl FnMut() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        match write() {
            Err(Errno::NOSPC | Errno::DQUOT) => (),
            done => return done,
        }
        let _turn = self.eviction.lock();
        match write() {
            Err(full @ (Errno::NOSPC | Errno::DQUOT)) => {
                // how much a quota of the user leaves is not known
                let free = (full == Errno::NOSPC).then(|| self.free_bytes()).flatten();
                if self.make_room(entry, len, free) { write() } else { Err(full) }
            }
            done => done,
        }
    }

    /// Checks that a new entry of `total` bytes can have a place, if all goes well.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]
    pub(crate) fn check_room(&self, total: u64, now: u64, free: Option<u64>) -> Result<(), StoreError> {
        let quota = self.limits.lock().quota_bytes.unwrap_or(u64::MAX);
        if total > quota {
            return Err(StoreError::TooLarge { total, room: quota });
        }
        let Some(free) = free.filter(|&free| free < total) else { return Ok(()) };
        let (_, mut candidates) = self.candidates();
        let small = total < SMALL_BYTES;
        candidates.push(Candidate { bytes: 0, accessed: now, pinned: true, small });
        let room = evict::room(&candidates, free, 0);
        if total > room {
            return Err(StoreError::TooLarge { total, room });
        }
        Ok(())
    }

    /// Bytes that are free on the disk, if the file system knows.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        // one without a limit says that it has no bytes at all
        home::disk(&self.dir).ok().filter(|disk| disk.total > 0).map(|disk| disk.free)
    }

    /// Evicts entries for `bytes` of `entry` that did not fit on the disk, and some more, so that
    /// the next write need not do the same; none, if all that may leave would not be enough for the
    /// whole of it. Returns whether any left. To be called by the one whose turn it is to evict.
    fn make_room(&self, entry: &Entry, bytes: u64, free: Option<u64>) -> bool {
        let (names, candidates) = self.candidates();
        let taken = entry.taken.load(Ordering::Relaxed);
        if let Some((missing, free)) = entry.missing_bytes().zip(free)
            && missing > evict::room(&candidates, free, taken)
        {
            return false;
        }
        let plan = evict::room_plan(&candidates, bytes.max(ROOM_BYTES), taken);
        let evicted = self.evict(&names, &candidates, plan.into_iter().map(|i| (i, Reason::Space)));
        let freed: u64 = evicted.iter().map(|entry| entry.bytes).sum();
        entry.taken.fetch_add(freed, Ordering::Relaxed);
        if !evicted.is_empty() {
            tracing::info!(
                entries = evicted.len(),
                bytes = freed,
                dir = %self.dir.display(),
                "the disk is full: the least recently used entries left"
            );
        }
        !evicted.is_empty()
    }

    /// All entries, and what the policy has to know of them.
    fn candidates(&self) -> (Vec<(EntryKey, FileId)>, Vec<Candidate>) {
        let entries = self.entries.lock();
        let all = entries.iter().map(|(key, entry)| {
            let (bytes, pinned) = (entry.allocated_bytes(), entry.is_pinned());
            let expected = entry.total().filter(|_| pinned).unwrap_or(0);
            let small = bytes.max(expected) < SMALL_BYTES;
            let candidate = Candidate { bytes, accessed: entry.accessed_unix(), pinned, small };
            ((key.clone(), entry.id), candidate)
        });
        all.unzip()
    }

    fn evict(
        &self,
        names: &[(EntryKey, FileId)],
        candidates: &[Candidate],
        plan: impl IntoIterator<Item = (usize, Reason)>,
    ) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        for (i, reason) in plan {
            let (key, id) = &names[i];
            if self.evict_one(key, *id) {
                evicted.push(Evicted { key: key.clone(), bytes: candidates[i].bytes, reason });
            }
        }
        evicted
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

/// Freed at least when a write found no space.
const ROOM_BYTES: u64 = 64 << 20;

#[cfg(test)]
#[path = "tests/room.rs"]
mod tests;
