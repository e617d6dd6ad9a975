//! What is said to a scheduler of Dragonfly about one download, and what its answers mean (Dragonfly v2,
//! `AnnouncePeer`, as its client 1.5 speaks it).

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dfget_core::{UNITS, piece_count, piece_length, piece_range};
use dfget_proto::messages::common::v2::{Download, Host, Peer, Piece, Priority, Task, TrafficType};
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::{
    AnnouncePeerResponse, DownloadPeerBackToSourceFailedRequest, DownloadPeerBackToSourceFinishedRequest,
    DownloadPeerBackToSourceStartedRequest, DownloadPeerFailedRequest, DownloadPeerFinishedRequest,
    DownloadPeerStartedRequest, DownloadPieceBackToSourceFailedRequest,
    DownloadPieceBackToSourceFinishedRequest, DownloadPieceFailedRequest, DownloadPieceFinishedRequest,
    NormalTaskResponse, RegisterPeerRequest, ReschedulePeerRequest, Unknown,
};
use dfget_swarm::Parent;
use prost_types::{Duration as WireDuration, Timestamp};

use super::super::membership::Orders;
use super::super::outgoing::Progress;
use crate::words;

/// How often a download asks for other parents (Dragonfly: five answers in all, `maxScheduleCount`).
const MOST_RESCHEDULES: u32 = 4;

/// Answers that are heard; no scheduler needs so many.
const MOST_ANSWERS: u32 = 16;

/// Parents of one answer that are taken notice of; Dragonfly's scheduler names three or four.
const MOST_PARENTS: usize = 64;

/// Pieces that a download asks for at once, by what Dragonfly's scheduler reckons a parent's load.
const PIECES_AT_ONCE: u32 = 8;

/// What is fetched from the origin while the scheduler thinks: as much as the first request asks for.
const FIRST_PART: u64 = 16 << 20;

/// The talk about one download, without its stream.
#[derive(Debug)]
pub(crate) struct Talk {
    content: Content,
    begun: Instant,
    stage: Stage,
    answers: u32,
    reschedules: u32,
    /// A question is open.
    pub(crate) asked: bool,
    /// The parents of the last answer that are still good.
    parents: Vec<Candidate>,
    /// Parents that went wrong. A scheduler does not name them again, unless it does not listen.
    blocked: HashSet<Arc<str>>,
    /// Pieces that were reported, by number.
    reported: Vec<bool>,
    /// Which host sent a piece, or part of it.
    senders: HashMap<u32, Arc<str>>,
    /// Which parent there was on a host.
    peers: HashMap<Arc<str>, Arc<str>>,
    /// It was told that the origin gives nothing.
    origin_failed: bool,
}

/// What a download is of.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// This host's id.
    pub(crate) host: String,
    /// The task's.
    pub(crate) task: String,
    /// `scheme://authority/path`.
    pub(crate) url: String,
    /// Bytes, more than none.
    pub(crate) total: u64,
}

/// What the scheduler wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing yet.
    Asked,
    /// That parents are asked.
    Parents,
    /// That the origin is asked for everything, to the end.
    Source,
    /// Whatever this download does.
    Free,
}

#[derive(Debug)]
struct Candidate {
    host: Arc<str>,
    peer: Arc<str>,
    /// As it goes back to the scheduler.
    message: Peer,
}

/// A number of pieces that can be counted on.
pub(crate) fn pieces(total: u64) -> u32 {
    u32::try_from(piece_count(total, piece_length(total))).unwrap_or(u32::MAX)
}

// === impl Content ===

