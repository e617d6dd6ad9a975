//! The group commit: data first, then one transaction of the index that tells of it.
//!
//! Order is all that matters here. What the index will say is taken down first; then the files are
//! flushed, which makes at least that much durable; then the index is written. A crash at any
//! point leaves an index that speaks only of bytes on the disk.
//!
//! A file whose flush fails may have lost any of its bytes, and the kernel does not say which: its
//! entry is removed. An index that cannot be written is tried again with the next commit; until
//! then the store works on, and what is new is lost if the process ends.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    entry::{Entry, Snapshot},
    error::StoreError,
    index::Batch,
    queue::Work,
    shared::Shared,
};

/// Starts the thread that commits; it ends after [`Queue::close`](crate::queue::Queue::close).
///
/// # Errors
/// The process may have no further thread.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<JoinHandle<()>, StoreError> {
    let of_thread = Arc::clone(shared);
    thread::Builder::new()
        .name("dfget-storage".to_owned())
        .spawn(move || run(&of_thread))
        .map_err(StoreError::io("start the writer of", &shared.dir))
}

fn run(shared: &Shared) {
    let mut failing = false;
    loop {
        let goes_on = shared.queue.wait();
        match shared.commit() {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(
                    %error,
                    "the index is not written: pulls go on, but what they bring is lost at the \
                     next start; free space on the disk of `dataDir`"
                );
            }
            Err(_) => (),
        }
        shared.rest_idle();
        if !goes_on {
            return;
        }
    }
}

impl Shared {
    /// Makes everything up to now durable.
    ///
    /// # Errors
    /// The index cannot be written; everything stays queued.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let _turn = self.commit_turn.lock();
        let mut work = self.queue.take();
        if work.is_empty() {
            return Ok(());
        }
        let snapshots = self.flush_files(&work);
        let batch = self.batch(&snapshots, &mut work);
        let written = self.index.apply(&batch);
        match &written {
            Ok(()) => snapshots.iter().for_each(|(entry, _)| entry.set_named()),
            Err(_) => {
                for (entry, snapshot) in &snapshots {
                    entry.restore(snapshot);
                }
                work.forgotten = batch.forgotten;
                work.grants = batch.grants;
                self.queue.give_back(work);
            }
        }
        written
    }

    /// Takes down what the index will say and makes that data durable.
    fn flush_files(&self, work: &Work) -> Vec<(Arc<Entry>, Snapshot)> {
        let mut snapshots = Vec::new();
        let mut dirs = BTreeSet::new();
        for entry in work.dirty.values() {
            let Some(snapshot) = entry.snapshot() else { continue };
            if let Err(error) = self.flush_file(entry, &snapshot, &mut dirs) {
                let key = entry.key();
                tracing::warn!(%key, %error, "an entry is given up: its data cannot be flushed");
                self.remove(entry);
                continue;
            }
            snapshots.push((Arc::clone(entry), snapshot));
        }
        snapshots
    }

    fn flush_file(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        dirs: &mut BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let path = || self.files.path(entry.id);
        if !snapshot.blocks.is_empty() {
            let file = entry.file()?;
            file.sync().map_err(|error| StoreError::io("flush", path())(error.into()))?;
            let allocated = file.allocated();
            let allocated = allocated.map_err(|error| StoreError::io("measure", path())(error.into()))?;
            entry.allocated.store(allocated, Ordering::Relaxed);
        }
        // one flush of a directory serves all files that are in it by now, but not later ones
        if snapshot.unnamed && dirs.insert(entry.id.names().0) {
            self.files.sync_name(entry.id)?;
        }
        Ok(())
    }

    fn batch(&self, snapshots: &[(Arc<Entry>, Snapshot)], work: &mut Work) -> Batch {
        let blocks = snapshots.iter().flat_map(|(entry, snapshot)| {
            let id = entry.id;
            snapshot.blocks.iter().map(move |(stretch, row)| (id, *stretch, row.clone()))
        });
        Batch {
            entries: snapshots.iter().map(|(_, snapshot)| snapshot.row.clone()).collect(),
            blocks: blocks.collect(),
            forgotten: std::mem::take(&mut work.forgotten),
            grants: std::mem::take(&mut work.grants),
        }
    }
}
