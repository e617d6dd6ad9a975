//! What this node hands out, and to whom.

use dfget_config::SharePrivate;
use dfget_peer::{Asker, Holding, Holdings, UploadEvent};
use dfget_proto::messages::common::v2::Network;
use dfget_task::Tasks;

use super::askers::Askers;
use super::host::OwnHost;

/// The tasks of this node as other nodes may see them. Clones are the same.
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) tasks: Tasks,
    share: SharePrivate,
    host: OwnHost,
    asked: Askers,
}

// === impl Shelf ===

impl Shelf {
    pub(super) fn new(tasks: Tasks, share: SharePrivate, host: OwnHost) -> Self {
        Self { tasks, share, host, asked: Askers::default() }
    }

    /// Who has asked for what lately.
    pub(super) fn askers(&self) -> Askers {
        self.asked.clone()
    }

    /// What is here of a task, if whoever asks, with the cluster's key or without, may have it.
    pub(super) fn of(&self, task: &str, keyed: bool) -> Option<dfget_task::Holding> {
        let (holding, private) = self.tasks.holding(task)?;
        let may = match self.share {
            _ if !private => true,
            SharePrivate::Keyed => keyed,
            SharePrivate::Never => false,
            SharePrivate::All => true,
        };
        may.then_some(holding)
    }
}

impl Holdings for Shelf {
    fn find(&self, task: &str, asker: &Asker) -> Option<Holding> {
        let dfget_task::Holding { entry, progress, ended, round } = self.of(task, asker.keyed)?;
        self.asked.note(task, asker.address.ip());
        Some(Holding { entry, progress, ended, round })
    }

    fn rotten(&self, task: &str, block: std::ops::Range<u64>) {
        self.tasks.metrics().rotten_block();
        tracing::warn!(
            task,
            "stored bytes {} to {} changed on disk; not sent to a peer",
            block.start,
            block.end
        );
    }

    fn network(&self) -> Network {
        self.host.network()
    }

    fn happened(&self, event: UploadEvent) {
        if let UploadEvent::Bytes { sent, to } = event {
            self.tasks.metrics().to_peer(sent);
            self.tasks.metrics().ledger().to_child(to.to_canonical(), sent);
        }
    }
}
