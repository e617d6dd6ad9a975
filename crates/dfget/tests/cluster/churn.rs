//! Nodes come and go all the time, by chance: who stays gets all of it.

use std::env;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::content::sha256;
use dfget_testkit::daemon::Signal;
use dfget_testkit::{Blob, Node};
use fastrand::Rng;

use crate::support::{MIB, in_namespace, setup, until};

/// Nodes of the cluster.
const NODES: u8 = 10;

/// Images that are pulled by all, one after the other.
const IMAGES: u64 = 3;

/// Nodes that are killed while an image is pulled: of ten, in some ten seconds, more than 30 % in a minute.
const KILLED: usize = 2;

/// Of a registry that feeds each node by itself an image would have ten copies, and one for each that begins anew.
const MOST_COPIES: f64 = 5.0;

/// What becomes of a node that is killed.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// So much of the image has left the registry by then.
    after: f64,
    /// Its store is lost as well.
    empty: bool,
    /// How long it is away.
    away: Duration,
}

impl Fate {
    fn drawn(random: &mut Rng) -> Self {
        let after = random.f64() * 0.9;
        Self { after, empty: random.bool(), away: Duration::from_millis(random.u64(..1500)) }
    }
}

#[test]
fn nodes_that_come_and_go_by_chance_cost_those_that_stay_nothing() {
    in_namespace(|| {
        let seed =
            env::var("DFGET_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        eprintln!("who is killed and when follows from DFGET_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        let mut cluster = setup(NODES).rates("50mbit", "50mbit").start();
        for image in 0..IMAGES {
            let blob = Blob::random(12 * MIB, random.u64(..));
            let url = cluster.registry.put("public/image", &blob);
            let mut order: Vec<usize> = (0..NODES.into()).collect();
            random.shuffle(&mut order);
            let fates: Vec<_> = order[..KILLED].iter().map(|at| (*at, Fate::drawn(&mut random))).collect();
            eprintln!("image {image}: {fates:?}");
            let registry = &cluster.registry;
            let sent = || registry.origin.body_bytes(&blob.digest) as f64 / blob.len() as f64;
            thread::scope(|scope| {
                for (at, node) in cluster.nodes.iter_mut().enumerate() {
                    let fate = fates.iter().find(|(other, _)| *other == at).map(|(_, fate)| *fate);
                    let (url, blob, sent) = (&url, &blob, &sent);
                    scope.spawn(move || match fate {
                        None => assert_all_right(&[node.get(url)], &blob.digest),
                        Some(fate) => dies(node, fate, url, blob, sent),
                    });
                }
            });
            let sent = sent();
            eprintln!("image {image}: the registry sent {sent:.2} copies");
            assert!(sent <= MOST_COPIES, "DFGET_SEED={seed}, image {image}: {sent}\n{}", cluster.logs());
        }
    });
}

/// Pulls, is killed, comes back, and pulls again.
fn dies(node: &mut Node, fate: Fate, url: &str, blob: &Blob, sent: &(dyn Fn() -> f64 + Sync)) {
    let (url, digest) = (Arc::<str>::from(url), blob.digest.clone());
    thread::scope(|scope| {
        let node = &*node;
        let url = Arc::clone(&url);
        let pull = scope.spawn(move || {
            node.place.within(|| node.daemon.client().fetch(&dfget_testkit::Request::get(&*url)))
        });
        until("a part of the image", || (sent() >= fate.after).then_some(()));
        node.daemon.send(Signal::KILL);
        // It may have been done before; and what looks whole is right.
        if let Ok(Ok(answer)) = pull.join() {
            let whole = answer.status == 200 && answer.is_complete();
            assert!(!whole || sha256(&answer.body) == digest, "wrong bytes of a node that dies");
        }
    });
    node.daemon.kill();
    if fate.empty {
        node.daemon.wipe();
    }
    thread::sleep(fate.away);
    node.daemon.start_again();
    assert_all_right(&[node.get(&url)], &digest);
}
