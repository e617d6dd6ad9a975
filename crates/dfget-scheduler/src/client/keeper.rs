//! What this node holds, told to those who schedule it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dfget_core::Backoff;
use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::dfget::v1::{Held, HoldRequest};
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::join::trouble;
use super::member::Member;
use super::schedulers::{Shared, Trouble};
use crate::limits;

/// The contents that are here, and which scheduler has to know of which.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    held: HashMap<Arc<str>, Content>,
    /// By name of the scheduler.
    told: HashMap<String, Told>,
}

#[derive(Debug, Eq, PartialEq)]
struct Content {
    total: u64,
    origins: Vec<String>,
    private: bool,
}

/// What one scheduler has to know.
#[derive(Debug, Default)]
struct Told {
    tasks: HashSet<Arc<str>>,
    /// Of which it does not know yet that they are in `tasks`, or no longer.
    news: BTreeSet<Arc<str>>,
    arrived: Arc<Notify>,
}

// === impl Keeper ===

impl Keeper {
    pub(crate) fn drop_task(&self, task: &str) {
        let mut books = self.books.lock();
        books.held.remove(task);
        for told in books.told.values_mut() {
            if let Some(task) = told.tasks.take(task) {
                told.news.insert(task);
                told.arrived.notify_one();
            }
        }
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        for told in std::mem::take(&mut self.books.lock().told).into_values() {
            told.arrived.notify_one();
        }
    }

    /// All has to be told anew; `false` if the scheduler need not know anything any more.
    fn again(&self, scheduler: &str, arrived: &Arc<Notify>) -> bool {
        let mut books = self.books.lock();
        let told = books.told.get_mut(scheduler).filter(|told| Arc::ptr_eq(&told.arrived, arrived));
        let Some(told) = told else { return false };
        told.news = told.tasks.iter().cloned().collect();
        true
    }

    /// What to tell next, perhaps nothing for now; `None` = nothing any more.
    fn batch(&self, scheduler: &str) -> Option<HoldRequest> {
        let mut books = self.books.lock();
        let Books { held, told } = &mut *books;
        let told = told.get_mut(scheduler)?;
        let mut request = HoldRequest::default();
        let mut size = 0;
        while size < MOST_BYTES && request.add.len() + request.remove.len() < limits::HELD_IN_MESSAGE {
            let Some(task) = told.news.pop_first() else { break };
            match held.get(&task).filter(|_| told.tasks.contains(&task)) {
                Some(content) => {
                    size += content.origins.iter().map(String::len).sum::<usize>() + 128;
                    request.add.push(content.message(&task));
                }
                None => request.remove.push(task.as_ref().to_owned()),
            }
        }
        Some(request)
    }

    fn arrived(&self, scheduler: &str) -> Option<Arc<Notify>> {
        self.books.lock().told.get(scheduler).map(|told| Arc::clone(&told.arrived))
    }
}

// === impl Content ===

