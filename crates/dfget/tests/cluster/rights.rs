//! Peers give nobody what the registry would not.

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::{Blob, Cluster, Request, Setup};

use crate::support::{in_namespace, pull, seal, setup};

const GOOD: &str = "Bearer of-one-who-may";
const OTHER: &str = "Bearer of-another-who-may";

/// A private blob that the clients of node 1 and 2 have pulled, each with a right of its own.
fn pulled_by_two(setup: Setup) -> (Cluster, Blob, String) {
    let cluster = setup.start();
    let blob = Blob::random(8 << 20, 21);
    let url = cluster.registry.put("private/blob", &blob);
    cluster.registry.grant("private/blob", GOOD);
    cluster.registry.grant("private/blob", OTHER);
    for (node, right) in [(1, GOOD), (2, OTHER)] {
        let answer = cluster.node(node).fetch(&Request::get(&url).authorization(right));
        assert_all_right(&[answer], &blob.digest);
    }
    (cluster, blob, url)
}

#[test]
fn who_has_no_right_gets_nothing_though_all_peers_have_it() {
    in_namespace(|| {
        let (cluster, _, url) = pulled_by_two(setup(3));
        for node in 1..=3 {
            assert_eq!(cluster.node(node).get(&url).status, 401, "node {node}");
            let forged = Request::get(&url).authorization("Bearer of-one-who-may-not");
            assert_eq!(cluster.node(node).fetch(&forged).status, 401, "node {node}");
        }
        cluster.registry.revoke("private/blob", GOOD);
        assert_eq!(cluster.node(3).fetch(&Request::get(&url).authorization(GOOD)).status, 401);
    });
}

#[test]
fn who_has_a_right_gets_it_from_keyed_peers() {
    in_namespace(|| {
        let (cluster, blob, url) = pulled_by_two(setup(3));
        let asked = cluster.registry.downloads(&blob.digest);
        let answer = cluster.node(3).fetch(&Request::get(&url).authorization(OTHER));
        assert_all_right(&[answer], &blob.digest);
        assert_eq!(cluster.registry.downloads(&blob.digest), asked, "{}", cluster.logs());
    });
}

#[test]
fn what_is_never_shared_comes_from_the_registry_to_each() {
    in_namespace(|| {
        let (cluster, blob, _) = pulled_by_two(setup(2).cluster("sharePrivate: never"));
        let sent = cluster.registry.origin.body_bytes(&blob.digest);
        assert!(sent >= 2 * blob.len() as u64, "only {sent} bytes");
    });
}

#[test]
fn the_right_to_one_repository_opens_no_other_on_any_node() {
    in_namespace(|| {
        let (cluster, blob, _) = pulled_by_two(setup(2));
        // The same content in a repository to which nobody has a right, and on nodes that have the content.
        let url = cluster.registry.put("private/other", &blob);
        cluster.registry.grant("private/other", "Bearer of-somebody-else");
        for node in 1..=2 {
            let answer = cluster.node(node).fetch(&Request::get(&url).authorization(GOOD));
            assert_eq!(answer.status, 401, "node {node}");
        }
    });
}

#[test]
fn what_is_open_to_all_needs_the_registry_to_say_so_each_time() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let blob = Blob::random(8 << 20, 22);
        let url = cluster.registry.put("public/blob", &blob);
        pull(&cluster, [1], &blob, &url);
        cluster.registry.close("public/blob");
        seal(&cluster);
        assert_eq!(cluster.node(2).get(&url).status, 401);
    });
}
