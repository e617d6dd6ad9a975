//! `dfget top` and the web page while nodes feed each other.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::{Browser, Cluster, Node, Tab};
use serde_json::Value;

use crate::checks::{DESK, PHONE, assert_for_everybody, assert_keeps_to_itself, picture};
use crate::support::{dfget_binary, in_namespace, pull, put, run, setup, until};

/// As much as can be read in a README: the figures of now, a download, and who feeds whom.
const README: (u32, u32) = (900, 860);

/// What the command says on this node.
fn top(node: &Node, arguments: &[&str]) -> String {
    let home = node.daemon.home();
    let mut command = Command::new(dfget_binary());
    command.arg("top").args(arguments).env_clear().env("HOME", home);
    command.env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"));
    node.place.within(|| run(&mut command)).ok().stdout
}

fn live(node: &Node) -> Value {
    serde_json::from_str(&top(node, &["--output", "json"])).expect("JSON")
}

/// The names of members, and whether each is down.
fn members(live: &Value) -> Vec<(String, bool)> {
    let members = live["cluster"]["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |member: &Value| member["name"].as_str().unwrap_or_default().to_owned();
    members.iter().map(|member| (name(member), !member["down"].is_null())).collect()
}

#[test]
fn who_feeds_whom_is_told_on_both_sides() {
    in_namespace(|| {
        let mut cluster = setup(3).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        pull(&cluster, [2], &blob, &url);
        let length = blob.len() as u64;
        let (first, second) = (live(cluster.node(1)), live(cluster.node(2)));
        let places: Vec<_> = cluster.nodes.iter().map(|node| node.place.clone()).collect();
        let id = |node: usize| format!("{}-{}", places[node - 1].address(), places[node - 1].name());
        assert_eq!(
            (&second["parents"][0]["node"], &second["parents"][0]["bytes"]),
            (&id(1).into(), &length.into())
        );
        assert_eq!(first["children"][0]["bytes"], length, "{first:#}");
        let saved = |live: &Value| live["registries"][0]["savedBytes"].as_u64();
        assert_eq!((saved(&first), saved(&second)), (Some(0), Some(length)), "{second:#}");
        assert_eq!(second["ended"][0]["fromPeers"], length);

        cluster.node_mut(3).daemon.kill();
        let live = until("the members are asked", || {
            let live = live(cluster.node(1));
            (live["cluster"]["up"] == 2).then_some(live)
        });
        let members = members(&live);
        let name = |node: usize| format!("{}:65000", places[node - 1].address());
        assert_eq!(members, [(name(1), false), (name(3), true), (name(2), false)], "{live:#}");
        // Once the members are known, so are the names of the children.
        assert_eq!(live["children"][0]["node"], id(2), "{live:#}");
        let text = top(cluster.node(1), &["--once"]);
        assert!(text.contains("Members (2 of 3 up)") && text.contains("Who feeds whom"), "{text}");
    });
}

fn pull_in_background(cluster: &Cluster, url: &str, digest: &str, look: impl FnOnce()) {
    std::thread::scope(|scope| {
        let pulls = scope.spawn(|| cluster.get_at_once(1..=4, url));
        look();
        assert_all_right(&pulls.join().expect("the clients get answers"), digest);
    });
}

/// The pictures of README.md, in light and in dark, if somebody wants pictures: `docs/images/README.md` says how.
fn pictures_for_readers(tab: &mut Tab, name: &str) {
    let Some(directory) = std::env::var_os("DFGET_PICTURES").map(PathBuf::from) else { return };
    tab.resize(README.0, README.1, false);
    tab.wait_for(&format!("document.querySelector('#rates svg').viewBox.baseVal.width < {}", README.0));
    for (dark, shade) in [(false, "light"), (true, "dark")] {
        tab.prefer(dark, true);
        tab.window_picture(&directory.join(format!("{name}-{shade}.png")));
    }
    tab.prefer(false, false);
}

#[test]
fn the_page_shows_a_swarm() {
    in_namespace(|| {
        let cluster = setup(4).rates("60mbit", "80mbit").start();
        let (blob, url) = put(&cluster, 96);
        let node = cluster.node(1);
        let address = top(node, &["--web"]).trim().to_owned();
        let mut tab = node.place.within(|| Browser::start().tab(DESK.0, DESK.1, false));
        tab.open(&address);
        tab.wait_for("document.getElementById('members-words').textContent === '4 of 4 are up.'");
        pull_in_background(&cluster, &url, &blob.digest, || {
            tab.wait_for("document.querySelector('.map .p') && document.querySelector('.map .o')");
            tab.wait_for("document.querySelectorAll('.way.busy.peers').length > 0");
            tab.wait_for("document.querySelectorAll('.way.busy.to-peers').length > 0");
            // Some seconds of it, for the picture of the rates.
            std::thread::sleep(Duration::from_secs(2));
            assert_for_everybody(&mut tab);
            picture(&mut tab, "swarm-desk-light");
            pictures_for_readers(&mut tab, "swarm");
            let text = top(node, &["--once"]);
            assert!(text.contains("Downloads (1)") && text.contains('█') && text.contains("──►"), "{text}");
            tab.prefer(true, false);
            tab.resize(PHONE.0, PHONE.1, true);
            tab.wait_for("document.querySelector('#rates svg').viewBox.baseVal.width < 360");
            assert_for_everybody(&mut tab);
            picture(&mut tab, "swarm-phone-dark");
            // What is not seen does not move, which would cost a phone much.
            tab.value("scrollTo(0, 0)");
            tab.wait_for("document.getAnimations().length === 0");
            tab.value("document.getElementById('feeds').scrollIntoView()");
            tab.wait_for("document.getAnimations().length > 0");
        });
        tab.wait_for("document.querySelector('#ended li').textContent.includes('from other nodes')");
        assert_keeps_to_itself(&tab, &address);
    });
}
