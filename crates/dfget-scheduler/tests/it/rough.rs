//! Schedulers that answer nothing or nonsense, floods, and strangers.

use std::net::SocketAddr;

use dfget_cluster::Dialer;
use dfget_proto::Ring;
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use dfget_proto::messages::dfget::v1::{Held, HoldRequest};
use dfget_proto::messages::grpc::health::v1::HealthCheckRequest;
use dfget_proto::messages::grpc::health::v1::health_client::HealthClient;
use dfget_proto::messages::scheduler::v2::DeleteHostRequest;
use dfget_scheduler::Pace;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::ours::join;
use crate::rig::*;

/// A port that accepts, says `words` to whoever comes and reads on.
async fn imposter(words: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut sockets = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(words).await.unwrap();
            sockets.push(socket);
        }
    });
    (address, running)
}

/// Joins a task that belongs to the imposter; the node takes over.
async fn the_next_is_asked(words: &'static [u8], speech: Speech) {
    let node = Node::start(&speech).await;
    let (address, running) = imposter(words).await;
    let ring = Ring::new(["bad:1".to_owned(), "good:1".to_owned()]);
    let letter = ('a'..='f').find(|&letter| ring.order(&task(letter)).next() == Some("bad:1"));
    let members = [("bad:1".to_owned(), address), ("good:1".to_owned(), node.address)];
    let (one, _members) = client_at(Pace::default(), 1, names(&members, None), &speech);
    // With little to do, as fast as promised; the good one has to answer in that time, too.
    let join = join(1, letter.unwrap());
    let mut tries = 0;
    let membership = loop {
        match one.join(&join).await {
            Ok(membership) => break membership,
            Err(error) if tries == 20 => panic!("{error}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    assert_eq!(membership.scheduler(), "good:1");
    drop(running);
}

#[tokio::test]
async fn who_accepts_and_never_answers_is_passed_over() {
    the_next_is_asked(b"", plain()).await;
    the_next_is_asked(b"", keyed()).await;
}

#[tokio::test]
async fn who_talks_nonsense_is_passed_over() {
    the_next_is_asked(b"HTTP/1.1 400 Bad Request\r\n\r\nthis is no scheduler", plain()).await;
    the_next_is_asked(&[0xff; 4096], keyed()).await;
}

#[tokio::test]
async fn a_stranger_without_the_key_gets_nothing_and_others_do_not_wait_for_it() {
    let speech = keyed();
    let node = Node::start(&speech).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(node.address).await.unwrap());
    }
    let mut stranger = TcpStream::connect(node.address).await.unwrap();
    stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _reset = timeout(LONG, stranger.read_to_end(&mut heard)).await.expect("it is closed");
    assert_eq!(heard, b"");
    let members = [("m0:1".to_owned(), node.address)];
    let in_clear = Speech { dialer: Dialer { tls: None }, ..speech.clone() };
    let (stranger, _members) = client(1, names(&members, None), &in_clear);
    stranger.join(&join(1, 'a')).await.expect_err("no key");
    let (one, _members) = client(1, names(&members, None), &speech);
    one.join(&join(1, 'a')).await.expect("the key");
}

#[tokio::test]
async fn who_shows_no_key_cannot_speak_for_a_host_that_did() {
    let mut speech = keyed();
    speech.door.plain = true;
    let node = Node::start(&speech).await;
    let members = [("m0:1".to_owned(), node.address)];
    let (one, _members) = client(1, names(&members, None), &speech);
    let _membership = one.join(&join(1, 'a')).await.unwrap();
    let mut stock = stock_client(&node).await;
    let refused = announce(&mut stock, host(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let delete = stock.delete_host(DeleteHostRequest { host_id: host(1).id }).await.unwrap_err();
    assert_eq!(delete.code(), Code::PermissionDenied);
    let mut peer = Stock::register(&mut stock, &host(1).id, &task('a'), "p", |_| {}).await;
    assert_eq!(peer.hear().await.unwrap_err().code(), Code::PermissionDenied);
    let hold = HoldRequest { host: Some(host(1)), ..HoldRequest::default() };
    let mut cluster = ClusterClient::new(channel(&node).await);
    let mut replies = cluster.hold(stream::iter([hold])).await.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_later_hold_stream_of_a_host_replaces_the_earlier_one() {
    let node = Node::start(&plain()).await;
    let mut cluster = ClusterClient::new(channel(&node).await);
    let first = |letter| HoldRequest {
        host: Some(host(1)),
        add: vec![Held {
            task_id: task(letter),
            total: TOTAL,
            origins: vec!["https://registry.test".to_owned()],
            private: false,
        }],
        remove: Vec::new(),
    };
    let begin = |letter| {
        let (end, ended) = oneshot::channel::<()>();
        let request = stream::once(std::future::ready(first(letter)));
        (request.chain(stream::pending()).take_until(ended), end)
    };
    let (requests, end_of_old) = begin('a');
    let mut old = cluster.hold(requests).await.unwrap().into_inner();
    let instance = old.message().await.unwrap().unwrap().instance;
    let (requests, end_of_new) = begin('b');
    let mut new = cluster.hold(requests).await.unwrap().into_inner();
    assert_eq!(new.message().await.unwrap().unwrap().instance, instance);
    assert_eq!(node.service.counts(), (1, 1));
    assert_eq!(old.message().await.expect_err("it is told").code(), Code::Aborted);
    drop(end_of_old);
    let mut stock = stock_client(&node).await;
    announce(&mut stock, host(2)).await.unwrap();
    let mut child = Stock::register(&mut stock, &host(2).id, &task('b'), "p", |_| {}).await;
    assert_eq!(child.parents().await.len(), 1);
    drop(end_of_new);
    new.message().await.expect("it ends");
    until("it is forgotten", || node.service.counts() == (1, 1)).await;
}

#[tokio::test]
async fn a_flood_of_streams_leaves_nothing_and_others_are_answered() {
    let node = Node::start(&plain()).await;
    let mut flood = stock_client(&node).await;
    announce(&mut flood, host(1)).await.unwrap();
    let mut open = Vec::new();
    for number in 0..800 {
        let (task, peer) = (format!("{number:064x}"), format!("p{number}"));
        open.push(Stock::register(&mut flood, &host(1).id, &task, &peer, |_| {}).await);
    }
    let health = HealthClient::new(channel(&node).await).check(HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap().into_inner().status, 1);
    until("all are there", || node.service.counts().0 == 800).await;
    drop(open);
    until("all are forgotten", || node.service.counts().0 == 0).await;
}

#[tokio::test]
async fn a_message_longer_than_any_may_be_ends_its_stream_only() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    let mut peer = Stock::register(&mut client, &host(1).id, &task('a'), "p1", |download| {
        download.url = format!("https://registry.test/{}", "x".repeat(2 << 20));
    })
    .await;
    assert_eq!(peer.hear().await.unwrap_err().code(), Code::OutOfRange);
    let mut peer = Stock::register(&mut client, &host(1).id, &task('a'), "p2", |_| {}).await;
    peer.sent_to_origin().await;
}
