//! The group commit: data first, then one transaction of the index that tells of it.
//!
//! Order is all that matters here. What the index will say is taken down first; then the files are
//! flushed, which makes at least that much durable; then the index is written. A crash at any
//! point leaves an index that speaks only of bytes on the disk.
//!
//! A file whose flush fails may have lost any of its bytes, and the kernel does not say which: its
//! entry is removed, as is one whose file somebody deleted. All other failures (too many open
//! files, a directory or an index that cannot be written) say nothing about the data: what they
//! held up is tried again with the next commit. Until then the store works on, and what is new is
//! lost if the process ends.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
};

use rustix::io::Errno;

use crate::{
    entry::{Entry, Snapshot},
    error::{StoreError, is_gone},
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
                    "not all is durable: pulls go on, but what they bring may be lost at the next \
                     start; free space on the disk of `dataDir`, or raise the limit on open files \
                     (`ulimit -n`)"
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

/// Why an entry is not part of a commit.
enum Unflushed {
    /// Its data may be lost.
    Lost(StoreError),
    /// Nothing is known to be wrong with its data.
    Delayed(StoreError),
}

/// What a commit can tell of: entries whose data is durable.
#[derive(Default)]
struct Flushed {
    snapshots: Vec<(Arc<Entry>, Snapshot)>,
    /// The entries to be tried again.
    delayed: Vec<Arc<Entry>>,
    /// Why the first of those has to be.
    error: Option<StoreError>,
    /// The directories whose names are durable.
    dirs: BTreeSet<String>,
}

impl Shared {
    /// Makes everything up to now durable.
    ///
    /// # Errors
    /// The index cannot be written, or the data of some entries cannot be got at to be flushed;
    /// what is held up stays queued.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let _turn = self.commit_turn.lock();
        let mut work = self.queue.take();
        if work.is_empty() {
            return Ok(());
        }
        let Flushed { snapshots, delayed, error, .. } = self.flush_files(&work);
        let batch = self.batch(&snapshots, &mut work);
        let written = self.index.apply(&batch);
        match &written {
            Ok(()) => {
                snapshots.iter().for_each(|(entry, _)| entry.set_named());
                delayed.iter().for_each(|entry| self.queue.mark(entry, 0));
            }
            Err(_) => {
                for (entry, snapshot) in &snapshots {
                    entry.restore(snapshot);
                }
                work.forgotten = batch.forgotten;
                work.grants = batch.grants;
                self.queue.give_back(work);
            }
        }
        written.and(error.map_or(Ok(()), Err))
    }

    /// Takes down what the index will say and makes that data durable.
    fn flush_files(&self, work: &Work) -> Flushed {
        let mut flushed = Flushed::default();
        for entry in work.dirty.values() {
            let Some(snapshot) = entry.snapshot() else { continue };
            match self.flush_file(entry, &snapshot, &mut flushed.dirs) {
                Ok(()) => flushed.snapshots.push((Arc::clone(entry), snapshot)),
                Err(Unflushed::Lost(error)) => {
                    let key = entry.key();
                    tracing::warn!(%key, %error, "an entry is given up: its data cannot be flushed");
                    self.remove(entry);
                }
                Err(Unflushed::Delayed(error)) => {
                    entry.restore(&snapshot);
                    flushed.delayed.push(Arc::clone(entry));
                    flushed.error.get_or_insert(error);
                }
            }
        }
        flushed
    }

    fn flush_file(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        dirs: &mut BTreeSet<String>,
    ) -> Result<(), Unflushed> {
        if !snapshot.blocks.is_empty() {
            let file = entry.file().map_err(Unflushed::of_opening)?;
            let lost = |error: Errno| StoreError::io("flush", self.files.path(entry.id))(error.into());
            file.sync().map_err(|error| Unflushed::Lost(lost(error)))?;
            // without it the count of the written bytes stands, which is about right
            if let Ok(allocated) = file.allocated() {
                entry.allocated.store(allocated, Ordering::Relaxed);
            }
        }
        // one flush of a directory serves all files that are in it by now, but not later ones
        let (dir, _) = entry.id.names();
        if snapshot.unnamed && !dirs.contains(&dir) {
            self.files.sync_name(entry.id).map_err(Unflushed::of_opening)?;
            dirs.insert(dir);
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

// === impl Unflushed ===

impl Unflushed {
    /// A file or directory that is gone took the data with it; one that cannot be opened or, being
    /// a directory, not be flushed just now did not.
    fn of_opening(error: StoreError) -> Self {
        match &error {
            StoreError::Io { source, .. } if is_gone(source) => Self::Lost(error),
            _ => Self::Delayed(error),
        }
    }
}
