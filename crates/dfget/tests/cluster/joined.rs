//! Our daemons as peers of schedulers like Dragonfly's, by `scheduler.netAddrs`.

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Request};

use crate::dragonfly::{Manner, PORT, Stand};
use crate::stock::{self, Stock};
use crate::support::{MIB, in_namespace, pull, put, seal, setup, share_sent, until};

/// Where the scheduler is: beside the registry.
const SCHEDULER: &str = "198.51.100.10:8002";

/// What a scheduler says about a content that each node is to fetch itself.
const ALONE: &str = "until it does, all comes from the origin";

const GOOD: &str = "Bearer of-one-who-may";

/// So many nodes that have joined, with more lines in their files.
fn joined(nodes: u8, more: &'static str) -> Cluster {
    let join = move |_, options: dfget_testkit::DaemonOptions| {
        options.extra(&format!("scheduler: {{netAddrs: [{{type: tcp, addr: '{SCHEDULER}'}}]}}\n{more}"))
    };
    setup(nodes).alone().each(join).start()
}

/// A good scheduler, which knows all nodes.
fn scheduler(cluster: &Cluster) -> Stand {
    let stand = Stand::good(&cluster.network.origin);
    announced(cluster, &stand);
    stand
}

fn announced(cluster: &Cluster, stand: &Stand) {
    until("all nodes to be announced", || (stand.hosts() >= cluster.nodes.len() as u64).then_some(()));
}

fn task(blob: &Blob) -> &str {
    blob.digest.trim_start_matches("sha256:")
}

fn stock(cluster: &Cluster, node: usize, blob: &Blob, url: &str, manner: stock::Manner) -> Stock {
    Stock::start_at(&cluster.node(node).place, vec![SCHEDULER.to_owned()], blob, url, manner)
}

#[test]
fn nodes_that_joined_feed_each_other_and_the_registry_sends_about_one_copy() {
    in_namespace(|| {
        let cluster = joined(5, "");
        let _scheduler = scheduler(&cluster);
        let (blob, url) = put(&cluster, 48);
        pull(&cluster, 1..=5, &blob, &url);
        let sent = share_sent(&cluster, &blob);
        assert!(sent <= 1.6, "{sent} copies\n{}", cluster.logs());
        assert!(cluster.logs().contains("speak in clear"), "nobody says so");
    });
}

#[test]
fn who_comes_later_has_all_from_those_that_have_it() {
    in_namespace(|| {
        let cluster = joined(4, "");
        let _scheduler = scheduler(&cluster);
        let (blob, url) = put(&cluster, 24);
        pull(&cluster, [1], &blob, &url);
        seal(&cluster);
        pull(&cluster, 2..=4, &blob, &url);
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), blob.len() as u64, "{}", cluster.logs());
    });
}

#[test]
fn another_daemon_can_be_the_scheduler() {
    in_namespace(|| {
        let key = "/tmp/another.key";
        let cluster = setup(4)
            .alone()
            .each(move |number, options| {
                if number == 1 {
                    std::fs::write(key, format!("{}\n", "abcd".repeat(16))).expect("/tmp is ours");
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                    std::fs::set_permissions(key, mode).expect("it is ours");
                    return options.extra(&format!(
                        "cluster: {{members: 198.51.100.101, allowPlaintextPeers: true, keyFile: {key}}}"
                    ));
                }
                options.extra("scheduler: {netAddrs: [{addr: '198.51.100.101:65000'}]}")
            })
            .start();
        let (blob, url) = put(&cluster, 24);
        for node in 2..=4 {
            cluster.node(node).daemon.wait_for_log("announced to a scheduler");
        }
        pull(&cluster, [2], &blob, &url);
        seal(&cluster);
        pull(&cluster, 3..=4, &blob, &url);
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), blob.len() as u64, "{}", cluster.logs());
    });
}

