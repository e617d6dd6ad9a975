//! Clients of another make get what Dragonfly's scheduler answers.

use dfget_proto::messages::common::v2::{Download, Host, Memory};
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use dfget_proto::messages::dfget::v1::{PieceHashesRequest, StatusRequest};
use dfget_proto::messages::grpc::health::v1::HealthCheckRequest;
use dfget_proto::messages::grpc::health::v1::health_client::HealthClient;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, DeleteHostRequest, DeletePeerRequest, DeleteTaskRequest,
    DownloadPieceFailedRequest, ListHostsRequest, RegisterPeerRequest, ReschedulePeerRequest,
    StatTaskRequest,
};
use tonic::Code;

use crate::rig::*;

const N1: &str = "10.0.0.1-n1";
const N2: &str = "10.0.0.2-n2";
const N3: &str = "10.0.0.3-n3";

#[tokio::test]
async fn the_port_is_healthy_and_says_how_it_is() {
    let node = Node::start(&plain()).await;
    let channel = channel(&node).await;
    let reply = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(reply.into_inner().status, 1);
    announce(&mut stock_client(&node).await, host(1)).await.unwrap();
    let mut cluster = ClusterClient::new(channel);
    let status = cluster.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.version.as_str(), status.known_hosts), ("1.2.3", 1));
    let asked = PieceHashesRequest { task_id: task('a') };
    let refused = cluster.piece_hashes(asked).await.expect_err("without the key");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_host_may_tell_little_but_nothing_wrong() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    let memory = Memory { used_percent: 100.5, ..Memory::default() };
    let cases = [
        ("host.port", Host { port: 80, ..host(2) }),
        ("host.ip", Host { ip: "nope".to_owned(), ..host(2) }),
        ("host.memory.used_percent", Host { memory: Some(memory), ..host(2) }),
    ];
    for (field, bad) in cases {
        let error = announce(&mut client, bad).await.expect_err(field);
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with(field), "{error}");
    }
    let hosts = client.list_hosts(ListHostsRequest::default()).await.unwrap().into_inner().hosts;
    assert_eq!(hosts, [host(1)]);
}

#[tokio::test]
async fn an_unknown_host_cannot_register() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    let mut peer = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    assert_eq!(peer.hear().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_first_goes_to_the_origin_and_the_second_gets_it_as_soon_as_it_has_started() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    for number in 1..=3 {
        announce(&mut client, host(number)).await.unwrap();
    }
    let mut first = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    first.sent_to_origin().await;
    let mut second = Stock::register(&mut client, N2, &task('a'), "p2", |_| {}).await;
    first.say(at_origin()).await;
    assert_eq!(second.parents().await, ["p1"]);
    second.say(started()).await;
    first.say(piece(0)).await;
    second.say(piece(0)).await;
    first.say(finished_at_origin()).await;
    first.ended().await;
    second.say(finished()).await;
    second.ended().await;
    let stat = StatTaskRequest { task_id: task('a'), ..StatTaskRequest::default() };
    let stat = client.stat_task(stat).await.unwrap().into_inner();
    assert_eq!((stat.content_length, stat.piece_count, stat.peer_count), (TOTAL, 10, 2));
    assert!(stat.has_available_peer);
    let mut third = Stock::register(&mut client, N3, &task('a'), "p3", |_| {}).await;
    let mut parents = third.parents().await;
    parents.sort();
    assert_eq!(parents, ["p1", "p2"]);
}

#[tokio::test]
async fn what_is_only_announced_is_noted_and_feeds_others() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    announce(&mut client, host(2)).await.unwrap();
    let mut holder =
        Stock::register(&mut client, N1, &task('a'), "p1", |download| download.metadata_only = true).await;
    assert!(matches!(holder.hear().await.unwrap(), Some(Response::MetadataOnlyResponse(_))));
    holder.say(started()).await;
    holder.say(finished()).await;
    holder.ended().await;
    let mut child = Stock::register(&mut client, N2, &task('a'), "p2", |_| {}).await;
    assert_eq!(child.parents().await, ["p1"]);
}

#[tokio::test]
async fn an_empty_content_is_said_to_be_empty() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    let empty = |download: &mut Download| download.actual_content_length = Some(0);
    let mut peer = Stock::register(&mut client, N1, &task('a'), "p1", empty).await;
    assert!(matches!(peer.hear().await.unwrap(), Some(Response::EmptyTaskResponse(_))));
    peer.say(started()).await;
    peer.say(finished()).await;
    peer.ended().await;
}

