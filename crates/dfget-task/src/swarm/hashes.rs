//! What to do when pieces of several peers together are not the content: find the wrong ones, and
//! who sent them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_core::{ByteRange, Hasher};
use dfget_storage::{Entry, ReadError, WriteError};
use dfget_swarm::HostInfo;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::network::PieceHashes;
use super::state::Layout;
use crate::content::read_range;
use crate::prefix::PrefixHasher;
use crate::task::Task;

/// Peers that are asked for the hashes of the pieces.
const MOST_ASKED: usize = 3;

/// How long all together may take: they may have to hash the whole content first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A content that was wrong, kept until it is known which of its pieces were.
#[derive(Debug)]
pub(crate) struct Suspects {
    old: Arc<Entry>,
    senders: Vec<(u32, Arc<str>)>,
}

impl Task {
    /// Replaces the wrong pieces of a content by the origin's, if a peer that has verified it tells
    /// which they are. `false` if everything has to be fetched anew.
    pub(crate) async fn mend(self: &Arc<Self>, old: &Arc<Entry>) -> bool {
        let Some(layout) = old.total().and_then(Layout::of) else { return false };
        let Some(network) = self.tasks.network() else { return false };
        let asking =
            self.verified_parents().into_iter().map(|parent| network.hashes(parent, self.id.clone()));
        let mut asking: JoinSet<_> = asking.collect();
        let until = Instant::now() + PATIENCE;
        loop {
            // Nobody waits for the slowest: clients do for this.
            let answer = tokio::select! {
                () = self.cancel.cancelled() => return false,
                answer = tokio::time::timeout_at(until, asking.join_next()) => answer,
            };
            let Ok(Some(answer)) = answer else { return false };
            let Ok(Some(hashes)) = answer else { continue };
            let (entry, task) = (Arc::clone(old), Arc::clone(self));
            let mended = tokio::task::spawn_blocking(move || task.replace_wrong(&entry, &layout, &hashes));
            match mended.await {
                Ok(Ok(0)) => {}
                Ok(Ok(wrong)) => {
                    info!(task = %self.id, "{wrong} of {} pieces were wrong and are fetched from the origin", layout.count);
                    self.bump();
                    self.advance();
                    return true;
                }
                Ok(Err(error)) => warn!(task = %self.id, "wrong pieces cannot be replaced: {error}"),
                Err(_) => {}
            }
        }
    }

    fn verified_parents(&self) -> Vec<Arc<HostInfo>> {
        let state = self.state.lock();
        let parents = state.swarm.iter().flat_map(|swarm| swarm.verified.iter().cloned());
        parents.take(MOST_ASKED).collect()
    }

    /// Puts a new entry in the place of a wrong one, with all pieces that have their hash. Returns
    /// how many have not. Blocking.
    fn replace_wrong(
        &self,
        old: &Arc<Entry>,
        layout: &Layout,
        hashes: &PieceHashes,
    ) -> Result<usize, ReplaceError> {
        if hashes.total != layout.total || hashes.sha256.len() != layout.count as usize {
            return Ok(0);
        }
        let wrong = wrong_pieces(old, layout, hashes)?;
        if wrong.is_empty() {
            return Ok(0);
        }
        let store = self.tasks.store().ok_or(ReplaceError::NoStore)?;
        let meta = self.state.lock().meta.to_bytes();
        let fresh = store.create(old.key(), meta, Some(layout.total), SystemTime::now())?;
        for number in (0..layout.count).filter(|number| !wrong.contains(number)) {
            copy(old, &fresh, layout, number)?;
        }
        // Held until the entry is the new one: what is hashed from now on is hashed of that.
        let mut prefix = self.prefix.lock();
        *prefix = self.digest.as_ref().map(PrefixHasher::like);
        let mut state = self.state.lock();
        state.pin = Some(fresh.pin());
        state.entry = fresh;
        state.generation += 1;
        state.settling = false;
        state.suspect(old);
        if let Some(swarm) = &mut state.swarm {
            (swarm.alone, swarm.origin_failed) = (true, None);
            swarm.mended = true;
        }
        Ok(wrong.len())
    }

