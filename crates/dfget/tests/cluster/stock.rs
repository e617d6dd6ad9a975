//! A peer of Dragonfly as it comes: it knows its protocol and nothing of ours. No key, no TLS, whole pieces, and a
//! talk with the scheduler that is one answer for each question.
//!
//! Written from the protocol alone; the frames of the piece transfer are put together by hand, so that no codec is
//! tried against itself.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfget_cluster::Door;
use dfget_core::piece_length;
use dfget_proto::messages::common::v2::{Cpu, Download, Host, Network, Peer, Piece};
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_client::DfdaemonUploadClient;
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_server::{DfdaemonUpload, DfdaemonUploadServer};
use dfget_proto::messages::dfdaemon::v2::{SyncHostRequest, SyncPiecesRequest, SyncPiecesResponse};
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response as Said;
use dfget_proto::messages::scheduler::v2::scheduler_client::SchedulerClient;
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, AnnouncePeerResponse, DownloadPeerBackToSourceFinishedRequest,
    DownloadPeerBackToSourceStartedRequest, DownloadPeerFailedRequest, DownloadPeerFinishedRequest,
    DownloadPeerStartedRequest, DownloadPieceBackToSourceFinishedRequest, DownloadPieceFailedRequest,
    DownloadPieceFinishedRequest, RegisterPeerRequest, ReschedulePeerRequest,
};
use dfget_proto::{Ring, host_id, peer_id};
use dfget_scheduler::serve_grpc;
use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Place};
use futures_util::{Stream, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tonic::service::RoutesBuilder;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::support::PORT;

/// Its port for gRPC, and that for pieces.
const GRPC: u16 = 4000;
const PIECES: u16 = 4005;

/// Bytes of a request for a piece.
const REQUEST: usize = 74;

/// Answers of the scheduler that a download takes.
const MOST_ANSWERS: usize = 5;

/// Messages of one download that wait to be sent.
const MOST_WORDS: usize = 1024;

/// How long the scheduler may take to end a stream after the last word. The original waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// How it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// It sends pieces with a wrong byte and the CRC of that.
    pub(crate) wrong: bool,
    /// How long it takes for a piece from the origin.
    pub(crate) origin: Duration,
    /// It is of an older version, which closes a connection for pieces after each.
    pub(crate) old: bool,
    /// It sends a credential of its client along to the scheduler.
    pub(crate) credential: bool,
}

/// A stock peer at its place, until dropped: then it is gone as if killed.
pub(crate) struct Stock {
    mind: Arc<Mind>,
    runtime: Option<Runtime>,
}

/// How a download of it went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulled {
    /// Pieces that came from peers, by the address of their port.
    pub(crate) from_peers: HashMap<SocketAddr, usize>,
    /// Pieces that came from the origin.
    pub(crate) from_origin: usize,
    /// What the scheduler answered.
    pub(crate) answers: Vec<&'static str>,
    /// What of the content is here at the end.
    pub(crate) digest: String,
}

struct Mind {
    manner: Manner,
    blob: Blob,
    url: String,
    task: String,
    ip: IpAddr,
    schedulers: Vec<String>,
    /// The pieces that are here.
    pieces: Mutex<Vec<Option<Vec<u8>>>>,
    /// Changes with them.
    progress: watch::Sender<usize>,
    /// It knows the content: it has begun to fetch it.
    knows: AtomicBool,
    /// Pieces that it sent.
    sent: AtomicU64,
}

#[derive(Clone)]
struct Mouth(Arc<Mind>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Its talk with a scheduler about a download.
struct Talk<'a> {
    mind: &'a Arc<Mind>,
    peer: String,
    asks: mpsc::Sender<AnnouncePeerRequest>,
    answers: Streaming<AnnouncePeerResponse>,
    pulled: Pulled,
    /// Connections to ports of pieces.
    links: HashMap<SocketAddr, TcpStream>,
}

// === impl Stock ===

impl Stock {
    /// Opens its ports at a place and announces its host to these nodes of the cluster, as to schedulers.
    pub(crate) fn start(
        cluster: &Cluster,
        place: &Place,
        schedulers: &[usize],
        blob: &Blob,
        url: &str,
        manner: Manner,
    ) -> Self {
        let address = |number: &usize| format!("{}:{PORT}", cluster.node(*number).place.address());
        Self::start_at(place, schedulers.iter().map(address).collect(), blob, url, manner)
    }

