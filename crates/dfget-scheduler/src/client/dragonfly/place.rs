//! A download's place at a scheduler of Dragonfly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dfget_proto::messages::scheduler::v2::AnnouncePeerResponse;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{Code, Response, Status, Streaming};

use super::super::line::Line;
use super::super::member::Member;
use super::super::membership::Orders;
use super::super::outgoing::{Names, Progress};
use super::super::schedulers::Shared;
use super::held::Shelf;
use super::outbox::{Outbox, messages};
use super::talk::{Content, Talk};

/// How long a scheduler may take for an answer until nobody counts on it any more. Dragonfly's looks for parents five
/// times, half a second apart.
const ANSWER: Duration = Duration::from_secs(4);

/// How long a scheduler is not asked whose talk has broken, doubled for each time in a row up to this many.
const SKIP: Duration = Duration::from_secs(1);
const MOST_STRIKES: u32 = 6;

/// For the last word to be read.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A download's place at a scheduler of Dragonfly.
///
/// Dropped without [`Self::finish`] or [`Self::fail`], it is given up.
pub struct DragonflyMembership {
    shared: Arc<Shared>,
    member: Arc<Member>,
    state: Mutex<State>,
    outbox: Arc<Outbox>,
    inbound: Option<Inbound>,
    /// Where it is noted that the scheduler knows of the content.
    shelf: Option<Arc<Shelf>>,
    /// How often talks with schedulers have broken, since one of them has answered.
    strikes: Arc<AtomicU32>,
    /// Keeps the connection.
    _line: Arc<Line>,
}

struct State {
    talk: Talk,
    /// Orders that nobody has taken yet.
    ready: Option<Orders>,
    /// When the open question has to be answered.
    due: Option<Instant>,
}

/// Dragonfly's scheduler sends no head before its first answer.
enum Inbound {
    Opening(BoxFuture<'static, Result<Response<Streaming<AnnouncePeerResponse>>, Status>>),
    Open(Box<Streaming<AnnouncePeerResponse>>),
}

/// How a talk has ended.
pub(crate) enum Ended {
    /// By the scheduler's word.
    Refused(Status),
    /// The scheduler is not there, or talks nonsense.
    Lost(String),
}

// === impl Inbound ===

impl Inbound {
    /// # Cancel safety
    /// Nothing is lost.
    async fn message(&mut self) -> Result<Option<AnnouncePeerResponse>, Status> {
        loop {
            match self {
                Self::Open(answers) => return answers.message().await,
                Self::Opening(opening) => *self = Self::Open(Box::new(opening.await?.into_inner())),
            }
        }
    }
}

// === impl State ===

impl State {
    /// Lets the talk go on; what it asks has to be answered in time.
    fn heard<T>(&mut self, go_on: impl FnOnce(&mut Talk) -> T) -> T {
        let said = go_on(&mut self.talk);
        self.due = self.talk.asked.then(|| self.due.unwrap_or_else(|| Instant::now() + ANSWER));
        said
    }
}

// === impl DragonflyMembership ===

impl DragonflyMembership {
    /// Registers; what the scheduler says is still to be heard.
    pub(crate) fn register(
        shared: &Arc<Shared>,
        member: &Arc<Member>,
        line: &Arc<Line>,
        content: Content,
        peer: &str,
    ) -> Self {
        let names = Names { host: content.host.clone(), task: content.task.clone(), peer: peer.to_owned() };
        let outbox = Arc::new(Outbox::default());
        outbox.say([content.register(false)]);
        let outgoing = messages(Arc::clone(&outbox), names);
        let mut client = line.scheduler();
        let opening = Box::pin(async move { client.announce_peer(outgoing).await });
        let due = Some(Instant::now() + ANSWER);
        Self {
            shared: Arc::clone(shared),
            member: Arc::clone(member),
            state: Mutex::new(State { talk: Talk::new(content), ready: None, due }),
            outbox,
            inbound: Some(Inbound::Opening(opening)),
            shelf: None,
            strikes: Arc::default(),
            _line: Arc::clone(line),
        }
    }

