//! What is to be said of a stored content, without reading all of its facts at each call.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dfget_console::{Content, Kind, Origin};
use dfget_core::{Digest, unix_seconds};
use dfget_storage::{Entry, EntryKey, Store};
use dfget_task::TaskMeta;
use parking_lot::Mutex;

/// All contents as they were shown last, by the address of their entry.
#[derive(Default)]
pub(super) struct Facts {
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    known: HashMap<usize, Known>,
    /// Grows with each look.
    turn: u64,
}

/// A content that was shown.
struct Known {
    /// As long as it is here, no other entry has its address.
    _entry: Weak<Entry>,
    /// What its facts were read from.
    meta: Arc<[u8]>,
    content: Content,
    /// The look at which it was there last.
    turn: u64,
}

// === impl Facts ===

impl Facts {
    /// Has `look` see all contents of `store`, in no order. Facts that did not change are not read again.
    pub(super) fn look(&self, store: &Store, look: &mut dyn FnMut(&[&Content])) {
        let mut shown = self.shown.lock();
        let Shown { known, turn } = &mut *shown;
        *turn += 1;
        for entry in store.entries() {
            let glance = entry.glance();
            let fresh = || Known {
                _entry: Arc::downgrade(&entry),
                meta: Arc::clone(&glance.meta),
                content: facts(&entry.key(), &glance.meta),
                turn: 0,
            };
            let one = known.entry(Arc::as_ptr(&entry).addr()).or_insert_with(fresh);
            if !Arc::ptr_eq(&one.meta, &glance.meta) {
                *one = fresh();
            }
            one.turn = *turn;
            one.content.size = glance.total;
            one.content.complete = glance.complete;
            follow(&mut one.content, &entry);
        }
        known.retain(|_, one| one.turn == *turn);
        let contents: Vec<_> = known.values().map(|one| &one.content).collect();
        look(&contents);
    }
}

/// Takes over what changes with each use and each write.
fn follow(content: &mut Content, entry: &Entry) {
    content.stored_bytes = entry.allocated_bytes();
    content.stored_at = unix_seconds(entry.created());
    content.last_used_at = unix_seconds(entry.accessed());
    content.uses = entry.uses();
}

/// One content.
pub(super) fn described(entry: &Entry) -> Content {
    let glance = entry.glance();
    let mut content = facts(&entry.key(), &glance.meta);
    (content.size, content.complete) = (glance.total, glance.complete);
    follow(&mut content, entry);
    content
}

/// What the store keeps beside the bytes.
fn facts(key: &EntryKey, meta: &[u8]) -> Content {
    let meta = TaskMeta::from_bytes(meta).unwrap_or_default();
    let kind = match key.as_str().split_once(':') {
        Some(("blob", _)) => Kind::Blob,
        Some(("manifest", _)) => Kind::Manifest,
        _ => Kind::Url,
    };
    let origin = |authority: &String| Origin {
        authority: authority.clone(),
        places: meta.places.get(authority).into_iter().flatten().cloned().collect(),
        tags: meta.tags.get(authority).cloned().unwrap_or_default(),
    };
    let digest = meta.digest.as_deref().and_then(|digest| digest.parse().ok());
    Content {
        key: key.as_str().to_owned(),
        kind,
        task: digest.as_ref().and_then(dfget_core::TaskId::of_digest).map(|task| task.to_string()),
        digest: digest.map(|digest: Digest| digest.to_string()),
        origins: meta.origins.keys().map(origin).collect(),
        private: meta.private,
        imported: meta.imported,
        ..Content::default()
    }
}

#[cfg(test)]
mod tests {
    use dfget_storage::Options;

    use std::time::SystemTime;

    use super::*;

    #[test]
    fn facts_are_read_once_and_again_when_they_change() {
        let home = tempfile::tempdir().unwrap();
        let options =
            Options { dir: home.path().join("data"), quota_bytes: None, disk_percent: None, expire: None };
        let (store, _) = Store::open(options, SystemTime::now()).unwrap();
        let digest = Digest::sha256(b"x");
        let mut meta = TaskMeta { digest: Some(digest.to_string()), private: true, ..TaskMeta::default() };
        meta.origins.insert("https://r.test".to_owned(), Vec::new());
        meta.places.entry("https://r.test".to_owned()).or_default().insert("lab/image".to_owned());
        meta.places.entry("https://gone.test".to_owned()).or_default().insert("other".to_owned());
        let name = format!("blob:{digest}");
        let entry = store.create(name.clone().into(), meta.to_bytes(), Some(1), SystemTime::now()).unwrap();
        let facts = Facts::default();
        let look = || {
            let mut seen = Vec::new();
            facts.look(&store, &mut |contents| seen = contents.iter().map(|&one| one.clone()).collect());
            seen
        };
        let [seen] = look().try_into().unwrap();
        let origin = Origin {
            authority: "https://r.test".to_owned(),
            places: vec!["lab/image".to_owned()],
            ..Origin::default()
        };
        assert_eq!((seen.key, seen.kind, seen.origins), (name, Kind::Blob, vec![origin]));
        assert_eq!((seen.task, seen.digest), (Some(digest.hex()), Some(digest.to_string())));
        assert!(seen.private && !seen.complete && !seen.imported);

        meta.imported = true;
        entry.set_meta(meta.to_bytes());
        store.touch(&entry, SystemTime::now());
        let [seen] = look().try_into().unwrap();
        assert_eq!((seen.imported, seen.uses), (true, 1));
        store.remove(&entry);
        assert_eq!(look(), []);
        assert!(facts.shown.lock().known.is_empty());
    }
}
