//! What parents tell of their pieces, and of themselves.

use std::net::SocketAddr;
use std::time::Duration;

use dfget_cluster::{Dialer, Door};
use dfget_peer::{Asker, ErrorKind, Patience, PeerClient, SyncItem, SyncStream, Uploads};
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_client::DfdaemonUploadClient;
use dfget_proto::messages::dfdaemon::v2::{SyncHostRequest, SyncPiecesRequest, SyncPiecesResponse};
use dfget_storage::EntryKey;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::stage::{LEN, MIB, Stage, content, impatient, range, slice, task, ways};

/// Mounts the service as the daemon does: whoever came in at the door is in the extensions.
async fn grpc(uploads: &Uploads, door: Door) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let service = uploads.service();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, address) = listener.accept().await.unwrap();
            let (door, service) = (door.clone(), service.clone());
            connections.spawn(async move {
                let stream = door.admit(socket).await.unwrap();
                let asker = Asker { keyed: stream.is_keyed(), address };
                let answering = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(asker);
                    hyper::service::Service::call(&TowerToHyperService::new(service.clone()), request)
                });
                let served = http2::Builder::new(TokioExecutor::new());
                let _ = served.serve_connection(TokioIo::new(stream), answering).await;
            });
        }
    });
    (at, tasks)
}

async fn sync(client: &PeerClient, at: SocketAddr, letter: char) -> SyncStream {
    client.sync(at, &task(letter), 0, &Patience::default()).await.unwrap()
}

async fn stock(at: SocketAddr) -> DfdaemonUploadClient<Channel> {
    let channel = Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
    DfdaemonUploadClient::new(channel)
}