    /// Once it has all, `shelf` notes that the scheduler knows; the more often talks break, the longer a scheduler is
    /// not asked.
    pub(crate) fn noted_by(mut self, shelf: &Arc<Shelf>, strikes: &Arc<AtomicU32>) -> Self {
        self.shelf = Some(Arc::clone(shelf));
        self.strikes = Arc::clone(strikes);
        self
    }

    /// The name of the scheduler, as it stands on the ring.
    #[must_use]
    pub fn scheduler(&self) -> &str {
        &self.member.name
    }

    /// Waits for the first answer until then; whether it came. As long as it does not, a part of the content may be
    /// fetched.
    pub(crate) async fn begin(&mut self, until: Instant) -> Result<bool, Ended> {
        let first = timeout_at(until, self.hear()).await;
        let came = first.is_ok();
        let orders = match first {
            Ok(first) => {
                self.strikes.store(0, Ordering::Relaxed);
                first?
            }
            Err(_) => self.state.lock().talk.meanwhile(),
        };
        self.state.lock().ready = Some(orders);
        Ok(came)
    }

    /// The next orders; `None`: the scheduler is gone, or wants nothing of this download any more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Orders> {
        let ready = self.state.lock().ready.take();
        if ready.is_some() {
            return ready;
        }
        match self.hear().await {
            Ok(orders) => Some(orders),
            Err(Ended::Refused(status)) => {
                tracing::debug!(scheduler = %self.member.name, %status, "a scheduler has ended a talk");
                None
            }
            Err(Ended::Lost(why)) => {
                let strikes = self.strikes.fetch_add(1, Ordering::Relaxed).min(MOST_STRIKES);
                self.shared.lost_for(&self.member, why, SKIP * (1 << strikes));
                None
            }
        }
    }

    async fn hear(&mut self) -> Result<Orders, Ended> {
        let Some(inbound) = &mut self.inbound else { return Err(Ended::Lost("it has ended".to_owned())) };
        let due = self.state.lock().due;
        let message = tokio::select! {
            message = inbound.message() => message,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                return Err(Ended::Lost("it does not answer in time".to_owned()));
            }
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Err(Ended::Lost("it ended the talk before the last word".to_owned())),
            Err(status) if is_refusal(&status) => return Err(Ended::Refused(status)),
            Err(status) => return Err(Ended::Lost(status.message().to_owned())),
        };
        let mut out = Vec::new();
        let orders = self.state.lock().heard(|talk| talk.answered(message, &mut out));
        self.outbox.say(out);
        orders.map_err(Ended::Lost)
    }

    /// Tells what the download has.
    pub fn tell(&self, progress: &Progress) {
        self.notes(|talk, out| talk.told(progress, out));
    }

    /// Nothing has come from the parents for a while.
    pub fn starved(&self) {
        self.notes(Talk::starved);
    }

    fn notes(&self, note: impl FnOnce(&mut Talk, &mut Vec<Arm>) -> Option<Orders>) {
        let mut out = Vec::new();
        let mut state = self.state.lock();
        let orders = state.heard(|talk| note(talk, &mut out));
        state.ready = orders.or_else(|| state.ready.take());
        drop(state);
        self.outbox.say(out);
    }

    /// It has all.
    pub fn finish(mut self) {
        if let Some(shelf) = &self.shelf {
            shelf.is_told(&self.member.name, self.state.lock().talk.task());
        }
        self.part(None);
    }

    /// It gave up; `why` is for the scheduler's eyes and holds no secret.
    pub fn fail(mut self, why: &str) {
        self.part(Some(why));
    }

    fn part(&mut self, failure: Option<&str>) {
        let Some(mut inbound) = self.inbound.take() else { return };
        self.outbox.part(self.state.lock().talk.part(failure));
        // The talk is over when the scheduler says so; it breaks where nobody listens any more.
        let heard = async move {
            let ended = async { while let Ok(Some(_)) = inbound.message().await {} };
            let _ended = timeout(LAST_WORD, ended).await;
        };
        if let Ok(runtime) = Handle::try_current() {
            self.shared.tasks().spawn_on(heard, &runtime);
        }
    }
}

impl Drop for DragonflyMembership {
    fn drop(&mut self) {
        self.part(Some("the download was given up"));
    }
}

/// Whether the scheduler is there, and does not want this download.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::NotFound
            | Code::Internal
    )
}
