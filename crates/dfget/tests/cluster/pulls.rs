//! Nodes that feed each other, and nothing goes wrong.

use std::thread;

use dfget_testkit::Blob;

use crate::apptainer::{pull_image, push_image};
use crate::support::{in_namespace, pull, put, seal, setup, share_sent, until};

/// Of a registry that is asked by each node for itself the cluster would have a copy for each; by this share it is told
/// from one that nodes ask again for a part where a busy machine lets them wait. `make bench` measures the exact share.
const ONCE: f64 = 1.5;

#[test]
fn a_second_node_has_from_the_first_what_the_registry_lets_it_have() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let asked = cluster.registry.downloads(&blob.digest);
        pull(&cluster, [2], &blob, &url);
        assert_eq!(cluster.registry.downloads(&blob.digest), asked, "{}", cluster.logs());
        assert!(cluster.node(2).metric("dfget_bytes_from_peers_total") >= Some(blob.len() as f64));
        assert!(cluster.node(1).metric("dfget_bytes_to_peers_total") >= Some(blob.len() as f64));
        assert!(cluster.node(1).metric("dfget_bytes_from_origin_total") >= Some(blob.len() as f64));
    });
}

#[test]
fn of_eight_cold_nodes_at_once_the_registry_sees_one() {
    in_namespace(|| {
        let cluster = setup(8).rates("200mbit", "400mbit").start();
        let (blob, url) = put(&cluster, 32);
        pull(&cluster, 1..=8, &blob, &url);
        assert!(share_sent(&cluster, &blob) <= ONCE, "{}", cluster.logs());
    });
}

#[test]
fn a_node_that_comes_late_gets_what_is_there_and_then_the_rest() {
    in_namespace(|| {
        let cluster = setup(4).rates("100mbit", "200mbit").start();
        let (blob, url) = put(&cluster, 32);
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=3, &blob, &url));
            let half = || cluster.registry.origin.body_bytes(&blob.digest) > blob.len() as u64 / 2;
            until("half of the blob", || half().then_some(()));
            pull(&cluster, [4], &blob, &url);
        });
        assert!(share_sent(&cluster, &blob) <= ONCE, "{}", cluster.logs());
    });
}

#[test]
fn many_small_blobs_come_right_to_all() {
    in_namespace(|| {
        let cluster = setup(4).start();
        let blobs: Vec<_> = [0, 1, 10_000, 70_000, 1 << 20, (4 << 20) + 1]
            .into_iter()
            .zip(1..)
            .map(|(len, seed)| Blob::random(len, seed))
            .map(|blob| (cluster.registry.put("public/small", &blob), blob))
            .collect();
        for (url, blob) in &blobs {
            pull(&cluster, 1..=4, blob, url);
        }
    });
}

#[test]
fn what_one_node_has_reaches_all_though_the_registry_sends_no_more() {
    in_namespace(|| {
        let cluster = setup(8).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [3], &blob, &url);
        seal(&cluster);
        pull(&cluster, 1..=8, &blob, &url);
    });
}

#[test]
fn eight_apptainers_pull_one_image_which_the_registry_sends_once() {
    in_namespace(|| {
        let cluster = setup(8).rates("400mbit", "400mbit").start();
        let (image, reference) = push_image(&cluster);
        pull_image(&cluster, &image, &reference);
        assert!(share_sent(&cluster, &image) <= ONCE, "{}", cluster.logs());
    });
}
