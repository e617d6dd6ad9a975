//! The admin port: health, and what the counters say after pulls.

#![expect(clippy::panic, reason = "a helper of a test may fail the test")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dfget_testkit::{Blob, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// Status line and body of a GET at the address that the log names behind `marker`.
fn ask(stage: &Stage, marker: &str, path: &str) -> (String, String) {
    let log = stage.daemon.log();
    let (_, rest) = log.split_once(marker).expect("the log names the address");
    let address =
        rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("the port is open");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

const ADMIN: &str = "serve health and metrics at tcp://";

/// The value of a sample in the text of `/metrics`.
fn sample(metrics: &str, name: &str) -> u64 {
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap_or_else(|_| panic!("{name} is {line}"))
}

#[test]
fn the_daemon_says_that_it_lives() {
    let stage = Stage::new(DFGET);
    let (status, body) = ask(&stage, ADMIN, "/server/ping");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "\"OK\""));
    assert!(ask(&stage, ADMIN, "/api").0.starts_with("HTTP/1.1 404"));
}

#[test]
fn the_counters_tell_origin_from_cache() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(300_000, 1);
    let url = stage.registry.put("public/image", &blob);
    for _ in 0..3 {
        assert!(stage.get(&url).body == blob.bytes[..]);
    }
    let (_, metrics) = ask(&stage, ADMIN, "/metrics");
    let expected = [
        ("dfget_bytes_total{source=\"origin\"}", 300_000),
        ("dfget_bytes_total{source=\"cache\"}", 600_000),
        ("dfget_requests_total{source=\"origin\"}", 1),
        ("dfget_requests_total{source=\"cache\"}", 2),
        ("dragonfly_dfdaemon_peer_task_total", 1),
        ("dragonfly_dfdaemon_piece_task_total", 1),
        ("dragonfly_dfdaemon_peer_task_cache_hit_total", 2),
        ("dragonfly_dfdaemon_proxy_request_via_dragonfly_total", 3),
        ("dragonfly_dfdaemon_proxy_request_total{method=\"CONNECT\"}", 3),
    ];
    for (name, value) in expected {
        assert_eq!(sample(&metrics, name), value, "{name}");
    }
    assert!(!metrics.contains("public/image"), "no repository is named");
}

#[test]
fn a_second_listener_shows_the_metrics_alone() {
    let stage = Stage::with(DFGET, |options| options.extra("metrics: 127.0.0.1:0"));
    let marker = "started metrics server at tcp://";
    assert!(ask(&stage, marker, "/metrics").1.contains("dragonfly_dfdaemon_version"));
    assert!(ask(&stage, marker, "/server/ping").0.starts_with("HTTP/1.1 404"));
}
