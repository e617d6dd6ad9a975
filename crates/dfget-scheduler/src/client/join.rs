//! Joining the swarm of a task.

use std::sync::Arc;
use std::time::Duration;

use dfget_core::public_url;
use dfget_proto::messages::common::v2::Download;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::{
    AnnouncePeerRequest, RegisterPeerRequest, StatTaskRequest, SwarmPeer,
};
use dfget_swarm::Pieces;
use dfget_trace::Context;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status};

use super::line::Line;
use super::member::Member;
use super::membership::{Membership, read};
use super::outgoing::{Names, Teller, messages};
use super::schedulers::{Shared, Trouble, is_alone};

/// A download that wants to join its swarm.
#[derive(Clone, Debug)]
pub struct Join {
    /// Id of the task: 64 hex digits.
    pub task: String,
    /// Id of the peer, new for each download.
    pub peer: String,
    /// `scheme://authority/path`; names, passwords and what follows the path do not go out.
    pub url: String,
    /// Length of the content in bytes, if known.
    pub total: Option<u64>,
    /// What is here.
    pub have: Pieces,
    /// It is fetched with a credential.
    pub private: bool,
    /// The span within which the scheduler is asked, if that is recorded.
    pub trace: Option<Context>,
    /// It takes nothing without proof: what peers sent was wrong too often.
    pub wants_proof: bool,
}

/// No scheduler takes the download: it goes on alone.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoScheduler {
    /// There is nobody to share with.
    #[error("no other member of the cluster is known")]
    Alone,
    /// None answered.
    #[error("no scheduler answers; the last tried says: {0}")]
    Nobody(String),
    /// The scheduler does not want this download.
    #[error("the scheduler {0} refuses the download: {1}")]
    Refused(String, String),
}

// === impl Shared ===

impl Shared {
    pub(crate) async fn join(self: &Arc<Self>, join: &Join) -> Result<Membership, NoScheduler> {
        let roll = self.roll();
        if is_alone(roll.as_ref()) {
            return Err(NoScheduler::Alone);
        }
        let begun = Instant::now();
        let mut why = "all members are known to be unreachable".to_owned();
        for name in roll.ring().order(&join.task) {
            if begun.elapsed() > self.pace().all {
                break;
            }
            let member = self.member(name);
            if !member.is_up() {
                continue;
            }
            let mut tried = self.try_at(&member, join).await;
            // The daemons of a job start at once, and one of them is the first to ask another.
            while matches!(tried, Err(Trouble::Lost(_))) && self.is_young() && begun.elapsed() < WHEN_YOUNG {
                sleep(AGAIN_WHEN_YOUNG).await;
                tried = self.try_at(&member, join).await;
            }
            match tried {
                Ok(membership) => return Ok(self.where_it_is_known(membership, join).await),
                Err(Trouble::Refused(text)) => return Err(NoScheduler::Refused(name.to_owned(), text)),
                Err(Trouble::Lost(text)) => {
                    why = format!("{name}: {text}");
                    self.lost(&member, text);
                }
            }
        }
        Err(NoScheduler::Nobody(why))
    }

    /// The place that a download has got, or one at the next scheduler on the ring where that knows parents
    /// and this one does not. A scheduler that has only just come back is such a one: those that hold the
    /// content tell its successor, until they find out.
    async fn where_it_is_known(self: &Arc<Self>, place: Membership, join: &Join) -> Membership {
        if !place.begins_alone() {
            return place;
        }
        let roll = self.roll();
        let after = roll.ring().order(&join.task).skip_while(|name| *name != place.scheduler).skip(1);
        let Some(next) = after.map(|name| self.member(name)).find(|member| member.is_up()) else {
            return place;
        };
        match timeout(self.pace().answer, self.ask_whether_known(&next, &join.task)).await {
            Ok(Ok(true)) => {}
            Ok(Err(Trouble::Lost(why))) if !self.is_young() => {
                self.lost(&next, why);
                return place;
            }
            _ => return place,
        }
        let tried = self.try_at(&next, join).await;
        tried.ok().filter(|other| !other.begins_alone()).unwrap_or(place)
    }

