//! How connections to origins are made and kept (`download.resourceClients`).

use std::net::TcpListener;

use dfget_testkit::ca::Leaf;
use dfget_testkit::{Answer, Blob, Origin, Registry, Reply, Request, Stage, TestCa};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

#[test]
fn certificates_go_unverified_where_that_is_told_and_it_is_said_aloud() {
    let other = TestCa::new("authority of another origin");
    let pem = other.certificate_pem().replace('\n', "\\n");
    let key = "resourceClients: {https: {insecureSkipVerify: true}}";
    for (extra, trusted) in [(String::new(), false), (format!("download: {{{key}}}"), true)] {
        // Its own certificates are what an entry of `hosts` is verified by all the same.
        let origin = Origin::https_with(|ip| Leaf::self_signed(&[ip]), |_| Answer::new(200).into());
        let pinned = Origin::https_with(|ip| Leaf::self_signed(&[ip]), |_| Answer::new(200).into());
        let hosts =
            format!("[{{regx: '^{}', certs: [\"{pem}\"]}}, {{regx: '^127\\.'}}]", pinned.address().ip());
        let stage = Stage::with(DFGET, |options| options.hosts(&hosts).extra(&extra));
        let status = |origin: &Origin| stage.get(&origin.url("/v2/")).status;
        assert_eq!(status(&origin), if trusted { 200 } else { 502 });
        assert_eq!(status(&pinned), 502, "{extra}");
        let said = stage.daemon.everything_said();
        assert_eq!(said.contains("certificates of origins are not verified"), trusted, "{said}");
        stage.daemon.wait_for_metric("dfget_origin_insecure_total", usize::from(trusted));
    }
}

#[test]
fn an_origin_that_begins_no_handshake_is_given_up_after_its_bound() {
    let silent = TcpListener::bind("127.0.0.9:0").expect("a port");
    let authority = silent.local_addr().expect("an address").to_string();
    let extra = "download: {resourceClients: {https: {tlsHandshakeTimeout: 1s}}}";
    let stage = Stage::with(DFGET, |options| options.extra(extra));
    let refusal = stage.client().connect(&authority).expect("an answer").expect_err("no tunnel");
    assert_eq!(refusal.status, 504, "{}", refusal.reason);
    assert!(refusal.reason.contains("did not answer within 1 s"), "{}", refusal.reason);
}

#[test]
fn an_origin_that_sends_no_head_is_given_up_after_the_bound_of_its_scheme() {
    let plain = Origin::plain(|_| Reply::Silence);
    let extra = "download: {resourceClients: {http: {responseHeaderTimeout: 1s}}}";
    let stage = Stage::with(DFGET, |options| options.extra(extra));
    let answer = stage.get(&plain.url("/v2/"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("sent no answer within 1 s"), "{}", answer.text());
}

#[test]
fn no_more_idle_connections_are_kept_than_told() {
    let extra = "download: {resourceClients: {http: {maxIdleConns: 1}}}";
    for (extra, connections) in [("", 1), (extra, 2)] {
        let stage = Stage::with(DFGET, |options| options.extra(extra));
        let (one, other) = (Registry::plain(), Registry::plain());
        for registry in [&one, &other, &one] {
            assert_eq!(stage.get(&registry.origin.url("/elsewhere")).status, 404);
        }
        assert_eq!(one.origin.connections(), connections, "{extra}: the older one makes room");
        assert_eq!(stage.get(&one.origin.url("/elsewhere")).status, 404);
        assert_eq!(one.origin.connections(), connections, "{extra}: the newer one is kept");
    }
}

#[test]
fn an_idle_connection_is_not_used_again_after_its_time() {
    let extra = "download: {resourceClients: {http: {idleConnTimeout: 1ns}}}";
    let stage = Stage::with(DFGET, |options| options.extra(extra));
    let registry = Registry::plain();
    let url = registry.put("some/image", &Blob::random(1000, 1));
    for _ in 0..2 {
        assert_eq!(stage.fetch(&Request::get(url.replace("/blobs/", "/other/"))).status, 404);
    }
    assert_eq!(registry.origin.connections(), 2);
}
