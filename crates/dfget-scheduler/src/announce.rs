//! The conversation with one download.

use std::sync::Arc;

use dfget_proto::messages::common::v2::Piece;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::{AnnouncePeerRequest, AnnouncePeerResponse, RegisterPeerRequest};
use dfget_swarm::Report;
use futures_util::{Stream, stream};
use prost::Message as _;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::limits;
use crate::mailbox::Mailbox;
use crate::room::{Application, Room};
use crate::serve::Caller;
use crate::words;

/// Answers a stream of announcements; what it reads and what it says goes on in the answering stream,
/// so that who does not read is not read.
pub(crate) fn converse(
    room: Arc<Room>,
    caller: Caller,
    inbound: Streaming<AnnouncePeerRequest>,
) -> impl Stream<Item = Result<AnnouncePeerResponse, Status>> {
    let conversation = Conversation { room, caller, inbound, seat: None, over: false };
    stream::unfold(conversation, |mut conversation| async move {
        conversation.next().await.map(|answer| (answer, conversation))
    })
}

struct Conversation {
    room: Arc<Room>,
    caller: Caller,
    inbound: Streaming<AnnouncePeerRequest>,
    seat: Option<Seat>,
    /// Nothing is read or said any more.
    over: bool,
}

/// A download that is registered.
struct Seat {
    peer: Arc<str>,
    host: String,
    task: String,
    total: Option<u64>,
    ours: bool,
    mailbox: Arc<Mailbox>,
    /// Its last word has been said.
    parted: bool,
}

/// What a message comes to.
enum Step {
    /// Nothing but orders for others.
    Noted,
    Tells(Report),
    /// The last word.
    Parts(Report),
}

// === impl Conversation ===

impl Conversation {
    async fn next(&mut self) -> Option<Result<AnnouncePeerResponse, Status>> {
        if self.over {
            return None;
        }
        let answer = match self.go_on().await {
            Ok(answer) => answer.map(Ok),
            Err(status) => Some(Err(status)),
        };
        self.over = !matches!(answer, Some(Ok(_)));
        answer
    }

    async fn go_on(&mut self) -> Result<Option<AnnouncePeerResponse>, Status> {
        loop {
            let Some(seat) = self.seat.as_mut() else {
                let Some(message) = self.first_message().await? else { return Ok(None) };
                self.seat = Some(register(&self.room, &self.caller, message)?);
                continue;
            };
            tokio::select! {
                biased;
                answer = seat.mailbox.next() => return answer.transpose(),
                message = self.inbound.message(), if !seat.parted => {
                    // A stream that ends without a last word is as good as a broken one.
                    let Some(message) = message? else { return Ok(None) };
                    self.caller.meter.count(message.encoded_len()).await;
                    match seat.step(message)? {
                        Step::Noted => {}
                        Step::Tells(report) => self.room.report(&seat.peer, report),
                        Step::Parts(report) => {
                            seat.parted = true;
                            self.room.ends(&seat.peer, &seat.mailbox, report);
                            seat.mailbox.end(Ok(()));
                        }
                    }
                }
            }
        }
    }

    async fn first_message(&mut self) -> Result<Option<AnnouncePeerRequest>, Status> {
        let message = timeout(limits::FIRST_MESSAGE, self.inbound.message()).await;
        let message = message.map_err(|_| Status::deadline_exceeded("no register message came"))??;
        if let Some(message) = &message {
            self.caller.meter.count(message.encoded_len()).await;
        }
        Ok(message)
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take().filter(|seat| !seat.parted) {
            self.room.ends(&seat.peer, &seat.mailbox, Report::Gone);
        }
    }
}

fn register(room: &Room, caller: &Caller, message: AnnouncePeerRequest) -> Result<Seat, Status> {
    words::name("host_id", &message.host_id)?;
    words::name("peer_id", &message.peer_id)?;
    let Some(Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) })) = message.request
    else {
        return Err(words::invalid("request", "is no register_peer_request with a download"));
    };
    let wanted = words::wanted(&message.task_id, &download, message.swarm.as_ref())?;
    let peer: Arc<str> = message.peer_id.as_str().into();
    let (total, ours) = (wanted.total, wanted.have.is_some());
    let application = Application {
        peer: peer.clone(),
        host: message.host_id.as_str().into(),
        wanted,
        metadata_only: download.metadata_only,
        back_to_source: download.need_back_to_source,
    };
    let mailbox = room.register(application, caller.keyed)?;
    let (host, task) = (message.host_id, message.task_id);
    Ok(Seat { peer, host, task, total, ours, mailbox, parted: false })
}

// === impl Seat ===

impl Seat {
    fn step(&mut self, message: AnnouncePeerRequest) -> Result<Step, Status> {
        let names = [
            ("host_id", &message.host_id, self.host.as_str()),
            ("task_id", &message.task_id, &self.task),
            ("peer_id", &message.peer_id, &self.peer),
        ];
        for (field, told, own) in names {
            if !told.is_empty() && told != own {
                return Err(words::invalid(field, "is not that of the register message"));
            }
        }
        match (message.request, message.swarm) {
            (Some(arm), _) => step_of(arm),
            (None, Some(swarm)) if self.ours => {
                let report = words::progress(swarm, self.total)?;
                if let Report::Progress { total, .. } = &report {
                    self.total = *total;
                }
                Ok(Step::Tells(report))
            }
            // An arm of a later version.
            (None, _) => Ok(Step::Noted),
        }
    }
}

fn step_of(arm: Arm) -> Result<Step, Status> {
    Ok(match arm {
        Arm::RegisterPeerRequest(_) => {
            return Err(Status::failed_precondition("the peer is registered already"));
        }
        Arm::DownloadPeerStartedRequest(_) => Step::Tells(Report::Started),
        Arm::DownloadPeerBackToSourceStartedRequest(_) => Step::Tells(Report::BackToSourceStarted),
        Arm::ReschedulePeerRequest(message) => {
            let parents = message.candidate_parents.into_iter().map(|peer| peer.id).collect();
            Step::Tells(Report::Reschedule { parents: words::names(parents) })
        }
        Arm::DownloadPeerFinishedRequest(_) | Arm::DownloadPeerBackToSourceFinishedRequest(_) => {
            Step::Parts(Report::Finished)
        }
        Arm::DownloadPeerFailedRequest(_) | Arm::DownloadPeerBackToSourceFailedRequest(_) => {
            Step::Parts(Report::Failed)
        }
        Arm::DownloadPieceFinishedRequest(message) => piece(message.piece)?,
        Arm::DownloadPieceBackToSourceFinishedRequest(message) => piece(message.piece)?,
        Arm::DownloadPieceFailedRequest(message) => {
            words::name("parent_id", &message.parent_id)?;
            Step::Tells(Report::PieceFailed { parent: message.parent_id.into() })
        }
        Arm::DownloadPieceBackToSourceFailedRequest(_) => Step::Noted,
    })
}

fn piece(piece: Option<Piece>) -> Result<Step, Status> {
    let piece = piece.ok_or_else(|| words::invalid("piece", "is missing"))?;
    if piece.number > words::count(limits::CONTENT) {
        return Err(words::invalid("piece.number", "is too high"));
    }
    Ok(Step::Tells(Report::Piece(piece.number)))
}
