//! What this node can hand to its peers.

use std::sync::Arc;

use dfget_core::{ContentKey, Digest, ReferenceKind, TaskId};
use dfget_storage::Entry;
use tokio_util::sync::CancellationToken;

use super::hashes::hash_all;
use super::network::{Held, Holding, PieceHashes};
use super::state::Layout;
use crate::meta::TaskMeta;
use crate::request::final_key;
use crate::task::Task;
use crate::tasks::Tasks;

const KINDS: [ReferenceKind; 2] = [ReferenceKind::Blob, ReferenceKind::Manifest];

/// A content, and whether it was fetched with a credential.
type Found = (Holding, bool);

impl Tasks {
    /// The bytes of a task that are here, whole or as they come; and whether it was fetched with a
    /// credential. `None` if there are none.
    #[must_use]
    pub fn holding(&self, task: &str) -> Option<Found> {
        let digest = named(task)?;
        KINDS.iter().find_map(|&kind| {
            let key = ContentKey::named(kind, &digest);
            self.whole(&key).or_else(|| self.running_with(&key).and_then(|task| task.as_holding()))
        })
    }

    fn whole(&self, key: &ContentKey) -> Option<Found> {
        let entry = self.store()?.get(&final_key(key)).filter(|entry| entry.is_complete())?;
        // Each request of a peer comes by here.
        let private = TaskMeta::of(&entry)?.private;
        Some((Holding { entry, progress: None, ended: CancellationToken::new(), round: 0 }, private))
    }

    /// Everything whole in the store that peers can have.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let entries = self.store().map(dfget_storage::Store::entries).unwrap_or_default();
        entries.iter().filter_map(|entry| held(entry)).collect()
    }

    /// The SHA-256 of each piece of a content that is whole and verified here. Blocking, and not
    /// cheap.
    #[must_use]
    pub fn piece_hashes(&self, task: &str) -> Option<PieceHashes> {
        let digest = named(task)?;
        let (holding, _) = KINDS.iter().find_map(|&kind| self.whole(&ContentKey::named(kind, &digest)))?;
        let layout = Layout::of(holding.entry.total()?)?;
        let sha256 = hash_all(&holding.entry, &layout).ok()?;
        Some(PieceHashes { total: layout.total, sha256 })
    }
}

impl Task {
    fn as_holding(self: &Arc<Self>) -> Option<Found> {
        let state = self.state.lock();
        // What is fetched from the origin alone in the end may be as wrong as it was before.
        if state.outcome.is_some() || state.anew {
            return None;
        }
        let (entry, private) = (Arc::clone(&state.entry), state.meta.private);
        let (ended, round) = (state.shared.clone(), state.generation);
        drop(state);
        Some((Holding { entry, progress: Some(self.progress()), ended, round }, private))
    }

    /// Tells the cluster that the content is here.
    pub(crate) fn announce_held(&self) {
        let Some(network) = self.tasks.network() else { return };
        let entry = self.tasks.store().and_then(|store| store.get(&final_key(&self.key.key)));
        if let Some(held) = entry.and_then(|entry| held(&entry)) {
            network.hold(held);
        }
    }
}

/// The content that a task id stands for: its digest, of those that peers share.
fn named(task: &str) -> Option<Digest> {
    format!("sha256:{task}").parse().ok()
}

fn held(entry: &Entry) -> Option<Held> {
    if !entry.is_complete() {
        return None;
    }
    let (total, meta) = (entry.total()?, TaskMeta::from_bytes(&entry.meta())?);
    // Peers do not ask for what is known by its tag.
    let digest: Digest = meta.digest.filter(|_| !meta.noted)?.parse().ok()?;
    let Digest::Sha256(_) = digest else { return None };
    let origins = meta.origins.into_keys().collect();
    Some(Held { task: TaskId::of_digest(&digest)?, total, origins, private: meta.private })
}
