//! `dfget cluster status`, and a list of members that changes while daemons run.

use std::fs;
use std::process::Command;

use dfget_testkit::daemon::Signal;
use dfget_testkit::{Cluster, Node};
use serde_json::Value;

use crate::support::{Finished, dfget_binary, in_namespace, pull, put, run, setup, share_sent, until};

/// What the command says on this node, with the node's own file.
fn status(node: &Node, arguments: &[&str]) -> Finished {
    let home = node.daemon.home();
    let mut command = Command::new(dfget_binary());
    command
        .args(["cluster", "status", "--config"])
        .arg(home.join("dfget.yaml"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("SLURM_JOB_ID", "7")
        .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"));
    node.place.within(|| run(&mut command))
}

pub(crate) fn json(node: &Node, arguments: &[&str]) -> (Option<i32>, Value) {
    let ended = status(node, &[&["--output", "json"], arguments].concat());
    let json = serde_json::from_str(&ended.stdout);
    (ended.status.code(), json.unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr)))
}

/// The line of a member.
pub(crate) fn member<'a>(status: &'a Value, node: &Node) -> &'a Value {
    let name = format!("{}:65000", node.place.address());
    let members = status["members"].as_array().expect("a list");
    members.iter().find(|member| member["name"] == name.as_str()).expect("it is a member")
}

fn hang_up_until(node: &Node, text: &str) {
    let said = || node.daemon.log().matches(text).count();
    let before = said();
    node.daemon.send(Signal::HUP);
    until(text, || (said() > before).then_some(()));
}

fn edit(node: &Node, change: impl FnOnce(&str) -> String) {
    let file = node.daemon.home().join("dfget.yaml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, change(&text)).expect("it can be written");
}

fn key_file(cluster: &Cluster, node: usize) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("{}.key", cluster.node(node).place.name()))
}

#[test]
fn the_status_of_a_cluster_is_told_and_who_is_down() {
    in_namespace(|| {
        let mut cluster = setup(3).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        pull(&cluster, [2], &blob, &url);
        let (from, length) = (&cluster.node(1).place, blob.len());
        let parent = format!("{}-{} {length}", from.address(), from.name());
        let line = format!("0 bytes came from the origin, {length} from peers: {parent}");
        assert!(cluster.node(2).daemon.log().contains(&line), "{}", cluster.node(2).daemon.log());
        assert_eq!(cluster.node(2).metric("dfget_pieces_from_peers_total"), Some(32.0));
        assert_eq!(cluster.node(2).metric("dfget_piece_failures_total"), Some(0.0));
        let (code, all) = json(cluster.node(3), &[]);
        assert_eq!(
            (code, &all["total"]["up"], &all["askedDaemon"]),
            (Some(0), &3.into(), &Value::Null),
            "{all}"
        );
        assert_eq!(all["total"]["tasks"]["stored"], 2, "{all}");
        for way in ["fromOrigin", "fromPeers", "toPeers"] {
            assert!(all["total"]["bytes"][way].as_u64() >= Some(blob.len() as u64), "{way}: {all}");
        }
        let own: Vec<_> = (1..=3).map(|node| member(&all, cluster.node(node))["thisNode"] == true).collect();
        assert_eq!(own, [false, false, true], "{all}");
        let second = member(&all, cluster.node(2));
        assert_eq!((&second["version"], &second["state"]), (&env!("CARGO_PKG_VERSION").into(), &"up".into()));
        let text = status(cluster.node(3), &[]).ok().stdout;
        assert!(text.contains("(this node)") && text.contains("3 of 3 up"), "{text}");

        cluster.node_mut(2).daemon.kill();
        let (code, all) = json(cluster.node(3), &[]);
        assert_eq!((code, &all["total"]["down"]), (Some(1), &1.into()), "{all}");
        let down = member(&all, cluster.node(2));
        assert_eq!(down["state"], "down");
        assert!(down["reason"].as_str().is_some_and(|why| why.contains("cannot connect to")), "{down}");
    });
}

#[test]
fn who_has_another_key_is_told_with_the_remedy() {
    in_namespace(|| {
        let mut cluster = setup(3).start();
        cluster.node(2).change_key(dfget_binary());
        cluster.node_mut(2).daemon.kill();
        cluster.node_mut(2).daemon.start_again();
        let (code, all) = json(cluster.node(1), &[]);
        assert_eq!((code, &all["total"]["down"]), (Some(1), &1.into()), "{all}");
        let reason = member(&all, cluster.node(2))["reason"].as_str().expect("a reason").to_owned();
        assert!(reason.contains("its cluster key is another one: copy the key file"), "{reason}");

        let other = key_file(&cluster, 2);
        let (code, all) = json(cluster.node(1), &["--cluster-key", other.to_str().expect("plain")]);
        assert_eq!((code, &all["total"]["up"]), (Some(1), &1.into()), "{all}");
    });
}

#[test]
fn who_has_no_key_is_told_by_the_daemon() {
    in_namespace(|| {
        let cluster = setup(2).start();
        fs::remove_file(key_file(&cluster, 1)).expect("it is there");
        let (code, all) = json(cluster.node(1), &[]);
        let socket = cluster.node(1).daemon.home().join("lease.sock").display().to_string();
        assert_eq!((code, &all["askedDaemon"]), (Some(0), &socket.into()), "{all}");
        assert_eq!(
            (&all["total"]["up"], &member(&all, cluster.node(1))["thisNode"]),
            (&2.into(), &true.into())
        );
        let missing = status(cluster.node(2), &["--cluster-key", "/none/such"]);
        assert_eq!(missing.status.code(), Some(78), "{}", missing.stderr);
        assert!(
            missing.stderr.starts_with("error: there is no cluster key at /none/such"),
            "{}",
            missing.stderr
        );
    });
}

#[test]
fn members_come_and_go_while_the_daemon_runs() {
    in_namespace(|| {
        let cluster = setup(3).start();
        let members = cluster.nodes.iter().map(|node| node.place.address().to_string()).collect::<Vec<_>>();
        let first = cluster.node(1);
        let up = || json(first, &[]).1["total"]["up"].clone();
        assert_eq!(up(), 3);
        let alone = format!("members: '{}'", members[0]);
        let all = format!("members: '{}'", members.join(","));
        edit(first, |text| text.replace(&all, &alone).replace("cluster:\n", "cluster:\n  port: 65000\n"));
        hang_up_until(first, "not in effect before the daemon is restarted: cluster.port\"");
        let by_daemon = |count: u64| {
            fs::rename(key_file(&cluster, 1), "/tmp/kept").expect("it is there");
            let told = json(first, &[]).1["total"]["members"] == count;
            fs::rename("/tmp/kept", key_file(&cluster, 1)).expect("it is there");
            told.then_some(())
        };
        until("one member", || by_daemon(1));
        edit(first, |text| text.replace(&alone, &all));
        hang_up_until(first, "changed: cluster.members\"");
        until("three members", || by_daemon(3));
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, 1..=3, &blob, &url);
        assert!(share_sent(&cluster, &blob) <= 1.5, "{}", cluster.logs());
    });
}

#[test]
fn what_a_node_may_send_is_changed_while_it_runs() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        edit(cluster.node(1), |text| format!("{text}upload:\n  rateLimit: 1\n"));
        hang_up_until(cluster.node(1), "changed: upload.rateLimit\"");
        pull(&cluster, [2], &blob, &url);
        assert!(!cluster.node(1).daemon.log().contains("not in effect before the daemon is restarted"));
        assert!(share_sent(&cluster, &blob) > 1.5, "one byte a second is too little for a pull");
    });
}