impl Content {
    /// The first message.
    pub(crate) fn register(&self, metadata_only: bool) -> Arm {
        let download = Download {
            url: self.url.clone(),
            // What its clients send where nobody wished for anything.
            priority: Priority::Level6.into(),
            // A scheduler that does not know the other flag yet (before 2.5.1) must not set a seed to work for
            // what is only told.
            need_back_to_source: metadata_only,
            concurrent_piece_count: Some(PIECES_AT_ONCE),
            actual_piece_length: Some(piece_length(self.total)),
            actual_content_length: Some(self.total),
            actual_piece_count: Some(u64::from(pieces(self.total))),
            enable_task_id_based_blob_digest: true,
            metadata_only,
            ..Download::default()
        };
        Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) })
    }

    /// A parent as its scheduler takes it back: it refuses those that lack one of these fields.
    fn returned(&self, parent: &Peer, host: &Host) -> Peer {
        let now = Some(timestamp());
        let named = |text: &str| if text.is_empty() { "Running".to_owned() } else { text.to_owned() };
        Peer {
            id: parent.id.clone(),
            priority: parent.priority,
            cost: Some(parent.cost.unwrap_or_default()),
            state: named(&parent.state),
            task: Some(Task {
                id: self.task.clone(),
                url: self.url.clone(),
                state: named(""),
                created_at: now,
                updated_at: now,
                ..Task::default()
            }),
            host: Some(Host {
                id: host.id.clone(),
                r#type: host.r#type,
                hostname: host.hostname.clone(),
                ip: host.ip.clone(),
                port: host.port,
                download_port: host.download_port,
                ..Host::default()
            }),
            created_at: parent.created_at.or(now),
            updated_at: parent.updated_at.or(now),
            ..Peer::default()
        }
    }
}

// === impl Talk ===

impl Talk {
    /// Begins; the register message has to be said.
    pub(crate) fn new(content: Content) -> Self {
        let reported = vec![false; pieces(content.total) as usize];
        Self {
            content,
            begun: Instant::now(),
            stage: Stage::Asked,
            answers: 0,
            reschedules: 0,
            asked: true,
            parents: Vec::new(),
            blocked: HashSet::new(),
            reported,
            senders: HashMap::new(),
            peers: HashMap::new(),
            origin_failed: false,
        }
    }

    /// Id of the task.
    pub(crate) fn task(&self) -> &str {
        &self.content.task
    }