    /// The same for schedulers at these addresses.
    pub(crate) fn start_at(
        place: &Place,
        schedulers: Vec<String>,
        blob: &Blob,
        url: &str,
        manner: Manner,
    ) -> Self {
        let length = piece_length(blob.len() as u64);
        let count = (blob.len() as u64).div_ceil(length);
        let mind = Arc::new(Mind {
            manner,
            blob: blob.clone(),
            url: url.to_owned(),
            task: blob.digest.trim_start_matches("sha256:").to_owned(),
            ip: IpAddr::V4(place.address()),
            schedulers,
            pieces: Mutex::new(vec![None; usize::try_from(count).expect("small")]),
            progress: watch::channel(0).0,
            knows: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        });
        let starting = Arc::clone(&mind);
        let runtime = place.within(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
            // On a thread of the runtime, which is at the place for good.
            let opening = Arc::clone(&starting);
            let open = runtime.block_on(runtime.spawn(async move { opening.open().await }));
            let (grpc, pieces) = open.expect("it starts");
            runtime.spawn(async move { starting.serve(grpc, pieces).await });
            runtime
        });
        Self { mind, runtime: Some(runtime) }
    }

    /// Begins to download.
    pub(crate) fn begin(&self) -> JoinHandle<Pulled> {
        let mind = Arc::clone(&self.mind);
        self.runtime().spawn(async move { mind.pull().await })
    }

    /// Waits for a download.
    pub(crate) fn end(&self, pull: JoinHandle<Pulled>) -> Pulled {
        let pulled = self.runtime().block_on(pull).expect("the download ends");
        eprintln!("the stock peer: {pulled:?}");
        pulled
    }

    /// Downloads.
    pub(crate) fn pull(&self) -> Pulled {
        self.end(self.begin())
    }

    /// How many pieces it sent to others.
    pub(crate) fn sent(&self) -> u64 {
        self.mind.sent.load(Ordering::Relaxed)
    }

    /// How many pieces it has.
    pub(crate) fn has(&self) -> usize {
        self.mind.pieces.lock().expect("nobody panics with it").iter().flatten().count()
    }

    /// How it is known in the cluster.
    pub(crate) fn id(&self) -> String {
        host_id(self.mind.ip, "stock")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it lives")
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

// === impl Mind ===

impl Mind {
    /// Opens the ports and announces the host.
    async fn open(&self) -> (TcpListener, TcpListener) {
        let grpc = TcpListener::bind((self.ip, GRPC)).await.expect("the port is free");
        let pieces = TcpListener::bind((self.ip, PIECES)).await.expect("the port is free");
        for scheduler in &self.schedulers {
            let mut client = SchedulerClient::new(connect(scheduler).await.expect("the scheduler is there"));
            let request = AnnounceHostRequest { host: Some(self.host()), ..AnnounceHostRequest::default() };
            client.announce_host(request).await.expect("the scheduler takes the host");
        }
        (grpc, pieces)
    }

    /// Answers on both ports, for ever.
    async fn serve(self: Arc<Self>, grpc: TcpListener, pieces: TcpListener) {
        let mut routes = RoutesBuilder::default();
        routes.add_service(DfdaemonUploadServer::new(Mouth(Arc::clone(&self))));
        let door = Door { tls: None, plain: true };
        let talks = async {
            let mut talks = JoinSet::new();
            while let Ok((socket, _)) = pieces.accept().await {
                let mind = Arc::clone(&self);
                talks.spawn(async move { mind.talk(socket).await });
            }
        };
        tokio::join!(serve_grpc(grpc, door, routes.routes(), std::future::pending()), talks);
    }

    fn host(&self) -> Host {
        let network = Network {
            max_rx_bandwidth: 10_000_000_000,
            max_tx_bandwidth: 10_000_000_000,
            ..Network::default()
        };
        Host {
            id: host_id(self.ip, "stock"),
            hostname: "stock".to_owned(),
            name: "stock".to_owned(),
            ip: self.ip.to_string(),
            port: i32::from(GRPC),
            download_port: i32::from(GRPC),
            os: "linux".to_owned(),
            cpu: Some(Cpu { logical_count: 2, physical_count: 2, ..Cpu::default() }),
            network: Some(network),
            ..Host::default()
        }
    }

    fn length(&self) -> u64 {
        piece_length(self.blob.len() as u64)
    }

    /// The bytes of a piece as they are in the content.
    fn original(&self, number: usize) -> Vec<u8> {
        let length = usize::try_from(self.length()).expect("small");
        self.blob.bytes.chunks(length).nth(number).expect("it is one of them").to_vec()
    }

    fn missing(&self) -> Vec<u32> {
        let pieces = self.pieces.lock().expect("nobody panics with it");
        (0..).zip(pieces.iter()).filter(|(_, piece)| piece.is_none()).map(|(number, _)| number).collect()
    }

    fn keep(&self, number: u32, bytes: Vec<u8>) {
        self.pieces.lock().expect("nobody panics with it")[number as usize] = Some(bytes);
        self.progress.send_modify(|count| *count += 1);
    }

    fn kept(&self, number: u32) -> Option<Vec<u8>> {
        let pieces = self.pieces.lock().expect("nobody panics with it");
        let mut piece = pieces.get(number as usize)?.clone()?;
        if self.manner.wrong {
            piece[0] ^= 1;
        }
        Some(piece)
    }

    // --- as a parent ---

    async fn talk(&self, mut socket: TcpStream) {
        let mut frame = [0; REQUEST];
        while socket.read_exact(&mut frame).await.is_ok() {
            // Another tag or length is no request; the original drops the connection.
            if frame[1] != 0 || frame[2..6] != [0, 0, 0, 68] {
                return;
            }
            let number = u32::from_be_bytes(frame[70..].try_into().expect("four bytes"));
            let known = frame[6..70] == *self.task.as_bytes();
            let answer = match self.kept(number).filter(|_| known) {
                Some(bytes) => {
                    self.sent.fetch_add(1, Ordering::Relaxed);
                    content(number, u64::from(number) * self.length(), &bytes)
                }
                None => [&[0, 255, 0, 0, 0, 6, 2][..], b"sorry"].concat(),
            };
            if socket.write_all(&answer).await.is_err() || self.manner.old {
                return;
            }
        }
    }

    fn item(&self, number: u32) -> Option<SyncPiecesResponse> {
        let length = self.kept(number)?.len() as u64;
        Some(SyncPiecesResponse {
            number,
            offset: u64::from(number) * self.length(),
            length,
            ip: self.ip.to_string(),
            tcp_port: Some(i32::from(PIECES)),
            ..SyncPiecesResponse::default()
        })
    }

    // --- as a child ---

    async fn pull(self: Arc<Self>) -> Pulled {
        self.knows.store(true, Ordering::Relaxed);
        let ring = Ring::new(self.schedulers.iter().cloned());
        let scheduler = ring.order(&self.task).next().expect("there are some").to_owned();
        let mut client = SchedulerClient::new(connect(&scheduler).await.expect("the scheduler is there"));
        let (asks, mut outgoing) = mpsc::channel(MOST_WORDS);
        let outgoing = stream::poll_fn(move |context| outgoing.poll_recv(context));
        let peer = peer_id(self.ip, "stock");
        let register = Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(self.download()) });
        asks.try_send(self.message(&peer, register)).expect("it is open");
        let answers = client.announce_peer(outgoing).await.expect("the scheduler listens").into_inner();
        let (pulled, links) = (Pulled::default(), HashMap::new());
        let mut talk = Talk { mind: &self, peer, asks, answers, pulled, links };
        talk.go_on().await;
        let mut pulled = talk.pulled;
        let pieces = self.pieces.lock().expect("nobody panics with it");
        pulled.digest = sha256(&pieces.iter().flatten().flatten().copied().collect::<Vec<u8>>());
        drop(pieces);
        pulled
    }

    /// As the original's proxy fills it.
    fn download(&self) -> Download {
        let total = self.blob.len() as u64;
        let mut headers = HashMap::from([("accept".to_owned(), "*/*".to_owned())]);
        if self.manner.credential {
            headers.insert("authorization".to_owned(), "Bearer of-its-client".to_owned());
        }
        Download {
            url: self.url.clone(),
            priority: 6,
            filtered_query_params: vec!["X-Amz-Signature".to_owned(), "ns".to_owned()],
            request_header: headers,
            concurrent_piece_count: Some(8),
            actual_piece_length: Some(self.length()),
            actual_content_length: Some(total),
            actual_piece_count: Some(total.div_ceil(self.length())),
            enable_task_id_based_blob_digest: true,
            ..Download::default()
        }
    }

    fn message(&self, peer: &str, arm: Arm) -> AnnouncePeerRequest {
        AnnouncePeerRequest {
            host_id: host_id(self.ip, "stock"),
            task_id: self.task.clone(),
            peer_id: peer.to_owned(),
            request: Some(arm),
            swarm: None,
        }
    }
}

