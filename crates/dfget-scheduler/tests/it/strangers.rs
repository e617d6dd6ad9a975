//! Hosts without the cluster's key claim what they like. What is counted is what the scheduler knows then.

use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use dfget_proto::messages::dfget::v1::{Held, HoldReply, HoldRequest};
use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::rig::*;

/// Contents that one host claims: more than a stranger may.
const CLAIMED: usize = 5000;

/// As documented in `limits.rs`.
const OF_ONE: u64 = 4096;
const OF_ALL: u64 = 32_768;
const HOSTS: usize = 1024;

fn host(number: usize) -> Host {
    let ip = format!("10.1.{}.{}", number / 256, number % 256);
    Host {
        id: format!("{ip}-h{number}"),
        hostname: format!("h{number}"),
        ip,
        port: 65000,
        download_port: 65000,
        ..Host::default()
    }
}

/// A host that claims to have so many contents, each another one; its stream lives as long as what this returns, in whole.
async fn claim(
    channel: &Channel,
    number: usize,
    contents: usize,
) -> (Streaming<HoldReply>, oneshot::Sender<()>) {
    let held = move |content: usize| Held {
        task_id: format!("{:064x}", number * 1_000_000 + content),
        total: TOTAL,
        origins: (0..16).map(|at| format!("https://r{at}.test")).collect(),
        private: false,
    };
    let message = move |first: usize| HoldRequest {
        host: (first == 0).then(|| host(number)),
        add: (first..contents.min(first + 500)).map(held).collect(),
        remove: Vec::new(),
    };
    let (end, ended) = oneshot::channel::<()>();
    let messages =
        stream::iter((0..contents).step_by(500).map(message)).chain(stream::pending()).take_until(ended);
    let mut cluster = ClusterClient::new(channel.clone());
    let mut replies = cluster.hold(messages).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    (replies, end)
}

#[tokio::test]
async fn a_stranger_may_say_that_it_has_some_contents_and_no_download_adds_to_them() {
    let node = Node::start(&plain()).await;
    let stream = claim(&channel(&node).await, 1, CLAIMED).await;
    until("as many as may be", || node.service.counts() == (OF_ONE, 1)).await;
    let mut scheduler = stock_client(&node).await;
    let mut download = Stock::register(&mut scheduler, &host(1).id, &task('b'), "p1", |_| {}).await;
    download.sent_to_origin().await;
    assert!(node.service.knows(&task('b')));
    download.say(at_origin()).await;
    download.say(finished_at_origin()).await;
    download.ended().await;
    until("it is forgotten", || !node.service.knows(&task('b'))).await;
    assert_eq!(node.service.counts(), (OF_ONE, 1));
    drop(stream);
    until("it has left with all that it had", || node.service.counts() == (0, 0)).await;
}

#[tokio::test]
async fn a_member_may_say_that_it_has_more() {
    let speech = keyed();
    let node = Node::start(&speech).await;
    let (member, _members) = client(1, names(&[("m:1".to_owned(), node.address)], None), &speech);
    for content in 0..CLAIMED {
        member.hold(&format!("{content:064x}"), TOTAL, vec!["https://registry.test".to_owned()], false);
    }
    until("all of it", || node.service.counts() == (CLAIMED as u64, 1)).await;
}

#[tokio::test]
async fn all_strangers_together_may_say_no_more_than_some_and_there_is_room_when_one_leaves() {
    let node = Node::start(&plain()).await;
    let mut streams = Vec::new();
    for number in 0..9 {
        // A connection each: their messages are paid for one by one.
        streams.push(claim(&channel(&node).await, number, CLAIMED).await);
    }
    until("as many as may be", || node.service.counts() == (OF_ALL, 9)).await;
    let last = claim(&channel(&node).await, 10, 10).await;
    assert_eq!(node.service.counts(), (OF_ALL, 10), "there is no room");
    streams.pop();
    streams.remove(0);
    until("there is room again", || node.service.counts().0 < OF_ALL).await;
    drop(last);
    let _again = claim(&channel(&node).await, 11, 10).await;
    until("it is known", || node.service.knows(&format!("{:064x}", 11_000_009))).await;
}

#[tokio::test]
async fn there_may_be_so_many_strangers_and_no_more() {
    let node = Node::start(&plain()).await;
    let mut scheduler = stock_client(&node).await;
    for number in 0..HOSTS {
        announce(&mut scheduler, host(number)).await.unwrap();
    }
    let refused = announce(&mut scheduler, host(HOSTS)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    announce(&mut scheduler, host(0)).await.expect("who is known is known");
    assert_eq!(node.service.counts().1, HOSTS as u64);
}
