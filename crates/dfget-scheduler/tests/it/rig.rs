//! Nodes, clients of other makes, and what both are told.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::{ClusterKey, Dialer, Door, Identity};
use dfget_proto::Ring;
use dfget_proto::messages::common::v2::{Download, Host, Peer, Piece};
use dfget_proto::messages::dfget::v1::{PieceHashesReply, StatusReply, TakeReply, TakeRequest};
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::scheduler_client::SchedulerClient;
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, AnnouncePeerResponse, DownloadPeerBackToSourceFinishedRequest,
    DownloadPeerBackToSourceStartedRequest, DownloadPeerFinishedRequest, DownloadPeerStartedRequest,
    DownloadPieceFinishedRequest, RegisterPeerRequest,
};
use dfget_scheduler::{Caller, Member, Pace, Roll, SchedulerService, Schedulers, Takes, Taking, serve_grpc};
use dfget_swarm::SchedulerOptions;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::RoutesBuilder;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// So long nothing may take.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const TOTAL: u64 = 40 << 20;
pub(crate) const URL: &str = "https://registry.test/v2/a/blobs/x";

/// A task of one letter.
pub(crate) fn task(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// A node's announcement with as few fields as may be.
pub(crate) fn host(number: u8) -> Host {
    Host {
        id: format!("10.0.0.{number}-n{number}"),
        hostname: format!("n{number}"),
        ip: format!("10.0.0.{number}"),
        port: 65000,
        download_port: 65000,
        ..Host::default()
    }
}

/// The order for a content of one letter.
pub(crate) fn order(letter: char) -> TakeRequest {
    let task = task(letter);
    let url = format!("https://registry.test/v2/a/blobs/sha256:{task}");
    TakeRequest { task_id: task, total: 9, url, ..TakeRequest::default() }
}

/// Says who it is, and has one content.
struct Steward;

#[tonic::async_trait]
impl Member for Steward {
    async fn status(&self) -> StatusReply {
        StatusReply { version: "1.2.3".to_owned(), ..StatusReply::default() }
    }

    async fn piece_hashes(&self, asked: &str, caller: &Caller) -> Option<PieceHashesReply> {
        let has = asked == task('a') && caller.keyed;
        has.then(|| PieceHashesReply { total: 5, sha256: vec![7; 32] })
    }

    async fn take(&self, wanted: Taking, _: &Caller) -> Result<Takes, Status> {
        let word = |have, done, failed: &str| Ok(TakeReply { have, done, failed: failed.to_owned() });
        let last = match wanted.task.chars().next() {
            Some('a') => word(wanted.total, true, ""),
            Some('b') => word(0, false, "no peer has it"),
            _ => return Err(Status::resource_exhausted("it has too many orders")),
        };
        Ok(Box::pin(stream::iter([word(1, false, ""), last])))
    }
}

/// How nodes speak with each other.
#[derive(Clone)]
pub(crate) struct Speech {
    pub(crate) door: Door,
    pub(crate) dialer: Dialer,
}

pub(crate) fn plain() -> Speech {
    Speech { door: Door { tls: None, plain: true }, dialer: Dialer { tls: None } }
}

pub(crate) fn keyed() -> Speech {
    let key = ClusterKey::from_bytes([7; 32]);
    let identity = Identity::from_key(&key, &["127.0.0.1".to_owned()]).unwrap();
    Speech {
        door: Door { tls: Some(identity.server()), plain: false },
        dialer: Dialer { tls: Some(identity.client()) },
    }
}

/// Where a scheduler answers.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) service: SchedulerService,
    running: JoinSet<()>,
}

impl Node {
    pub(crate) async fn start(speech: &Speech) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), speech).await
    }

    pub(crate) async fn start_at(address: SocketAddr, speech: &Speech) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = SchedulerService::new(SchedulerOptions::default(), 1, Arc::new(Steward));
        let mut routes = RoutesBuilder::default();
        service.mount(&mut routes);
        let serving = serve_grpc(listener, speech.door.clone(), routes.routes(), std::future::pending());
        let clock = service.clone();
        let mut running = JoinSet::new();
        running.spawn(serving);
        running.spawn(async move { clock.keep_time().await });
        Self { address, service, running }
    }

    /// As if its process were killed: all connections break.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.running.shutdown().await;
        self.address
    }
}

/// Members by names that tests choose.
pub(crate) struct Names {
    ring: Ring,
    me: Option<String>,
    addresses: HashMap<String, SocketAddr>,
}

#[tonic::async_trait]
impl Roll for Names {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn me(&self) -> Option<&str> {
        self.me.as_deref()
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        self.addresses.get(name).map(|address| vec![*address]).ok_or_else(|| "unknown".to_owned())
    }
}

/// A list of members: a name and an address each.
pub(crate) fn names(members: &[(String, SocketAddr)], me: Option<&str>) -> Arc<Names> {
    Arc::new(Names {
        ring: Ring::new(members.iter().map(|(name, _)| name.clone())),
        me: me.map(str::to_owned),
        addresses: members.iter().cloned().collect(),
    })
}