    /// What to do as long as the scheduler has said nothing: no more than the first request of a swarm asks
    /// for, for it may name somebody who has the content.
    pub(crate) fn meanwhile(&self) -> Orders {
        let units = FIRST_PART / (piece_length(self.content.total) / u64::from(UNITS));
        self.fetching(0..u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// Takes an answer; what is to be said about it goes to `out`.
    ///
    /// # Errors
    /// The scheduler does not keep to the protocol.
    pub(crate) fn answered(
        &mut self,
        message: AnnouncePeerResponse,
        out: &mut Vec<Arm>,
    ) -> Result<Orders, String> {
        self.answers += 1;
        if self.answers > MOST_ANSWERS {
            return Err("it answers what it was not asked".to_owned());
        }
        self.asked = false;
        if self.stage == Stage::Source {
            return Ok(self.fetching(0..u32::MAX));
        }
        match message.response {
            Some(Response::NormalTaskResponse(NormalTaskResponse { candidate_parents })) => {
                self.stage = Stage::Parents;
                out.push(Arm::DownloadPeerStartedRequest(DownloadPeerStartedRequest {}));
                let parents = self.take_parents(&candidate_parents);
                if parents.is_empty() {
                    let orders = self.ask_again("no candidate can be asked", out);
                    return Ok(orders.unwrap_or_else(|| self.meanwhile()));
                }
                Ok(Orders { parents, total: Some(self.content.total), ..Orders::default() })
            }
            Some(Response::NeedBackToSourceResponse(_)) => {
                self.stage = Stage::Source;
                // At once: others are not sent here before.
                let started = DownloadPeerBackToSourceStartedRequest { description: None };
                out.push(Arm::DownloadPeerBackToSourceStartedRequest(started));
                Ok(self.fetching(0..u32::MAX))
            }
            // It takes the content for empty (somebody did not know its length), or does not know what to say.
            Some(Response::EmptyTaskResponse(_) | Response::MetadataOnlyResponse(_)) | None => {
                self.stage = Stage::Free;
                out.push(Arm::DownloadPeerStartedRequest(DownloadPeerStartedRequest {}));
                Ok(self.fetching(0..u32::MAX))
            }
        }
    }

    /// Takes what the download has and has found out; other orders if these no longer hold.
    pub(crate) fn told(&mut self, progress: &Progress, out: &mut Vec<Arm>) -> Option<Orders> {
        for (units, host) in &progress.came {
            for piece in units.start / UNITS..=units.end.saturating_sub(1) / UNITS {
                self.senders.insert(piece, Arc::clone(host));
            }
        }
        self.report(progress, out);
        if progress.no_origin && !std::mem::replace(&mut self.origin_failed, true) {
            let unknown = Some(Unknown { message: Some("the origin gives nothing more".to_owned()) });
            let failed =
                DownloadPieceBackToSourceFailedRequest { piece_number: self.first_missing(), unknown };
            out.push(Arm::DownloadPieceBackToSourceFailedRequest(failed));
        }
        let before = self.parents.len();
        for host in progress.wrong_hosts.iter().chain(&progress.lost_hosts) {
            self.block(host, out);
        }
        if self.parents.is_empty() && before > 0 && self.first_missing().is_some() {
            return self.ask_again("no parent is left", out);
        }
        None
    }

    /// Nothing comes from the parents: others are asked for. `None` if that cannot be.
    pub(crate) fn starved(&mut self, out: &mut Vec<Arm>) -> Option<Orders> {
        if self.stage == Stage::Parents && !self.asked {
            return self.ask_again("nothing comes from the parents", out);
        }
        None
    }

    /// The last words.
    pub(crate) fn part(&self, failure: Option<&str>) -> Arm {
        let description = failure.map(|why| why.chars().take(200).collect());
        match (self.stage, failure) {
            (Stage::Source, None) => {
                Arm::DownloadPeerBackToSourceFinishedRequest(DownloadPeerBackToSourceFinishedRequest {})
            }
            (_, None) => Arm::DownloadPeerFinishedRequest(DownloadPeerFinishedRequest {}),
            (Stage::Source, Some(_)) => {
                Arm::DownloadPeerBackToSourceFailedRequest(DownloadPeerBackToSourceFailedRequest {
                    description,
                })
            }
            (_, Some(_)) => Arm::DownloadPeerFailedRequest(DownloadPeerFailedRequest { description }),
        }
    }

    /// Asks for other parents than these; the orders until it answers are those of before. Where it was asked
    /// often enough, the rest is the origin's.
    fn ask_again(&mut self, why: &str, out: &mut Vec<Arm>) -> Option<Orders> {
        if self.reschedules >= MOST_RESCHEDULES {
            self.stage = Stage::Free;
            return Some(self.fetching(0..u32::MAX));
        }
        self.reschedules += 1;
        self.asked = true;
        let candidate_parents = self.parents.drain(..).map(|parent| parent.message).collect();
        let description = Some(why.to_owned());
        out.push(Arm::ReschedulePeerRequest(ReschedulePeerRequest { candidate_parents, description }));
        None
    }

    fn take_parents(&mut self, candidates: &[Peer]) -> Vec<Parent> {
        let mut parents: Vec<Parent> = Vec::new();
        self.parents.clear();
        for peer in candidates.iter().take(MOST_PARENTS) {
            let Some(host) = &peer.host else { continue };
            let Some(parent) = words::plain_parent(peer) else { continue };
            if *parent.host.id == *self.content.host || self.blocked.contains(&parent.peer) {
                continue;
            }
            let (host_id, peer_id) = (Arc::clone(&parent.host.id), Arc::clone(&parent.peer));
            self.peers.insert(Arc::clone(&host_id), Arc::clone(&peer_id));
            let message = self.content.returned(peer, host);
            self.parents.push(Candidate { host: host_id, peer: peer_id, message });
            parents.push(parent);
        }
        parents
    }

    /// Nothing is taken from a host any more.
    fn block(&mut self, host: &Arc<str>, out: &mut Vec<Arm>) {
        let piece_number = self.first_missing();
        self.parents.retain(|parent| {
            let blocked = parent.host == *host;
            if blocked {
                self.blocked.insert(Arc::clone(&parent.peer));
                out.push(Arm::DownloadPieceFailedRequest(DownloadPieceFailedRequest {
                    piece_number,
                    parent_id: parent.peer.as_ref().to_owned(),
                    temporary: true,
                }));
            }
            !blocked
        });
    }

    fn first_missing(&self) -> Option<u32> {
        let first = self.reported.iter().position(|reported| !reported)?;
        u32::try_from(first).ok()
    }

    /// Reports the pieces that are whole here since the last time.
    fn report(&mut self, progress: &Progress, out: &mut Vec<Arm>) {
        let count = self.reported.len();
        let whole = |piece: u32| {
            let first = piece.saturating_mul(UNITS);
            let end = first.saturating_add(UNITS).min(progress.have.count());
            first < end && (first..end).all(|unit| progress.have.contains(unit))
        };
        let fresh: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX))
            .filter(|piece| !self.reported.get(*piece as usize).copied().unwrap_or(true) && whole(*piece))
            .collect();
        for piece in fresh {
            if let Some(reported) = self.reported.get_mut(piece as usize) {
                *reported = true;
            }
            let all = self.reported.iter().filter(|reported| **reported).count();
            // What a piece took on average: pieces come several at once, in parts.
            let cost = self.begun.elapsed() / u32::try_from(all).unwrap_or(u32::MAX).max(1);
            out.push(self.piece(piece, cost));
        }
    }

