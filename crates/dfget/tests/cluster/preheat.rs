//! `dfget preheat --nodes`: members have contents before a client asks for them there.

use std::fs;
use std::process::Command;

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Node, Request};
use serde_json::Value;

use crate::apptainer::{apptainer_pull, home, push_image};
use crate::evil::{Evil, Lie};
use crate::status::{json, member};
use crate::support::{Finished, dfget_binary, in_namespace, put, run, setup, share_sent, until};

const GOOD: &str = "Bearer of-one-who-may";
const OTHER: &str = "Bearer of-another-who-may";

fn command(node: &Node, arguments: &[&str]) -> Command {
    let home = node.daemon.home();
    let mut command = Command::new(dfget_binary());
    command
        .args(["preheat", "--output", "json"])
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"));
    command
}

/// What the command says on this node.
fn preheat(node: &Node, arguments: &[&str]) -> (Finished, Value) {
    let ended = node.place.within(|| run(&mut command(node, arguments)));
    let json = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
    (ended, json)
}

/// The numbers of the nodes that have the one image, by the command's word.
fn filled(cluster: &Cluster, told: &Value) -> Vec<usize> {
    let nodes = told["images"][0]["nodes"].as_array().into_iter().flatten().filter(|node| node["ok"] == true);
    let number = |node: &Value| {
        let name = node["name"].as_str().expect("a name");
        let is_its = |node: &Node| name == format!("{}:65000", node.place.address());
        1 + cluster.nodes.iter().position(is_its).expect("it is a member")
    };
    nodes.map(number).collect()
}

/// The numbers of the nodes that have this blob whole, by their own word.
fn holders(cluster: &Cluster, blob: &Blob) -> Vec<usize> {
    let holds = |number: &usize| {
        let home = cluster.node(*number).daemon.home();
        let mut command = Command::new(dfget_binary());
        command.args(["cache", "ls", "--output", "json"]).env_clear().env("HOME", home);
        command.env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"));
        let ended = cluster.node(*number).place.within(|| run(&mut command));
        ended.stdout.contains(&blob.digest)
    };
    (1..=cluster.nodes.len()).filter(holds).collect()
}

fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}

#[test]
fn three_of_five_nodes_have_it_and_the_registry_sends_it_once() {
    in_namespace(|| {
        let cluster = setup(5).start();
        let (blob, url) = put(&cluster, 16);
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "3", &url]);
        assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        let three = filled(&cluster, &told);
        assert!(three.len() == 3 && three[0] == 1, "{told}");
        assert_eq!(sorted(three.clone()), holders(&cluster, &blob), "{told}");
        assert!((share_sent(&cluster, &blob) - 1.0).abs() < f64::EPSILON, "{}", cluster.logs());
        // Who pulls there is asked about at the registry, and has all bytes from the node.
        let (asked, checked) =
            (cluster.registry.downloads(&blob.digest), cluster.registry.origin.journal().len());
        for number in &three[1..] {
            assert_all_right(&[cluster.node(*number).get(&url)], &blob.digest);
        }
        assert_eq!(cluster.registry.downloads(&blob.digest), asked, "{}", cluster.logs());
        assert_eq!(cluster.registry.origin.journal().len(), checked + 2, "a HEAD each");
        // Once more changes nothing; then all.
        let (_, again) = preheat(cluster.node(1), &["--nodes", "3", &url]);
        assert_eq!(filled(&cluster, &again), three);
        let (_, all) = preheat(cluster.node(1), &["--nodes", "all", &url]);
        assert_eq!(sorted(filled(&cluster, &all)), [1, 2, 3, 4, 5], "{all}");
        assert!((share_sent(&cluster, &blob) - 1.0).abs() < f64::EPSILON, "{}", cluster.logs());
    });
}

#[test]
fn apptainer_finds_all_that_it_asks_for_by_digest() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let (image, reference) = push_image(&cluster);
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "2", &reference]);
        assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        assert_eq!(filled(&cluster, &told), [1, 2], "{told}");
        let sent = cluster.registry.origin.body_bytes("/blobs/");
        apptainer_pull(cluster.node(2), &reference).ok();
        let file = fs::read(home(cluster.node(2)).join("pulled.sif")).expect("apptainer wrote it");
        assert_eq!(sha256(&file), image.digest);
        assert_eq!(cluster.registry.origin.body_bytes("/blobs/"), sent, "{}", cluster.logs());
    });
}