/// Like the usual, with time for a machine that has much to do, and none lost over probes.
pub(crate) fn pace() -> Pace {
    Pace {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
        all: Duration::from_secs(60),
        skip: Duration::from_millis(200),
        longest_skip: Duration::from_millis(400),
    }
}

/// The client of node `number`, and the way to change its members.
pub(crate) fn client(
    number: u8,
    names: Arc<Names>,
    speech: &Speech,
) -> (Schedulers, watch::Sender<Arc<Names>>) {
    client_at(pace(), number, names, speech)
}

pub(crate) fn client_at(
    pace: Pace,
    number: u8,
    names: Arc<Names>,
    speech: &Speech,
) -> (Schedulers, watch::Sender<Arc<Names>>) {
    let (sender, receiver) = watch::channel(names);
    (Schedulers::new(receiver, speech.dialer.clone(), move || host(number), pace), sender)
}

/// A channel of the usual make, in clear.
pub(crate) async fn channel(node: &Node) -> Channel {
    Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap()
}

pub(crate) async fn stock_client(node: &Node) -> SchedulerClient<Channel> {
    SchedulerClient::new(channel(node).await)
}

pub(crate) async fn announce(client: &mut SchedulerClient<Channel>, host: Host) -> Result<(), Status> {
    let request = AnnounceHostRequest { host: Some(host), interval: None };
    client.announce_host(request).await.map(|_| ())
}

/// One download of a client of another make.
pub(crate) struct Stock {
    names: AnnouncePeerRequest,
    out: mpsc::Sender<AnnouncePeerRequest>,
    answers: Streaming<AnnouncePeerResponse>,
}

impl Stock {
    /// Registers, with a change of the usual.
    pub(crate) async fn register(
        client: &mut SchedulerClient<Channel>,
        host: &str,
        task: &str,
        peer: &str,
        change: impl FnOnce(&mut Download),
    ) -> Self {
        let mut stock = Self::open(client, host, task, peer).await;
        let mut download = Download {
            url: URL.to_owned(),
            actual_content_length: Some(TOTAL),
            enable_task_id_based_blob_digest: true,
            ..Download::default()
        };
        change(&mut download);
        stock.say(Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) })).await;
        stock
    }

    pub(crate) async fn open(
        client: &mut SchedulerClient<Channel>,
        host: &str,
        task: &str,
        peer: &str,
    ) -> Self {
        let (out, messages) = mpsc::channel(64);
        let messages = stream::unfold(messages, |mut messages| async move {
            messages.recv().await.map(|message| (message, messages))
        });
        let answers = timeout(LONG, client.announce_peer(messages)).await.expect("the answer begins at once");
        let names = AnnouncePeerRequest {
            host_id: host.to_owned(),
            task_id: task.to_owned(),
            peer_id: peer.to_owned(),
            ..AnnouncePeerRequest::default()
        };
        Self { names, out, answers: answers.unwrap().into_inner() }
    }

    pub(crate) async fn say(&mut self, arm: Arm) {
        self.send(AnnouncePeerRequest { request: Some(arm), ..self.names.clone() }).await;
    }

    pub(crate) async fn send(&mut self, message: AnnouncePeerRequest) {
        self.out.send(message).await.expect("the stream is open");
    }

    /// The next answer; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Result<Option<Response>, Status> {
        let answer = timeout(LONG, self.answers.message()).await.expect("an answer comes")?;
        Ok(answer.map(|answer| answer.response.expect("an arm")))
    }

    /// The ids of the parents that it is told.
    pub(crate) async fn parents(&mut self) -> Vec<String> {
        match self.hear().await.unwrap() {
            Some(Response::NormalTaskResponse(normal)) => {
                normal.candidate_parents.into_iter().map(|peer| peer.id).collect()
            }
            other => panic!("no parents: {other:?}"),
        }
    }

    /// Told to go to the origin.
    pub(crate) async fn sent_to_origin(&mut self) {
        let answer = self.hear().await.unwrap();
        assert!(matches!(answer, Some(Response::NeedBackToSourceResponse(_))), "{answer:?}");
    }

    pub(crate) async fn ended(&mut self) {
        assert_eq!(self.hear().await.unwrap(), None);
    }
}

pub(crate) fn started() -> Arm {
    Arm::DownloadPeerStartedRequest(DownloadPeerStartedRequest {})
}

pub(crate) fn finished() -> Arm {
    Arm::DownloadPeerFinishedRequest(DownloadPeerFinishedRequest {})
}

pub(crate) fn at_origin() -> Arm {
    Arm::DownloadPeerBackToSourceStartedRequest(DownloadPeerBackToSourceStartedRequest::default())
}

pub(crate) fn finished_at_origin() -> Arm {
    Arm::DownloadPeerBackToSourceFinishedRequest(DownloadPeerBackToSourceFinishedRequest {})
}

pub(crate) fn piece(number: u32) -> Arm {
    let piece = Piece { number, ..Piece::default() };
    Arm::DownloadPieceFinishedRequest(DownloadPieceFinishedRequest { piece: Some(piece) })
}

pub(crate) fn peer(id: &str) -> Peer {
    Peer { id: id.to_owned(), ..Peer::default() }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
