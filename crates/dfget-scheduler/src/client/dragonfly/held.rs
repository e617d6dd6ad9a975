//! What is whole here, told to schedulers of Dragonfly: by a register message that asks for nothing
//! (`metadata_only`, since its version 2.5.1).
//!
//! Such a scheduler forgets when it is started anew, and knows nothing of what was here before it; Dragonfly's own
//! peers do not tell it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dfget_core::piece_length;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::{
    DeleteTaskRequest, DownloadPeerBackToSourceFinishedRequest, DownloadPeerBackToSourceStartedRequest,
    DownloadPeerFinishedRequest, DownloadPeerStartedRequest,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::super::join::trouble;
use super::super::line::Line;
use super::super::outgoing::Names;
use super::super::schedulers::{Shared, Trouble};
use super::outbox::{Outbox, messages};
use super::talk::Content;

/// So long after a change it is looked who has to know of it: a download tells by itself.
const GATHER: Duration = Duration::from_secs(1);

/// Between two looks whether a scheduler has forgotten.
const LOOK: Duration = Duration::from_secs(10);

/// For one content.
const ANSWER: Duration = Duration::from_secs(5);

/// Schedulers forget a peer after a day (Dragonfly: `scheduler.gc.peerTTL`).
const AGAIN: Duration = Duration::from_hours(12);

/// Contents that are whole here, and what schedulers know of them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Books {
    /// By task.
    held: HashMap<String, Kept>,
    /// By name of the scheduler.
    told: HashMap<String, Told>,
    /// A scheduler refused to know of these.
    refused: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Kept {
    total: u64,
    /// `scheme://authority`.
    origin: String,
}

/// What a scheduler was told on one connection: another may lead to another process.
#[derive(Debug)]
struct Told {
    line: Weak<Line>,
    announced: Instant,
    tasks: HashMap<String, Instant>,
}

// === impl Shelf ===

impl Shelf {
    pub(crate) fn hold(&self, task: &str, total: u64, origin: &str) {
        let mut books = self.books.lock();
        if books.held.contains_key(task) {
            return;
        }
        books.held.insert(task.to_owned(), Kept { total, origin: origin.to_owned() });
        drop(books);
        self.changed.notify_one();
    }

    /// A download has told that scheduler itself.
    pub(crate) fn is_told(&self, scheduler: &str, task: &str) {
        if let Some(told) = self.books.lock().told.get_mut(scheduler) {
            told.tasks.insert(task.to_owned(), Instant::now());
        }
    }

    /// The content has left; the schedulers that know of it.
    fn drop_task(&self, task: &str) -> Vec<String> {
        let mut books = self.books.lock();
        books.held.remove(task);
        books.refused.remove(task);
        let knows = |told: &mut Told| told.tasks.remove(task).is_some();
        books.told.iter_mut().filter_map(|(name, told)| knows(told).then(|| name.clone())).collect()
    }

    /// Notes on which connection a scheduler is; whether that is another one, and whether this host has to be
    /// announced again.
    fn meet(&self, scheduler: &str, line: &Arc<Line>, interval: Duration) -> (bool, bool) {
        let mut books = self.books.lock();
        let now = Instant::now();
        let known = books.told.get_mut(scheduler).filter(|told| told.line.ptr_eq(&Arc::downgrade(line)));
        let Some(told) = known else {
            let told = Told { line: Arc::downgrade(line), announced: now, tasks: HashMap::new() };
            books.told.insert(scheduler.to_owned(), told);
            return (true, false);
        };
        let due = told.announced.elapsed() >= interval;
        if due {
            told.announced = now;
        }
        (false, due)
    }

    /// What a scheduler has to be told, of the tasks that are its own.
    fn news(&self, scheduler: &str, is_its: impl Fn(&str) -> bool) -> Vec<(String, Kept)> {
        let books = self.books.lock();
        let knows = |task: &str| {
            let told = books.told.get(scheduler).and_then(|told| told.tasks.get(task));
            told.is_some_and(|at| at.elapsed() < AGAIN)
        };
        let wanted = |task: &str| !books.refused.contains(task) && !knows(task) && is_its(task);
        let news = books.held.iter().filter(|(task, _)| wanted(task));
        news.map(|(task, kept)| (task.clone(), kept.clone())).collect()
    }

    fn has(&self, task: &str) -> bool {
        self.books.lock().held.contains_key(task)
    }

    fn refused(&self, task: &str) {
        self.books.lock().refused.insert(task.to_owned());
    }

    /// Whether a content of this length is asked of peers at all (Dragonfly: what is no longer than a piece is not).
    pub(crate) const fn counts(total: u64) -> bool {
        total > piece_length(total)
    }
}

/// What an error of a call says about a scheduler of Dragonfly.
pub(crate) fn foreign(status: &Status) -> Trouble {
    match status.code() {
        Code::Unimplemented => Trouble::Lost(
            "it does not know version 2 of Dragonfly's protocol: is it a scheduler, and not an older one?"
                .to_owned(),
        ),
        _ => trouble(status),
    }
}

