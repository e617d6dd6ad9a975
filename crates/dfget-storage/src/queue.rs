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
        let mut work = self.work.lock();
        work.dirty.entry(entry.id).or_insert_with(|| Arc::clone(entry));
        work.written += written;
        self.wake_if_due(&work);
    }

    /// An entry has to leave the index.
    pub(crate) fn forget(&self, id: FileId) {
        let mut work = self.work.lock();
        work.dirty.remove(&id);
        work.forgotten.push(id);
        self.wake_if_due(&work);
    }

    /// A permission was confirmed, or has to leave the index.
    pub(crate) fn grant(&self, id: [u8; 32], confirmed: Option<u64>) {
        let mut work = self.work.lock();
        work.grants.insert(id, confirmed);
        self.wake_if_due(&work);
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

    fn wake_if_due(&self, work: &Work) {
        // the thread sleeps without a limit only while nothing waits, so the first change wakes it
        if work.changes() == 1 || work.written >= BYTES {
            self.alarm.notify_all();
        }
    }
}

impl Work {
    fn changes(&self) -> usize {
        self.dirty.len() + self.forgotten.len() + self.grants.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes() == 0
    }
}

/// A change is durable at most this long after it was made (and the time the disk takes).
const INTERVAL: Duration = Duration::from_secs(1);
/// So many written bytes are made durable at once.
const BYTES: u64 = 64 << 20;
