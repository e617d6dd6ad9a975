//! What a download tells its scheduler.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::{
    AnnouncePeerRequest, DownloadPeerFailedRequest, DownloadPeerFinishedRequest, SwarmPeer,
};
use dfget_swarm::Pieces;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What a download has, and what it has found out.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The whole of what it has.
    pub have: Pieces,
    /// Length of the content in bytes, once known.
    pub total: Option<u64>,
    /// The origin takes no notice of ranges.
    pub whole_only: bool,
    /// It can fetch nothing from the origin.
    pub no_origin: bool,
    /// Units that came from hosts, since the last time. Only schedulers of Dragonfly are told.
    pub came: Vec<(Range<u32>, Arc<str>)>,
    /// It takes nothing without proof: what peers sent was wrong too often.
    pub wants_proof: bool,
    /// Hosts whose piece was wrong, since the last time.
    pub wrong_hosts: Vec<Arc<str>>,
    /// Hosts that could not be reached or were too slow, since the last time.
    pub lost_hosts: Vec<Arc<str>>,
}

/// The last word of a download.
#[derive(Clone, Debug)]
pub(crate) enum Last {
    Finished,
    Failed(String),
}

/// What is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    told: Mutex<Told>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Told {
    progress: Option<Progress>,
    last: Option<Last>,
    closed: bool,
}

/// Tells the slot; dropped, it ends the stream as it is.
#[derive(Debug, Default)]
pub(crate) struct Teller(pub(crate) Arc<Slot>);

/// The names that stand in each message.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) host: String,
    pub(crate) task: String,
    pub(crate) peer: String,
}

// === impl Names ===