#[test]
fn an_image_goes_with_its_manifest_to_the_nodes_of_a_list() {
    in_namespace(|| {
        let cluster = setup(3).start();
        let (config, layer) = (Blob::empty_config(), Blob::random(6 << 20, 31));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            config.digest,
            config.len(),
            layer.digest,
            layer.len(),
        );
        let manifest = Blob::of(manifest.into_bytes());
        let places =
            [cluster.registry.put("public/image", &config), cluster.registry.put("public/image", &layer)];
        let place = cluster.registry.put_manifest("public/image", &manifest.digest, &manifest.bytes);
        let reference =
            format!("docker://{}/public/image@{}", cluster.registry.origin.authority(), manifest.digest);
        let third = cluster.node(3).place.address().to_string();
        let (ended, told) = preheat(cluster.node(1), &["--nodes", &third, &reference]);
        assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        assert_eq!(filled(&cluster, &told), [3], "{told}");
        let sent = cluster.registry.origin.asked("GET", "/v2/public/image/").len();
        let answer = cluster.node(3).get(&place);
        assert_eq!(answer.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
        assert_all_right(&[answer], &manifest.digest);
        for (place, blob) in places.iter().zip([&config, &layer]) {
            assert_all_right(&[cluster.node(3).get(place)], &blob.digest);
        }
        assert_eq!(
            cluster.registry.origin.asked("GET", "/v2/public/image/").len(),
            sent,
            "{}",
            cluster.logs()
        );
        // Who is not in the list has nothing.
        assert!(holders(&cluster, &layer) == [1, 3]);
    });
}

#[test]
fn what_is_private_opens_to_those_who_may_and_to_nobody_else() {
    in_namespace(|| {
        let cluster = setup(3).start();
        let blob = Blob::random(8 << 20, 32);
        let url = cluster.registry.put("private/blob", &blob);
        cluster.registry.grant("private/blob", GOOD);
        cluster.registry.grant("private/blob", OTHER);
        let elsewhere = cluster.registry.put("private/other", &blob);
        cluster.registry.grant("private/other", "Bearer of-somebody-else");
        let home = cluster.node(1).daemon.home();
        let login = home.join("login.json");
        let host = cluster.registry.origin.authority();
        let token = GOOD.trim_start_matches("Bearer ");
        fs::write(&login, format!(r#"{{"auths":{{"{host}":{{"registrytoken":"{token}"}}}}}}"#))
            .expect("it is ours");
        let login = login.display().to_string();
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "all", "--authfile", &login, &url]);
        assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        assert_eq!(sorted(filled(&cluster, &told)), [1, 2, 3], "{told}");
        let asked = cluster.registry.downloads(&blob.digest);
        for number in 1..=3 {
            let node = cluster.node(number);
            assert_eq!(node.get(&url).status, 401, "node {number}");
            let forged = Request::get(&url).authorization("Bearer of-one-who-may-not");
            assert_eq!(node.fetch(&forged).status, 401, "node {number}");
            let other = Request::get(&elsewhere).authorization(OTHER);
            assert_eq!(node.fetch(&other).status, 401, "node {number}");
        }
        let refused = cluster.registry.downloads(&blob.digest) - asked;
        for number in 2..=3 {
            let answer = cluster.node(number).fetch(&Request::get(&url).authorization(OTHER));
            assert_all_right(&[answer], &blob.digest);
        }
        assert_eq!(cluster.registry.downloads(&blob.digest), asked + refused, "{}", cluster.logs());
        // No node has heard of the credential but the one where it was shown.
        assert!((1..=3).all(|number| !cluster.node(number).daemon.everything_said().contains(token)));
        cluster.registry.revoke("private/blob", OTHER);
    });
}

#[test]
fn what_is_never_shared_is_ordered_of_nobody() {
    in_namespace(|| {
        let cluster = setup(2).cluster("sharePrivate: never").start();
        let blob = Blob::random(1 << 20, 33);
        let url = cluster.registry.put("private/blob", &blob);
        cluster.registry.grant("private/blob", GOOD);
        let login = cluster.node(1).daemon.home().join("login.json");
        let host = cluster.registry.origin.authority();
        let token = GOOD.trim_start_matches("Bearer ");
        fs::write(&login, format!(r#"{{"auths":{{"{host}":{{"registrytoken":"{token}"}}}}}}"#))
            .expect("it is ours");
        let login = login.display().to_string();
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "2", "--authfile", &login, &url]);
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(ended.stdout.contains("cluster.sharePrivate is never"), "{told}");
        assert_eq!(holders(&cluster, &blob), [1]);
    });
}