// === impl Talk ===

impl Talk<'_> {
    async fn go_on(&mut self) {
        while let Some(answer) = self.answers.message().await.expect("the scheduler answers") {
            assert!(answer.swarm.is_none(), "orders for one who takes none");
            if self.pulled.answers.len() == MOST_ANSWERS {
                let description = Some("too many answers".to_owned());
                self.say(Arm::DownloadPeerFailedRequest(DownloadPeerFailedRequest { description }));
                return self.wait_for_the_end().await;
            }
            match answer.response.expect("unexpected response") {
                Said::NormalTaskResponse(normal) => {
                    self.pulled.answers.push("parents");
                    assert!(!normal.candidate_parents.is_empty(), "no parents at all");
                    self.say(Arm::DownloadPeerStartedRequest(DownloadPeerStartedRequest {}));
                    self.ask_parents(&normal.candidate_parents).await;
                    if self.mind.missing().is_empty() {
                        self.say(Arm::DownloadPeerFinishedRequest(DownloadPeerFinishedRequest {}));
                        return self.wait_for_the_end().await;
                    }
                    self.say(Arm::ReschedulePeerRequest(ReschedulePeerRequest {
                        candidate_parents: normal.candidate_parents,
                        description: Some("pieces are missing".to_owned()),
                    }));
                }
                Said::NeedBackToSourceResponse(_) => {
                    self.pulled.answers.push("origin");
                    self.ask_origin().await;
                    return self.wait_for_the_end().await;
                }
                other => panic!("unexpected response: {other:?}"),
            }
        }
        panic!("the scheduler ended the stream before the last word");
    }

    fn say(&self, arm: Arm) {
        self.asks.try_send(self.mind.message(&self.peer, arm)).expect("the scheduler listens");
    }

    /// As the original does: the download is over when the scheduler ends the stream.
    async fn wait_for_the_end(&mut self) {
        let end = timeout(PATIENCE, self.answers.message()).await.expect("the stream is left open");
        assert!(matches!(end, Ok(None)), "after the last word: {end:?}");
    }

    async fn ask_origin(&mut self) {
        let begun = DownloadPeerBackToSourceStartedRequest { description: None };
        self.say(Arm::DownloadPeerBackToSourceStartedRequest(begun));
        for number in self.mind.missing() {
            tokio::time::sleep(self.mind.manner.origin).await;
            let bytes = self.mind.original(number as usize);
            let piece = Some(self.piece(number, &bytes, None));
            self.mind.keep(number, bytes);
            self.pulled.from_origin += 1;
            let message = DownloadPieceBackToSourceFinishedRequest { piece };
            self.say(Arm::DownloadPieceBackToSourceFinishedRequest(message));
        }
        let done = DownloadPeerBackToSourceFinishedRequest {};
        self.say(Arm::DownloadPeerBackToSourceFinishedRequest(done));
    }

    fn piece(&self, number: u32, bytes: &[u8], parent: Option<&str>) -> Piece {
        Piece {
            number,
            parent_id: parent.map(str::to_owned),
            offset: u64::from(number) * self.mind.length(),
            length: bytes.len() as u64,
            digest: format!("crc32:{}", crc32fast::hash(bytes)),
            traffic_type: Some(i32::from(parent.is_some())),
            ..Piece::default()
        }
    }

    /// Listens to all parents at once, and takes each piece from the first that tells of it.
    async fn ask_parents(&mut self, parents: &[Peer]) {
        let (told, mut heard) = mpsc::channel(64);
        let mut listening = JoinSet::new();
        for parent in parents {
            let host = parent.host.clone().expect("a parent is on a host");
            let request = SyncPiecesRequest {
                host_id: host_id(self.mind.ip, "stock"),
                task_id: self.mind.task.clone(),
                interested_piece_numbers: self.mind.missing(),
                all: false,
            };
            let (peer, told) = (parent.id.clone(), told.clone());
            listening.spawn(async move {
                let Ok(channel) = connect(&format!("{}:{}", host.ip, host.port)).await else { return };
                let Ok(items) = DfdaemonUploadClient::new(channel).sync_pieces(request).await else { return };
                let mut items = items.into_inner();
                while let Ok(Some(item)) = items.message().await {
                    if told.send((peer.clone(), item)).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        while let Some((parent, item)) = heard.recv().await {
            let number = item.number;
            assert_eq!((item.have.len(), item.total), (0, 0), "words that it does not know");
            if !self.mind.missing().contains(&number) {
                continue;
            }
            let at = SocketAddr::new(item.ip.parse().expect("an address"), port_of(&item));
            match self.fetch(at, number).await {
                Ok(bytes) => {
                    let piece = Some(self.piece(number, &bytes, Some(&parent)));
                    self.mind.keep(number, bytes);
                    *self.pulled.from_peers.entry(at).or_default() += 1;
                    self.say(Arm::DownloadPieceFinishedRequest(DownloadPieceFinishedRequest { piece }));
                }
                Err(error) => {
                    eprintln!("piece {number} does not come from {at}: {error}");
                    self.links.remove(&at);
                    let message = DownloadPieceFailedRequest {
                        piece_number: Some(number),
                        parent_id: parent,
                        temporary: true,
                    };
                    self.say(Arm::DownloadPieceFailedRequest(message));
                }
            }
        }
    }

    /// A piece by the transfer protocol, over the connection of the last one.
    async fn fetch(&mut self, at: SocketAddr, number: u32) -> std::io::Result<Vec<u8>> {
        let link = match self.links.entry(at) {
            std::collections::hash_map::Entry::Occupied(link) => link.into_mut(),
            std::collections::hash_map::Entry::Vacant(none) => none.insert(TcpStream::connect(at).await?),
        };
        let head = [&[0x2a, 0, 0, 0, 0, 68][..], self.mind.task.as_bytes(), &number.to_be_bytes()].concat();
        link.write_all(&head).await?;
        let mut head = [0; 6];
        link.read_exact(&mut head).await?;
        let mut value = vec![0; u32::from_be_bytes(head[2..].try_into().expect("four bytes")) as usize];
        link.read_exact(&mut value).await?;
        if head[1] != 1 {
            return Err(std::io::Error::other(format!("tag {}: {value:?}", head[1])));
        }
        let long = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(short(0) as usize + 4, value.len(), "the length of what describes the piece");
        assert_eq!((short(4), long(8)), (number, u64::from(number) * self.mind.length()));
        let digest = String::from_utf8_lossy(&value[28..28 + short(24) as usize]).into_owned();
        let expected = self.mind.original(number as usize).len();
        assert_eq!(long(16), expected as u64, "the length of piece {number}");
        let mut bytes = vec![0; expected];
        link.read_exact(&mut bytes).await?;
        assert_eq!(digest, format!("crc32:{}", crc32fast::hash(&bytes)), "the sum of piece {number}");
        Ok(bytes)
    }
}

// === impl Mouth ===

#[tonic::async_trait]
impl DfdaemonUpload for Mouth {
    type SyncPiecesStream = Answers<SyncPiecesResponse>;
    type SyncHostStream = Answers<Host>;

    async fn sync_pieces(
        &self,
        request: Request<SyncPiecesRequest>,
    ) -> Result<Response<Self::SyncPiecesStream>, Status> {
        let SyncPiecesRequest { task_id, interested_piece_numbers, .. } = request.into_inner();
        let mind = Arc::clone(&self.0);
        if task_id != mind.task || !mind.knows.load(Ordering::Relaxed) {
            let nothing: Result<SyncPiecesResponse, Status> = Err(Status::internal("task not found"));
            return Ok(Response::new(Box::pin(stream::iter([nothing]))));
        }
        // Of pieces that were not named it does not tell.
        let wanted: BTreeSet<u32> = interested_piece_numbers.into_iter().collect();
        let state = (mind.progress.subscribe(), mind, wanted);
        let items = stream::unfold(state, |(mut progress, mind, mut wanted)| async move {
            loop {
                progress.mark_unchanged();
                let ready = wanted.iter().find_map(|number| mind.item(*number));
                if let Some(item) = ready {
                    wanted.remove(&item.number);
                    return Some((Ok(item), (progress, mind, wanted)));
                }
                if wanted.is_empty() || progress.changed().await.is_err() {
                    return None;
                }
            }
        });
        Ok(Response::new(Box::pin(items)))
    }

    async fn sync_host(&self, _: Request<SyncHostRequest>) -> Result<Response<Self::SyncHostStream>, Status> {
        Err(Status::unimplemented("not in this version"))
    }
}

async fn connect(to: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{to}")).expect("an address").connect().await
}

fn port_of(item: &SyncPiecesResponse) -> u16 {
    item.tcp_port.and_then(|port| u16::try_from(port).ok()).expect("a port for pieces")
}

/// The answer that brings a piece.
fn content(number: u32, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let digest = format!("crc32:{}", crc32fast::hash(bytes));
    let mut about = Vec::new();
    about.extend(number.to_be_bytes());
    about.extend(offset.to_be_bytes());
    about.extend((bytes.len() as u64).to_be_bytes());
    about.extend(length_of(digest.as_bytes()));
    about.extend(digest.as_bytes());
    about.extend(length_of(b""));
    about.push(0);
    about.extend(0_u64.to_be_bytes());
    about.extend(1_700_000_000_i64.to_be_bytes());
    let mut answer = vec![7, 1];
    let about = [&length_of(&about)[..], &about].concat();
    answer.extend(length_of(&about));
    answer.extend(about);
    answer.extend(bytes);
    answer
}

fn length_of(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("short").to_be_bytes()
}