/// Announces this host to all schedulers at every interval, and tells them what is here.
pub(crate) async fn keep_telling(
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    interval: Duration,
    peer_id: Arc<dyn Fn() -> String + Send + Sync>,
) {
    let mut changes = shared.changes();
    loop {
        changes.mark_unchanged();
        let names: Vec<String> = shared.roll().ring().order("").map(str::to_owned).collect();
        for name in names {
            if let Err(trouble) = tell(&shared, &shelf, &name, interval, &*peer_id).await {
                let member = shared.member(&name);
                match trouble {
                    Trouble::Lost(why) => shared.lost(&member, why),
                    Trouble::Refused(why) => {
                        tracing::warn!(scheduler = %name, "a scheduler does not take this host: {why}");
                    }
                }
            }
        }
        let wake = async {
            tokio::select! {
                () = shelf.changed.notified() => {}
                // One is back, or is new.
                _ = changes.changed() => {}
            }
        };
        let _woken = timeout(LOOK.min(interval), wake).await;
        sleep(GATHER).await;
    }
}

async fn tell(
    shared: &Arc<Shared>,
    shelf: &Shelf,
    name: &str,
    interval: Duration,
    peer_id: &(dyn Fn() -> String + Send + Sync),
) -> Result<(), Trouble> {
    let member = shared.member(name);
    if !member.is_up() {
        return Ok(());
    }
    let late = |_| Trouble::Lost("it does not answer in time".to_owned());
    let meet = async {
        let line = shared.line(&member).await?;
        let (fresh, again) = shelf.meet(name, &line, interval);
        line.announce(shared.host(), again).await.map_err(|status| foreign(&status))?;
        Ok((line, fresh))
    };
    let (line, fresh) = timeout(shared.pace().answer, meet).await.map_err(late)??;
    if fresh {
        tracing::info!(scheduler = %name, "announced to a scheduler");
    }
    let is_its = |task: &str| shared.best(task).as_deref() == Some(name);
    for (task, kept) in shelf.news(name, is_its) {
        if !shelf.has(&task) {
            continue;
        }
        let host = shared.host().id;
        let content =
            Content { host, task: task.clone(), url: format!("{}/", kept.origin), total: kept.total };
        match timeout(ANSWER, describe(&line, &content, peer_id())).await.map_err(late).flatten() {
            Ok(()) => shelf.is_told(name, &task),
            Err(Trouble::Refused(why)) => {
                tracing::debug!(scheduler = %name, task, "a scheduler does not want to know: {why}");
                shelf.refused(&task);
            }
            lost => return lost,
        }
    }
    Ok(())
}

/// Tells of one content.
async fn describe(line: &Arc<Line>, content: &Content, peer: String) -> Result<(), Trouble> {
    let names = Names { host: content.host.clone(), task: content.task.clone(), peer };
    let outbox = Arc::new(Outbox::default());
    outbox.say([content.register(true)]);
    let outgoing = messages(Arc::clone(&outbox), names);
    let answers = line.scheduler().announce_peer(outgoing).await.map_err(|status| trouble(&status))?;
    let mut answers = answers.into_inner();
    let answer = answers.message().await.map_err(|status| trouble(&status))?;
    let answer = answer.ok_or_else(|| Trouble::Lost("it ended the talk at once".to_owned()))?;
    let (started, finished) = match answer.response {
        // One that does not know such messages: it thinks that the content was fetched.
        Some(Response::NeedBackToSourceResponse(_)) => (
            Arm::DownloadPeerBackToSourceStartedRequest(DownloadPeerBackToSourceStartedRequest::default()),
            Arm::DownloadPeerBackToSourceFinishedRequest(DownloadPeerBackToSourceFinishedRequest {}),
        ),
        _ => (
            Arm::DownloadPeerStartedRequest(DownloadPeerStartedRequest {}),
            Arm::DownloadPeerFinishedRequest(DownloadPeerFinishedRequest {}),
        ),
    };
    outbox.say([started]);
    outbox.part(finished);
    while answers.message().await.map_err(|status| trouble(&status))?.is_some() {}
    Ok(())
}

/// Tells the schedulers that know of it that a content has left.
pub(crate) async fn forget(shared: Arc<Shared>, shelf: Arc<Shelf>, task: String) {
    for name in shelf.drop_task(&task) {
        let member = shared.member(&name);
        let Ok(line) = shared.line(&member).await else { continue };
        let request = DeleteTaskRequest { host_id: shared.host().id, task_id: task.clone() };
        if let Ok(Err(status)) = timeout(ANSWER, line.scheduler().delete_task(request)).await {
            tracing::debug!(scheduler = %name, task, %status, "a scheduler does not forget a content");
        }
    }
}
