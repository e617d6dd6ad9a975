//! What the API does in the store.

use std::collections::HashMap;
use std::time::SystemTime;

use dfget_console::{
    Collected, Control, Evicted, Failed, Gc, Import, Keeping, Reading, Removed, Verified, Verify,
};
use dfget_storage::{EntryKey, Reason, Store};
use tracing::info;

use super::import::Importing;
use super::reading::StoredBytes;
use super::verify::verify;
use super::view::AdminView;

impl AdminView {
    fn open_store(&self) -> Result<&Store, Failed> {
        self.store().ok_or_else(|| {
            let reason = self.place().as_ref().err().map_or("", String::as_str);
            Failed::new(503, format!("there is no store: {reason}"))
        })
    }
}

impl Control for AdminView {
    fn remove(&self, keys: &[String]) -> Result<Removed, Failed> {
        let store = self.open_store()?;
        let mut removed = Removed::default();
        for key in keys {
            let Some(entry) = store.get(&EntryKey::new(key.as_str())) else {
                removed.missing += 1;
                continue;
            };
            let bytes = entry.allocated_bytes();
            if store.remove_idle(&entry) {
                removed.contents += 1;
                removed.bytes += bytes;
                info!(task = key.as_str(), "removed by hand: {bytes} bytes");
            } else {
                removed.busy.push(key.clone());
            }
        }
        flush(store)?;
        Ok(removed)
    }

    fn collect(&self, wanted: &Gc) -> Result<Collected, Failed> {
        let store = self.open_store()?;
        // What it was is not to be found out afterwards.
        let mut before = HashMap::new();
        self.facts().look(store, &mut |contents| {
            before = contents.iter().map(|&content| (content.key.clone(), content.clone())).collect();
        });
        let report = store.shrink(wanted.to_bytes, wanted.dry_run, SystemTime::now());
        let mut collected = Collected::default();
        for gone in report.evicted {
            let key = gone.key.as_str();
            let content = before.remove(key).unwrap_or_default();
            let reason = match gone.reason {
                Reason::Expired => "expired",
                _ => "space",
            };
            collected.bytes += gone.bytes;
            if !wanted.dry_run {
                self.metrics().evicted(gone.bytes);
                info!(task = key, "task reclaimed by hand: {:?}, {} bytes", gone.reason, gone.bytes);
            }
            collected.evicted.push(Evicted { content, reason: reason.to_owned() });
        }
        let held = store.usage().bytes;
        collected.left_bytes = if wanted.dry_run { held.saturating_sub(collected.bytes) } else { held };
        collected.over_bytes = report.over_quota_bytes;
        flush(store)?;
        Ok(collected)
    }

    fn verify(&self, wanted: &Verify, tell: &mut dyn FnMut(Verified) -> bool) -> Result<(), Failed> {
        verify(self.open_store()?, self.metrics(), wanted, tell);
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Box<dyn Reading>, Failed> {
        let entry = self.open_store()?.get(&EntryKey::new(key)).filter(|entry| entry.is_complete());
        let gone = || Failed::new(404, format!("{key} is not in the store, or not whole"));
        let reading = entry.and_then(StoredBytes::new).ok_or_else(gone)?;
        Ok(Box::new(reading))
    }

    fn flush(&self) -> Result<(), Failed> {
        flush(self.open_store()?)
    }

    fn import(&self, wanted: &Import) -> Result<Option<Box<dyn Keeping>>, Failed> {
        let importing = Importing::begin(self.open_store()?, wanted)?;
        Ok(importing.map(|importing| Box::new(importing) as Box<dyn Keeping>))
    }
}

/// So that what was told is so after a crash, too.
fn flush(store: &Store) -> Result<(), Failed> {
    store.flush().map_err(|error| Failed::new(500, error.to_string()))
}
