//! Manifests that clients were given for a tag, kept so that it is known later what the tag meant.
//!
//! Whoever packs an image into a bundle, or removes it, names it by its tag; which blobs that means
//! stands in the manifest, and clients that ask by tag never ask for it by digest. What is kept is a content like any
//! other, named by its digest, and opened to nobody by this.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use dfget_core::{Authority, ContentKey, Digest, ReferenceKind, unix_seconds};
use dfget_origin::headers::representation;
use dfget_storage::{Entry, EntryKey, Store, StoreError};
use http::HeaderMap;
use parking_lot::Mutex;
use tracing::debug;

use crate::meta::TaskMeta;
use crate::request::final_key;
use crate::tasks::Tasks;

/// Tags whose meaning is remembered so that it is not looked up again; more than that is looked up.
const MOST_TAGS: usize = 16_384;

/// A manifest that an origin has just given for a tag, whole and with the digest that it says.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// Who gave it.
    pub authority: Authority,
    /// `repository:tag`.
    pub name: String,
    /// What it hashes to.
    pub digest: Digest,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// It was asked for with a credential.
    pub private: bool,
    /// It.
    pub body: Bytes,
}

/// What tags meant last.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    last: Mutex<HashMap<(Authority, String), Digest>>,
}

// === impl Tags ===

impl Tags {
    /// Whether this is what the tag meant last.
    fn is_known(&self, tagged: &Tagged) -> bool {
        self.last.lock().get(&(tagged.authority.clone(), tagged.name.clone())) == Some(&tagged.digest)
    }

    fn note(&self, tagged: &Tagged) {
        let mut last = self.last.lock();
        if last.len() >= MOST_TAGS {
            last.clear();
        }
        last.insert((tagged.authority.clone(), tagged.name.clone()), tagged.digest);
    }
}

impl Tasks {
    /// Keeps a manifest in the background, and what tag it was given for.
    pub fn keep_tagged(&self, tagged: Tagged) {
        let Some(store) = self.store().filter(|_| self.options().reuse).cloned() else { return };
        let key = final_key(&ContentKey::named(ReferenceKind::Manifest, &tagged.digest));
        let here = store.get(&key).is_some_and(|entry| entry.is_complete());
        if here && self.inner.tags.is_known(&tagged) {
            return;
        }
        self.inner.tags.note(&tagged);
        self.inner.tracker.spawn_blocking(move || {
            if let Err(error) = keep(&store, key, &tagged) {
                debug!("the manifest of {} is not kept: {error}", tagged.name);
            }
        });
    }
}

fn keep(store: &Store, key: EntryKey, tagged: &Tagged) -> Result<(), StoreError> {
    let now = SystemTime::now();
    if let Some(entry) = store.get(&key).filter(|entry| entry.is_complete()) {
        let mut meta = TaskMeta::from_bytes(&entry.meta()).unwrap_or_default();
        meta.add_tag(tagged, now);
        entry.set_meta(meta.to_bytes());
        return Ok(());
    }
    let mut meta = TaskMeta {
        digest: Some(tagged.digest.to_string()),
        private: tagged.private,
        noted: true,
        ..TaskMeta::default()
    };
    meta.add_tag(tagged, now);
    let coming = EntryKey::new(format!("{key}@tag"));
    let entry = store.create(coming, Vec::new(), Some(tagged.body.len() as u64), now)?;
    let _pin = entry.pin();
    let kept =
        write(&entry, &tagged.body).and_then(|()| store.publish(&entry, key, meta.to_bytes()).map(drop));
    if kept.is_err() {
        store.remove(&entry);
    }
    kept
}

fn write(entry: &Arc<Entry>, bytes: &[u8]) -> Result<(), StoreError> {
    let gone = |_| StoreError::Incomplete { key: entry.key(), present: 0, total: entry.total() };
    entry.append(0, bytes).map_err(gone)
}

impl TaskMeta {
    /// Notes that the content was given for a tag.
    fn add_tag(&mut self, tagged: &Tagged, now: SystemTime) {
        let authority = tagged.authority.to_string();
        if !self.is_known_to(&tagged.authority) {
            self.add_origin(&tagged.authority, &representation(&tagged.headers));
        }
        if let Some((repository, _)) = tagged.name.rsplit_once(':') {
            self.places.entry(authority.clone()).or_default().insert(repository.to_owned());
        }
        let seen = unix_seconds(now);
        let tags = self.tags.entry(authority).or_default();
        tags.insert(tagged.name.clone(), seen);
        while tags.len() > crate::meta::MOST_PLACES {
            let oldest = tags.iter().min_by_key(|(_, seen)| **seen).map(|(name, _)| name.clone());
            oldest.and_then(|name| tags.remove(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;
    use dfget_storage::Options;

    use super::*;

    #[test]
    fn a_manifest_is_kept_once_and_knows_its_tags() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("data");
        let options = Options { dir, quota_bytes: None, disk_percent: None, expire: None };
        let (store, _) = Store::open(options, SystemTime::now()).expect("a store");
        let authority = Authority::parse(Scheme::Https, "r.test").expect("an authority");
        let body = Bytes::from_static(b"{}");
        let digest = Digest::sha256(&body);
        let key = final_key(&ContentKey::named(ReferenceKind::Manifest, &digest));
        for number in 0..20 {
            let name = format!("lab/image:{number}");
            let (authority, body) = (authority.clone(), body.clone());
            let tagged = Tagged { authority, name, digest, headers: HeaderMap::new(), private: true, body };
            keep(&store, key.clone(), &tagged).expect("it is kept");
        }
        let [entry] = store.entries().try_into().expect("one");
        assert!(entry.is_complete() && entry.key() == key);
        assert_eq!(&entry.read(0, false).expect("its bytes")[..], b"{}");
        let meta = TaskMeta::from_bytes(&entry.meta()).expect("facts");
        assert!(meta.private && meta.is_known_to(&authority));
        assert_eq!(meta.tags["https://r.test"].len(), 16);
        assert_eq!(meta.places["https://r.test"].iter().collect::<Vec<_>>(), ["lab/image"]);
    }
}
