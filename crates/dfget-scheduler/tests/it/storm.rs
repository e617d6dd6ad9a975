//! Many nodes, of which some are killed again and again.

use std::sync::Arc;

use dfget_scheduler::{NoScheduler, Schedulers};
use tokio::time::timeout;

use crate::ours::join;
use crate::rig::*;

const NODES: usize = 20;
const ROUNDS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_join_is_answered_while_schedulers_die_and_what_is_known_comes_back() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let speech = plain();
    let mut nodes = Vec::new();
    let mut members = Vec::new();
    for number in 0..NODES {
        let node = Node::start(&speech).await;
        members.push((format!("m{number}:1"), node.address));
        nodes.push(Some(node));
    }
    let list = names(&members, None);
    let clients: Vec<(Schedulers, _)> =
        (0..NODES).map(|number| client(u8::try_from(number).unwrap(), Arc::clone(&list), &speech)).collect();
    for (number, (client, _)) in clients.iter().enumerate() {
        for content in 0..5 {
            client.hold(&held(number, content), TOTAL, vec!["https://registry.test".to_owned()], false);
        }
    }
    for _ in 0..ROUNDS {
        let victim = random.usize(..NODES);
        match nodes[victim].take() {
            Some(node) => drop(node.kill().await),
            None => nodes[victim] = Some(Node::start_at(members[victim].1, &speech).await),
        }
        let letter = random.choice(['a', 'b', 'c', 'd', 'e', 'f']).unwrap();
        for (number, (client, _)) in clients.iter().enumerate() {
            let join = join(u8::try_from(number).unwrap(), letter);
            match timeout(LONG, client.join(&join)).await.expect("an answer") {
                Ok(membership) => membership.finish(),
                Err(NoScheduler::Nobody(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    for (node, (_, address)) in nodes.iter_mut().zip(&members) {
        if node.is_none() {
            *node = Some(Node::start_at(*address, &speech).await);
        }
    }
    until("each content is known to the scheduler of its task", || {
        (0..NODES).all(|number| (0..5).all(|content| is_known(&nodes, &members, &held(number, content))))
    })
    .await;
}

fn held(number: usize, content: usize) -> String {
    format!("{:064x}", number * 1000 + content + 1)
}

fn is_known(nodes: &[Option<Node>], members: &[(String, std::net::SocketAddr)], task: &str) -> bool {
    let ring = dfget_proto::Ring::new(members.iter().map(|(name, _)| name.clone()));
    let first = ring.order(task).next().unwrap();
    let at = members.iter().position(|(name, _)| name == first).unwrap();
    nodes[at].as_ref().is_some_and(|node| node.service.knows(task))
}
