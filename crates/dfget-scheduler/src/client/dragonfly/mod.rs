//! Being a peer of a real Dragonfly cluster: its schedulers are asked, in its own words, instead of those in dfget's
//! daemons.
//!
//! Such a scheduler knows no key and no TLS, and tells who has a content; nothing of what it says is believed of the
//! content itself.

mod addresses;
mod held;
mod outbox;
mod place;
mod talk;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use dfget_cluster::Dialer;
use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::grpc::health::v1::HealthCheckRequest;
use dfget_proto::messages::grpc::health::v1::health_check_response::ServingStatus;
use dfget_proto::messages::scheduler::v2::DeleteHostRequest;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;

use self::addresses::Addresses;
use self::held::{Shelf, foreign, forget, keep_telling};
pub use self::place::DragonflyMembership;
use self::place::Ended;
use self::talk::Content;
use super::join::{Join, NoScheduler, public_part};
use super::line::Manners;
use super::member::Member;
use super::schedulers::{Pace, Shared, Trouble};

/// Until a scheduler has to have said something, before the origin is asked: all that is tried for one download.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// For taking leave of all schedulers.
const GOODBYE: Duration = Duration::from_secs(1);

/// The schedulers of a Dragonfly cluster. Clones are the same; [`Self::close`] ends what runs for them.
#[derive(Clone)]
pub struct Dragonfly {
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    /// How often talks have broken in a row.
    strikes: Arc<AtomicU32>,
}

/// How a scheduler is, as this node sees it.
#[derive(Clone, Debug)]
pub struct SchedulerState {
    /// `ip:port`.
    pub name: String,
    /// Why it is not asked; `None`: it serves.
    pub down: Option<String>,
}

// === impl Dragonfly ===

impl Dragonfly {
    /// The schedulers at these names and ports, spoken to in clear. `host` makes the announcement of this node, which
    /// is sent to all of them at every `interval`; `peer_id` makes names of downloads.
    pub async fn start(
        names: Vec<(String, u16)>,
        interval: Duration,
        host: impl Fn() -> Host + Send + Sync + 'static,
        peer_id: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let (addresses, keep) = Addresses::follow(names).await;
        let pace = Pace { all: FIRST_WORD, skip: FIRST_WORD, ..Pace::default() };
        let manners = Manners { pings: false, interval: Some(interval) };
        let shared = Shared::start(addresses, Dialer { tls: None }, Box::new(host), pace, manners);
        let shelf = Arc::new(Shelf::default());
        shared.run(keep);
        let telling = keep_telling(Arc::clone(&shared), Arc::clone(&shelf), interval, Arc::new(peer_id));
        shared.run(telling);
        Self { shared, shelf, strikes: Arc::default() }
    }

    /// Whether peers are asked for a content of this length; shorter ones are the origin's.
    #[must_use]
    pub const fn counts(total: u64) -> bool {
        Shelf::counts(total)
    }

    /// Takes a place in the swarm of a task, at the first scheduler of the ring's order that answers; whatever they
    /// do, in about a second.
    ///
    /// # Errors
    /// [`NoScheduler`]: the download has to do without.
    ///
    /// # Cancel safety
    /// The place is given up.
    pub async fn join(&self, join: &Join) -> Result<DragonflyMembership, NoScheduler> {
        let Some(total) = join.total.filter(|total| Self::counts(*total)) else {
            return Err(NoScheduler::Alone);
        };
        let until = Instant::now() + FIRST_WORD;
        let content = Content {
            host: self.shared.host().id,
            task: join.task.clone(),
            url: public_part(&join.url),
            total,
        };
        let roll = self.shared.roll();
        let mut why = "all schedulers are known to be unreachable".to_owned();
        for name in roll.ring().order(&join.task) {
            if Instant::now() >= until {
                break;
            }
            let member = self.shared.member(name);
            if !member.is_up() {
                continue;
            }
            let late = |_| Err(Trouble::Lost("it does not answer in time".to_owned()));
            // What is left to wait for an answer is no reason to take it for dead.
            let tried = timeout_at(until + GRACE, self.join_at(&member, &content, &join.peer, until));
            match tried.await.unwrap_or_else(late) {
                Ok(membership) => return Ok(membership),
                Err(Trouble::Refused(text)) => return Err(NoScheduler::Refused(name.to_owned(), text)),
                Err(Trouble::Lost(text)) => {
                    why = format!("{name}: {text}");
                    self.shared.lost(&member, text);
                }
            }
        }
        Err(NoScheduler::Nobody(why))
    }

