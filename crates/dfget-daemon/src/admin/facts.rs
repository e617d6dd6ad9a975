//! What is to be said of a stored content, without reading all of its facts at each call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dfget_console::{Content, Kind, Origin};
use dfget_core::Digest;
use dfget_storage::{Entry, EntryKey, Store};
use dfget_task::TaskMeta;
use parking_lot::Mutex;

/// Facts that were read already, by name; each with the text that they were read from.
#[derive(Default)]
pub(super) struct Facts {
    read: Mutex<HashMap<EntryKey, Read>>,
}

/// The text that was read, and what was read from it.
type Read = (Arc<[u8]>, Content);

// === impl Facts ===

impl Facts {
    /// All contents of `store`, in no order.
    pub(super) fn of(&self, store: &Store) -> Vec<Content> {
        let mut read = self.read.lock();
        let mut kept = HashMap::with_capacity(read.len());
        let contents = store.entries().into_iter().map(|entry| {
            let (key, meta) = (entry.key(), entry.meta());
            let known = read.remove(&key).filter(|(text, _)| Arc::ptr_eq(text, &meta));
            let (text, facts) = known.unwrap_or_else(|| {
                let facts = facts(&key, &meta);
                (meta, facts)
            });
            let content = content(&facts, &entry);
            kept.insert(key, (text, facts));
            content
        });
        let contents = contents.collect();
        *read = kept;
        contents
    }
}

/// What changes with each use, and what does not.
pub(super) fn content(facts: &Content, entry: &Entry) -> Content {
    Content {
        size: entry.total(),
        stored_bytes: entry.allocated_bytes(),
        complete: entry.is_complete(),
        stored_at: seconds(entry.created()),
        last_used_at: seconds(entry.accessed()),
        uses: entry.uses(),
        ..facts.clone()
    }
}

/// What the store keeps beside the bytes.
pub(super) fn facts(key: &EntryKey, meta: &[u8]) -> Content {
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

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use dfget_storage::Options;

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
        let [seen] = facts.of(&store).try_into().unwrap();
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
        let [seen] = facts.of(&store).try_into().unwrap();
        assert_eq!((seen.imported, seen.uses), (true, 1));
        store.remove(&entry);
        assert_eq!(facts.of(&store), []);
        assert!(facts.read.lock().is_empty());
    }
}