#[tokio::test]
async fn who_has_used_its_parents_up_goes_to_the_origin() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    announce(&mut client, host(2)).await.unwrap();
    let mut first = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    first.sent_to_origin().await;
    first.say(at_origin()).await;
    let mut second = Stock::register(&mut client, N2, &task('a'), "p2", |_| {}).await;
    assert_eq!(second.parents().await, ["p1"]);
    second.say(started()).await;
    let failed =
        DownloadPieceFailedRequest { piece_number: Some(0), parent_id: "p1".to_owned(), temporary: true };
    second.say(Arm::DownloadPieceFailedRequest(failed)).await;
    let used_up = ReschedulePeerRequest { candidate_parents: vec![peer("p1")], description: None };
    second.say(Arm::ReschedulePeerRequest(used_up)).await;
    second.sent_to_origin().await;
}

#[tokio::test]
async fn ones_own_host_is_never_a_parent() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    let mut first = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    first.sent_to_origin().await;
    first.say(at_origin()).await;
    first.say(finished_at_origin()).await;
    first.ended().await;
    let mut again = Stock::register(&mut client, N1, &task('a'), "p2", |_| {}).await;
    again.sent_to_origin().await;
}

#[tokio::test]
async fn what_cannot_be_ends_the_stream_and_says_which_field() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    type Change = fn(&mut Download);
    let cases: [(&str, String, Change); 5] = [
        ("download.url", task('a'), |download| download.url = "/relative".to_owned()),
        ("download.piece_length", task('a'), |download| download.piece_length = Some(1 << 20)),
        ("task_id", "a".repeat(128), |_| {}),
        ("task_id", "A".repeat(64), |_| {}),
        ("total", task('a'), |download| download.actual_content_length = Some(u64::MAX)),
    ];
    for (field, task, change) in cases {
        let mut peer = Stock::register(&mut client, N1, &task, "p1", change).await;
        let error = peer.hear().await.expect_err(field);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().starts_with(field), "{error}");
    }
}

#[tokio::test]
async fn a_second_register_message_and_another_peers_name_end_the_stream() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    announce(&mut client, host(1)).await.unwrap();
    let mut peer = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    peer.sent_to_origin().await;
    let mut double = Stock::register(&mut client, N1, &task('b'), "p1", |_| {}).await;
    assert_eq!(double.hear().await.unwrap_err().code(), Code::AlreadyExists);
    let download = Download { url: URL.to_owned(), ..Download::default() };
    peer.say(Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) })).await;
    assert_eq!(peer.hear().await.unwrap_err().code(), Code::FailedPrecondition);
    let mut liar = Stock::register(&mut client, N1, &task('a'), "p2", |_| {}).await;
    liar.sent_to_origin().await;
    let other = AnnouncePeerRequest {
        host_id: N2.to_owned(),
        request: Some(finished()),
        ..AnnouncePeerRequest::default()
    };
    liar.send(other).await;
    assert_eq!(liar.hear().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_deleted_feeds_nobody() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    for number in 1..=3 {
        announce(&mut client, host(number)).await.unwrap();
    }
    for (host, peer) in [(N1, "p1"), (N2, "p2")] {
        let only = |download: &mut Download| download.metadata_only = true;
        let mut holder = Stock::register(&mut client, host, &task('a'), peer, only).await;
        holder.hear().await.unwrap();
        holder.say(started()).await;
        holder.say(finished()).await;
        holder.ended().await;
    }
    client.delete_task(DeleteTaskRequest { host_id: N1.to_owned(), task_id: task('a') }).await.unwrap();
    let mut child = Stock::register(&mut client, N3, &task('a'), "p3", |_| {}).await;
    assert_eq!(child.parents().await, ["p2"]);
    let delete = DeletePeerRequest { host_id: N3.to_owned(), task_id: task('a'), peer_id: "p3".to_owned() };
    client.delete_peer(delete).await.unwrap();
    assert_eq!(child.hear().await.unwrap_err().code(), Code::Aborted);
    client.delete_host(DeleteHostRequest { host_id: N2.to_owned() }).await.unwrap();
    let mut child = Stock::register(&mut client, N3, &task('a'), "p4", |_| {}).await;
    child.sent_to_origin().await;
    client.delete_host(DeleteHostRequest { host_id: N3.to_owned() }).await.unwrap();
    assert_eq!(child.hear().await.unwrap_err().code(), Code::Unavailable);
    let stat = StatTaskRequest { task_id: task('a'), ..StatTaskRequest::default() };
    assert_eq!(client.stat_task(stat).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(node.service.counts(), (0, 1));
}

#[tokio::test]
async fn a_host_that_is_silent_for_two_of_its_intervals_is_forgotten_unless_it_pulls() {
    let node = Node::start(&plain()).await;
    let mut client = stock_client(&node).await;
    for number in 1..=2 {
        let interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        client.announce_host(AnnounceHostRequest { host: Some(host(number)), interval }).await.unwrap();
    }
    let mut pulling = Stock::register(&mut client, N1, &task('a'), "p1", |_| {}).await;
    pulling.sent_to_origin().await;
    until("one is forgotten", || node.service.counts().1 == 1).await;
    pulling.say(finished_at_origin()).await;
    pulling.ended().await;
    until("the other is forgotten, and what it had", || node.service.counts() == (0, 0)).await;
}
