//! A member of the cluster that lies: it has the key, announces itself and what it holds, and answers as it likes.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dfget_cluster::{Dialer, Door, Identity, PeerStream, read_key};
use dfget_core::{piece_count, piece_range, unit_length};
use dfget_proto::messages::common::v2::{Host, Network};
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_server::{DfdaemonUpload, DfdaemonUploadServer};
use dfget_proto::messages::dfdaemon::v2::{SyncHostRequest, SyncPiecesRequest, SyncPiecesResponse};
use dfget_proto::messages::dfget::v1::cluster_server::{Cluster as ClusterService, ClusterServer};
use dfget_proto::messages::dfget::v1::{
    HoldReply, HoldRequest, PieceHashesReply, PieceHashesRequest, StatusReply, StatusRequest, TakeReply,
    TakeRequest,
};
use dfget_proto::vortex::{Asked, Code, Content, Failure, REQUEST_LEN, Step, UNIT};
use dfget_proto::{Ring, host_id};
use dfget_scheduler::{Pace, Roll, Schedulers, serve_grpc};
use dfget_testkit::{Blob, Cluster};
use futures_util::{Stream, stream};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{PIECE_PORT, PORT};

/// How it lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    WrongBytes,
    /// And it says that the right pieces are wrong.
    WrongBytesAndHashes,
    Length,
    Offset,
    Number,
    Missing,
    FrameOf4GiB,
    PieceOf4GiB,
    EndlessPiece,
    Silent,
    Drip,
    Replay,
    Total,
    EndlessWords,
    /// The sum of the bytes is another.
    Digest,
    /// It says in hex what belongs in decimal.
    DigestInHex,
    /// None at all: it is of a later version, and says so.
    Version,
    /// None at all: its clock is an hour ahead.
    ClockOfTheNextHour,
    /// None at all: its clock is three days ahead.
    ClockOfAnotherDay,
}

/// A clock that is not right, in seconds.
#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now + self.0)))
    }
}

/// What all its connections share.
struct Mind {
    lie: Lie,
    blob: Blob,
    ip: IpAddr,
    asked: AtomicUsize,
}

