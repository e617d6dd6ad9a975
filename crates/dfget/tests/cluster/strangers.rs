//! Who does not belong to the cluster.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use dfget_proto::Ring;
use dfget_testkit::content::random_bytes;
use dfget_testkit::wire::{Wire, is_timeout};
use dfget_testkit::{Blob, TestCa};

use crate::support::{PIECE_PORT, PORT, dfget_binary, dial, in_namespace, pull, put, setup, share_sent};

#[test]
fn a_node_with_another_key_pulls_for_itself_and_disturbs_nobody() {
    in_namespace(|| {
        let mut cluster = setup(4).start();
        let (blob, url) = put(&cluster, 8);
        cluster.node(3).change_key(dfget_binary());
        let daemon = &mut cluster.node_mut(3).daemon;
        daemon.stop();
        daemon.start_again();
        pull(&cluster, 1..=4, &blob, &url);
        assert_eq!(cluster.node(3).metric("dfget_bytes_from_peers_total").unwrap_or(0.0), 0.0);
        assert!(share_sent(&cluster, &blob) <= 2.1, "{}", cluster.logs());
        // Both sides name the other and the remedy, and not at every try.
        let others = [1, 2, 4];
        let said = |number: usize| cluster.node(number).daemon.everything_said();
        let address = |number: usize| cluster.node(number).place.address().to_string();
        let named = |said: String, address: &str| {
            let remedy = "its cluster key is another one: copy the key file";
            said.lines().filter(|line| line.contains(address) && line.contains(remedy)).count()
        };
        let by_it: usize = others.into_iter().map(|other| named(said(3), &address(other))).sum();
        let of_it: usize = others.into_iter().map(|other| named(said(other), &address(3))).sum();
        eprintln!("{by_it} lines about others, {of_it} about it");
        assert!(
            (1..=30).contains(&by_it) && (1..=30).contains(&of_it),
            "{by_it} {of_it}\n{}",
            cluster.logs()
        );
    });
}

#[test]
fn a_stranger_on_the_ports_is_shown_out_and_the_pulls_go_on() {
    in_namespace(|| {
        let cluster = setup(3).rates("100mbit", "100mbit").start();
        let (blob, url) = put(&cluster, 16);
        std::thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=3, &blob, &url));
            for port in [PORT, PIECE_PORT] {
                let noise = random_bytes(64 << 10, 3);
                let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
                let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
                // A frame of vortex that names 4 GiB: id, tag 0 (a request for a piece), length.
                let vortex = [&[9, 0][..], &u32::MAX.to_be_bytes(), &[0; 64]].concat();
                let no_tls = [&[0x16, 3, 1, 0xff, 0xff][..], &random_bytes(100, 4)].concat();
                for bytes in [noise, http, h2, vortex, no_tls] {
                    let mut stream = dial(cluster.node(2), cluster.node(1), port).expect("the port is open");
                    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes it");
                    // It may have been shown out before it has said all.
                    let _ = stream.write_all(&bytes);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let mut said = Vec::new();
                    let ended = stream.read_to_end(&mut said);
                    let late = ended.as_ref().is_err_and(is_timeout);
                    assert!(!late, "port {port} keeps a stranger");
                    assert!(said.len() < 1 << 10, "port {port} says much to a stranger");
                }
            }
        });
        let after = cluster.node(1).daemon.everything_said();
        assert!(after.lines().count() < 2_000, "a line for each stranger is enough");
    });
}

#[test]
fn a_stranger_that_may_speak_plainly_and_says_nothing_sensible_is_shown_out() {
    in_namespace(|| {
        let cluster = setup(3).cluster("allowPlaintextPeers: true").rates("100mbit", "100mbit").start();
        let (blob, url) = put(&cluster, 16);
        std::thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 1..=3, &blob, &url));
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            // A frame of HTTP/2 of 16 MiB - 1, and one of vortex that names 4 GiB: id, tag, length.
            let h2 = [&preface[..], b"\xff\xff\xff\x01\x05\0\0\0\x01", &[0; 4096]].concat();
            let long = [&[9, 0][..], &u32::MAX.to_be_bytes(), &[0; 64]].concat();
            // Frames that mean nothing, without end; and a request for what no content has.
            let chatter = [9, 77, 0, 0, 0, 0].repeat(50_000);
            for (port, bytes) in [
                (PORT, random_bytes(64 << 10, 3)),
                (PORT, h2),
                (PORT, long.clone()),
                (PIECE_PORT, random_bytes(64 << 10, 4)),
                (PIECE_PORT, long),
                (PIECE_PORT, chatter),
            ] {
                let mut stream = dial(cluster.node(2), cluster.node(1), port).expect("the port is open");
                stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes it");
                // It may have been shown out before it has said all.
                let _ = stream.write_all(&bytes);
                let mut said = Vec::new();
                let ended = stream.read_to_end(&mut said);
                assert!(!ended.is_err_and(|error| is_timeout(&error)), "port {port} keeps a stranger");
                assert!(said.len() < 1 << 10, "port {port} says much to a stranger");
            }
        });
        let said = cluster.node(1).daemon.everything_said();
        let address = cluster.node(2).place.address().to_string();
        for port in ["gRPC port", "port of pieces"] {
            let named = |line: &&str| line.contains(&address) && line.contains(port) && line.contains("warn");
            assert!(said.lines().any(|line| named(&line)), "nothing of the {port}\n{said}");
        }
        assert!(said.lines().count() < 2_000, "a line for each stranger is enough");
    });
}

