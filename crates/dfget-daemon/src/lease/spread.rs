//! Contents of this node to others of its cluster, for root and the daemon's own user.

use std::time::Duration;

use dfget_lease::{FromDaemon, Inbox, NotSpread, Peer, Spread, SpreadSeen, ToDaemon};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use crate::cluster::{Refusal, Spreader};

/// Why there is no cluster to ask, and what to do.
pub(super) const ALONE: &str =
    "it belongs to no cluster: set cluster.members, and look into its log for why it stays alone";

/// How long somebody who asked may take to read what is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what is wanted for as long as the other end stays, and tells it how far it is.
///
/// Other nodes are filled with it: so it is for those alone who could do so anyway, as the store itself is.
pub(super) async fn answer(
    stream: &UnixStream,
    mut inbox: Inbox,
    wanted: &Spread,
    spreader: Option<&Spreader>,
) {
    let own = rustix::process::geteuid().as_raw();
    let peer = Peer::of(stream).ok().filter(|peer| peer.uid == own || peer.uid == 0);
    let refusal = match (peer, spreader) {
        (None, _) => Refusal {
            cause: NotSpread::NotAllowed,
            reason: "only root and the daemon's own user may have other nodes filled; in a job, \
                     `srun --ntasks-per-node=1 dfget preheat …` lets each node fetch for itself"
                .to_owned(),
        },
        (_, None) => Refusal { cause: NotSpread::NoCluster, reason: ALONE.to_owned() },
        (Some(peer), Some(spreader)) => {
            info!(
                "process {} of user {} has {} contents spread to {:?}",
                peer.pid,
                peer.uid,
                wanted.contents.len(),
                wanted.nodes
            );
            let (told, mut heard) = watch::channel(SpreadSeen::default());
            let mut spreading = std::pin::pin!(spreader.spread(wanted, &told));
            loop {
                tokio::select! {
                    outcome = &mut spreading => match outcome {
                        Ok(seen) => return tell(stream, &FromDaemon::Spread(seen)).await.unwrap_or(()),
                        Err(refusal) => break refusal,
                    },
                    Ok(()) = heard.changed() => {
                        let seen = heard.borrow_and_update().clone();
                        if tell(stream, &FromDaemon::Spread(seen)).await.is_none() {
                            return;
                        }
                    }
                    // It has gone, or speaks out of turn.
                    _ = dfget_lease::next::<ToDaemon>(stream, &mut inbox) => return,
                }
            }
        }
    };
    let Refusal { cause, reason } = refusal;
    let _ = tell(stream, &FromDaemon::NotSpread { cause, reason }).await;
}

/// `None` if nobody reads it.
async fn tell(stream: &UnixStream, answer: &FromDaemon) -> Option<()> {
    timeout(PATIENCE, dfget_lease::send_long(stream, answer)).await.ok()?.ok()
}
