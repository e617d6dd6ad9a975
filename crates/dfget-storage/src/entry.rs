//! One entry: a data file, the blocks in it, and what its users call it.
//!
//! States: *partial* (made, being filled, possibly after a restart) → *complete* (published; only
//! then may it be served to others as the whole content) → *removed* (evicted, replaced or
//! forgotten; whoever still holds it reads on, nobody writes to it any more).
//!
//! The state lies behind a lock that is never held while the disk works. An entry read from the
//! index knows its blocks only after their first use, and gives them and its open file back when it
//! has been idle.

use std::{
    any::Any,
    fmt, mem,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    blocks::{BlockMap, Row},
    buffer::Pool,
    error::StoreError,
    files::DataFile,
    index::EntryRow,
    key::{EntryKey, FileId},
    send::Checked,
    shared::Shared,
    time::from_unix,
};

/// Bytes of one content on disk, complete or not. Made by [`Store`](crate::Store).
pub struct Entry {
    pub(crate) id: FileId,
    pub(crate) shared: Weak<Shared>,
    pub(crate) pool: Arc<Pool>,
    created: u64,
    accessed: AtomicU64,
    uses: AtomicU64,
    pins: AtomicUsize,
    /// Bytes on disk.
    pub(crate) allocated: AtomicU64,
    /// Bytes of other entries that left to make room for this one.
    pub(crate) taken: AtomicU64,
    file: Mutex<Option<Arc<DataFile>>>,
    /// Held while bytes are written to the file: the kernel lets one writer in at a time, and the others would
    /// wait for it with a processor each.
    pub(crate) writing: Mutex<()>,
    state: Mutex<State>,
    /// What was read and found right, where it is to be sent without being read again.
    pub(crate) checked: Mutex<Option<Checked>>,
    /// Signalled when a writer has left a block.
    pub(crate) block_left: Condvar,
}

/// What changes in the life of an entry.
pub(crate) struct State {
    pub(crate) key: EntryKey,
    pub(crate) meta: Arc<[u8]>,
    /// What was made of `meta`, and of which: no longer of the same, it is void.
    read_meta: Option<Box<ReadMeta>>,
    pub(crate) complete: bool,
    pub(crate) removed: bool,
    pub(crate) blocks: BlockMap,
    /// Whether `blocks` holds what the index has.
    loaded: bool,
    /// Whether the name of the file is durable.
    named: bool,
}

/// The facts about an entry as its users read them.
struct ReadMeta {
    of: Arc<[u8]>,
    read: Arc<dyn Any + Send + Sync>,
}

/// Some of an entry, as it was at one moment.
#[derive(Clone, Debug)]
pub struct Glance {
    /// [`Entry::meta`]. It is the same allocation as long as nobody has changed it.
    pub meta: Arc<[u8]>,
    /// [`Entry::total`].
    pub total: Option<u64>,
    /// [`Entry::is_complete`].
    pub complete: bool,
}

/// Keeps an entry from being evicted while it is alive: for running downloads.
///
/// Replacing or removing the entry by name is still possible.
#[derive(Debug)]
#[must_use = "the entry is kept only as long as the pin"]
pub struct Pin(Arc<Entry>);

/// What a commit has to write for one entry.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) row: EntryRow,
    pub(crate) blocks: Vec<(u64, Row)>,
    /// Whether the name of the file has to be made durable first.
    pub(crate) unnamed: bool,
}

// === impl Entry ===

impl Entry {
    /// A new entry with an open, empty file.
    pub(crate) fn new(row: EntryRow, file: DataFile, shared: &Arc<Shared>) -> Self {
        let entry = Self::from_row(row, 0, shared);
        *entry.file.lock() = Some(Arc::new(file));
        let mut state = entry.state.lock();
        state.loaded = true;
        state.named = false;
        drop(state);
        entry
    }

    /// An entry that the index knows, with a file of `allocated` bytes.
    pub(crate) fn from_row(row: EntryRow, allocated: u64, shared: &Arc<Shared>) -> Self {
        Self {
            id: row.id,
            shared: Arc::downgrade(shared),
            pool: Arc::clone(&shared.pool),
            created: row.created,
            accessed: row.accessed.into(),
            uses: row.uses.into(),
            pins: AtomicUsize::new(0),
            allocated: allocated.into(),
            taken: AtomicU64::new(0),
            file: Mutex::new(None),
            writing: Mutex::new(()),
            state: Mutex::new(State {
                key: row.key,
                meta: row.meta,
                read_meta: None,
                complete: row.complete,
                removed: false,
                blocks: BlockMap::new(row.total),
                loaded: false,
                named: true,
            }),
            checked: Mutex::new(None),
            block_left: Condvar::new(),
        }
    }

