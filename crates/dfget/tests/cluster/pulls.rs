//! Nodes that feed each other, and nothing goes wrong.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Node};

use crate::support::{Finished, clients_dir, in_namespace, pull, put, run, seal, setup, share_sent};

/// A registry that sends more than this share of an image to a whole cluster has been asked twice for something.
const ONCE: f64 = 1.05;

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
            crate::support::until("half of the blob", || half().then_some(()));
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
        let file = clients_dir().join("images/64.sif");
        let image = Blob::of(fs::read(&file).expect("setup made the image"));
        let reference = push(&cluster, &image);
        let pulled: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> =
                cluster.nodes.iter().map(|node| scope.spawn(|| apptainer_pull(node, &reference))).collect();
            clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
        });
        for ended in pulled {
            ended.ok();
        }
        for node in &cluster.nodes {
            let file = fs::read(home(node).join("pulled.sif")).expect("apptainer wrote it");
            assert_eq!(sha256(&file), image.digest, "{} has another image", node.place);
        }
        assert!(share_sent(&cluster, &image) <= ONCE, "{}", cluster.logs());
    });
}

/// Puts a SIF into the registry as `apptainer push` does; what apptainer is told to pull.
fn push(cluster: &Cluster, image: &Blob) -> String {
    let config = Blob::empty_config();
    cluster.registry.put("public/sif", image);
    cluster.registry.put("public/sif", &config);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.sylabs.sif.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.title":"image.sif"}}}}]}}"#,
        config.digest,
        config.len(),
        image.digest,
        image.len(),
    );
    cluster.registry.put_manifest("public/sif", "tag", manifest.as_bytes());
    let digest = sha256(manifest.as_bytes());
    cluster.registry.put_manifest("public/sif", &digest, manifest.as_bytes());
    format!("oras://{}/public/sif:tag", cluster.registry.origin.authority())
}

fn home(node: &Node) -> std::path::PathBuf {
    Path::new("/tmp").join(node.place.name())
}

/// `apptainer pull` on this node, by a user who has nothing yet.
fn apptainer_pull(node: &Node, reference: &str) -> Finished {
    let home = home(node);
    fs::create_dir_all(&home).expect("/tmp is ours");
    let mut command = Command::new("apptainer");
    command
        .args(["--silent", "pull", "pulled.sif", reference])
        .current_dir(&home)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("APPTAINER_CACHEDIR", home.join("cache"))
        .env("SSL_CERT_FILE", node.daemon.ca_file())
        .env("NO_PROXY", "")
        .env("no_proxy", "")
        .env("HTTPS_PROXY", node.daemon.address().to_string());
    node.place.within(|| run(&mut command))
}
