//! All schedulers of the cluster, as one node sees them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::Dialer;
use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::dfget::v1::{StatusReply, StatusRequest};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::join::{Join, NoScheduler};
use super::keeper::Keeper;
use super::line::{Line, Manners};
use super::member::{Member, MemberState, Roll};
use super::membership::Membership;

/// How long to wait for schedulers.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For a connection.
    pub connect: Duration,
    /// For the answer of one scheduler, connection included.
    pub answer: Duration,
    /// For all that are tried for one download.
    pub all: Duration,
    /// A scheduler that did not answer is not asked for this time, then asked whether it is there;
    /// each time it is not, the time doubles ..
    pub skip: Duration,
    /// .. up to this one.
    pub longest_skip: Duration,
}

/// The schedulers of the cluster. Clones are the same; [`Self::close`] ends what runs for them.
#[derive(Clone, Debug)]
pub struct Schedulers {
    pub(super) shared: Arc<Shared>,
}

/// What all that runs for the client shares.
pub(crate) struct Shared {
    roll: Mutex<Arc<dyn Roll>>,
    dialer: Dialer,
    host: Box<dyn Fn() -> Host + Send + Sync>,
    pace: Pace,
    manners: Manners,
    members: Mutex<HashMap<String, Arc<Member>>>,
    changes: watch::Sender<u64>,
    pub(crate) keeper: Keeper,
    tasks: TaskTracker,
    stop: CancellationToken,
    began: Instant,
}

/// Why a scheduler did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It cannot be talked with.
    Lost(String),
    /// It does not want to.
    Refused(String),
}

/// A node is young for so long.
const YOUNG: Duration = Duration::from_secs(3);

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(300),
            answer: Duration::from_secs(1),
            all: Duration::from_secs(3),
            skip: Duration::from_millis(200),
            longest_skip: Duration::from_secs(60),
        }
    }
}

// === impl Schedulers ===

impl Schedulers {
    /// The schedulers among these members, reached by `dialer`. `host` makes the announcement of this
    /// node. Has to be called in a runtime.
    #[must_use]
    pub fn new<R: Roll>(
        members: watch::Receiver<Arc<R>>,
        dialer: Dialer,
        host: impl Fn() -> Host + Send + Sync + 'static,
        pace: Pace,
    ) -> Self {
        let shared = Shared::start(members, dialer, Box::new(host), pace, Manners::OWN);
        shared.run(Arc::clone(&shared).follow_changes());
        shared.run(Arc::clone(&shared).close_idle());
        Self { shared }
    }

    /// Joins the swarm of a task at the first scheduler of the ring's order that answers.
    ///
    /// # Errors
    /// [`NoScheduler`]: the download has to do without.
    ///
    /// # Cancel safety
    /// The place is given up.
    pub async fn join(&self, join: &Join) -> Result<Membership, NoScheduler> {
        self.shared.join(join).await
    }

    /// This node has all of a content, verified; `origins` are the authorities (`scheme://host[:port]`)
    /// that delivered it. Told to the task's scheduler as long as it is so.
    pub fn hold(&self, task: &str, total: u64, origins: Vec<String>, private: bool) {
        self.shared.hold(task, total, origins, private);
    }

    /// This node no longer has a content.
    pub fn drop_task(&self, task: &str) {
        self.shared.keeper.drop_task(task);
    }

    /// Asks all members how they are; in order of their names. However many there are and whatever
    /// they do, that takes three seconds for each thousand at most.
    pub async fn status(&self) -> Vec<MemberState> {
        let mut names = self.names();
        names.sort_unstable();
        self.status_of(names).await
    }

    /// Asks at most so many members, in no order and others each time.
    pub async fn sample(&self, most: usize) -> Vec<MemberState> {
        let mut names = self.names();
        fastrand::shuffle(&mut names);
        names.truncate(most);
        self.status_of(names).await
    }

    fn names(&self) -> Vec<String> {
        self.shared.roll().ring().order("").map(str::to_owned).collect()
    }

    async fn status_of(&self, names: Vec<String>) -> Vec<MemberState> {
        let roll = self.shared.roll();
        let patience = patience(names.len()).min(self.shared.pace.answer);
        let states = stream::iter(names).map(|name| {
            let own = roll.me() == Some(name.as_str());
            async move {
                let reply = self.shared.ask_status(&name, patience).await;
                MemberState { name, own, reply }
            }
        });
        states.buffered(ASKED_AT_ONCE).collect().await
    }