    async fn join_at(
        &self,
        member: &Arc<Member>,
        content: &Content,
        peer: &str,
        until: Instant,
    ) -> Result<DragonflyMembership, Trouble> {
        let late = |_| Trouble::Lost("it does not answer in time".to_owned());
        let mut again = false;
        loop {
            let meet = async {
                let line = self.shared.line(member).await?;
                line.announce(self.shared.host(), again).await.map_err(|status| foreign(&status))?;
                Ok(line)
            };
            let line = timeout_at(until, meet).await.map_err(late)??;
            let content = content.clone();
            let place = DragonflyMembership::register(&self.shared, member, &line, content, peer);
            let mut place = place.noted_by(&self.shelf, &self.strikes);
            // One that thinks says meanwhile that it is there; one that hangs does not.
            let mut health = line.health();
            let mut alive = pin!(health.check(HealthCheckRequest::default()));
            let mut is_alive = false;
            let began = {
                let mut begin = pin!(place.begin(until));
                loop {
                    tokio::select! {
                        began = &mut begin => break began,
                        // Whatever it says.
                        _ = &mut alive, if !is_alive => is_alive = true,
                    }
                }
            };
            match began {
                Ok(false) if !is_alive => {
                    return Err(Trouble::Lost("it does not answer in time".to_owned()));
                }
                Ok(_) => return Ok(place),
                // It has been started anew, and has forgotten this host.
                Err(Ended::Refused(status)) if status.code() == Code::NotFound && !again => again = true,
                Err(Ended::Refused(status)) => return Err(Trouble::Refused(status.message().to_owned())),
                Err(Ended::Lost(why)) => return Err(Trouble::Lost(why)),
            }
        }
    }

    /// This node has all of a content, verified, as `origin` (`scheme://authority`) delivered it.
    pub fn hold(&self, task: &str, total: u64, origin: &str) {
        if Self::counts(total) {
            self.shelf.hold(task, total, origin);
        }
    }

    /// This node no longer has a content.
    pub fn drop_task(&self, task: &str) {
        let forgetting = forget(Arc::clone(&self.shared), Arc::clone(&self.shelf), task.to_owned());
        self.shared.run(forgetting);
    }

    /// Asks all schedulers how they are, in order of their addresses.
    pub async fn status(&self) -> Vec<SchedulerState> {
        ask_all(&self.shared).await
    }

    /// Asks the schedulers at these names how they are, for somebody who joins nothing; also told are names that do
    /// not resolve.
    pub async fn look(names: Vec<(String, u16)>) -> Vec<SchedulerState> {
        let missing = addresses::missing(&names).await;
        let (addresses, _keep) = Addresses::follow(names).await;
        let manners = Manners { pings: false, interval: None };
        let host = Box::new(Host::default);
        let shared = Shared::start(addresses, Dialer { tls: None }, host, Pace::default(), manners);
        let mut states = ask_all(&shared).await;
        let lost = missing.into_iter().map(|(name, why)| SchedulerState { name, down: Some(why) });
        states.extend(lost);
        shared.stop();
        states
    }

    /// Takes leave of all schedulers and ends all that runs, in two seconds at most.
    pub async fn close(&self) {
        let roll = self.shared.roll();
        let leave = roll.ring().order("").map(|name| async move {
            let member = self.shared.member(name);
            if !member.is_up() {
                return;
            }
            let Ok(line) = self.shared.line(&member).await else { return };
            let request = DeleteHostRequest { host_id: self.shared.host().id };
            if let Err(status) = line.scheduler().delete_host(request).await {
                tracing::debug!(scheduler = %name, %status, "a scheduler was not told of the end");
            }
        });
        let _left = timeout(GOODBYE, join_all(leave)).await;
        self.shared.stop();
        let _ended = timeout(GOODBYE, self.shared.tasks().wait()).await;
    }
}

impl std::fmt::Debug for Dragonfly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dragonfly").finish_non_exhaustive()
    }
}

/// From the last moment of waiting to that of giving up: the task that waits has to come to its turn.
const GRACE: Duration = Duration::from_millis(200);

async fn ask_all(shared: &Arc<Shared>) -> Vec<SchedulerState> {
    let mut names: Vec<String> = shared.roll().ring().order("").map(str::to_owned).collect();
    names.sort_unstable();
    let ask = |name: String| async move {
        let asked = timeout(shared.pace().answer, check(shared, &name)).await;
        let down = asked.unwrap_or_else(|_| Err("it does not answer in time".to_owned())).err();
        SchedulerState { name, down }
    };
    join_all(names.into_iter().map(ask)).await
}

async fn check(shared: &Shared, name: &str) -> Result<(), String> {
    let line = shared.dial(name).await?;
    let reply = line.health().check(HealthCheckRequest::default()).await;
    match reply.map(|reply| reply.into_inner().status) {
        Ok(status) if status == i32::from(ServingStatus::Serving) => Ok(()),
        Ok(_) => Err("it says that it does not serve now".to_owned()),
        Err(status) if status.code() == Code::Unimplemented => {
            Err("it speaks gRPC, and is no scheduler".to_owned())
        }
        Err(status) => Err(status.message().to_owned()),
    }
}
