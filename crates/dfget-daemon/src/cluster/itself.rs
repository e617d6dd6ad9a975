//! What this node answers about itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dfget_proto::messages::dfget::v1::{PieceHashesReply, StatusReply};
use dfget_scheduler::{Caller, Member, Takes, Taking};
use dfget_task::PieceHashes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Status;

use super::holdings::Shelf;
use super::host::OwnHost;
use super::taking::Takers;

/// Contents whose hashes are kept.
const MOST_HASHED: usize = 4;

/// Answers for the daemon.
pub(super) struct Itself {
    shelf: Shelf,
    host: OwnHost,
    started_at: u64,
    /// For one content at a time: each costs all of its bytes.
    hashing: Arc<Semaphore>,
    /// The last that were reckoned, by task: where one asks, others do, and a content that has been verified does
    /// not change.
    hashed: Arc<Mutex<VecDeque<(String, PieceHashes)>>>,
    takers: Takers,
}

// === impl Itself ===

impl Itself {
    pub(super) fn new(shelf: Shelf, host: OwnHost, takers: Takers) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            shelf,
            host,
            started_at: now.map_or(0, |now| now.as_secs()),
            hashing: Arc::new(Semaphore::new(1)),
            hashed: Arc::default(),
            takers,
        }
    }
}

#[tonic::async_trait]
impl Member for Itself {
    async fn status(&self) -> StatusReply {
        let tasks = &self.shelf.tasks;
        let stored = tasks.store().map_or(0, |store| store.usage().entries);
        let [from_peers, from_origin, to_peers] = tasks.metrics().exchanged();
        StatusReply {
            version: crate::parts::version().to_owned(),
            host: Some(self.host.message()),
            started_at: self.started_at,
            stored_tasks: stored as u64,
            running_tasks: tasks.running() as u64,
            bytes_from_peers: from_peers,
            bytes_from_origin: from_origin,
            bytes_to_peers: to_peers,
            ..StatusReply::default()
        }
    }

    async fn piece_hashes(&self, task: &str, caller: &Caller) -> Option<PieceHashesReply> {
        self.shelf.of(task, caller.keyed)?;
        let turn = Arc::clone(&self.hashing).acquire_owned().await.ok()?;
        let (tasks, task, hashed) = (self.shelf.tasks.clone(), task.to_owned(), Arc::clone(&self.hashed));
        let hashes = tokio::task::spawn_blocking(move || {
            // Whoever asked may have gone; this goes on.
            let _turn = turn;
            let known =
                hashed.lock().iter().find(|(other, _)| *other == task).map(|(_, known)| known.clone());
            known.or_else(|| {
                let hashes = tasks.piece_hashes(&task)?;
                let mut hashed = hashed.lock();
                hashed.truncate(MOST_HASHED - 1);
                hashed.push_front((task, hashes.clone()));
                Some(hashes)
            })
        });
        let hashes = hashes.await.ok()??;
        Some(PieceHashesReply { total: hashes.total, sha256: hashes.sha256.concat() })
    }

    async fn take(&self, wanted: Taking, caller: &Caller) -> Result<Takes, Status> {
        self.takers.take(wanted, caller)
    }
}
