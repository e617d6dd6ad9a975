//! Asking a member to have a content.

use std::fmt;
use std::sync::Arc;

use dfget_proto::messages::dfget::v1::{TakeReply, TakeRequest};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::line::Line;
use super::schedulers::{Schedulers, Trouble};

/// An order that a member carries out. Dropped, it is given up.
pub struct Take {
    replies: Streaming<TakeReply>,
    /// Lines that nobody holds are closed after a while.
    _line: Arc<Line>,
}

/// Why a member does not carry an order out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeRefused {
    /// It cannot be talked with.
    #[error("{0}")]
    Lost(String),
    /// It knows no such orders.
    #[error("it is an older dfget, which takes no contents by order: update it")]
    Older,
    /// It does not want to, or could not.
    #[error("{0}")]
    Refused(String),
}

// === impl Schedulers ===

impl Schedulers {
    /// All members, in the ring's order of `seed`: the same for all nodes, another for each seed.
    #[must_use]
    pub fn members(&self, seed: &str) -> Vec<String> {
        self.shared.roll().ring().order(seed).map(str::to_owned).collect()
    }

    /// The name of this node, if it is a member.
    #[must_use]
    pub fn me(&self) -> Option<String> {
        self.shared.roll().me().map(str::to_owned)
    }

    /// Asks a member to have a content, as [`Member::take`](crate::Member::take) there does.
    ///
    /// # Errors
    /// [`TakeRefused`]: another one is to be asked.
    pub async fn take(&self, member: &str, request: TakeRequest) -> Result<Take, TakeRefused> {
        let (shared, known) = (&self.shared, self.shared.member(member));
        let ask = async {
            let was_down = !known.is_up();
            let line = match shared.line(&known).await {
                Ok(line) => line,
                // It may be back before the next probe.
                Err(_) if was_down => Arc::new(shared.dial(member).await.map_err(TakeRefused::Lost)?),
                Err(Trouble::Lost(why) | Trouble::Refused(why)) => return Err(TakeRefused::Lost(why)),
            };
            let replies = line.cluster().take(request).await.map_err(|status| refused(&status))?;
            Ok(Take { replies: replies.into_inner(), _line: line })
        };
        let patience = shared.pace().all;
        timeout(patience, ask)
            .await
            .unwrap_or_else(|_| Err(TakeRefused::Lost("it does not answer in time".to_owned())))
    }
}

// === impl Take ===

impl Take {
    /// How far it is now: the bytes that are there, `true` with the last word. `None` once all is said.
    ///
    /// # Errors
    /// Why the content will not be there.
    pub async fn next(&mut self) -> Result<Option<(u64, bool)>, TakeRefused> {
        match self.replies.message().await.map_err(|status| refused(&status))? {
            Some(reply) if !reply.failed.is_empty() => Err(TakeRefused::Refused(reply.failed)),
            Some(reply) => Ok(Some((reply.have, reply.done))),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Take {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Take").finish_non_exhaustive()
    }
}

fn refused(status: &Status) -> TakeRefused {
    match status.code() {
        Code::Unimplemented => TakeRefused::Older,
        // What hyper makes of a connection that has broken.
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal => {
            TakeRefused::Lost("the connection to it broke".to_owned())
        }
        _ => TakeRefused::Refused(status.message().to_owned()),
    }
}
