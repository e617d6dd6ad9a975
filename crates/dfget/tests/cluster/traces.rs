//! A trace goes on from node to node.

use std::fs::OpenOptions;
use std::io::Write as _;

use dfget_testkit::{Origin, Request};

use crate::collector::{Collected, only};
use crate::support::{MIB, in_namespace, pull, put, setup};

#[test]
fn pieces_from_peers_are_told_of_within_the_download() {
    in_namespace(|| {
        let mut cluster = setup(2).start();
        let collected = Collected::default();
        let taken = collected.clone();
        let collector =
            Origin::https_at(&cluster.network.origin, &cluster.ca, move |request| taken.take(request));
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let daemon = &mut cluster.node_mut(2).daemon;
        assert!(daemon.stop().success());
        let mut file =
            OpenOptions::new().append(true).open(daemon.home().join("dfget.yaml")).expect("its file");
        writeln!(file, "tracing: {{endpoint: '{}', protocol: https}}", collector.authority())
            .expect("written");
        daemon.start_again();
        let answer = cluster.node(2).fetch(&Request::get(&url));
        assert!(answer.is_complete() && answer.body.len() == 16 * MIB);

        assert!(cluster.node_mut(2).daemon.stop().success());
        let spans = collected.spans();
        assert!(spans.iter().any(|span| span.name == "access check"), "{spans:#?}");
        let server = only(&spans, "the request", |span| span.parent.is_empty());
        assert!(spans.iter().all(|span| span.trace == server.trace), "{spans:#?}");
        let download = only(&spans, "the download", |span| span.name == "download");
        assert_eq!((&download.parent, download.says("dfget.outcome")), (&server.id, "verified"));
        assert_eq!(download.says("dfget.bytes.peers"), blob.len().to_string());
        let join = only(&spans, "the scheduler", |span| span.name == "scheduler join");
        assert_eq!((&join.parent, join.says("dfget.scheduler.parents")), (&download.id, "1"));
        let pieces: Vec<_> = spans.iter().filter(|span| span.name == "piece").collect();
        let bytes: usize = pieces
            .iter()
            .filter(|span| !span.failed)
            .map(|span| span.says("dfget.piece.size").parse::<usize>().expect("a number"))
            .sum();
        assert!(pieces.iter().all(|span| span.parent == download.id), "{spans:#?}");
        assert!(bytes >= blob.len(), "{bytes} bytes: {}", cluster.logs());
        let node = cluster.node(1).place.address().to_string();
        assert!(pieces.iter().all(|span| span.says("server.address") == node));
    });
}