#[test]
fn a_node_that_is_killed_meanwhile_is_replaced_by_the_next() {
    in_namespace(|| {
        let mut cluster = setup(5).rates("400mbit", "40mbit").start();
        let (blob, url) = put(&cluster, 24);
        let first = cluster.node(1).place.clone();
        let mut preheating = command(cluster.node(1), &["--nodes", "3", &url]);
        let preheating = std::thread::spawn(move || first.within(|| run(&mut preheating)));
        let fed = |number: &usize| {
            let node = cluster.node(*number);
            node.metric("dfget_bytes_from_peers_total").is_some_and(|bytes| bytes > 1e6)
        };
        let killed = until("a node that is being filled", || (2..=5).find(|number| fed(number)));
        cluster.node_mut(killed).daemon.kill();
        let ended = preheating.join().expect("it ends");
        let told: Value = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
        assert!(ended.success, "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        let three = filled(&cluster, &told);
        assert!(three.len() == 3 && !three.contains(&killed), "{killed}: {told}");
        assert!((share_sent(&cluster, &blob) - 1.0).abs() < f64::EPSILON, "{}", cluster.logs());
    });
}

#[test]
fn a_member_that_knows_no_orders_and_sends_wrong_bytes_is_replaced_and_nothing_of_it_kept() {
    in_namespace(|| {
        let mut cluster = setup(4).start();
        let (blob, url) = put(&cluster, 8);
        assert_all_right(&[cluster.node(1).get(&url)], &blob.digest);
        cluster.node_mut(4).daemon.kill();
        let evil = Evil::start(&cluster, 4, &blob, Lie::WrongBytes);
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "all", "--timeout", "60s", &url]);
        assert_eq!(ended.status.code(), Some(75), "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        assert!(
            ended.stdout.contains("it is an older dfget") && ended.stdout.contains("update it"),
            "{told}"
        );
        assert_eq!(sorted(filled(&cluster, &told)), [1, 2, 3], "{told}\n{}", cluster.logs());
        eprintln!("{} pieces were asked of the liar", evil.asked());
        // Two more than this node are wanted; one of the three others knows no orders.
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "3", &url]);
        assert!(ended.success, "{told}");
        assert!((share_sent(&cluster, &blob) - 1.0).abs() < f64::EPSILON, "{}", cluster.logs());
        for number in 1..=3 {
            assert_all_right(&[cluster.node(number).get(&url)], &blob.digest);
        }
    });
}

#[test]
fn a_node_with_another_key_takes_no_orders() {
    in_namespace(|| {
        let mut cluster = setup(3).start();
        let (blob, url) = put(&cluster, 2);
        cluster.node(3).change_key(dfget_binary());
        let daemon = &mut cluster.node_mut(3).daemon;
        daemon.stop();
        daemon.start_again();
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "all", &url]);
        assert_eq!(ended.status.code(), Some(75), "{told}");
        assert!(ended.stdout.contains("only 2 of 3 nodes have it"), "{told}");
        assert_eq!(holders(&cluster, &blob), [1, 2]);
    });
}

#[test]
fn what_does_not_get_done_in_time_ends_with_what_is_there() {
    in_namespace(|| {
        let cluster = setup(3).rates("400mbit", "8mbit").start();
        cluster.network.set_rate(&cluster.node(1).place, Some("400mbit"));
        let (_, url) = put(&cluster, 16);
        for number in [2, 3] {
            cluster.network.set_rate(&cluster.node(number).place, Some("1mbit"));
        }
        let (ended, told) = preheat(cluster.node(1), &["--nodes", "2", "--timeout", "8s", &url]);
        assert_eq!(ended.status.code(), Some(75), "{}{}\n{}", ended.stdout, ended.stderr, cluster.logs());
        assert!(
            ended.stdout.contains("only 1 of 2 nodes have it") && ended.stdout.contains("not in time"),
            "{told}"
        );
        // Nobody goes on with what nobody waits for.
        until("the order to be given up", || {
            let (_, all) = json(cluster.node(1), &[]);
            let idle = |number: usize| member(&all, cluster.node(number))["tasks"]["running"] == 0;
            (idle(2) && idle(3)).then_some(())
        });
        let (forgiven, _) =
            preheat(cluster.node(1), &["--nodes", "2", "--timeout", "3s", "--best-effort", &url]);
        assert!(forgiven.success, "{}", forgiven.stderr);
    });
}

#[test]
fn wrong_nodes_are_named_before_anything_is_fetched() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let (blob, url) = put(&cluster, 1);
        let second = cluster.node(2).place.address().to_string();
        for (nodes, said) in [
            ("3", "3 nodes are wanted, and the cluster has 2".to_owned()),
            ("node[1", "a `[` without its `]`".to_owned()),
            ("0", "name at least one node".to_owned()),
            (&format!("{second}9"), format!("{second}9 is no member of the cluster, as {second} is")),
        ] {
            let (ended, _) = preheat(cluster.node(1), &["--nodes", nodes, &url]);
            assert_eq!(ended.status.code(), Some(2), "{nodes}: {}", ended.stderr);
            assert!(ended.stderr.contains(&said), "{nodes}: {}", ended.stderr);
        }
        assert_eq!(cluster.registry.downloads(&blob.digest), 0);
    });
}

#[test]
fn a_daemon_without_a_cluster_fills_nobody() {
    in_namespace(|| {
        let cluster = setup(1).alone().start();
        let (blob, url) = put(&cluster, 1);
        let (ended, _) = preheat(cluster.node(1), &["--nodes", "1", &url]);
        assert_eq!(ended.status.code(), Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains("it belongs to no cluster: set cluster.members"), "{}", ended.stderr);
        assert_eq!(cluster.registry.downloads(&blob.digest), 0);
    });
}