    /// The name it is found under; changes once, when it is published.
    pub fn key(&self) -> EntryKey {
        self.state.lock().key.clone()
    }

    /// What the maker of the entry wrote down about it; the store does not look into it.
    pub fn meta(&self) -> Arc<[u8]> {
        Arc::clone(&self.state.lock().meta)
    }

    /// Replaces [`Self::meta`]; durable with the next group commit.
    pub fn set_meta(self: &Arc<Self>, meta: Vec<u8>) {
        self.state.lock().meta = meta.into();
        self.mark_dirty(0);
    }

    /// What `read` makes of [`Self::meta`]: the same as the last time, unless it was replaced since or the entry
    /// has been idle. What `read` makes nothing of is read each time.
    ///
    /// All that ask must ask for one and the same type; another is read each time as well.
    pub fn read_meta<T: Any + Send + Sync>(&self, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<Arc<T>> {
        let meta = {
            let state = self.state.lock();
            let known = state.read_meta.as_ref().filter(|known| Arc::ptr_eq(&known.of, &state.meta));
            if let Some(known) = known.and_then(|known| Arc::clone(&known.read).downcast().ok()) {
                return Some(known);
            }
            Arc::clone(&state.meta)
        };
        let read = Arc::new(read(&meta)?);
        let known = ReadMeta { of: meta, read: Arc::<T>::clone(&read) };
        self.state.lock().read_meta = Some(Box::new(known));
        Some(read)
    }

    /// Length of the whole content in bytes, if known.
    pub fn total(&self) -> Option<u64> {
        self.state.lock().blocks.total()
    }

    /// Makes the length known.
    ///
    /// One that can never fit on the disk is no error here, since what has come so far may be read
    /// on. The append that finds no space is [`WriteError::Full`](crate::WriteError::Full) then,
    /// and no other entry leaves for it.
    ///
    /// # Errors
    /// [`StoreError::Total`] if another length is known or more bytes are here already;
    /// [`StoreError::Index`] if the blocks cannot be read from the index.
    pub fn set_total(self: &Arc<Self>, total: u64) -> Result<(), StoreError> {
        let mut state = self.loaded()?;
        let set = state.blocks.set_total(total);
        let key = state.key.clone();
        drop(state);
        set.map_err(|known| StoreError::Total { key, known, asked: total })?;
        self.mark_dirty(0);
        Ok(())
    }

    /// What lists of entries show, looked up at once.
    pub fn glance(&self) -> Glance {
        let state = self.state.lock();
        Glance { meta: Arc::clone(&state.meta), total: state.blocks.total(), complete: state.complete }
    }

    /// Whether it was published: all bytes are here and its maker vouched for them.
    pub fn is_complete(&self) -> bool {
        self.state.lock().complete
    }

    /// Whether it was evicted, replaced or removed. Reading goes on, writing does not.
    pub fn is_removed(&self) -> bool {
        self.state.lock().removed
    }

    /// Whether the length is known and all bytes are here, published or not.
    ///
    /// May wait for the disk as [`Self::contiguous_from`] does; if that fails, not all is here.
    pub fn is_whole(&self) -> bool {
        self.is_complete() || self.loaded().is_ok_and(|state| state.blocks.is_whole())
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        from_unix(self.created)
    }

    /// When it was last made, touched or published.
    pub fn accessed(&self) -> SystemTime {
        from_unix(self.accessed_unix())
    }

    /// How often it was [used](crate::Store::touch).
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Bytes it takes on disk.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Keeps the entry from being evicted for as long as the pin lives.
    pub fn pin(self: &Arc<Self>) -> Pin {
        self.pins.fetch_add(1, Ordering::SeqCst);
        Pin(Arc::clone(self))
    }

    /// The end of the readable stretch that begins at `offset`; `offset` itself if there is none.
    ///
    /// The first call for a partial entry after a restart reads its blocks from the index, and so
    /// may wait for the disk; if that fails, nothing is readable.
    pub fn contiguous_from(&self, offset: u64) -> u64 {
        if let Some(total) = self.whole_len() {
            return total.max(offset);
        }
        match self.loaded() {
            Ok(mut state) => state.blocks.contiguous_from(offset),
            Err(error) => {
                tracing::warn!(%error, "the blocks of a stored entry are unknown");
                offset
            }
        }
    }

    /// What of `range` has still to be fetched, in order, cut at the ends of blocks and of the
    /// entry. A block that is only partly here counts as missing from its start.
    ///
    /// May wait for the disk as [`Self::contiguous_from`] does; if that fails, all is missing.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        if self.whole_len().is_some() {
            return Vec::new();
        }
        match self.loaded() {
            Ok(state) => state.blocks.gaps(range),
            Err(error) => {
                tracing::warn!(%error, "the blocks of a stored entry are unknown");
                BlockMap::new(self.total()).gaps(range)
            }
        }
    }

    /// The length of a complete entry: that all of it is here is known without its blocks.
    fn whole_len(&self) -> Option<u64> {
        let state = self.state.lock();
        state.blocks.total().filter(|_| state.complete)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state with the blocks in it, read from the index if need be.
    pub(crate) fn loaded(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock();
        if state.loaded {
            return Ok(state);
        }
        drop(state);
        let rows = match self.shared.upgrade() {
            Some(shared) => shared.index.blocks(self.id)?,
            None => return Err(StoreError::Removed { key: self.key() }),
        };
        let mut state = self.state.lock();
        if !state.loaded {
            for (stretch, row) in &rows {
                state.blocks.load(*stretch, row);
            }
            state.loaded = true;
        }
        Ok(state)
    }

    /// Whether the blocks and the file are at hand, so that a read need not wait for the disk to
    /// find them.
    pub(crate) fn is_warm(&self) -> bool {
        self.state.lock().loaded && self.file.lock().is_some()
    }

    /// The data file, opened if need be.
    pub(crate) fn file(&self) -> Result<Arc<DataFile>, StoreError> {
        if let Some(file) = &*self.file.lock() {
            return Ok(Arc::clone(file));
        }
        let Some(shared) = self.shared.upgrade() else {
            return Err(StoreError::Removed { key: self.key() });
        };
        let opened = match shared.files.open(self.id) {
            Ok(opened) => Arc::new(opened),
            // who unlinks the file of an entry in use leaves it open here first
            Err(error) => return self.open_file().ok_or(error),
        };
        Ok(Arc::clone(self.file.lock().get_or_insert(opened)))
    }

    /// The data file, if it is open.
    pub(crate) fn open_file(&self) -> Option<Arc<DataFile>> {
        self.file.lock().clone()
    }

    /// Bytes that are still to come, if the length is known.
    pub(crate) fn missing_bytes(&self) -> Option<u64> {
        let state = self.state.lock();
        Some(state.blocks.total()?.saturating_sub(state.blocks.present()))
    }

    /// Tells the next group commit of a change, after `written` new bytes.
    pub(crate) fn mark_dirty(self: &Arc<Self>, written: u64) {
        if let Some(shared) = self.shared.upgrade() {
            shared.queue.mark(self, written);
        }
    }

    pub(crate) fn touch(&self, now: u64) {
        self.accessed.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn count_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accessed_unix(&self) -> u64 {
        self.accessed.load(Ordering::Relaxed)
    }

    /// Whether it is being written, and so stays whatever happens.
    pub fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::SeqCst) > 0
    }

    /// Marks the entry removed; `false` if it was already. Only while the names are locked, so that
    /// an entry with a name is never a removed one.
    pub(crate) fn set_removed(&self) -> bool {
        !mem::replace(&mut self.state.lock().removed, true)
    }

    /// Takes what the index does not know yet; `None` for a removed entry.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let mut state = self.state.lock();
        if state.removed {
            return None;
        }
        let blocks = state.blocks.take_changed();
        Some(Snapshot {
            blocks,
            unnamed: !state.named,
            row: EntryRow {
                id: self.id,
                key: state.key.clone(),
                meta: Arc::clone(&state.meta),
                total: state.blocks.total(),
                complete: state.complete,
                created: self.created,
                accessed: self.accessed_unix(),
                uses: self.uses(),
            },
        })
    }

    /// The name of the file is durable.
    pub(crate) fn set_named(&self) {
        self.state.lock().named = true;
    }

    /// Gives back a snapshot that could not be written.
    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        let stretches = snapshot.blocks.iter().map(|(stretch, _)| *stretch);
        self.state.lock().blocks.mark_changed(stretches);
    }

    /// Gives back the open file and, of a complete entry, the blocks. Only for an entry that nobody
    /// uses and the queue does not hold.
    pub(crate) fn rest(&self) {
        *self.file.lock() = None;
        *self.checked.lock() = None;
        let mut state = self.state.lock();
        state.read_meta = None;
        if state.complete && state.loaded && state.named {
            state.blocks = BlockMap::new(state.blocks.total());
            state.loaded = false;
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Entry")
            .field("key", &state.key)
            .field("total", &state.blocks.total())
            .field("complete", &state.complete)
            .field("removed", &state.removed)
            .finish_non_exhaustive()
    }
}

// === impl Pin ===

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::SeqCst);
    }
}
