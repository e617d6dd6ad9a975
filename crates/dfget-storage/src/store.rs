//! The store as its users see it.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use crate::{
    commit,
    entry::Entry,
    error::StoreError,
    evict::Limits,
    home,
    index::EntryRow,
    key::EntryKey,
    open::{self, OpenReport},
    shared::Shared,
    space::Evicted,
    time::{from_unix, to_unix},
};

/// Where the store lies and what it may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory; made if missing, mode 0700.
    pub dir: PathBuf,
    /// Bytes that all entries may take on disk together (`diskGCThreshold`); `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// How full its disk may be, by whomever, in percent (`diskGCThresholdPercent`); `None` for no
    /// limit.
    pub disk_percent: Option<u8>,
    /// How long an entry stays without being used (`taskExpireTime`); `None` or zero for ever.
    pub expire: Option<Duration>,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SweepReport {
    /// The entries that left.
    pub evicted: Vec<Evicted>,
    /// Bytes still above the quota: running downloads, or the image used last.
    pub over_quota_bytes: u64,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Bytes of all entries on disk.
    pub bytes: u64,
    /// Entries, complete or not.
    pub entries: usize,
}

/// What the store may take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Space {
    /// Bytes that all entries may take together; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// Bytes of the whole disk, if it tells.
    pub disk_bytes: Option<u64>,
    /// Bytes that are free on it.
    pub free_bytes: Option<u64>,
}

/// A handle to the store; all clones are the same store. The last one that is dropped flushes and
/// closes it, which waits for the disk. Entries that are held longer than the store can be read if
/// they were read before, and not written.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Ends the thread with the last handle.
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

// === impl Store ===

impl Store {
    /// Opens the store, making it if there is none; `now` is the time of the start.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another daemon has it, [`StoreError::NotOurs`],
    /// [`StoreError::OpenToOthers`] or [`StoreError::NotADirectory`] if its place is not safe,
    /// [`StoreError::Newer`] for a store of a newer version, [`StoreError::Index`] and
    /// [`StoreError::Io`] if the disk refuses. A damaged index is no error: see
    /// [`OpenReport::rebuilt`].
    pub fn open(options: Options, now: SystemTime) -> Result<(Self, OpenReport), StoreError> {
        let (shared, report) = open::open(options, now)?;
        let writer = commit::spawn(&shared)?;
        Ok((Self::with(shared, Some(writer)), report))
    }

    /// Opens the store without a thread: commits happen only when [`Self::flush`] is called, and
    /// dropping it loses what came later, as a crash does.
    #[cfg(test)]
    pub(crate) fn open_quiet(options: Options, now: SystemTime) -> Result<(Self, OpenReport), StoreError> {
        let (shared, report) = open::open(options, now)?;
        Ok((Self::with(shared, None), report))
    }

