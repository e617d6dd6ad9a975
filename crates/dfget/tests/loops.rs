//! A daemon whose way leads back to itself: each loop ends in its first round with a 508 that says so.

use std::net::TcpListener;

use dfget_testkit::{Client, Daemon, DaemonOptions, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// CONNECTs and GETs that a daemon has taken.
const CONNECTS: &str = "dragonfly_dfdaemon_proxy_request_total{method=\"CONNECT\"}";
const GETS: &str = "dragonfly_dfdaemon_proxy_request_total{method=\"GET\"}";

fn free_ports<const N: usize>() -> [u16; N] {
    let free = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    free.map(|listener| listener.local_addr().expect("an address").port())
}

fn refused(client: &Client, authority: &str) -> Response {
    client.connect(authority).expect("an answer").expect_err("no tunnel to itself")
}

fn assert_loop(answer: &Response, what: &str) {
    assert_eq!(answer.status, 508, "{what}: {} {}", answer.reason, answer.text());
    assert!(answer.text().contains("back to this proxy"), "{what}: {}", answer.text());
    assert!(answer.text().contains("HTTPS_PROXY"), "{what}: the remedy: {}", answer.text());
}

#[test]
fn the_port_of_the_daemon_is_no_target() {
    let stage = Stage::new(DFGET);
    let port = stage.daemon.address().port();
    // Hijacked, tunnelled, forwarded, and as a task.
    for authority in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let refusal = refused(&stage.client(), &authority);
        assert_loop(&refusal, &authority);
        assert!(refusal.reason.contains("back to this proxy"), "clients print it: {}", refusal.reason);
    }
    for path in [
        "/v2/",
        "/files/x",
        "/v2/a/blobs/sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ] {
        assert_loop(&stage.get(&format!("http://127.0.0.1:{port}{path}")), path);
    }
    stage.daemon.wait_for_metric(CONNECTS, 2);
    stage.daemon.wait_for_metric(GETS, 3);
}

#[test]
fn a_name_that_leads_to_the_daemon_is_no_target() {
    let stage = Stage::with(DFGET, |options| {
        options
            .hosts("[{regx: 'hijacked'}]")
            .extra("download: {resolve: {hijacked.test: 127.0.0.1, other.test: 127.0.0.1}}")
    });
    let port = stage.daemon.address().port();
    for name in ["hijacked.test", "other.test"] {
        assert_loop(&refused(&stage.client(), &format!("{name}:{port}")), name);
        assert_loop(&stage.get(&format!("http://{name}:{port}/files/x")), name);
    }
}

#[test]
fn a_rule_that_points_at_the_daemon_itself_ends_at_once() {
    let [port] = free_ports();
    let rules = format!(
        "[{{regx: '/files/', redirect: '127.0.0.1:{port}'}}, {{regx: '.', direct: true, redirect: '127.0.0.1:{port}'}}]"
    );
    let stage = Stage::with(DFGET, |options| options.port(port).rules(&rules));
    for path in ["/files/x", "/v2/"] {
        assert_loop(&stage.get(&format!("http://registry.test{path}")), path);
        assert_loop(&stage.get(&stage.registry.origin.url(path)), path);
    }
    stage.daemon.wait_for_metric(GETS, 4);
}

/// `HTTPS_PROXY` is often set for all programs of a machine.
#[test]
fn a_daemon_that_is_its_own_proxy_by_the_environment_goes_without() {
    let [port] = free_ports();
    let own = format!("http://user:canary@127.0.0.1:{port}");
    let stage = Stage::with(DFGET, |options| {
        options.port(port).environment("HTTPS_PROXY", &own).environment("HTTP_PROXY", &own)
    });
    let said = stage.daemon.everything_said();
    assert!(said.contains("HTTPS_PROXY names this daemon itself"), "{said}");
    assert!(said.contains("HTTP_PROXY names this daemon itself") && !said.contains("canary"), "{said}");
    let refusal = refused(&stage.client(), "no-such-host.invalid:443");
    assert!(refusal.reason.contains("cannot resolve"), "it was looked for directly: {}", refusal.reason);
}

/// Two daemons, each the site's proxy of the other.
fn ring(hosts: &str) -> [Daemon; 2] {
    let [one, other] = free_ports();
    let start = |port: u16, upstream: u16| {
        let upstream = format!("127.0.0.1:{upstream}");
        DaemonOptions::new(DFGET)
            .hosts(hosts)
            .port(port)
            .environment("HTTPS_PROXY", &upstream)
            .environment("HTTP_PROXY", &upstream)
            .start()
    };
    [start(one, other), start(other, one)]
}

#[test]
fn two_daemons_in_a_ring_end_it_in_the_first_round() {
    for hosts in ["[{regx: 'hijacked'}]", "[{regx: 'none'}]"] {
        let daemons = ring(hosts);
        assert_loop(&refused(&daemons[0].client(), "hijacked.test:443"), hosts);
        // The client's, and the one that comes back; the second daemon's one between.
        daemons[0].wait_for_metric(CONNECTS, 2);
        daemons[1].wait_for_metric(CONNECTS, 1);
    }
}

#[test]
fn requests_in_plain_text_end_in_the_first_round_too() {
    let daemons = ring("[{regx: 'none'}]");
    for (turn, path) in ["/v2/", "/files/x"].into_iter().enumerate() {
        let answer = daemons[0].client().fetch(&Request::get(format!("http://registry.test{path}")));
        assert_loop(&answer.expect("an answer"), path);
        daemons[0].wait_for_metric(GETS, 2 * (turn + 1));
        daemons[1].wait_for_metric(GETS, turn + 1);
    }
}