    fn piece(&self, number: u32, cost: std::time::Duration) -> Arm {
        let (total, length) = (self.content.total, piece_length(self.content.total));
        let bytes = piece_range(u64::from(number), total, length);
        let (offset, length) = bytes.map_or((0, 0), |bytes| (bytes.start, bytes.end - bytes.start));
        let sender = self.senders.get(&number);
        let parent_id = sender.and_then(|host| self.peers.get(host)).map(|peer| peer.as_ref().to_owned());
        let traffic = if sender.is_some() { TrafficType::RemotePeer } else { TrafficType::BackToSource };
        let piece = Some(Piece {
            number,
            parent_id,
            offset,
            length,
            traffic_type: Some(traffic.into()),
            cost: Some(WireDuration::try_from(cost).unwrap_or_default()),
            created_at: Some(timestamp()),
            ..Piece::default()
        });
        match traffic {
            TrafficType::BackToSource => {
                let finished = DownloadPieceBackToSourceFinishedRequest { piece };
                Arm::DownloadPieceBackToSourceFinishedRequest(finished)
            }
            _ => Arm::DownloadPieceFinishedRequest(DownloadPieceFinishedRequest { piece }),
        }
    }

    fn fetching(&self, pieces: Range<u32>) -> Orders {
        Orders {
            origin: std::iter::once(pieces).collect(),
            total: Some(self.content.total),
            ..Orders::default()
        }
    }
}