#[test]
fn a_stock_peer_and_ours_have_from_each_other_what_they_have() {
    in_namespace(|| {
        let mut cluster = joined(3, "");
        let _scheduler = scheduler(&cluster);
        cluster.node_mut(3).daemon.kill();
        let (blob, url) = put(&cluster, 22);
        let stock_peer = stock(&cluster, 3, &blob, &url, stock::Manner::default());
        let pulled = stock_peer.pull();
        assert_eq!((pulled.answers, pulled.from_origin), (vec!["origin"], 6));
        seal(&cluster);
        pull(&cluster, 1..=2, &blob, &url);
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 0, "{}", cluster.logs());
        assert!(stock_peer.sent() >= 6, "{}", cluster.logs());
        drop(stock_peer);

        let other = stock(&cluster, 3, &blob, &url, stock::Manner::default());
        let pulled = other.pull();
        assert_eq!((pulled.from_origin, pulled.digest), (0, blob.digest.clone()), "{}", cluster.logs());
    });
}

#[test]
fn wrong_bytes_of_a_stock_peer_are_found_out_and_the_pull_ends_right() {
    in_namespace(|| {
        let mut cluster = joined(2, "");
        let _scheduler = scheduler(&cluster);
        cluster.node_mut(2).daemon.kill();
        let (blob, url) = put(&cluster, 16);
        let wrong =
            stock(&cluster, 2, &blob, &url, stock::Manner { wrong: true, ..stock::Manner::default() });
        wrong.pull();
        let answer = cluster.node(1).get(&url);
        let well = answer.status == 200 && answer.is_complete();
        assert!(!well || sha256(&answer.body) == blob.digest, "wrong bytes ended well");
        assert!(wrong.sent() > 0, "nobody asked it\n{}", cluster.logs());
        until("a pull to end right", || {
            let answer = cluster.node(1).get(&url);
            (answer.is_complete() && sha256(&answer.body) == blob.digest).then_some(())
        });
    });
}

#[test]
fn what_was_fetched_with_a_credential_is_neither_told_nor_shared() {
    in_namespace(|| {
        let cluster = joined(2, "");
        let scheduler = scheduler(&cluster);
        let blob = Blob::random(12 * MIB, 9);
        let url = cluster.registry.put("private/blob", &blob);
        cluster.registry.grant("private/blob", GOOD);
        for node in 1..=2 {
            let answer = cluster.node(node).fetch(&Request::get(&url).authorization(GOOD));
            assert_all_right(&[answer], &blob.digest);
        }
        assert!(!scheduler.knows(task(&blob)), "the scheduler was told");
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 2 * blob.len() as u64);
    });
}

#[test]
fn what_was_fetched_with_a_credential_is_shared_where_the_file_says_so() {
    in_namespace(|| {
        let cluster = joined(3, "cluster: {sharePrivate: all}");
        let _scheduler = scheduler(&cluster);
        let blob = Blob::random(12 * MIB, 9);
        let url = cluster.registry.put("private/blob", &blob);
        cluster.registry.grant("private/blob", GOOD);
        for node in 1..=2 {
            let answer = cluster.node(node).fetch(&Request::get(&url).authorization(GOOD));
            assert_all_right(&[answer], &blob.digest);
        }
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), blob.len() as u64, "{}", cluster.logs());
        // Who may not have it at the registry, has it from nobody.
        assert_eq!(cluster.node(3).get(&url).status, 401);
    });
}

#[test]
fn what_is_no_longer_than_a_piece_is_the_origins() {
    in_namespace(|| {
        let cluster = joined(2, "");
        let scheduler = scheduler(&cluster);
        let (blob, url) = put(&cluster, 4);
        pull(&cluster, 1..=2, &blob, &url);
        assert!(!scheduler.knows(task(&blob)));
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 2 * blob.len() as u64);
    });
}