    /// Leaves all schedulers and ends all that runs, in two seconds at most. Downloads that still have
    /// their place keep their connection.
    pub async fn close(&self) {
        self.shared.stop();
        self.shared.keeper.close();
        let _ended = timeout(GOODBYE, self.shared.tasks.wait()).await;
    }
}

// === impl Shared ===

impl Shared {
    /// Begins to follow the members.
    pub(crate) fn start<R: Roll>(
        mut members: watch::Receiver<Arc<R>>,
        dialer: Dialer,
        host: Box<dyn Fn() -> Host + Send + Sync>,
        pace: Pace,
        manners: Manners,
    ) -> Arc<Self> {
        let shared = Arc::new(Self {
            roll: Mutex::new(members.borrow_and_update().clone()),
            dialer,
            host,
            pace,
            manners,
            members: Mutex::default(),
            changes: watch::Sender::new(0),
            keeper: Keeper::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            began: Instant::now(),
        });
        shared.run(Arc::clone(&shared).follow_members(members));
        shared
    }

    /// Ends all that runs; the members are forgotten.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.members.lock().clear();
        self.tasks.close();
    }

    pub(crate) fn roll(&self) -> Arc<dyn Roll> {
        Arc::clone(&self.roll.lock())
    }

    /// Whether this node, and so perhaps the others, has only just started.
    pub(crate) fn is_young(&self) -> bool {
        self.began.elapsed() < YOUNG
    }

    pub(crate) fn host(&self) -> Host {
        (self.host)()
    }

    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Runs until it is over or the client is closed.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ended = stop.run_until_cancelled(task).await;
        });
    }

    pub(crate) fn member(&self, name: &str) -> Arc<Member> {
        let mut members = self.members.lock();
        if let Some(member) = members.get(name) {
            return Arc::clone(member);
        }
        let member = Arc::new(Member::new(name));
        members.insert(name.to_owned(), Arc::clone(&member));
        member
    }

    /// The scheduler of a task: the first in the ring's order that answers, as far as is known.
    /// `None` if there is nobody to share with.
    pub(crate) fn best(&self, task: &str) -> Option<String> {
        let roll = self.roll();
        if is_alone(roll.as_ref()) {
            return None;
        }
        let members = self.members.lock();
        let up = |name: &&str| members.get(*name).is_none_or(|member| member.is_up());
        roll.ring().order(task).find(up).map(str::to_owned)
    }

    /// The connection to a member, made if there is none.
    pub(crate) async fn line(&self, member: &Member) -> Result<Arc<Line>, Trouble> {
        let mut slot = member.line.lock().await;
        if let Some(line) = slot.as_ref().filter(|line| line.is_open()) {
            line.touch();
            return Ok(Arc::clone(line));
        }
        if let Some(why) = member.why_down() {
            return Err(Trouble::Lost(why));
        }
        let line = self.dial(&member.name).await.map_err(Trouble::Lost)?;
        Ok(Arc::clone(slot.insert(Arc::new(line))))
    }

    pub(crate) async fn dial(&self, name: &str) -> Result<Line, String> {
        let resolved = timeout(self.pace.connect, async { self.roll().resolve(name).await }).await;
        let addresses = resolved.map_err(|_| "its name does not resolve in time".to_owned())??;
        let mut why = "its name has no address".to_owned();
        for to in addresses.into_iter().take(MOST_ADDRESSES) {
            match Line::connect(&self.dialer, to, self.pace.connect, self.manners, &self.tasks).await {
                Ok(line) => return Ok(line),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// A member did not answer: nobody asks it for a while.
    pub(crate) fn lost(self: &Arc<Self>, member: &Arc<Member>, why: String) {
        self.lost_for(member, why, self.pace.skip);
    }

    /// The same, until the first probe for this long.
    pub(crate) fn lost_for(self: &Arc<Self>, member: &Arc<Member>, why: String, skip: Duration) {
        if !member.put_down(why.clone(), skip) {
            return;
        }
        let then = match self.roll().ring().len() {
            0 | 1 => "until it does, all comes from the origin",
            _ => "the next on the ring takes over",
        };
        tracing::info!(scheduler = %member.name, why, "a scheduler does not answer; {then}");
        self.changed();
        self.run(Arc::clone(self).probe(Arc::clone(member)));
    }

    /// Asks a member again and again whether it is there, until it is or is no member any more.
    async fn probe(self: Arc<Self>, member: Arc<Member>) {
        while let Some(wait) = member.wait() {
            sleep(wait.mul_f64(fastrand::f64().mul_add(0.2, 0.9))).await;
            if !self.is_member(&member.name) {
                return;
            }
            match timeout(self.pace.answer, self.knock(&member)).await {
                Ok(Ok(())) => {
                    member.put_up();
                    tracing::info!(scheduler = %member.name, "a scheduler answers again");
                    self.changed();
                }
                Ok(Err(why)) => member.still_down(why, self.pace.longest_skip),
                Err(_) => member.still_down("it does not answer in time".to_owned(), self.pace.longest_skip),
            }
        }
    }

    async fn knock(&self, member: &Member) -> Result<(), String> {
        let line = self.dial(&member.name).await?;
        line.announce(self.host(), false).await.map_err(|status| status.message().to_owned())?;
        *member.line.lock().await = Some(Arc::new(line));
        Ok(())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn is_member(&self, name: &str) -> bool {
        self.roll().ring().order("").any(|other| other == name)
    }

    async fn ask_status(&self, name: &str, patience: Duration) -> Result<StatusReply, String> {
        let member = self.member(name);
        let ask = async {
            let was_down = !member.is_up();
            let line = match self.line(&member).await {
                Ok(line) => line,
                // It may be back before the next probe.
                Err(_) if was_down => Arc::new(self.dial(name).await?),
                Err(Trouble::Lost(why) | Trouble::Refused(why)) => return Err(why),
            };
            let reply = line.cluster().status(StatusRequest {}).await;
            reply.map(tonic::Response::into_inner).map_err(|status| refusal(&status))
        };
        timeout(patience, ask).await.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
    }

    async fn follow_members<R: Roll>(self: Arc<Self>, mut members: watch::Receiver<Arc<R>>) {
        while members.changed().await.is_ok() {
            let roll = members.borrow_and_update().clone();
            let names: HashSet<_> = roll.ring().order("").map(str::to_owned).collect();
            *self.roll.lock() = roll;
            self.members.lock().retain(|name, _| names.contains(name));
            self.changed();
        }
    }

    async fn follow_changes(self: Arc<Self>) {
        let mut changes = self.changes();
        while changes.changed().await.is_ok() {
            // Several members at once, most often.
            sleep(GATHER).await;
            changes.mark_unchanged();
            self.assign_all();
        }
    }

    /// Closes connections that nobody needs.
    async fn close_idle(self: Arc<Self>) {
        let mut ticks = interval(IDLE / 2);
        loop {
            ticks.tick().await;
            let members: Vec<_> = self.members.lock().values().map(Arc::clone).collect();
            for member in members {
                let mut slot = member.line.lock().await;
                if slot.as_ref().is_some_and(|line| Arc::strong_count(line) == 1 && line.idle() > IDLE) {
                    *slot = None;
                }
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// Whether there is nobody to share with.
pub(crate) fn is_alone(roll: &dyn Roll) -> bool {
    match roll.ring().len() {
        0 => true,
        1 => roll.me().is_some(),
        _ => false,
    }
}

/// How long each of so many members may take for its status, so that all of them take no longer than
/// a user waits.
fn patience(members: usize) -> Duration {
    let rounds = u32::try_from(members.div_ceil(ASKED_AT_ONCE)).unwrap_or(u32::MAX).max(1);
    (SURVEY / rounds).max(LEAST_PATIENCE)
}

/// Why a member tells no status.
fn refusal(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Unimplemented => {
            "it answers, but not this question: is it a dfget, and not an older one?".to_owned()
        }
        _ => status.message().to_owned(),
    }
}

/// For last words.
const GOODBYE: Duration = Duration::from_secs(2);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 3;
/// Connections without a stream are kept for this time.
const IDLE: Duration = Duration::from_secs(60);
/// Members asked for their status at once.
const ASKED_AT_ONCE: usize = 200;
/// For the status of all members, up to about a thousand ..
const SURVEY: Duration = Duration::from_millis(2250);
/// .. and for that of one, however many there are.
const LEAST_PATIENCE: Duration = Duration::from_millis(400);
/// Changes within this time are answered together.
const GATHER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_members_take_no_longer_than_a_user_waits() {
        let all = |members: usize| patience(members) * u32::try_from(members.div_ceil(200)).unwrap_or(1);
        assert!((1..=1000).all(|members| all(members) <= Duration::from_secs(3)));
        assert_eq!((patience(0), patience(200)), (SURVEY, SURVEY));
        assert_eq!(patience(100_000), LEAST_PATIENCE);
    }
}
