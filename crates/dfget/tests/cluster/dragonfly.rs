//! Schedulers that daemons join as those of a Dragonfly cluster: one with its manners, which is our own with peers that
//! take no orders, and such as no good scheduler is.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfget_cluster::Door;
use dfget_proto::messages::common::v2::{Host, Peer, Task};
use dfget_proto::messages::dfget::v1::{PieceHashesReply, StatusReply};
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response as Said;
use dfget_proto::messages::scheduler::v2::scheduler_server::{Scheduler, SchedulerServer};
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, AnnouncePeerResponse, DeleteHostRequest, DeletePeerRequest,
    DeleteTaskRequest, ListHostsRequest, ListHostsResponse, NeedBackToSourceResponse, NormalTaskResponse,
    StatTaskRequest,
};
use dfget_scheduler::{Caller, Member, SchedulerService, mount_health, serve_grpc};
use dfget_swarm::SchedulerOptions;
use dfget_testkit::Place;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

/// Its port.
pub(crate) const PORT: u16 = 8002;

/// How a scheduler is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// It takes connections and says nothing at all.
    Silent,
    /// It takes hosts, and says nothing about downloads.
    Mute,
    /// It says again and again what it was not asked.
    Endless,
    /// It names peers that are not there.
    Ghosts,
    /// It names peers that there cannot be.
    Nonsense,
    /// It names nobody, however often it is asked.
    Nobody,
    /// It ends each talk after its first answer.
    Leaves,
    /// It sends everybody to the origin, and notes what it is told.
    Notes,
}

/// A scheduler at its place, until dropped: then it is gone as if killed.
pub(crate) struct Stand {
    runtime: Option<Runtime>,
    service: Option<SchedulerService>,
    notes: Notes,
}

/// What it was told, a line for each message.
type Notes = Arc<Mutex<Vec<String>>>;

struct Steward;

#[derive(Clone)]
struct Scripted {
    manner: Manner,
    notes: Notes,
}

type Answers = Pin<Box<dyn Stream<Item = Result<AnnouncePeerResponse, Status>> + Send>>;

// === impl Stand ===

impl Stand {
    /// One with Dragonfly's manners.
    pub(crate) fn good(place: &Place) -> Self {
        let service = SchedulerService::new(SchedulerOptions::default(), 7, Arc::new(Steward));
        let mut routes = RoutesBuilder::default();
        service.mount(&mut routes);
        let mut stand = Self::serve(place, routes);
        let clock = service.clone();
        stand.runtime.as_ref().expect("it lives").spawn(async move { clock.keep_time().await });
        stand.service = Some(service);
        stand
    }

    /// One of these.
    pub(crate) fn with(place: &Place, manner: Manner) -> Self {
        let notes = Notes::default();
        if manner == Manner::Silent {
            return Self { runtime: Some(listen_only(place)), service: None, notes };
        }
        let mut routes = RoutesBuilder::default();
        mount_health(&mut routes);
        routes.add_service(SchedulerServer::new(Scripted { manner, notes: Arc::clone(&notes) }));
        let mut stand = Self::serve(place, routes);
        stand.notes = notes;
        stand
    }

    fn serve(place: &Place, routes: RoutesBuilder) -> Self {
        let runtime = start(place, |listener| async move {
            let door = Door { tls: None, plain: true };
            serve_grpc(listener, door, routes.routes(), std::future::pending()).await;
        });
        Self { runtime: Some(runtime), service: None, notes: Notes::default() }
    }

    /// Whether it knows a peer of this task.
    pub(crate) fn knows(&self, task: &str) -> bool {
        self.service.as_ref().expect("it is a good one").knows(task)
    }

    /// How many hosts it knows.
    pub(crate) fn hosts(&self) -> u64 {
        self.service.as_ref().expect("it is a good one").counts().1
    }

    /// What it was told.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Opens the port at a place, and lets run what answers there.
fn start<R>(place: &Place, run: impl FnOnce(TcpListener) -> R) -> Runtime
where
    R: Future<Output = ()> + Send + 'static,
{
    let address = SocketAddr::from((place.address(), PORT));
    let (runtime, listener) = place.within(move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        // On a thread of the runtime, which is at the place for good.
        let open = runtime.spawn(async move { TcpListener::bind(address).await });
        let listener = runtime.block_on(open).expect("it starts").expect("the port is free");
        (runtime, listener)
    });
    runtime.spawn(run(listener));
    runtime
}

fn listen_only(place: &Place) -> Runtime {
    start(place, |listener| async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    })
}

// === impl Member for Steward ===

#[tonic::async_trait]
impl Member for Steward {
    async fn status(&self) -> StatusReply {
        StatusReply::default()
    }

    async fn piece_hashes(&self, _: &str, _: &Caller) -> Option<PieceHashesReply> {
        None
    }
}

// === impl Scripted ===

impl Scripted {
    fn answer(&self, own: &str) -> AnnouncePeerResponse {
        let normal = |peers| Said::NormalTaskResponse(NormalTaskResponse { candidate_parents: peers });
        let response = match self.manner {
            Manner::Ghosts => normal((1..=4).map(|number| ghost(number, GHOST_PORT)).collect()),
            Manner::Nonsense => normal(nonsense(own)),
            Manner::Nobody => normal(Vec::new()),
            _ => Said::NeedBackToSourceResponse(NeedBackToSourceResponse { description: None }),
        };
        AnnouncePeerResponse { response: Some(response), swarm: None }
    }

