//! What the next group commit has to write, and the alarm clock of the thread that does it.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{entry::Entry, key::FileId};

/// Changes since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    work: Mutex<Work>,
    alarm: Condvar,
}

/// Changes, taken out for one commit.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) dirty: HashMap<FileId, Arc<Entry>>,
    pub(crate) forgotten: Vec<FileId>,
    pub(crate) grants: HashMap<[u8; 32], Option<u64>>,
    /// Bytes written since.
    written: u64,
    closing: bool,
}

impl Queue {
    /// An entry changed; `written` new bytes are in its file.
    pub(crate) fn mark(&self, entry: &Arc<Entry>, written: u64) {
        self.change(|work| {
            work.dirty.entry(entry.id).or_insert_with(|| Arc::clone(entry));
            work.written += written;
        });
    }

    /// An entry has to leave the index.
    pub(crate) fn forget(&self, id: FileId) {
        self.change(|work| {
            work.dirty.remove(&id);
            work.forgotten.push(id);
        });
    }

    /// A permission was confirmed, or has to leave the index.
    pub(crate) fn grant(&self, id: [u8; 32], confirmed: Option<u64>) {
        self.change(|work| {
            work.grants.insert(id, confirmed);
        });
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Work {
        let mut work = self.work.lock();
        let closing = work.closing;
        mem::replace(&mut work, Work { closing, ..Work::default() })
    }

    /// Gives back what could not be written; what came since is newer and wins.
    pub(crate) fn give_back(&self, old: Work) {
        let mut work = self.work.lock();
        for (id, entry) in old.dirty {
            if !entry.is_removed() {
                work.dirty.entry(id).or_insert(entry);
            }
        }
        for (grant, confirmed) in old.grants {
            work.grants.entry(grant).or_insert(confirmed);
        }
        work.forgotten.extend(old.forgotten);
    }

    /// Waits until a commit is due: an interval after the first change, when enough bytes wait, or
    /// at the end. Returns `false` at the end.
    pub(crate) fn wait(&self) -> bool {
        let mut work = self.work.lock();
        while work.is_empty() && !work.closing {
            self.alarm.wait(&mut work);
        }
        let due = Instant::now() + INTERVAL;
        while !work.closing && work.written < BYTES {
            if self.alarm.wait_until(&mut work, due).timed_out() {
                break;
            }
        }
        !work.closing
    }

    /// Ends [`Self::wait`] for good.
    pub(crate) fn close(&self) {
        self.work.lock().closing = true;
        self.alarm.notify_all();
    }

    /// Makes a change and wakes the thread if it is the first one or the last one needed.
    fn change(&self, make: impl FnOnce(&mut Work)) {
        let mut work = self.work.lock();
        let (was_empty, was_enough) = (work.is_empty(), work.written >= BYTES);
        make(&mut work);
        let is_enough = work.written >= BYTES;
        drop(work);
        if was_empty || (is_enough && !was_enough) {
            self.alarm.notify_all();
        }
    }
}

impl Work {
    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.forgotten.is_empty() && self.grants.is_empty()
    }
}

/// A change is durable at most this long after it was made (and the time the disk takes).
const INTERVAL: Duration = Duration::from_secs(1);
/// So many written bytes are made durable at once.
const BYTES: u64 = 64 << 20;
