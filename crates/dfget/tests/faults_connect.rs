//! Connections that cannot be what they should: origins that are dead or show a bad certificate, clients that speak
//! something else. The client that is concerned is told the cause where it looks for it, the others go on.

use std::net::{Ipv4Addr, TcpListener};

use dfget_testkit::ca::Leaf;
use dfget_testkit::{Answer, Blob, Origin, Response, Stage, TestCa};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// The refusal of a CONNECT to `authority`. The clients print its reason phrase and nothing else.
fn refusal(stage: &Stage, authority: &str) -> Response {
    let tunnel = stage.client().connect(authority).expect("the daemon answers");
    tunnel.expect_err("the CONNECT must not be granted")
}

/// Whether the daemon still does its work.
fn serves(stage: &Stage) -> bool {
    let blob = Blob::random(1000, 99);
    let url = stage.registry.put("other/image", &blob);
    stage.get(&url).body == blob.bytes[..]
}

/// What the daemon says of an origin with this leaf.
fn refusal_of_leaf(make_leaf: impl FnOnce(&TestCa, &str) -> Leaf) -> String {
    let stage = Stage::new(DFGET);
    let origin = Origin::https_with(|ip| make_leaf(&stage.ca, ip), |_| Answer::new(200).into());
    let refusal = refusal(&stage, &origin.authority());
    assert_eq!(refusal.status, 502, "{}", refusal.reason);
    assert!(origin.journal().is_empty(), "no request goes to an origin that is not verified");
    assert!(serves(&stage));
    refusal.reason.to_lowercase()
}

#[test]
fn a_dead_host_is_a_502_on_the_connect_with_the_cause_in_the_reason() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    origin.go_down();
    let refusal = refusal(&stage, &origin.authority());
    assert_eq!(refusal.status, 502);
    assert!(refusal.reason.to_lowercase().contains("refused"), "{}", refusal.reason);
    assert!(refusal.reason.is_ascii());
    assert!(serves(&stage));
}

#[test]
fn a_dead_host_behind_a_blind_tunnel_is_told_alike() {
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'registry\\.test'}]"));
    let origin = Origin::plain(|_| Answer::new(200).into());
    origin.go_down();
    let refusal = refusal(&stage, &origin.authority());
    assert_eq!(refusal.status, 502);
    assert!(refusal.reason.to_lowercase().contains("refused"), "{}", refusal.reason);
}

#[test]
fn a_host_without_an_address_is_named() {
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'invalid'}]"));
    let refusal = refusal(&stage, "no-such-host.invalid:443");
    assert!(matches!(refusal.status, 502 | 504), "{}", refusal.status);
    assert!(refusal.reason.contains("no-such-host.invalid"), "{}", refusal.reason);
}

#[test]
fn an_untrusted_certificate_is_refused() {
    let reason = refusal_of_leaf(|_, ip| TestCa::new("nobody trusts me").leaf(&[ip]));
    assert!(reason.contains("unknown") && reason.contains("authority"), "{reason}");
    let reason = refusal_of_leaf(|_, ip| Leaf::self_signed(&[ip]));
    assert!(reason.contains("certificate"), "{reason}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let reason = refusal_of_leaf(|ca, ip| ca.expired_leaf(&[ip]));
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let reason = refusal_of_leaf(|ca, _| ca.leaf(&["elsewhere.test"]));
    assert!(reason.contains("valid for elsewhere.test"), "{reason}");
}

#[test]
fn an_origin_that_speaks_no_tls_is_refused() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(400).into());
    let refusal = refusal(&stage, &origin.authority());
    assert_eq!(refusal.status, 502);
    assert!(refusal.reason.to_lowercase().contains("tls"), "{}", refusal.reason);
    assert!(serves(&stage));
}

#[test]
fn an_origin_that_accepts_and_stays_silent_is_a_504() {
    let stage = Stage::new(DFGET);
    let silent = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 9), 0)).expect("a free port");
    let authority = silent.local_addr().expect("an address").to_string();
    let refusal = refusal(&stage, &authority);
    assert_eq!(refusal.status, 504, "{}", refusal.reason);
}

#[test]
fn insecure_holds_for_the_host_it_is_written_for_only() {
    let ca = TestCa::new("nobody trusts me");
    let blob = Blob::random(100_000, 1);
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&ca, move |_| Answer::new(200).body(bytes.clone()).into());
    let other = Origin::https(&ca, |_| Answer::new(200).into());
    let host = origin.authority().replace('.', "\\.");
    let hosts = format!("[{{regx: '^{host}$', insecure: true}}, {{regx: '^127\\.'}}]");
    let stage = Stage::with(DFGET, |options| options.hosts(&hosts));
    let response = stage.get(&origin.url(&format!("/v2/a/blobs/{}", blob.digest)));
    assert!(response.status == 200 && response.body == blob.bytes[..], "{}", response.text());
    assert_eq!(stage.get(&origin.url("/forwarded")).status, 200, "what is no task is sent to it as well");
    assert_eq!(refusal(&stage, &other.authority()).status, 502);
}

#[test]
fn a_client_that_speaks_no_tls_inside_the_hijack_is_let_go() {
    let stage = Stage::new(DFGET);
    let authority = stage.registry.origin.authority();
    let mut wire = stage.client().connect(&authority).expect("an answer").expect("granted");
    std::io::Write::write_all(&mut wire, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
    assert!(wire.wait_for_end());
    assert!(stage.registry.origin.journal().is_empty());
    assert!(serves(&stage));
}

#[test]
fn garbage_instead_of_a_request_is_a_400_or_the_end() {
    let stage = Stage::new(DFGET);
    let client = stage.client();
    let garbage: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"what is this\r\n\r\n",
        b"GET\r\n\r\n",
        b"CONNECT nowhere HTTP/1.1\r\n\r\n",
        b"CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00\xff\x00\xff\r\n\r\n",
    ];
    for bytes in garbage {
        let answer = client.send_raw(bytes).expect("the connection ends in order");
        let start = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(start.is_empty() || start == "HTTP/1.1 400", "{bytes:?} was answered {start}");
    }
    assert!(serves(&stage));
}

#[test]
fn a_request_to_the_port_itself_is_told_what_the_port_is() {
    let stage = Stage::new(DFGET);
    for path in ["/", "/v2/", "/env", "/args", "/debug/pprof/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let answer = stage.client().ask_raw(&request).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("HTTPS_PROXY"), "{path}: the next step is named: {answer}");
    }
}
