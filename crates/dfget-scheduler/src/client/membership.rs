//! A download's place in its swarm.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::{AnnouncePeerResponse, NormalTaskResponse};
use dfget_swarm::Parent;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Streaming;

use super::line::Line;
use super::outgoing::{Last, Progress, Teller};
use super::schedulers::Shared;
use crate::words;

/// What a download is to do. Each replaces what it was told before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Orders {
    /// Whom to ask for pieces, best first.
    pub parents: Vec<Parent>,
    /// The pieces that this download, and no other, has to fetch from the origin, in order; the end
    /// `u32::MAX` = to the last one.
    pub origin: Vec<Range<u32>>,
    /// Length of the content in bytes, if anybody knows.
    pub total: Option<u64>,
}

/// A download's place in its swarm, at one scheduler.
///
/// Dropped without [`Self::finish`] or [`Self::fail`], the scheduler takes it for broken off.
#[derive(Debug)]
pub struct Membership {
    pub(crate) shared: Arc<Shared>,
    /// The scheduler's name.
    pub(crate) scheduler: String,
    pub(crate) task: String,
    pub(crate) host: String,
    pub(crate) teller: Teller,
    pub(crate) inbound: Streaming<AnnouncePeerResponse>,
    pub(crate) first: Option<Orders>,
    /// Which members answer has changed, or who is a member.
    pub(crate) changes: watch::Receiver<u64>,
    /// A better scheduler is there: when to go to it.
    pub(crate) leave_at: Option<Instant>,
    /// Keeps the connection from being closed as idle.
    pub(crate) _line: Arc<Line>,
}

// === impl Membership ===

impl Membership {
    /// The name of the scheduler, as it stands on the ring.
    #[must_use]
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// Nobody to ask was named in the first orders, which nobody has taken yet.
    pub(crate) fn begins_alone(&self) -> bool {
        self.first.as_ref().is_some_and(|orders| orders.parents.is_empty())
    }

    /// The next orders; `None`: the scheduler is gone, or another is the right one now. The caller
    /// joins again.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Orders> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let leave_at = self.leave_at;
            tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => return Some(read(message, &self.host)),
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(scheduler = %self.scheduler, %status, "the scheduler of a task is gone");
                        return None;
                    }
                },
                changed = self.changes.changed() => {
                    changed.ok()?;
                    let wait = Duration::from_millis(fastrand::u64(..SPREAD));
                    let better = self.is_misplaced();
                    self.leave_at = better.then(|| leave_at.unwrap_or_else(|| Instant::now() + wait));
                }
                () = sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => {
                    self.leave_at = None;
                    if self.is_misplaced() {
                        return None;
                    }
                }
            }
        }
    }

    /// Another scheduler is the first of those that answer.
    fn is_misplaced(&self) -> bool {
        self.shared.best(&self.task).is_some_and(|best| best != self.scheduler)
    }

    /// Tells what the download has. Goes out within a fifth of a second; what is told in between
    /// replaces it.
    pub fn tell(&self, progress: Progress) {
        self.teller.0.tell(progress);
    }

    /// It has all.
    pub fn finish(self) {
        self.part(Last::Finished);
    }

    /// It gave up; `why` is for the scheduler's eyes and holds no secret.
    pub fn fail(self, why: &str) {
        self.part(Last::Failed(why.chars().take(200).collect()));
    }

    fn part(self, last: Last) {
        let Self { teller, mut inbound, shared, .. } = self;
        teller.0.part(last);
        shared.tasks().spawn(async move {
            let ended = async { while let Ok(Some(_)) = inbound.message().await {} };
            let _ended = timeout(LAST_WORD, ended).await;
            drop(teller);
        });
    }
}

/// Reads orders, and what another scheduler than ours says instead.
pub(crate) fn read(message: AnnouncePeerResponse, own_host: &str) -> Orders {
    let swarm = message.swarm.unwrap_or_default();
    let total = Some(swarm.total).filter(|&total| total != 0 && words::checked_total(total).is_ok());
    match message.response {
        Some(Response::NormalTaskResponse(NormalTaskResponse { candidate_parents })) => {
            let parents = candidate_parents.iter().filter_map(|peer| words::parent(peer, &swarm.plain_hosts));
            let parents = parents.filter(|parent| parent.host.id.as_ref() != own_host).collect();
            Orders { parents, origin: words::origin_ranges(&swarm.origin), total }
        }
        Some(Response::EmptyTaskResponse(_)) => Orders { total: Some(0), ..Orders::default() },
        Some(Response::NeedBackToSourceResponse(_) | Response::MetadataOnlyResponse(_)) | None => {
            Orders { origin: std::iter::once(0..u32::MAX).collect(), total, ..Orders::default() }
        }
    }
}

/// Downloads go to a scheduler that is back within this time, in milliseconds.
const SPREAD: u64 = 1000;
/// For the last word to be read.
const LAST_WORD: Duration = Duration::from_secs(5);