#[test]
fn a_scheduler_that_was_started_anew_is_told_what_is_here() {
    in_namespace(|| {
        let cluster = joined(3, "");
        let first = scheduler(&cluster);
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        drop(first);
        // Without it, pulls go on.
        let (other, other_url) = (Blob::random(9 * MIB, 3), "public/other");
        let other_url = cluster.registry.put(other_url, &other);
        pull(&cluster, [2], &other, &other_url);
        let again = scheduler(&cluster);
        until("it to be told", || (again.knows(task(&blob)) && again.knows(task(&other))).then_some(()));
        seal(&cluster);
        pull(&cluster, [3], &blob, &url);
        pull(&cluster, [3], &other, &other_url);
    });
}

#[test]
fn a_daemon_that_ends_takes_its_leave() {
    in_namespace(|| {
        let mut cluster = joined(2, "");
        let scheduler = scheduler(&cluster);
        cluster.node_mut(2).daemon.stop();
        assert_eq!(scheduler.hosts(), 1);
    });
}

#[test]
fn no_scheduler_is_no_hindrance() {
    in_namespace(|| {
        let cluster = joined(2, "");
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, 1..=2, &blob, &url);
        cluster.node(1).daemon.wait_for_log(ALONE);
    });
}

fn in_spite_of(manner: Manner) {
    let cluster = joined(2, "");
    let stand = Stand::with(&cluster.network.origin, manner);
    let (blob, url) = put(&cluster, 24);
    if manner != Manner::Silent {
        for node in 1..=2 {
            cluster.node(node).daemon.wait_for_log("announced to a scheduler");
        }
    }
    pull(&cluster, 1..=2, &blob, &url);
    let sent = share_sent(&cluster, &blob);
    eprintln!("{manner:?}: {:?}", stand.notes());
    assert!(sent <= 3.0, "{sent} copies\n{}", cluster.logs());
}

#[test]
fn a_silent_scheduler_hinders_no_pull() {
    in_namespace(|| in_spite_of(Manner::Silent));
}

#[test]
fn a_mute_scheduler_hinders_no_pull() {
    in_namespace(|| in_spite_of(Manner::Mute));
}

#[test]
fn a_scheduler_that_talks_without_end_hinders_no_pull() {
    in_namespace(|| in_spite_of(Manner::Endless));
}

#[test]
fn parents_that_are_not_there_hinder_no_pull() {
    in_namespace(|| in_spite_of(Manner::Ghosts));
}

#[test]
fn parents_that_there_cannot_be_hinder_no_pull() {
    in_namespace(|| in_spite_of(Manner::Nonsense));
}

#[test]
fn a_scheduler_that_knows_nobody_hinders_no_pull() {
    in_namespace(|| in_spite_of(Manner::Nobody));
}

#[test]
fn a_scheduler_that_leaves_in_the_middle_hinders_no_pull() {
    in_namespace(|| in_spite_of(Manner::Leaves));
}

#[test]
fn a_scheduler_is_told_what_dragonflys_own_peers_tell_it() {
    in_namespace(|| {
        let cluster = joined(1, "");
        let stand = Stand::with(&cluster.network.origin, Manner::Notes);
        cluster.node(1).daemon.wait_for_log("announced to a scheduler");
        let (blob, url) = put(&cluster, 10);
        pull(&cluster, [1], &blob, &url);
        until("the last word", || stand.notes().iter().any(|note| note == "origin finished").then_some(()));
        let mut notes = stand.notes();
        assert_eq!(notes.remove(0), "register 10485760 bytes in 3 pieces, 0 headers");
        assert_eq!(notes.remove(0), "origin started");
        assert_eq!(notes.pop().as_deref(), Some("origin finished"));
        notes.sort();
        assert_eq!(
            notes,
            [
                "origin piece 0 at 0 of 4194304",
                "origin piece 1 at 4194304 of 4194304",
                "origin piece 2 at 8388608 of 2097152",
            ]
        );
        assert_eq!(PORT, 8002);
    });
}