#[test]
fn a_member_whose_name_does_not_resolve_and_one_that_is_not_there_are_named_and_cost_no_pull() {
    in_namespace(|| {
        let (nowhere, dark) = ("no-such-host.test", "198.51.100.250");
        let cluster = setup(2).member(nowhere).member(dark).start();
        let names = cluster.nodes.iter().map(|node| node.place.address().to_string());
        let ring =
            Ring::new(names.chain([nowhere, dark].map(str::to_owned)).map(|name| format!("{name}:{PORT}")));
        for (member, why) in [(nowhere, "cannot resolve"), (dark, "")] {
            let is_its = |blob: &Blob| {
                let task = blob.digest.trim_start_matches("sha256:");
                ring.order(task).next().is_some_and(|first| first.starts_with(member))
            };
            let blob = (0..).map(|seed| Blob::random(5 << 20, seed)).find(is_its).expect("there are many");
            let url = cluster.registry.put("public/blob", &blob);
            pull(&cluster, [1], &blob, &url);
            let asked = cluster.registry.downloads(&blob.digest);
            pull(&cluster, [2], &blob, &url);
            assert_eq!(cluster.registry.downloads(&blob.digest), asked, "{}", cluster.logs());
            let named =
                |line: &str| line.contains(member) && line.contains(why) && line.contains("takes over");
            let said = cluster.node(1).daemon.log();
            assert!(said.lines().any(named), "nothing of {member}\n{said}");
        }
    });
}

#[test]
fn tls_without_the_key_is_no_way_in() {
    in_namespace(|| {
        let cluster = setup(2).start();
        let stranger = TestCa::new("authority of a stranger");
        let leaf = stranger.leaf(&["stranger"]);
        for port in [PORT, PIECE_PORT] {
            for leaf in [None, Some(&leaf)] {
                let stream = dial(cluster.node(2), cluster.node(1), port).expect("the port is open");
                let wire = Wire::plain(stream).expect("a socket takes options");
                let address = cluster.node(1).place.address().to_string();
                // In TLS 1.3 a client has shaken hands before it is told what is thought of its certificate.
                let Ok(mut wire) = wire.start_tls(&address, TestCa::credulous_client_config(leaf)) else {
                    continue;
                };
                let _ = wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
                let mut said = Vec::new();
                let ended = wire.read_to_end(&mut said);
                assert!(!ended.is_err_and(|error| is_timeout(&error)), "port {port} keeps a stranger");
                assert_eq!(said, b"", "port {port} speaks to a stranger");
            }
        }
        let (blob, url) = put(&cluster, 4);
        pull(&cluster, [1], &blob, &url);
        let asked = cluster.registry.downloads(&blob.digest);
        pull(&cluster, [2], &blob, &url);
        assert_eq!(cluster.registry.downloads(&blob.digest), asked);
    });
}

#[test]
fn peers_may_speak_plainly_where_that_is_allowed() {
    in_namespace(|| {
        let cluster = setup(3).cluster("allowPlaintextPeers: true").start();
        let (blob, url) = put(&cluster, 8);
        pull(&cluster, [1], &blob, &url);
        let asked = cluster.registry.downloads(&blob.digest);
        pull(&cluster, 2..=3, &blob, &url);
        assert_eq!(cluster.registry.downloads(&blob.digest), asked, "{}", cluster.logs());
    });
}

#[test]
fn nodes_with_one_name_and_members_that_there_are_not_cost_no_pull() {
    in_namespace(|| {
        let setup = setup(3).hostname("the-same").member("no-such-host.test").member("198.51.100.250");
        let cluster = setup.start();
        let (blob, url) = put(&cluster, 8);
        pull(&cluster, 1..=3, &blob, &url);
        share_sent(&cluster, &blob);
    });
}