    fn note(&self, message: &AnnouncePeerRequest) {
        let Some(arm) = &message.request else { return };
        let line = match arm {
            Arm::RegisterPeerRequest(register) => {
                let download = register.download.clone().unwrap_or_default();
                format!(
                    "register {} bytes in {} pieces, {} headers{}",
                    download.actual_content_length(),
                    download.actual_piece_count(),
                    download.request_header.len(),
                    if download.metadata_only { ", only told" } else { "" },
                )
            }
            Arm::DownloadPeerStartedRequest(_) => "started".to_owned(),
            Arm::DownloadPeerBackToSourceStartedRequest(_) => "origin started".to_owned(),
            Arm::DownloadPeerFinishedRequest(_) => "finished".to_owned(),
            Arm::DownloadPeerBackToSourceFinishedRequest(_) => "origin finished".to_owned(),
            Arm::DownloadPieceBackToSourceFinishedRequest(piece) => {
                let piece = piece.piece.clone().unwrap_or_default();
                assert!(piece.cost.is_some() && piece.created_at.is_some(), "{piece:?}");
                format!("origin piece {} at {} of {}", piece.number, piece.offset, piece.length)
            }
            Arm::DownloadPieceFinishedRequest(_) => "piece".to_owned(),
            Arm::ReschedulePeerRequest(_) => "reschedule".to_owned(),
            Arm::DownloadPieceFailedRequest(failed) => format!("piece failed at {}", failed.parent_id),
            Arm::DownloadPieceBackToSourceFailedRequest(_) => "origin piece failed".to_owned(),
            Arm::DownloadPeerFailedRequest(_) => "failed".to_owned(),
            Arm::DownloadPeerBackToSourceFailedRequest(_) => "origin failed".to_owned(),
        };
        self.notes.lock().expect("nobody panics with it").push(line);
    }
}

/// Nobody listens there.
const GHOST_PORT: i32 = 4999;

fn ghost(number: u8, port: i32) -> Peer {
    let host = Host {
        id: format!("198.51.100.10-ghost{number}"),
        hostname: format!("ghost{number}"),
        ip: "198.51.100.10".to_owned(),
        port,
        download_port: port,
        ..Host::default()
    };
    let state = "Succeeded".to_owned();
    Peer { id: format!("ghost-{number}"), state, host: Some(host), ..Peer::default() }
}

fn nonsense(own: &str) -> Vec<Peer> {
    let change = |change: fn(&mut Peer, &mut Host)| {
        let mut peer = ghost(1, GHOST_PORT);
        let mut host = peer.host.take().expect("a ghost has one");
        change(&mut peer, &mut host);
        Peer { host: Some(host), ..peer }
    };
    let mut itself = change(|_, _| {});
    if let Some(host) = &mut itself.host {
        host.id = own.to_owned();
    }
    let mut all = vec![
        Peer::default(),
        Peer { host: None, ..ghost(1, GHOST_PORT) },
        change(|_, host| host.port = -1),
        change(|_, host| host.port = i32::MAX),
        change(|_, host| host.ip = "nope".to_owned()),
        change(|peer, _| peer.id = "x".repeat(1 << 16)),
        change(|_, host| host.id = String::new()),
        change(|_, host| host.hostname = "x".repeat(1 << 16)),
        itself,
    ];
    all.extend((0..500).map(|_| Peer::default()));
    all
}

#[tonic::async_trait]
impl Scheduler for Scripted {
    type AnnouncePeerStream = Answers;

    async fn announce_peer(
        &self,
        request: Request<Streaming<AnnouncePeerRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let inbound = request.into_inner();
        let script = self.clone();
        if self.manner == Manner::Endless {
            let answers = stream::repeat(()).then(move |()| {
                let answer = script.answer("");
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    Ok(answer)
                }
            });
            return Ok(Response::new(Box::pin(answers)));
        }
        let answers = stream::unfold((inbound, script, false), |(mut inbound, script, over)| async move {
            while !over && let Ok(Some(message)) = inbound.message().await {
                script.note(&message);
                match &message.request {
                    Some(Arm::RegisterPeerRequest(_) | Arm::ReschedulePeerRequest(_))
                        if script.manner != Manner::Mute =>
                    {
                        let answer = Ok(script.answer(&message.host_id));
                        let over = script.manner == Manner::Leaves;
                        return Some((answer, (inbound, script, over)));
                    }
                    Some(
                        Arm::DownloadPeerFinishedRequest(_)
                        | Arm::DownloadPeerBackToSourceFinishedRequest(_)
                        | Arm::DownloadPeerFailedRequest(_)
                        | Arm::DownloadPeerBackToSourceFailedRequest(_),
                    ) => return None,
                    _ => {}
                }
            }
            None
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn announce_host(&self, _: Request<AnnounceHostRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn delete_host(&self, _: Request<DeleteHostRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn stat_task(&self, _: Request<StatTaskRequest>) -> Result<Response<Task>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn delete_task(&self, _: Request<DeleteTaskRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn delete_peer(&self, _: Request<DeletePeerRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Result<Response<ListHostsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