impl Content {
    fn message(&self, task: &str) -> Held {
        Held {
            task_id: task.to_owned(),
            total: self.total,
            origins: self.origins.clone(),
            private: self.private,
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn hold(self: &Arc<Self>, task: &str, total: u64, mut origins: Vec<String>, private: bool) {
        origins.truncate(limits::ORIGINS);
        let content = Content { total, origins, private };
        let best = self.best(task);
        let fresh = self.keeper.books.lock().hold(task.into(), content, best);
        self.begin(fresh);
    }

    /// Finds out anew who has to know what. A scheduler that knew goes on knowing as long as it is a
    /// member: it may have to take over again.
    pub(crate) fn assign_all(self: &Arc<Self>) {
        let tasks: Vec<_> = self.keeper.books.lock().held.keys().cloned().collect();
        let wanted: Vec<_> =
            tasks.into_iter().filter_map(|task| self.best(&task).map(|best| (best, task))).collect();
        let mut books = self.keeper.books.lock();
        let roll = self.roll();
        let members: HashSet<_> = roll.ring().order("").collect();
        books.told.retain(|name, told| {
            let stays = members.contains(name.as_str());
            if !stays {
                told.arrived.notify_one();
            }
            stays
        });
        let mut fresh = Vec::new();
        for (best, task) in wanted {
            if books.held.contains_key(&task) {
                fresh.extend(books.assign(best, task));
            }
        }
        drop(books);
        self.begin(fresh);
    }

    fn begin(self: &Arc<Self>, schedulers: impl IntoIterator<Item = String>) {
        for scheduler in schedulers {
            self.run(Arc::clone(self).keep_telling(scheduler));
        }
    }

    /// Keeps a Hold stream to one scheduler, as long as it is a member.
    async fn keep_telling(self: Arc<Self>, scheduler: String) {
        let mut failures = 0;
        let mut changes = self.changes();
        let Some(arrived) = self.keeper.arrived(&scheduler) else { return };
        while self.keeper.again(&scheduler, &arrived) {
            let member = self.member(&scheduler);
            if member.is_up() {
                let begun = Instant::now();
                let told = self.tell_all(&member).await;
                if begun.elapsed() > BACKOFF.ceiling {
                    failures = 0;
                }
                match told {
                    Ok(()) => {}
                    Err(Trouble::Lost(why)) => self.lost(&member, why),
                    // Once, not at each of many tries.
                    Err(Trouble::Refused(_)) if failures > 0 => {}
                    Err(Trouble::Refused(why)) => {
                        tracing::warn!(%scheduler, "a scheduler does not want to know what is here: {why}");
                    }
                }
                failures += 1;
                sleep(BACKOFF.wait(failures, fastrand::f64())).await;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells a scheduler all, then what is new, until the stream breaks; an error if it did not even
    /// begin.
    async fn tell_all(self: &Arc<Self>, member: &Arc<Member>) -> Result<(), Trouble> {
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let begin = async {
            let line = self.line(member).await?;
            let outgoing = requests(Arc::clone(self), member.name.clone(), over);
            let replies = line.cluster().hold(outgoing).await.map_err(|status| trouble(&status))?;
            let mut replies = replies.into_inner();
            let first = replies.message().await.map_err(|status| trouble(&status))?;
            let first = first.ok_or_else(|| Trouble::Lost("it ended the stream at once".to_owned()))?;
            Ok((line, replies, first))
        };
        let late = |_| Err(Trouble::Lost("it does not answer in time".to_owned()));
        let (_line, mut replies, first) = timeout(self.pace().answer, begin).await.unwrap_or_else(late)?;
        tracing::debug!(scheduler = %member.name, instance = first.instance, "a scheduler is told what is here");
        loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                Err(status) if status.code() == Code::Aborted => {
                    return Err(Trouble::Refused(TWIN.to_owned()));
                }
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }
}

// === impl Books ===

impl Books {
    /// Notes a content, for the best scheduler and all that know of it; returns the name of the best if
    /// this is its first.
    fn hold(&mut self, task: Arc<str>, content: Content, best: Option<String>) -> Option<String> {
        if self.held.get(&task) == Some(&content) {
            return None;
        }
        self.held.insert(Arc::clone(&task), content);
        for told in self.told.values_mut().filter(|told| told.tasks.contains(&task)) {
            told.news.insert(Arc::clone(&task));
            told.arrived.notify_one();
        }
        best.and_then(|best| self.assign(best, task))
    }

    /// A scheduler has to know of a task; returns its name if it is the first.
    fn assign(&mut self, scheduler: String, task: Arc<str>) -> Option<String> {
        let fresh = (!self.told.contains_key(&scheduler)).then(|| scheduler.clone());
        let told = self.told.entry(scheduler).or_default();
        if told.tasks.insert(Arc::clone(&task)) {
            told.news.insert(task);
            told.arrived.notify_one();
        }
        fresh
    }
}

/// The messages of one Hold stream: who this is, all that is here, then what changes, until it is over.
fn requests(
    shared: Arc<Shared>,
    scheduler: String,
    over: CancellationToken,
) -> impl Stream<Item = HoldRequest> {
    let host = Some(shared.host());
    let state = (shared, scheduler, host, over);
    stream::unfold(state, |(shared, scheduler, mut host, over)| async move {
        let next = over.run_until_cancelled(next_request(&shared, &scheduler, &mut host)).await;
        Some((next??, (shared, scheduler, host, over)))
    })
}

async fn next_request(shared: &Shared, scheduler: &str, host: &mut Option<Host>) -> Option<HoldRequest> {
    let arrived = shared.keeper.arrived(scheduler)?;
    loop {
        let mut request = shared.keeper.batch(scheduler)?;
        request.host = host.take();
        if request.host.is_some() || !request.add.is_empty() || !request.remove.is_empty() {
            return Some(request);
        }
        arrived.notified().await;
    }
}

/// What the scheduler means that says it has a newer stream of this host.
const TWIN: &str =
    "another daemon says it is this host: set host.hostname (or host.advertiseIP) so that the nodes differ";
/// About the longest message of a Hold stream, in bytes.
const MOST_BYTES: usize = 256 << 10;
/// Between two tries to keep a stream.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), ceiling: Duration::from_secs(10) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_unless_it_changes() {
        let keeper = Keeper::default();
        let content = |origins: &[&str]| Content {
            total: 5,
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            private: false,
        };
        let hold = |content| keeper.books.lock().hold("a".into(), content, Some("n1".to_owned()));
        let told = || keeper.batch("n1").map(|request| request.add.len());
        assert_eq!((hold(content(&["one"])), told()), (Some("n1".to_owned()), Some(1)));
        assert_eq!((hold(content(&["one"])), told()), (None, Some(0)));
        assert_eq!((hold(content(&["one", "two"])), told()), (None, Some(1)));
    }
}
