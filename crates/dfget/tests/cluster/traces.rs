//! A trace goes on from node to node.

use std::fs::OpenOptions;
use std::io::Write as _;

use dfget_testkit::{Origin, Request};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::collector::{Collected, only};
use crate::support::{MIB, in_namespace, pull, put, setup};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn pieces_from_peers_are_told_of_within_the_download() {
    in_namespace(|| {
        let mut cluster = setup(2).start();
        let collected = Collected::default();
        let taken = collected.clone();
        let collector =
            Origin::https_at(&cluster.network.origin, &cluster.ca, move |request| taken.take(request));
        let endpoint = collector.authority();
        for number in 1..=2 {
            let daemon = &mut cluster.node_mut(number).daemon;
            assert!(daemon.stop().success());
            let file = daemon.home().join("dfget.yaml");
            let mut file = OpenOptions::new().append(true).open(file).expect("the daemon's file");
            writeln!(file, "tracing: {{endpoint: '{endpoint}', protocol: https, ratio: 0}}")
                .expect("written");
            daemon.start_again();
        }
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let request = Request::get(&url).header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
        let answer = cluster.node(2).fetch(&request);
        assert!(answer.is_complete() && answer.body.len() == 16 * MIB);
        for number in 1..=2 {
            assert!(cluster.node_mut(number).daemon.stop().success());
        }

        let spans = collected.spans();
        assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
        let server = only(&spans, "the request", |span| span.kind == SpanKind::Server && span.name == "GET");
        let check = only(&spans, "the check", |span| span.name == "access check");
        assert_eq!(check.parent, server.id);
        let download = only(&spans, "the download", |span| span.name == "download");
        assert_eq!((&download.parent, download.says("dfget.outcome")), (&server.id, "verified"));
        assert_eq!(download.says("dfget.bytes.peers"), blob.len().to_string());
        let join = only(&spans, "the scheduler", |span| span.name == "scheduler join");
        assert_eq!((&join.parent, join.says("dfget.scheduler.joined")), (&download.id, "true"));
        let told = spans.iter().filter(|span| span.name == "scheduler.v2.Scheduler/AnnouncePeer");
        let parents: Vec<_> = told.map(|span| &span.parent).collect();
        assert!(!parents.is_empty() && parents.iter().all(|parent| **parent == join.id), "{spans:#?}");
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