    /// Finds out, now that the content is right, who sent pieces that were not. Blocking.
    pub(crate) fn blame(&self) {
        let (suspects, right) = {
            let mut state = self.state.lock();
            (state.suspects.take(), Arc::clone(&state.entry))
        };
        let (Some(suspects), Some(network)) = (suspects, self.tasks.network()) else { return };
        let Some(layout) = right.total().and_then(Layout::of) else { return };
        for (number, host) in suspects.senders {
            let range = layout.range(number);
            let range = ByteRange { start: range.start, end: range.end };
            let same = match (read_range(&suspects.old, range), read_range(&right, range)) {
                (Ok(theirs), Ok(ours)) => theirs == ours,
                // What cannot be read accuses nobody.
                _ => true,
            };
            if !same && !network.is_banned(&host) {
                warn!(task = %self.id, "{host} sent wrong bytes (piece {number}) and is not asked any more; look at that node's memory and disk, or remove it from the cluster");
                network.ban(&host);
                if let Some(swarm) = &mut self.state.lock().swarm {
                    swarm.wrong.push(host);
                }
            }
        }
    }

    /// Hosts that were found to have sent wrong bytes since the last call.
    pub(super) fn take_wrong(&self) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        state.swarm.as_mut().map(|swarm| std::mem::take(&mut swarm.wrong)).unwrap_or_default()
    }
}

impl crate::task::State {
    /// Keeps a wrong content to find out later whose pieces it was made of.
    pub(crate) fn suspect(&mut self, old: &Arc<Entry>) {
        let Some(swarm) = &self.swarm else { return };
        if self.suspects.is_none() && !swarm.senders.is_empty() {
            let senders = swarm.senders.iter().map(|(number, host)| (*number, Arc::clone(host))).collect();
            self.suspects = Some(Suspects { old: Arc::clone(old), senders });
        }
    }
}

/// Why the wrong pieces could not be replaced.
#[derive(Debug, thiserror::Error)]
enum ReplaceError {
    #[error("there is no store")]
    NoStore,
    #[error(transparent)]
    Store(#[from] dfget_storage::StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn wrong_pieces(entry: &Entry, layout: &Layout, hashes: &PieceHashes) -> Result<Vec<u32>, ReadError> {
    let mut wrong = Vec::new();
    for (number, expected) in (0..layout.count).zip(&hashes.sha256) {
        if hash_piece(entry, layout, number)? != *expected {
            wrong.push(number);
        }
    }
    Ok(wrong)
}

/// The SHA-256 of one piece. Blocking.
pub(super) fn hash_piece(entry: &Entry, layout: &Layout, number: u32) -> Result<[u8; 32], ReadError> {
    let (mut hasher, range) = (Hasher::sha256(), layout.range(number));
    let mut next = range.start;
    while next < range.end {
        let mut bytes = entry.read(next, false)?;
        bytes.truncate(usize::try_from(range.end - next).unwrap_or(usize::MAX));
        hasher.update(&bytes);
        next += bytes.len() as u64;
    }
    let mut hash = [0; 32];
    let digest = hasher.finish();
    if digest.bytes().len() == hash.len() {
        hash.copy_from_slice(digest.bytes());
    }
    Ok(hash)
}

fn copy(old: &Entry, fresh: &Arc<Entry>, layout: &Layout, number: u32) -> Result<(), ReplaceError> {
    let range = layout.range(number);
    let mut next = range.start;
    while next < range.end {
        let mut bytes = old.read(next, false)?;
        bytes.truncate(usize::try_from(range.end - next).unwrap_or(usize::MAX));
        fresh.append(next, &bytes)?;
        next += bytes.len() as u64;
    }
    Ok(())
}
