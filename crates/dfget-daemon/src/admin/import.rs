//! A content that comes from a bundle.
//!
//! It is kept when it is whole and has its digest, and not before: until then it has a name that no
//! request asks for. No authority has delivered it, so none is noted: a client gets it only from
//! an authority that first accepts the client's own credential and then proves to have the very bytes
//! (`dfget-task`, `proof.rs`). Whoever packed or brought the bundle vouches for nothing.

use std::sync::Arc;
use std::time::SystemTime;

use dfget_console::{Failed, Import, Keeping, Kept, Kind};
use dfget_core::{ContentKey, Digest, Hasher, ReferenceKind};
use dfget_storage::{Entry, EntryKey, Pin, Store, StoreError, WriteError};
use dfget_task::TaskMeta;
use tracing::info;

/// What begins the names of contents that are still coming.
const COMING: &str = "import:";

/// A content that comes. Nothing of it stays if it is dropped.
pub(super) struct Importing {
    store: Store,
    entry: Arc<Entry>,
    /// It is not evicted while it comes.
    _pin: Pin,
    key: EntryKey,
    digest: Digest,
    hasher: Hasher,
    size: u64,
    written: u64,
}

// === impl Importing ===

impl Importing {
    /// A place for a content; `None` if it is there already.
    pub(super) fn begin(store: &Store, wanted: &Import) -> Result<Option<Self>, Failed> {
        let digest: Digest = wanted
            .digest
            .parse()
            .ok()
            .filter(|digest| matches!(digest, Digest::Sha256(_)))
            .ok_or_else(|| Failed::new(400, format!("{} is no sha256", wanted.digest)))?;
        let kind = match wanted.kind {
            Kind::Manifest => ReferenceKind::Manifest,
            _ => ReferenceKind::Blob,
        };
        let key = EntryKey::new(ContentKey::named(kind, &digest).as_str());
        if store.get(&key).is_some_and(|entry| entry.is_complete()) {
            return Ok(None);
        }
        let coming = EntryKey::new(format!("{COMING}{key}"));
        if store.get(&coming).is_some_and(|entry| entry.is_pinned()) {
            return Err(Failed::new(409, format!("{digest} is being imported by somebody else just now")));
        }
        let entry = store
            .create(coming, Vec::new(), Some(wanted.size), SystemTime::now())
            .map_err(|error| store_failed(&error))?;
        let (pin, hasher) = (entry.pin(), Hasher::sha256());
        let (store, size) = (store.clone(), wanted.size);
        Ok(Some(Self { store, entry, _pin: pin, key, digest, hasher, size, written: 0 }))
    }
}

impl Keeping for Importing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let end = self.written.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(Failed::new(422, format!("{} is longer than {} bytes", self.digest, self.size)));
        }
        self.entry.append(self.written, bytes).map_err(|error| write_failed(&error))?;
        self.hasher.update(bytes);
        self.written = end;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Kept, Failed> {
        if self.written < self.size {
            let Self { digest, written, size, .. } = &*self;
            return Err(Failed::new(422, format!("{digest} is cut short: {written} of {size} bytes")));
        }
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            return Err(Failed::new(422, format!("what is called {} has the digest {actual}", self.digest)));
        }
        let meta = TaskMeta {
            digest: Some(self.digest.to_string()),
            // Nobody knows; nodes without the cluster's key need not have it.
            private: true,
            imported: true,
            ..TaskMeta::default()
        };
        let published = self
            .store
            .publish(&self.entry, self.key.clone(), meta.to_bytes())
            .map_err(|error| store_failed(&error))?;
        let present = !Arc::ptr_eq(&published, &self.entry);
        info!(task = self.key.as_str(), "imported: {} bytes", self.size);
        Ok(Kept { present })
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        if !self.entry.is_complete() {
            self.store.remove(&self.entry);
        }
    }
}

/// Removes what a killed process left of contents that were coming.
pub(crate) fn drop_unfinished(store: &Store) {
    for entry in store.entries() {
        if entry.key().as_str().starts_with(COMING) {
            store.remove(&entry);
        }
    }
}

fn store_failed(error: &StoreError) -> Failed {
    let status = if matches!(error, StoreError::TooLarge { .. }) { 507 } else { 500 };
    Failed::new(status, error.to_string())
}

fn write_failed(error: &WriteError) -> Failed {
    let status = if matches!(error, WriteError::Full(_)) { 507 } else { 500 };
    Failed::new(status, error.to_string())
}