fn asking(letter: char, numbers: Vec<u32>) -> SyncPiecesRequest {
    SyncPiecesRequest {
        host_id: "127.0.0.1-stock".into(),
        task_id: task(letter),
        interested_piece_numbers: numbers,
        all: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_follows_a_parent_that_is_downloading_itself() {
    for (door, dialer) in ways() {
        let stage = Stage::new((door.clone(), dialer));
        let (at, _tasks) = grpc(&stage.uploads, door.clone()).await;
        let bytes = content(LEN);
        let (entry, progress, ended) = stage.coming('a', None);
        let mut news = sync(&stage.client, at, 'a').await;
        let pieces = stage.pieces;
        entry.set_total(LEN).unwrap();
        entry.append(4 * MIB, slice(&bytes, range(1, LEN))).unwrap();
        progress.send(()).unwrap();
        let first = news.next().await.unwrap().unwrap();
        assert_eq!(first, SyncItem::All { have: vec![0, 0xff, 0], total: LEN, pieces, round: 0 });
        assert!(stage.fetch('a', 1, LEN).await == slice(&bytes, range(1, LEN)));
        let early = stage.client.fetch(pieces, &task('a'), 0, range(0, LEN), &Patience::default()).await;
        assert_eq!(early.unwrap_err().kind(), ErrorKind::Missing);
        // Half a unit is none.
        entry.append(0, &bytes[..(3 << 20) - (256 << 10)]).unwrap();
        entry.append(8 * MIB, slice(&bytes, range(2, LEN))).unwrap();
        progress.send(()).unwrap();
        let next = news.next().await.unwrap().unwrap();
        assert_eq!(next, SyncItem::All { have: vec![0b1_1111, 0xff, 1], total: LEN, pieces, round: 0 });
        let half = stage.client.fetch(pieces, &task('a'), 0, range(0, LEN), &Patience::default()).await;
        assert_eq!(half.unwrap_err().kind(), ErrorKind::Missing);
        assert!(stage.fetch('a', 2, LEN).await == slice(&bytes, range(2, LEN)));
        let from = (3 << 20) - (256 << 10);
        entry.append(from as u64, &bytes[from..4 << 20]).unwrap();
        stage.store.publish(&entry, EntryKey::from("a"), vec![]).unwrap();
        ended.cancel();
        let last = news.next().await.unwrap().unwrap();
        assert_eq!(last, SyncItem::All { have: vec![0xff, 0xff, 1], total: LEN, pieces, round: 0 });
        assert!(stage.fetch('a', 0, LEN).await == slice(&bytes, range(0, LEN)));
        assert_eq!(news.next().await, None);
        assert_eq!(news.next().await, None);
        let mut late = sync(&stage.client, at, 'a').await;
        let all = late.next().await.unwrap().unwrap();
        assert_eq!(all, SyncItem::All { have: vec![0xff, 0xff, 1], total: LEN, pieces, round: 0 });
        assert_eq!(late.next().await, None);
        let keyed = !door.plain;
        assert!(stage.shelf.askers.lock().iter().all(|asker| asker.keyed == keyed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_ends_badly_is_an_error() {
    let [plain, _] = ways();
    let door = plain.0.clone();
    let stage = Stage::new(plain);
    let (at, _tasks) = grpc(&stage.uploads, door).await;
    let (_entry, _progress, ended) = stage.coming('a', Some(LEN));
    let (_entry, progress, _ended) = stage.coming('b', Some(LEN));
    let (mut one, mut other) = (sync(&stage.client, at, 'a').await, sync(&stage.client, at, 'b').await);
    for news in [&mut one, &mut other] {
        let nothing = SyncItem::All { have: vec![0, 0, 0], total: LEN, pieces: stage.pieces, round: 0 };
        assert_eq!(news.next().await.unwrap().unwrap(), nothing);
    }
    ended.cancel();
    assert_eq!(one.next().await.unwrap().unwrap_err().kind(), ErrorKind::Broken);
    assert_eq!(one.next().await, None);
    stage.shelf.holdings.lock().clear();
    drop(progress);
    let error = other.next().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "it says: the download of this task has failed here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_dragonfly_is_told_of_each_piece_that_it_wants() {
    let [plain, _] = ways();
    let door = plain.0.clone();
    let stage = Stage::new(plain);
    let (at, _tasks) = grpc(&stage.uploads, door).await;
    let bytes = content(LEN);
    let (entry, progress, _ended) = stage.coming('a', Some(LEN));
    entry.append(0, slice(&bytes, range(0, LEN))).unwrap();
    entry.append(8 * MIB, slice(&bytes, range(2, LEN))).unwrap();
    let mut child = stock(at).await;
    // One twice, and one that there is not.
    let mut items = child.sync_pieces(asking('a', vec![2, 1, 1, 99])).await.unwrap().into_inner();
    let told = |number, offset, length| SyncPiecesResponse {
        number,
        offset,
        length,
        ip: "127.0.0.1".into(),
        tcp_port: Some(stage.pieces.port().into()),
        ..SyncPiecesResponse::default()
    };
    assert_eq!(items.message().await.unwrap(), Some(told(2, 8 * MIB, 1000)));
    entry.append(4 * MIB, slice(&bytes, range(1, LEN))).unwrap();
    progress.send(()).unwrap();
    assert_eq!(items.message().await.unwrap(), Some(told(1, 4 * MIB, 4 * MIB)));
    assert_eq!(items.message().await.unwrap(), None, "all that it wants was told");
    let mut items = child.sync_pieces(asking('a', vec![0])).await.unwrap().into_inner();
    assert_eq!(items.message().await.unwrap(), Some(told(0, 0, 4 * MIB)));
    let host = SyncHostRequest { host_id: "h".into(), peer_id: "p".into() };
    let mut hosts = child.sync_host(host).await.unwrap().into_inner();
    for _ in 0..2 {
        assert!(hosts.message().await.unwrap().unwrap().network.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_or_makes_no_sense_is_refused() {
    let [plain, _] = ways();
    let door = plain.0.clone();
    let stage = Stage::with(plain, |options| options.streams = 2);
    let (at, _tasks) = grpc(&stage.uploads, door).await;
    let unknown = stage.client.sync(at, &task('x'), 3, &Patience::default()).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Missing);
    let mut child = stock(at).await;
    let status = child.sync_pieces(asking('x', vec![0])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let long = SyncPiecesRequest { task_id: "../../etc".into(), ..asking('a', vec![]) };
    assert_eq!(child.sync_pieces(long).await.unwrap_err().code(), Code::InvalidArgument);
    let huge = asking('a', (0..1 << 20).collect());
    assert_eq!(child.sync_pieces(huge).await.unwrap_err().code(), Code::OutOfRange);
    let _held = stage.coming('a', Some(LEN));
    let one = child.sync_pieces(asking('a', vec![0])).await.unwrap();
    let _two = child.sync_pieces(asking('a', vec![0])).await.unwrap();
    let three = child.sync_pieces(asking('a', vec![0])).await.unwrap_err();
    assert_eq!(three.code(), Code::ResourceExhausted);
    drop(one);
    while child.sync_pieces(asking('a', vec![0])).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_parent_that_says_nothing_is_broken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let client = PeerClient::new(Dialer { tls: None }, "me".to_owned());
    let asked = client.sync(at, &task('a'), 0, &impatient()).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Broken);
    drop(listener);
    let asked = client.sync(at, &task('a'), 0, &impatient()).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Broken);
}
