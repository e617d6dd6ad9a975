//! Downloads of our own daemons: orders, grants, parents, and a scheduler that dies.

use std::net::SocketAddr;
use std::sync::Arc;

use dfget_proto::Ring;
use dfget_scheduler::{Join, Membership, NoScheduler, Orders, Pace, Progress, Schedulers};
use dfget_swarm::Pieces;
use tokio::time::timeout;

use crate::rig::*;

const COUNT: u32 = 10;

pub(crate) fn join(number: u8, letter: char) -> Join {
    Join {
        task: task(letter),
        peer: format!("10.0.0.{number}-n{number}-{}", fastrand::u64(..)),
        url: format!("{URL}?token=secret"),
        total: Some(TOTAL),
        have: Pieces::none(COUNT),
        private: false,
        trace: None,
        wants_proof: false,
    }
}

fn progress(have: Pieces) -> Progress {
    Progress { have, total: Some(TOTAL), ..Progress::default() }
}

/// The first orders that are as wanted.
async fn orders(membership: &mut Membership, what: &str, wanted: impl Fn(&Orders) -> bool) -> Orders {
    let find = async {
        loop {
            let orders = membership.next().await.expect("the scheduler is there");
            if wanted(&orders) {
                return orders;
            }
        }
    };
    timeout(LONG, find).await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn gone(membership: &mut Membership) {
    let wait = async { while membership.next().await.is_some() {} };
    timeout(LONG, wait).await.expect("the scheduler is gone");
}

fn names_of(orders: &Orders) -> Vec<&str> {
    orders.parents.iter().map(|parent| parent.host.hostname.as_str()).collect()
}

/// Members `a:1`, `b:1` ..., each at its own scheduler.
async fn cluster(count: usize, speech: &Speech) -> (Vec<Node>, Vec<(String, SocketAddr)>) {
    let mut nodes = Vec::new();
    let mut members = Vec::new();
    for number in 0..count {
        let node = Node::start(speech).await;
        members.push((format!("m{number}:1"), node.address));
        nodes.push(node);
    }
    (nodes, members)
}

/// Indexes of members in the order of a task.
fn order(members: &[(String, SocketAddr)], letter: char) -> Vec<usize> {
    let ring = Ring::new(members.iter().map(|(name, _)| name.clone()));
    let at = |wanted: &str| members.iter().position(|(name, _)| name == wanted).unwrap();
    ring.order(&task(letter)).map(at).collect()
}

async fn feed_each_other(speech: Speech) {
    let (_nodes, members) = cluster(1, &speech).await;
    let (one, _members) = client(1, names(&members, None), &speech);
    let (two, _members) = client(2, names(&members, None), &speech);
    let mut first = one.join(&join(1, 'a')).await.unwrap();
    let granted = orders(&mut first, "a grant", |orders| !orders.origin.is_empty()).await;
    let mut second = two.join(&join(2, 'a')).await.unwrap();
    let told = orders(&mut second, "the first as a parent", |orders| names_of(orders) == ["n1"]).await;
    assert_eq!(told.total, Some(TOTAL));
    for range in &told.origin {
        let twice = granted.origin.iter().any(|other| range.start < other.end && other.start < range.end);
        assert!(!twice, "{:?} and {:?}", granted.origin, told.origin);
    }
    first.tell(progress(Pieces::all(COUNT)));
    first.finish();
    let (three, _members) = client(3, names(&members, None), &speech);
    let mut third = three.join(&join(3, 'a')).await.unwrap();
    let has_all =
        |orders: &Orders| orders.parents.iter().any(|parent| parent.complete && parent.host.hostname == "n1");
    orders(&mut third, "the first, which has all", has_all).await;
    third.finish();
    second.fail("the client has left");
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn pieces_are_granted_once_and_who_joins_is_told_parents() {
    feed_each_other(plain()).await;
}

#[tokio::test]
async fn so_it_is_under_the_clusters_key() {
    feed_each_other(keyed()).await;
}

#[tokio::test]
async fn who_is_alone_is_told_so_at_once() {
    let speech = plain();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let (nobody, _members) = client(1, names(&[], None), &speech);
    assert_eq!(nobody.join(&join(1, 'a')).await.unwrap_err(), NoScheduler::Alone);
    let own = names(&[("me:1".to_owned(), nowhere)], Some("me:1"));
    let (alone, _members) = client(1, own, &speech);
    assert_eq!(alone.join(&join(1, 'a')).await.unwrap_err(), NoScheduler::Alone);
    let other = names(&[("m0:1".to_owned(), nowhere)], None);
    let (dark, _members) = client(1, other, &speech);
    assert!(matches!(dark.join(&join(1, 'a')).await.unwrap_err(), NoScheduler::Nobody(_)));
}

#[tokio::test]
async fn what_one_holds_is_told_to_who_joins_and_no_longer_when_it_is_dropped() {
    let speech = keyed();
    let (nodes, members) = cluster(1, &speech).await;
    let (one, _members) = client(1, names(&members, None), &speech);
    let (two, _members) = client(2, names(&members, None), &speech);
    one.hold(&task('a'), TOTAL, vec!["https://registry.test".to_owned()], true);
    until("it is known", || nodes[0].service.counts() == (1, 1)).await;
    let mut other = join(2, 'a');
    other.private = true;
    let mut membership = two.join(&other).await.unwrap();
    let told = orders(&mut membership, "the holder", |orders| !orders.parents.is_empty()).await;
    assert!(told.parents[0].complete && names_of(&told) == ["n1"] && told.origin.is_empty());
    membership.fail("enough");
    let elsewhere = Join { url: "https://other.test/x".to_owned(), ..join(2, 'a') };
    let mut membership = two.join(&elsewhere).await.unwrap();
    let told = orders(&mut membership, "the origin", |orders| !orders.origin.is_empty()).await;
    assert_eq!(names_of(&told), [""; 0]);
    membership.fail("enough");
    one.drop_task(&task('a'));
    until("all is forgotten", || nodes[0].service.counts().0 == 0).await;
    one.close().await;
    until("the host is forgotten", || nodes[0].service.counts().1 == 1).await;
}

#[tokio::test]
async fn a_download_that_breaks_off_leaves_its_place_to_others() {
    let speech = plain();
    let (nodes, members) = cluster(1, &speech).await;
    let (one, _members) = client(1, names(&members, None), &speech);
    let (two, _members) = client(2, names(&members, None), &speech);
    let mut first = one.join(&join(1, 'a')).await.unwrap();
    orders(&mut first, "a grant", |orders| !orders.origin.is_empty()).await;
    let mut second = two.join(&join(2, 'a')).await.unwrap();
    drop(first);
    let alone = |orders: &Orders| orders.parents.is_empty() && !orders.origin.is_empty();
    orders(&mut second, "its own grant", alone).await;
    drop(second);
    until("nothing is left", || nodes[0].service.counts().0 == 0).await;
}

#[tokio::test]
async fn when_the_scheduler_is_killed_the_next_on_the_ring_takes_over_and_knows_what_is_held() {
    let speech = keyed();
    let (mut nodes, members) = cluster(3, &speech).await;
    let order = order(&members, 'a');
    let list = names(&members, None);
    let (one, _members) = client(1, Arc::clone(&list), &speech);
    let (two, _members) = client(2, list, &speech);
    one.hold(&task('a'), TOTAL, vec!["https://registry.test".to_owned()], false);
    until("the first knows", || nodes[order[0]].service.counts().0 == 1).await;
    let mut membership = two.join(&join(2, 'a')).await.unwrap();
    assert_eq!(membership.scheduler(), members[order[0]].0);
    orders(&mut membership, "the holder", |orders| names_of(orders) == ["n1"]).await;

    let second_address = nodes[order[1]].address;
    let first = std::mem::replace(&mut nodes[order[0]], Node::start(&speech).await);
    let address = first.kill().await;
    gone(&mut membership).await;
    let mut membership = two.join(&join(2, 'a')).await.unwrap();
    assert_eq!(membership.scheduler(), members[order[1]].0);
    assert_eq!(members[order[1]].1, second_address);
    orders(&mut membership, "the holder, from the next", |orders| names_of(orders) == ["n1"]).await;

    // Back, and it knows nothing but what it is told.
    let back = Node::start_at(address, &speech).await;
    until("it is told again", || back.service.counts().0 == 1).await;
    gone(&mut membership).await;
    let mut membership = two.join(&join(2, 'a')).await.unwrap();
    assert_eq!(membership.scheduler(), members[order[0]].0);
    orders(&mut membership, "the holder, from the first", |orders| names_of(orders) == ["n1"]).await;
}

#[tokio::test]
async fn a_scheduler_that_has_only_just_come_back_hides_nobody_that_its_successor_knows() {
    let speech = keyed();
    let (mut nodes, members) = cluster(3, &speech).await;
    let order = order(&members, 'a');
    let address = std::mem::replace(&mut nodes[order[0]], Node::start(&speech).await).kill().await;
    // It takes long to look again.
    let patient = Pace { skip: 600 * LONG, longest_skip: 600 * LONG, ..pace() };
    let (one, _members) = client_at(patient, 1, names(&members, None), &speech);
    one.hold(&task('a'), TOTAL, vec!["https://registry.test".to_owned()], false);
    until("the successor knows", || nodes[order[1]].service.counts().0 == 1).await;

    nodes[order[0]] = Node::start_at(address, &speech).await;
    let (two, _members) = client(2, names(&members, None), &speech);
    let mut membership = two.join(&join(2, 'a')).await.unwrap();
    assert_eq!(membership.scheduler(), members[order[1]].0);
    orders(&mut membership, "the holder", |orders| names_of(orders) == ["n1"]).await;
    // What nobody knows stays with the first; and what is known for another authority is of no use.
    let elsewhere = Join { url: "https://other.test/x".to_owned(), ..join(2, 'a') };
    let other = two.join(&elsewhere).await.unwrap();
    assert_eq!(other.scheduler(), members[order[0]].0);
}

#[tokio::test]
async fn a_new_member_is_told_what_becomes_its_own() {
    let speech = plain();
    let (nodes, members) = cluster(4, &speech).await;
    let letter = ('a'..='f').find(|&letter| order(&members, letter)[0] == 3).expect("a task of the last");
    let (one, change) = client(1, names(&members[..3], None), &speech);
    one.hold(&task(letter), TOTAL, vec!["https://registry.test".to_owned()], false);
    until("somebody knows", || nodes[..3].iter().any(|node| node.service.counts().0 == 1)).await;
    change.send_replace(names(&members, None));
    until("the new one knows", || nodes[3].service.counts().0 == 1).await;
}

#[tokio::test]
async fn a_host_that_was_forgotten_announces_itself_again() {
    let speech = plain();
    let (nodes, members) = cluster(1, &speech).await;
    let (one, _members) = client(1, names(&members, None), &speech);
    let membership = one.join(&join(1, 'a')).await.unwrap();
    membership.finish();
    let mut stock = stock_client(&nodes[0]).await;
    let host_id = host(1).id;
    stock.delete_host(dfget_proto::messages::scheduler::v2::DeleteHostRequest { host_id }).await.unwrap();
    one.join(&join(1, 'b')).await.expect("it is announced again");
}

#[tokio::test]
async fn many_contents_are_told_in_several_messages() {
    let speech = plain();
    let (nodes, members) = cluster(1, &speech).await;
    let (one, _members) = client(1, names(&members, None), &speech);
    for number in 0..3500_u32 {
        one.hold(&format!("{number:064x}"), TOTAL, vec!["https://registry.test".to_owned()], false);
    }
    until("all are known", || nodes[0].service.counts().0 == 3500).await;
    for number in 0..3000_u32 {
        one.drop_task(&format!("{number:064x}"));
    }
    until("those that are left are known", || nodes[0].service.counts().0 == 500).await;
}

#[tokio::test]
async fn all_members_say_how_they_are_or_why_not() {
    let speech = keyed();
    let (_nodes, mut members) = cluster(2, &speech).await;
    members.push(("dark:1".to_owned(), SocketAddr::from(([127, 0, 0, 1], 9))));
    let (one, _members): (Schedulers, _) = client(1, names(&members, Some("m1:1")), &speech);
    let states = one.status().await;
    let seen: Vec<_> =
        states.iter().map(|state| (state.name.as_str(), state.own, state.reply.is_ok())).collect();
    assert_eq!(seen, [("dark:1", false, false), ("m0:1", false, true), ("m1:1", true, true)]);
    assert_eq!(states[1].reply.as_ref().unwrap().version, "1.2.3");
}