impl Names {
    pub(crate) fn message(&self, request: Option<Arm>, swarm: Option<SwarmPeer>) -> AnnouncePeerRequest {
        AnnouncePeerRequest {
            host_id: self.host.clone(),
            task_id: self.task.clone(),
            peer_id: self.peer.clone(),
            request,
            swarm,
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Replaces what has not gone out; reports of hosts add up.
    pub(crate) fn tell(&self, mut progress: Progress) {
        let mut told = self.told.lock();
        if let Some(before) = told.progress.take() {
            merge(&mut progress.wrong_hosts, before.wrong_hosts);
            merge(&mut progress.lost_hosts, before.lost_hosts);
        }
        told.progress = Some(progress);
        drop(told);
        self.news.notify_one();
    }

    /// Says the last word, after all that is still to be told.
    pub(crate) fn part(&self, last: Last) {
        self.told.lock().last = Some(last);
        self.news.notify_one();
    }

    /// Ends the stream as it is.
    fn close(&self) {
        self.told.lock().closed = true;
        self.news.notify_one();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn merge(hosts: &mut Vec<Arc<str>>, before: Vec<Arc<str>>) {
    for host in before {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
}

/// The stream of messages: `first`, then what the slot is told, at most one in [`BETWEEN`].
pub(crate) fn messages(
    slot: Arc<Slot>,
    names: Names,
    first: AnnouncePeerRequest,
) -> impl Stream<Item = AnnouncePeerRequest> {
    let outgoing = Outgoing { slot, names, first: Some(first), due: Instant::now(), parted: false };
    stream::unfold(outgoing, |mut outgoing| async move {
        outgoing.next().await.map(|message| (message, outgoing))
    })
}

struct Outgoing {
    slot: Arc<Slot>,
    names: Names,
    first: Option<AnnouncePeerRequest>,
    /// When the next progress may go out.
    due: Instant,
    parted: bool,
}

/// What to do next.
enum Next {
    Say(Box<AnnouncePeerRequest>),
    Wait,
    WaitUntilDue,
    End,
}

// === impl Outgoing ===

impl Outgoing {
    async fn next(&mut self) -> Option<AnnouncePeerRequest> {
        if let Some(first) = self.first.take() {
            self.due = Instant::now() + BETWEEN;
            return Some(first);
        }
        loop {
            match self.choose(Instant::now()) {
                Next::Say(message) => return Some(*message),
                Next::End => return None,
                Next::Wait => self.slot.news.notified().await,
                Next::WaitUntilDue => {
                    let _due = timeout_at(self.due, self.slot.news.notified()).await;
                }
            }
        }
    }

    fn choose(&mut self, now: Instant) -> Next {
        let mut told = self.slot.told.lock();
        if told.closed {
            return Next::End;
        }
        if self.parted {
            return Next::Wait;
        }
        if told.progress.is_some() && told.last.is_none() && now < self.due {
            return Next::WaitUntilDue;
        }
        if let Some(progress) = told.progress.take() {
            self.due = now + BETWEEN;
            return Next::Say(Box::new(self.names.message(None, Some(swarm_peer(progress)))));
        }
        match told.last.take() {
            None => Next::Wait,
            Some(last) => {
                self.parted = true;
                Next::Say(Box::new(self.names.message(Some(arm(last)), None)))
            }
        }
    }
}

fn swarm_peer(progress: Progress) -> SwarmPeer {
    let names = |hosts: Vec<Arc<str>>| hosts.iter().map(|host| host.as_ref().to_owned()).collect();
    SwarmPeer {
        have: progress.have.to_bytes(),
        total: progress.total.unwrap_or(0),
        whole_only: progress.whole_only,
        no_origin: progress.no_origin,
        wants_proof: progress.wants_proof,
        wrong_hosts: names(progress.wrong_hosts),
        lost_hosts: names(progress.lost_hosts),
        private: false,
    }
}

fn arm(last: Last) -> Arm {
    match last {
        Last::Finished => Arm::DownloadPeerFinishedRequest(DownloadPeerFinishedRequest {}),
        Last::Failed(why) => {
            Arm::DownloadPeerFailedRequest(DownloadPeerFailedRequest { description: Some(why) })
        }
    }
}

/// Between two messages of progress: five a second.
const BETWEEN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        let names = Names { host: "h".to_owned(), task: "t".to_owned(), peer: "p".to_owned() };
        Outgoing { slot: Arc::default(), names, first: None, due: Instant::now(), parted: false }
    }

    fn progress(piece: u32, wrong: &str) -> Progress {
        let mut have = Pieces::none(8);
        have.insert(piece);
        Progress { have, total: Some(32 << 20), wrong_hosts: vec![wrong.into()], ..Progress::default() }
    }

    #[test]
    fn what_comes_too_soon_is_told_as_one_and_nothing_is_lost() {
        let mut outgoing = outgoing();
        let now = Instant::now();
        let slot = Arc::clone(&outgoing.slot);
        slot.tell(progress(0, "a"));
        assert!(matches!(outgoing.choose(now), Next::Say(_)));
        slot.tell(progress(1, "a"));
        slot.tell(progress(2, "b"));
        assert!(matches!(outgoing.choose(now), Next::WaitUntilDue));
        let Next::Say(message) = outgoing.choose(now + BETWEEN) else { panic!("it is due") };
        let swarm = message.swarm.expect("progress");
        assert_eq!((swarm.have, swarm.wrong_hosts), (vec![4], vec!["b".to_owned(), "a".to_owned()]));
        assert!(matches!(outgoing.choose(now + BETWEEN), Next::Wait));
    }

    #[test]
    fn the_last_state_goes_out_before_the_last_word_and_nothing_after_it() {
        let mut outgoing = outgoing();
        let now = Instant::now();
        let slot = Arc::clone(&outgoing.slot);
        slot.tell(progress(0, "a"));
        assert!(matches!(outgoing.choose(now), Next::Say(_)));
        slot.tell(progress(1, "a"));
        slot.part(Last::Finished);
        let arms: Vec<_> = (0..2)
            .map(|_| match outgoing.choose(now) {
                Next::Say(message) => message.request,
                _ => panic!("something is to be said"),
            })
            .collect();
        assert!(matches!(arms[..], [None, Some(Arm::DownloadPeerFinishedRequest(_))]), "{arms:?}");
        slot.tell(progress(2, "a"));
        assert!(matches!(outgoing.choose(now + BETWEEN), Next::Wait));
        slot.close();
        assert!(matches!(outgoing.choose(now + BETWEEN), Next::End));
    }
}