/// The liar at its place, until dropped.
pub(crate) struct Evil {
    mind: Arc<Mind>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Names {
    ring: Ring,
}

#[derive(Clone)]
struct Mouth(Arc<Mind>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Evil ===

impl Evil {
    /// Takes the place of a node whose daemon has ended; it says that it holds `blob`.
    pub(crate) fn start(cluster: &Cluster, node: usize, blob: &Blob, lie: Lie) -> Self {
        let place = cluster.node(node).place.clone();
        let key = std::env::temp_dir().join(format!("{}.key", place.name()));
        let key = read_key(&key).expect("the kit has written it");
        let ip = IpAddr::V4(place.address());
        let others = cluster.nodes.iter().map(|node| format!("{}:{PORT}", node.place.address()));
        let others = others.filter(|name| *name != format!("{ip}:{PORT}")).collect::<Vec<_>>();
        let origin = cluster.registry.origin.url("");
        let mind = Arc::new(Mind { lie, blob: blob.clone(), ip, asked: AtomicUsize::new(0) });
        let (stop, stopped) = oneshot::channel();
        let thinking = Arc::clone(&mind);
        let thread = place.within(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = live(thinking, key, others, origin) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })
        });
        // It has to be known before it can be asked.
        std::thread::sleep(Duration::from_secs(2));
        Self { mind, stop: Some(stop), thread: Some(thread) }
    }

    /// How many pieces were asked of it.
    pub(crate) fn asked(&self) -> usize {
        self.mind.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn id(&self) -> String {
        host_id(self.mind.ip, "evil")
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn live(mind: Arc<Mind>, key: dfget_cluster::ClusterKey, others: Vec<String>, origin: String) {
    let ahead = match mind.lie {
        Lie::ClockOfTheNextHour => 3_600,
        Lie::ClockOfAnotherDay => 3 * 86_400,
        _ => 0,
    };
    let identity = Identity::with_clock(&key, &[mind.ip.to_string()], Arc::new(Clock(ahead)));
    let identity = identity.expect("an identity");
    let door = Door { tls: Some(identity.server()), plain: false };
    let dialer = Dialer { tls: Some(identity.client()) };
    let grpc = TcpListener::bind((mind.ip, PORT)).await.expect("the daemon has left its port");
    let pieces = TcpListener::bind((mind.ip, PIECE_PORT)).await.expect("the daemon has left its port");
    let mut routes = RoutesBuilder::default();
    let mouth = Mouth(Arc::clone(&mind));
    routes.add_service(DfdaemonUploadServer::new(mouth.clone()));
    routes.add_service(ClusterServer::new(mouth));
    let host = mind.host();
    let names = Names { ring: Ring::new(others) };
    let (_roll, roll) = watch::channel(Arc::new(names));
    let schedulers = Schedulers::new(roll, dialer, move || host.clone(), Pace::default());
    let task = mind.blob.digest.trim_start_matches("sha256:");
    schedulers.hold(task, mind.total(), vec![origin], false);
    tokio::join!(
        serve_grpc(grpc, door.clone(), routes.routes(), std::future::pending()),
        serve_pieces(pieces, door, mind),
    );
}

async fn serve_pieces(listener: TcpListener, door: Door, mind: Arc<Mind>) {
    let mut talks = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let (door, mind) = (door.clone(), Arc::clone(&mind));
        talks.spawn(async move {
            let Ok(mut stream) = door.admit(socket).await else { return };
            while let Some(number) = next_request(&mut stream).await {
                mind.asked.fetch_add(1, Ordering::Relaxed);
                if mind.answer(&mut stream, number).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn next_request(stream: &mut PeerStream) -> Option<u32> {
    let mut frame = [0; REQUEST_LEN];
    stream.read_exact(&mut frame).await.ok()?;
    match Asked::decode(&frame) {
        Ok(Step::Frame(Asked::Piece(request), _)) => Some(request.number),
        _ => None,
    }
}

// === impl Mind ===

impl Mind {
    fn host(&self) -> Host {
        let network = Network {
            max_rx_bandwidth: 10_000_000_000,
            max_tx_bandwidth: 10_000_000_000,
            ..Network::default()
        };
        Host {
            id: host_id(self.ip, "evil"),
            hostname: "evil".to_owned(),
            name: "evil".to_owned(),
            ip: self.ip.to_string(),
            port: i32::from(PORT),
            download_port: i32::from(PORT),
            network: Some(network),
            ..Host::default()
        }
    }

    fn total(&self) -> u64 {
        self.blob.len() as u64 + u64::from(self.lie == Lie::Total)
    }

    fn piece(&self, number: u32) -> Vec<u8> {
        let total = self.blob.len() as u64;
        let range =
            piece_range(u64::from(number & !UNIT), total, unit_length(total)).expect("it was asked for");
        let at = |at: u64| usize::try_from(at).expect("small");
        self.blob.bytes[at(range.start)..at(range.end)].to_vec()
    }

    async fn answer(&self, stream: &mut PeerStream, number: u32) -> std::io::Result<()> {
        let total = self.blob.len() as u64;
        let mut bytes = self.piece(number);
        match self.lie {
            Lie::WrongBytes | Lie::WrongBytesAndHashes => bytes[0] ^= 1,
            Lie::Replay => {
                let len = bytes.len();
                bytes = self.piece(u32::from(number & !UNIT == 0));
                bytes.resize(len, 0);
            }
            _ => {}
        }
        let mut head = Content {
            number,
            offset: u64::from(number & !UNIT) * unit_length(total),
            length: bytes.len() as u64,
            digest: format!("crc32:{}", crc32fast::hash(&bytes)),
            ..Content::default()
        };
        match self.lie {
            Lie::Length => head.length -= 1,
            Lie::Offset => head.offset += 1,
            Lie::Number => head.number += 1,
            Lie::PieceOf4GiB => head.length = 1 << 32,
            Lie::Digest => head.digest = format!("crc32:{}", crc32fast::hash(&bytes) ^ 1),
            Lie::DigestInHex => head.digest = format!("crc32:{:08x}", crc32fast::hash(&bytes) | 0xa000_0000),
            Lie::Missing => {
                let failure = Failure { code: Code::NotFound, text: "not here".to_owned() };
                return stream.write_all(&failure.encode(0)).await;
            }
            Lie::FrameOf4GiB => {
                stream.write_all(&[0, 1, 0xff, 0xff, 0xff, 0xff]).await?;
                return endless(stream).await;
            }
            Lie::Silent => std::future::pending().await,
            _ => {}
        }
        stream.write_all(&head.encode(0)).await?;
        match self.lie {
            Lie::Drip => {
                for byte in &bytes {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            }
            Lie::PieceOf4GiB => endless(stream).await,
            Lie::EndlessPiece => {
                stream.write_all(&bytes).await?;
                endless(stream).await
            }
            _ => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
        }
    }
}

async fn endless(stream: &mut PeerStream) -> std::io::Result<()> {
    loop {
        stream.write_all(&[7; 64 << 10]).await?;
    }
}

// === impl Mouth ===

#[tonic::async_trait]
impl DfdaemonUpload for Mouth {
    type SyncPiecesStream = Answers<SyncPiecesResponse>;
    type SyncHostStream = Answers<Host>;

    async fn sync_pieces(
        &self,
        _: Request<SyncPiecesRequest>,
    ) -> Result<Response<Self::SyncPiecesStream>, Status> {
        let total = self.0.total();
        let count = usize::try_from(piece_count(total, unit_length(total))).expect("small");
        let mut have = vec![0; count.div_ceil(8)];
        (0..count).for_each(|piece| have[piece / 8] |= 1 << (piece % 8));
        let all = SyncPiecesResponse {
            ip: self.0.ip.to_string(),
            tcp_port: Some(i32::from(PIECE_PORT)),
            have,
            total,
            ..SyncPiecesResponse::default()
        };
        let one = SyncPiecesResponse { have: Vec::new(), total: 0, length: 1, ..all.clone() };
        let endless = self.0.lie == Lie::EndlessWords;
        let items = stream::unfold(Some(all), move |next| {
            let one = one.clone();
            async move {
                // The others of the same thread want to lie, too.
                tokio::task::yield_now().await;
                match next {
                    Some(item) => Some((Ok(item), endless.then_some(one))),
                    None => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(Box::pin(items)))
    }

    async fn sync_host(&self, _: Request<SyncHostRequest>) -> Result<Response<Self::SyncHostStream>, Status> {
        Err(Status::unimplemented("it is a liar"))
    }
}

#[tonic::async_trait]
impl ClusterService for Mouth {
    type HoldStream = Answers<HoldReply>;

    async fn hold(&self, _: Request<Streaming<HoldRequest>>) -> Result<Response<Self::HoldStream>, Status> {
        Err(Status::unimplemented("it is a liar"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        match self.0.lie {
            Lie::Version => {
                Ok(Response::new(StatusReply { version: "99.1.2".to_owned(), ..StatusReply::default() }))
            }
            _ => Err(Status::unimplemented("it is a liar")),
        }
    }

    async fn piece_hashes(
        &self,
        _: Request<PieceHashesRequest>,
    ) -> Result<Response<PieceHashesReply>, Status> {
        let total = self.0.blob.len() as u64;
        let count = usize::try_from(piece_count(total, unit_length(total))).expect("small");
        match self.0.lie {
            Lie::WrongBytesAndHashes => {
                Ok(Response::new(PieceHashesReply { total, sha256: vec![9; 32 * count] }))
            }
            _ => Err(Status::not_found("it does not say")),
        }
    }

    type TakeStream = Answers<TakeReply>;

    /// As one of an earlier version.
    async fn take(&self, _: Request<TakeRequest>) -> Result<Response<Self::TakeStream>, Status> {
        Err(Status::unimplemented("what is this?"))
    }
}

// === impl Names ===

#[tonic::async_trait]
impl Roll for Names {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn me(&self) -> Option<&str> {
        None
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        name.parse().map(|address| vec![address]).map_err(|_| "no address".to_owned())
    }
}
