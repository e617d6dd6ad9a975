//! The members, as the client of the schedulers wants to know them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use dfget_cluster::Members;
use dfget_proto::Ring;
use dfget_scheduler::MemberList;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who belongs to the cluster, now and from now on.
pub(super) struct Directory {
    members: watch::Receiver<Arc<Members>>,
    ring: watch::Receiver<Arc<Ring>>,
}

// === impl Directory ===

impl Directory {
    /// Follows `members` until `ended`.
    pub(super) fn follow(
        mut members: watch::Receiver<Arc<Members>>,
        running: &TaskTracker,
        ended: &CancellationToken,
    ) -> Self {
        let ring_of = |members: &Members| Arc::new(members.ring().clone());
        let (told, ring) = watch::channel(ring_of(&members.borrow()));
        let directory = Self { members: members.clone(), ring };
        running.spawn(ended.clone().run_until_cancelled_owned(async move {
            while members.changed().await.is_ok() {
                let ring = ring_of(&members.borrow_and_update());
                told.send_if_modified(|before| {
                    let changed = *before != ring;
                    *before = ring;
                    changed
                });
            }
        }));
        directory
    }
}

#[tonic::async_trait]
impl MemberList for Directory {
    fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.clone()
    }

    fn own_name(&self) -> Option<String> {
        self.members.borrow().me().map(str::to_owned)
    }

    async fn resolve(&self, name: &str) -> io::Result<SocketAddr> {
        let members = Arc::clone(&self.members.borrow());
        let addresses = members.resolve(name).await.map_err(io::Error::other)?;
        addresses.first().copied().ok_or_else(|| io::Error::other(format!("{name} has no address")))
    }
}