    fn with(shared: Arc<Shared>, writer: Option<JoinHandle<()>>) -> Self {
        Self { handle: Arc::new(Handle { shared, writer: Mutex::new(writer) }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The entry of that name, complete or partial.
    pub fn get(&self, key: &EntryKey) -> Option<Arc<Entry>> {
        self.shared().entries.lock().get(key).cloned()
    }

    /// All entries, in no order.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.shared().entries.lock().values().cloned().collect()
    }

    /// Notes that `entry` was used, once more; durable with the next group commit.
    pub fn touch(&self, entry: &Arc<Entry>, now: SystemTime) {
        entry.touch(to_unix(now));
        entry.count_use();
        self.shared().queue.mark(entry, 0);
    }

    /// Makes a new partial entry. An older one of that name is removed; its readers read on.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] if `total` bytes can never fit: nothing is evicted for them, and
    /// the older entry stays. [`StoreError::Io`] if no file can be made.
    pub fn create(
        &self,
        key: EntryKey,
        meta: Vec<u8>,
        total: Option<u64>,
        now: SystemTime,
    ) -> Result<Arc<Entry>, StoreError> {
        let shared = self.shared();
        let now = to_unix(now);
        if let Some(total) = total {
            shared.check_room(total, now, shared.free_bytes())?;
        }
        let (id, file) = shared.files.create()?;
        let row = EntryRow {
            id,
            key: key.clone(),
            meta: meta.into(),
            total,
            complete: false,
            created: now,
            accessed: now,
            uses: 0,
        };
        let entry = Arc::new(Entry::new(row, file, shared));
        let older = {
            let mut entries = shared.entries.lock();
            let older = entries.insert(key, Arc::clone(&entry));
            if let Some(older) = &older {
                older.set_removed();
            }
            older
        };
        if let Some(older) = older {
            shared.forget(&older, true);
        }
        shared.queue.mark(&entry, 0);
        Ok(entry)
    }

    /// Marks `entry` complete and gives it its final name and meta. It is found there at once; it
    /// is durable, as a whole or not at all, with the next group commit. It counts as used now.
    ///
    /// If a complete entry has that name already, that one stays and is returned, and `entry` is
    /// removed. A partial one of that name is removed.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] if bytes are missing, [`StoreError::Removed`] if `entry` was
    /// removed meanwhile, [`StoreError::Index`] if its blocks cannot be read.
    pub fn publish(
        &self,
        entry: &Arc<Entry>,
        key: EntryKey,
        meta: Vec<u8>,
    ) -> Result<Arc<Entry>, StoreError> {
        self.publish_at(entry, key, meta, SystemTime::now())
    }

    /// As [`Self::publish`], but with the time of it.
    ///
    /// # Errors
    /// As there.
    pub fn publish_at(
        &self,
        entry: &Arc<Entry>,
        key: EntryKey,
        meta: Vec<u8>,
        now: SystemTime,
    ) -> Result<Arc<Entry>, StoreError> {
        let shared = self.shared();
        drop(entry.loaded()?);
        let (winner, loser) = {
            let mut entries = shared.entries.lock();
            let other = entries.get(&key).filter(|other| !Arc::ptr_eq(other, entry)).cloned();
            let other_wins = other.as_ref().is_some_and(|other| other.is_complete());
            let mut state = entry.state();
            if state.removed {
                return Err(StoreError::Removed { key: state.key.clone() });
            }
            if !state.blocks.is_whole() {
                return Err(StoreError::Incomplete {
                    key: state.key.clone(),
                    present: state.blocks.present(),
                    total: state.blocks.total(),
                });
            }
            if entries.get(&state.key).is_some_and(|named| Arc::ptr_eq(named, entry)) {
                entries.remove(&state.key);
            }
            let (winner, loser) = match other {
                Some(other) if other_wins => (other, Some(Arc::clone(entry))),
                other => {
                    state.complete = true;
                    state.key = key.clone();
                    state.meta = meta.into();
                    entries.insert(key, Arc::clone(entry));
                    (Arc::clone(entry), other)
                }
            };
            drop(state);
            if let Some(loser) = &loser {
                loser.set_removed();
            }
            (winner, loser)
        };
        if let Some(loser) = loser {
            shared.forget(&loser, true);
        }
        // a download may take longer than others stay
        winner.touch(to_unix(now));
        shared.queue.mark(&winner, 0);
        Ok(winner)
    }

    /// Removes `entry`; its readers read on.
    pub fn remove(&self, entry: &Entry) {
        self.shared().remove(entry);
    }

    /// Changes what the store may take, from the next sweep on; its directory stays.
    pub fn set_limits(&self, options: &Options) {
        let Options { quota_bytes, disk_percent, expire, .. } = *options;
        *self.shared().limits.lock() = Limits { quota_bytes, disk_percent, expire };
    }

    /// Evicts what is expired or too much: see [`Options`]. To be called every minute or so.
    pub fn sweep(&self, now: SystemTime) -> SweepReport {
        let shared = self.shared();
        let limits = *shared.limits.lock();
        let disk = limits.disk_percent.and_then(|_| match home::disk(&shared.dir) {
            Ok(disk) => Some(disk),
            Err(error) => {
                tracing::warn!(%error, "the fill level of the disk is not known");
                None
            }
        });
        let evicted = shared.sweep(disk, to_unix(now));
        shared.rest_idle();
        let held = self.usage().bytes;
        let over_quota_bytes = limits.quota_bytes.map_or(0, |quota| held.saturating_sub(quota));
        SweepReport { evicted, over_quota_bytes }
    }

    /// Evicts by the same rules until all entries together take `bytes` at most, or what is allowed to
    /// if `None`. With `dry_run` nothing leaves, and what would is told.
    ///
    /// The image used last and running downloads never leave for space.
    pub fn shrink(&self, bytes: Option<u64>, dry_run: bool, now: SystemTime) -> SweepReport {
        let shared = self.shared();
        let mut limits = *shared.limits.lock();
        let disk = limits.disk_percent.and_then(|_| home::disk(&shared.dir).ok());
        if let Some(bytes) = bytes {
            limits.quota_bytes = Some(limits.quota_bytes.map_or(bytes, |quota| quota.min(bytes)));
        }
        let evicted = shared.shrink(limits, disk, dry_run, to_unix(now));
        let leaving = if dry_run { evicted.iter().map(|entry| entry.bytes).sum() } else { 0 };
        let held = self.usage().bytes.saturating_sub(leaving);
        let over_quota_bytes = limits.quota_bytes.map_or(0, |quota| held.saturating_sub(quota));
        SweepReport { evicted, over_quota_bytes }
    }

    /// Removes `entry` unless it is being written; its readers read on. Returns whether it did.
    pub fn remove_idle(&self, entry: &Entry) -> bool {
        self.shared().remove_idle(entry)
    }

    /// Makes everything up to now durable; waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::Index`] or, for data that cannot be got at just now, [`StoreError::Io`]; what
    /// could not be made durable is tried again with the next commit.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared().commit()
    }

    /// What the store holds.
    pub fn usage(&self) -> Usage {
        let entries = self.shared().entries.lock();
        let bytes = entries.values().map(|entry| entry.allocated_bytes()).sum();
        Usage { bytes, entries: entries.len() }
    }

    /// What the store may take, and what its disk has left. Waits for the file system.
    pub fn space(&self) -> Space {
        let limits = *self.shared().limits.lock();
        let disk = home::disk(&self.shared().dir).ok().filter(|disk| disk.total > 0);
        Space {
            quota_bytes: limits.quota_bytes,
            disk_bytes: disk.map(|disk| disk.total),
            free_bytes: disk.map(|disk| disk.free),
        }
    }

    /// 32 random bytes, made with the store and kept in its index: the key under which credentials
    /// are remembered. A store that had to begin anew has other ones.
    pub fn secret(&self) -> &[u8; 32] {
        &self.shared().secret
    }

    /// Remembers that the permission `id` was confirmed at `now`; durable with the next group
    /// commit.
    pub fn grant(&self, id: [u8; 32], now: SystemTime) {
        let now = to_unix(now);
        self.shared().grants.lock().insert(id, now);
        self.shared().queue.grant(id, Some(now));
    }

    /// When the permission `id` was last confirmed.
    pub fn granted(&self, id: &[u8; 32]) -> Option<SystemTime> {
        self.shared().grants.lock().get(id).map(|&at| from_unix(at))
    }

    /// Forgets the permission `id`.
    pub fn revoke(&self, id: &[u8; 32]) {
        if self.shared().grants.lock().remove(id).is_some() {
            self.shared().queue.grant(*id, None);
        }
    }

    /// Forgets permissions that were confirmed more than `age` before `now`, or after it (the clock
    /// was set back, and nobody knows how old they are), and the oldest above a fixed number.
    pub fn prune_grants(&self, now: SystemTime, age: Duration) {
        let now = to_unix(now);
        let mut grants = self.shared().grants.lock();
        let too_old = |at: u64| at > now || now - at > age.as_secs();
        let mut gone: Vec<_> = grants.iter().filter(|&(_, &at)| too_old(at)).map(|(id, _)| *id).collect();
        let over = (grants.len() - gone.len()).saturating_sub(GRANTS);
        if over > 0 {
            let kept = grants.iter().filter(|&(_, &at)| !too_old(at));
            let mut kept: Vec<_> = kept.map(|(id, &at)| (at, *id)).collect();
            kept.sort_unstable();
            gone.extend(kept[..over].iter().map(|(_, id)| *id));
        }
        for id in &gone {
            grants.remove(id);
        }
        drop(grants);
        for id in gone {
            self.shared().queue.grant(id, None);
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the secret stays out
        f.debug_struct("Store").field("dir", &self.shared().dir).finish_non_exhaustive()
    }
}

// === impl Handle ===

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::warn!("the thread of the store stopped early; its last changes may be lost");
        }
    }
}

/// Permissions kept at most: a few megabytes.
const GRANTS: usize = 65_536;
