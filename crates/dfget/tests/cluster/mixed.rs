//! Our daemons beside a peer of Dragonfly as it comes, which speaks in clear and knows nothing of ours.

use std::thread;
use std::time::Duration;

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Request};

use crate::stock::{Manner, Pulled, Stock};
use crate::support::{in_namespace, pull, put, seal, setup, share_sent, until};

/// Bytes in a second, as `tc` writes it: slow enough that something can happen in the middle.
const SLOW: &str = "50mbit";

/// Nodes 1 and 2 with our daemon, and a place for the stock peer; a blob of so many MiB.
fn mixed(mib: usize, rate: Option<&str>) -> (Cluster, Blob, String) {
    let mut setup = setup(3).cluster("allowPlaintextPeers: true");
    if let Some(rate) = rate {
        setup = setup.rates(rate, rate);
    }
    let mut cluster = setup.start();
    cluster.node_mut(3).daemon.kill();
    let (blob, url) = put(&cluster, mib);
    (cluster, blob, url)
}

fn stock(cluster: &Cluster, blob: &Blob, url: &str, manner: Manner) -> Stock {
    Stock::start(cluster, &cluster.node(3).place, &[1, 2], blob, url, manner)
}

/// How many pieces came from peers.
fn from_peers(pulled: &Pulled) -> usize {
    pulled.from_peers.values().sum()
}

fn ours_beside_a_stock_parent(manner: Manner) {
    let (cluster, blob, url) = mixed(22, None);
    let stock = stock(&cluster, &blob, &url, manner);
    let pulled = stock.pull();
    assert_eq!((pulled.answers, pulled.from_origin), (vec!["origin"], 6));
    seal(&cluster);
    pull(&cluster, 1..=2, &blob, &url);
    assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 0, "{}", cluster.logs());
    // Whoever has a piece from it gives it to the other, or both have it from there; no piece comes twice to one.
    assert!((6..=12).contains(&stock.sent()), "{} pieces\n{}", stock.sent(), cluster.logs());
    assert!(!cluster.logs().contains("is not asked any more"), "{}", cluster.logs());
}

#[test]
fn our_daemons_have_from_a_stock_parent_what_it_has() {
    in_namespace(|| ours_beside_a_stock_parent(Manner::default()));
}

#[test]
fn our_daemons_have_from_an_older_stock_parent_what_it_has() {
    in_namespace(|| ours_beside_a_stock_parent(Manner { old: true, ..Manner::default() }));
}

#[test]
fn two_stock_peers_meet_by_our_scheduler() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(16, None);
        let manner = Manner { origin: Duration::from_millis(300), ..Manner::default() };
        let one = stock(&cluster, &blob, &url, manner);
        let other = Stock::start(&cluster, &cluster.node(2).place, &[1, 2], &blob, &url, Manner::default());
        let pulling = one.begin();
        until("the first to have a piece", || (one.has() > 0).then_some(()));
        let pulled = other.pull();
        assert_eq!((from_peers(&pulled), pulled.from_origin, one.end(pulling).from_origin), (4, 0, 4));
        assert_eq!(pulled.digest, blob.digest);
    });
}

#[test]
fn a_stock_child_has_from_our_daemons_what_they_have() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(22, None);
        pull(&cluster, 1..=2, &blob, &url);
        let stock = stock(&cluster, &blob, &url, Manner::default());
        let pulled = stock.pull();
        assert_eq!((from_peers(&pulled), pulled.from_origin), (6, 0), "{}", cluster.logs());
        assert_eq!(pulled.answers, ["parents"]);
        assert_eq!(pulled.digest, blob.digest);
    });
}

#[test]
fn a_stock_child_has_pieces_of_our_daemons_while_they_have_them_from_the_registry() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(16, Some(SLOW));
        let stock = stock(&cluster, &blob, &url, Manner::default());
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=2, &blob, &url));
            let part = || cluster.registry.origin.body_bytes(&blob.digest) > 1 << 20;
            until("a part of the blob", || part().then_some(()));
            let pulled = stock.pull();
            assert_eq!(pulled.answers, ["parents"], "{}", cluster.logs());
            assert_eq!(pulled.digest, blob.digest);
        });
        share_sent(&cluster, &blob);
    });
}