    async fn ask_whether_known(&self, member: &Member, task: &str) -> Result<bool, Trouble> {
        let line = self.line(member).await?;
        let host_id = self.host().id;
        let request = StatTaskRequest { host_id, task_id: task.to_owned() };
        match line.scheduler().stat_task(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(trouble(&status)),
        }
    }

    async fn try_at(self: &Arc<Self>, member: &Arc<Member>, join: &Join) -> Result<Membership, Trouble> {
        let tried = timeout(self.pace().answer, self.join_at(member, join)).await;
        tried.unwrap_or_else(|_| Err(Trouble::Lost("it does not answer in time".to_owned())))
    }

    async fn join_at(self: &Arc<Self>, member: &Arc<Member>, join: &Join) -> Result<Membership, Trouble> {
        let line = self.line(member).await?;
        line.announce(self.host(), false).await.map_err(|status| trouble(&status))?;
        match self.register(member, &line, join).await {
            Err(status) if status.code() == Code::NotFound => {
                // It has forgotten this host.
                line.announce(self.host(), true).await.map_err(|status| trouble(&status))?;
                self.register(member, &line, join).await.map_err(|status| trouble(&status))
            }
            answer => answer.map_err(|status| trouble(&status)),
        }
    }

    async fn register(
        self: &Arc<Self>,
        member: &Member,
        line: &Arc<Line>,
        join: &Join,
    ) -> Result<Membership, Status> {
        let host = self.host().id;
        let names = Names { host: host.clone(), task: join.task.clone(), peer: join.peer.clone() };
        let teller = Teller::default();
        let mut changes = self.changes();
        changes.mark_unchanged();
        let first = register_message(&names, join);
        let mut outgoing = Request::new(messages(Arc::clone(&teller.0), names, first));
        if let Some(value) = join.trace.and_then(|span| span.to_string().parse().ok()) {
            outgoing.metadata_mut().insert("traceparent", value);
        }
        let mut inbound = line.scheduler().announce_peer(outgoing).await?.into_inner();
        let first = inbound.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("it ended the stream at once"))?;
        Ok(Membership {
            shared: Arc::clone(self),
            scheduler: member.name.clone(),
            task: join.task.clone(),
            first: Some(read(first, &host)),
            host,
            teller,
            inbound,
            changes,
            leave_at: None,
            _line: Arc::clone(line),
        })
    }
}

/// How long a scheduler that is not there is tried again while this node is young, and how often.
const WHEN_YOUNG: Duration = Duration::from_millis(800);
const AGAIN_WHEN_YOUNG: Duration = Duration::from_millis(100);

fn register_message(names: &Names, join: &Join) -> AnnouncePeerRequest {
    let download = Download {
        url: public_part(&join.url),
        actual_content_length: join.total,
        enable_task_id_based_blob_digest: true,
        ..Download::default()
    };
    let swarm = SwarmPeer {
        have: join.have.to_bytes(),
        total: join.total.unwrap_or(0),
        private: join.private,
        wants_proof: join.wants_proof,
        ..SwarmPeer::default()
    };
    let request = Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) });
    names.message(Some(request), Some(swarm))
}

/// A URL without what may be secret, whoever has made it; empty if it is none.
pub(crate) fn public_part(url: &str) -> String {
    url::Url::parse(url).map(|url| public_url(&url)).unwrap_or_default()
}

/// What an error of a call says about the scheduler.
pub(crate) fn trouble(status: &Status) -> Trouble {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::NotFound => Trouble::Refused(text),
        _ => Trouble::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_goes_out() {
        let url = "https://user:pw@r.test:5000/v2/a/blobs/x?sig=secret#also";
        assert_eq!(public_part(url), "https://r.test:5000/v2/a/blobs/x");
        assert_eq!(public_part("http://[::1]:80/"), "http://[::1]/");
        assert_eq!(public_part("no url?secret"), "");
    }
}