fn timestamp() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: i32::try_from(now.subsec_nanos()).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use dfget_swarm::Pieces;

    use super::*;

    const TOTAL: u64 = 10 << 20;

    fn talk() -> Talk {
        let (host, task) = ("10.0.0.1-n1".to_owned(), "a".repeat(64));
        Talk::new(Content { host, task, url: "https://r.test/v2/a/blobs/x".to_owned(), total: TOTAL })
    }

    fn peer(number: u8) -> Peer {
        let host = Host {
            id: format!("10.0.0.{number}-n{number}"),
            hostname: format!("n{number}"),
            ip: format!("10.0.0.{number}"),
            port: 65_000,
            ..Host::default()
        };
        Peer { id: format!("p{number}"), state: "Succeeded".to_owned(), host: Some(host), ..Peer::default() }
    }

    fn parents(numbers: &[u8]) -> AnnouncePeerResponse {
        let candidate_parents = numbers.iter().map(|number| peer(*number)).collect();
        let normal = Response::NormalTaskResponse(NormalTaskResponse { candidate_parents });
        AnnouncePeerResponse { response: Some(normal), swarm: None }
    }

    fn to_the_origin() -> AnnouncePeerResponse {
        let response = Some(Response::NeedBackToSourceResponse(Default::default()));
        AnnouncePeerResponse { response, swarm: None }
    }

    fn answered(talk: &mut Talk, message: AnnouncePeerResponse) -> (Orders, Vec<Arm>) {
        let mut out = Vec::new();
        (talk.answered(message, &mut out).expect("a good answer"), out)
    }

    fn told(talk: &mut Talk, progress: &Progress) -> (Option<Orders>, Vec<Arm>) {
        let mut out = Vec::new();
        (talk.told(progress, &mut out), out)
    }

    fn lost(host: u8) -> Progress {
        let lost_hosts = vec![format!("10.0.0.{host}-n{host}").into()];
        Progress { have: Pieces::none(20), lost_hosts, ..Progress::default() }
    }

    fn all_from_origin(orders: &Orders) -> bool {
        orders.parents.is_empty() && orders.origin.iter().eq([&(0..u32::MAX)])
    }

    #[test]
    fn who_is_sent_to_the_origin_says_at_once_that_it_goes() {
        let mut talk = talk();
        let (orders, out) = answered(&mut talk, to_the_origin());
        assert!(all_from_origin(&orders) && !talk.asked);
        assert!(matches!(out[..], [Arm::DownloadPeerBackToSourceStartedRequest(_)]), "{out:?}");
        assert!(matches!(talk.part(None), Arm::DownloadPeerBackToSourceFinishedRequest(_)));
        assert!(matches!(talk.part(Some("no")), Arm::DownloadPeerBackToSourceFailedRequest(_)));
        // It stays so, whatever comes.
        assert!(all_from_origin(&answered(&mut talk, parents(&[2])).0));
    }

    #[test]
    fn a_piece_is_reported_once_all_its_units_are_here_with_who_sent_it() {
        let mut talk = talk();
        let (orders, out) = answered(&mut talk, parents(&[1, 2]));
        assert_eq!(orders.parents.len(), 1, "this node is none of its own parents");
        assert!(matches!(out[..], [Arm::DownloadPeerStartedRequest(_)]), "{out:?}");
        let mut have = Pieces::none(20);
        for unit in (0..9).chain(16..20) {
            have.insert(unit);
        }
        let came = vec![(0..9, "10.0.0.2-n2".into())];
        let progress = Progress { have, came, ..Progress::default() };
        let (orders, out) = told(&mut talk, &progress);
        assert!(orders.is_none());
        let [
            Arm::DownloadPieceFinishedRequest(DownloadPieceFinishedRequest { piece: Some(first) }),
            Arm::DownloadPieceBackToSourceFinishedRequest(last),
        ] = &out[..]
        else {
            panic!("{out:?}")
        };
        assert_eq!((first.number, first.parent_id(), first.length), (0, "p2", 4 << 20));
        assert!(first.cost.is_some() && first.created_at.is_some());
        let last = last.piece.as_ref().expect("a piece");
        assert_eq!((last.number, last.offset, last.length), (2, 8 << 20, 2 << 20));
        assert!(told(&mut talk, &progress).1.is_empty(), "each once");
    }

    #[test]
    fn where_no_parent_is_left_others_are_asked_for_and_in_the_end_the_origin() {
        let mut talk = talk();
        let mut asked = 0;
        for other in 3.. {
            answered(&mut talk, parents(&[2, other]));
            let (orders, out) = told(&mut talk, &lost(2));
            // It was blocked the first time.
            assert!(orders.is_none() && out.len() == usize::from(other == 3), "one is left: {out:?}");
            let (orders, out) = told(&mut talk, &lost(other));
            let Arm::DownloadPieceFailedRequest(failed) = &out[0] else { panic!("{out:?}") };
            assert_eq!((&failed.parent_id, failed.piece_number), (&format!("p{other}"), Some(0)));
            if let Some(orders) = orders {
                assert!(all_from_origin(&orders) && !talk.asked);
                break;
            }
            assert!(matches!(out[1], Arm::ReschedulePeerRequest(_)) && talk.asked, "{out:?}");
            asked += 1;
        }
        assert_eq!(asked, MOST_RESCHEDULES);
        assert!(matches!(talk.part(None), Arm::DownloadPeerFinishedRequest(_)));
    }

    #[test]
    fn parents_that_bring_nothing_are_handed_back_whole_as_the_scheduler_wants_them() {
        let mut talk = talk();
        answered(&mut talk, parents(&[2, 3]));
        let mut out = Vec::new();
        assert!(talk.starved(&mut out).is_none());
        assert!(talk.starved(&mut out).is_none() && out.len() == 1, "it waits for the answer");
        let [Arm::ReschedulePeerRequest(message)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(message.candidate_parents.len(), 2);
        for parent in &message.candidate_parents {
            let task = parent.task.as_ref().expect("a task");
            assert!(parent.cost.is_some() && parent.created_at.is_some() && parent.updated_at.is_some());
            assert!(!parent.state.is_empty() && !task.state.is_empty() && task.created_at.is_some());
            assert!(parent.host.as_ref().is_some_and(|host| host.port == 65_000));
        }
    }

    #[test]
    fn nonsense_leads_to_the_origin_and_too_much_of_it_ends_the_talk() {
        let mut talk = talk();
        let nothing = || AnnouncePeerResponse { response: None, swarm: None };
        assert!(all_from_origin(&answered(&mut talk, nothing()).0));
        let heard = (0..100).take_while(|_| talk.answered(nothing(), &mut Vec::new()).is_ok()).count();
        assert_eq!(heard + 1, MOST_ANSWERS as usize);
        let first = self::talk().meanwhile();
        assert_eq!(first.origin.iter().collect::<Vec<_>>(), [&(0..32)], "16 MiB");
    }
}