#[test]
fn our_daemons_have_pieces_of_a_stock_peer_while_it_has_them_from_the_origin() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(16, None);
        seal(&cluster);
        let manner = Manner { origin: Duration::from_millis(500), ..Manner::default() };
        let stock = stock(&cluster, &blob, &url, manner);
        let pulling = stock.begin();
        // It is the first: that it has been sent to the origin is seen by its first piece.
        until("its first piece", || (stock.has() > 0).then_some(()));
        pull(&cluster, 1..=2, &blob, &url);
        assert_eq!(stock.end(pulling).from_origin, 4);
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 0, "{}", cluster.logs());
    });
}

#[test]
fn a_stock_parent_that_dies_in_the_middle_costs_no_pull() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(24, Some(SLOW));
        let stock = stock(&cluster, &blob, &url, Manner::default());
        stock.pull();
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=2, &blob, &url));
            until("pieces of the stock peer", || (stock.sent() >= 2).then_some(()));
            drop(stock);
        });
        let sent = share_sent(&cluster, &blob);
        assert!(sent <= 2.1, "{}", cluster.logs());
    });
}

#[test]
fn a_stock_peer_that_was_to_fetch_all_and_dies_costs_no_pull() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(24, Some(SLOW));
        let manner = Manner { origin: Duration::from_secs(1), ..Manner::default() };
        let stock = stock(&cluster, &blob, &url, manner);
        let _pulling = stock.begin();
        until("its first piece", || (stock.has() > 0).then_some(()));
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=2, &blob, &url));
            until("a piece from it", || (stock.sent() >= 1).then_some(()));
            drop(stock);
        });
        assert!(share_sent(&cluster, &blob) <= 2.1, "{}", cluster.logs());
    });
}

#[test]
fn a_stock_child_that_dies_in_the_middle_holds_up_nobody() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(16, Some(SLOW));
        let stock = stock(&cluster, &blob, &url, Manner::default());
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, [1], &blob, &url));
            let part = || cluster.registry.origin.body_bytes(&blob.digest) > 1 << 20;
            until("a part of the blob", || part().then_some(()));
            let _pulling = stock.begin();
            until("its first piece", || (stock.has() > 0).then_some(()));
            drop(stock);
        });
        pull(&cluster, [2], &blob, &url);
        assert!(share_sent(&cluster, &blob) <= 1.5, "{}", cluster.logs());
    });
}

#[test]
fn wrong_bytes_of_a_stock_parent_are_found_out_and_it_is_left() {
    in_namespace(|| {
        let (cluster, blob, url) = mixed(16, None);
        let stock = stock(&cluster, &blob, &url, Manner { wrong: true, ..Manner::default() });
        stock.pull();
        for answer in cluster.get_at_once(1..=2, &url) {
            let well = answer.status == 200 && answer.is_complete();
            assert!(!well || sha256(&answer.body) == blob.digest, "wrong bytes ended well");
        }
        assert!(stock.sent() > 0, "nobody asked it\n{}", cluster.logs());
        until("the pulls to end right", || {
            let answers = cluster.get_at_once(1..=2, &url);
            answers
                .iter()
                .all(|answer| answer.is_complete() && sha256(&answer.body) == blob.digest)
                .then_some(())
        });
        let named = |line: &str| line.contains(&stock.id()) && line.contains("is not asked any more");
        assert!(cluster.logs().lines().any(named), "nobody names it\n{}", cluster.logs());
        assert!(share_sent(&cluster, &blob) <= 4.1, "{}", cluster.logs());
    });
}

#[test]
fn a_stock_peer_has_nothing_that_was_fetched_with_a_credential() {
    const GOOD: &str = "Bearer of-one-who-may";
    in_namespace(|| {
        let (cluster, blob, _) = mixed(8, None);
        let url = cluster.registry.put("private/blob", &blob);
        cluster.registry.grant("private/blob", GOOD);
        let fetch = |node: usize| cluster.node(node).fetch(&Request::get(&url).authorization(GOOD));
        assert_all_right(&[fetch(1)], &blob.digest);
        // Whether or not it says that it has a right of its own.
        let stock = stock(&cluster, &blob, &url, Manner { credential: true, ..Manner::default() });
        let pulled = stock.pull();
        assert_eq!((from_peers(&pulled), pulled.from_origin), (0, 2), "{}", cluster.logs());
        // Nor is it asked, though it has all now.
        assert_all_right(&[fetch(2)], &blob.digest);
        assert_eq!(stock.sent(), 0, "{}", cluster.logs());
    });
}
