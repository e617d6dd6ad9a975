//! Traces: what a collector is told of a request's way, and that nobody waits for it.

mod collector;

use std::net::TcpListener;

use dfget_testkit::origin::Entry;
use dfget_testkit::{Answer, Blob, Gate, Origin, Reply, Request, Stage, TestCa};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use self::collector::{Collected, Span, collector, only};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// The context of a client that records.
fn traceparent() -> String {
    format!("00-{TRACE}-{CLIENT}-01")
}

/// A stage whose daemon tells `collector`; `extra` are further keys of `tracing`.
fn stage(collector: &Origin, extra: &str) -> Stage {
    let endpoint = collector.authority();
    Stage::with(DFGET, |options| {
        options.extra(&format!("access: {{ttl: 0s}}\ntracing:\n  endpoint: '{endpoint}'\n{extra}"))
    })
}

/// Trace and span that a request names as its parent.
fn parent(entry: &Entry) -> (String, String) {
    let text = entry.headers.get("traceparent").expect("a traceparent").to_owned();
    let parts: Vec<_> = text.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{text}");
    (parts[1].to_owned(), parts[2].to_owned())
}

/// All that the collector was told when the daemon has ended.
fn told(stage: &mut Stage, collected: &Collected) -> Vec<Span> {
    assert!(stage.daemon.stop().success());
    collected.spans()
}

fn is_server(span: &Span) -> bool {
    span.kind == SpanKind::Server
}

#[test]
fn a_request_is_told_of_from_the_client_to_the_registry() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "  headers: {authorization: Bearer for-the-collector}\n");
    let blob = Blob::random(300_000, 1);
    let url = stage.registry.put("lab/image", &blob);
    let request = Request::get(&url).header("traceparent", traceparent()).header("tracestate", "vendor=kept");
    assert!(stage.fetch(&request).body == blob.bytes[..]);

    let spans = told(&mut stage, &collected);
    assert!(spans.iter().all(|span| span.trace == TRACE && span.service == "dfget"), "{spans:#?}");
    let server = only(&spans, "the request", is_server);
    assert_eq!((server.name.as_str(), server.parent.as_str()), ("GET", CLIENT));
    assert_eq!(server.says("http.request.method"), "GET");
    assert_eq!(server.says("url.path"), format!("/v2/lab/image/blobs/{}", blob.digest));
    assert_eq!(server.says("http.response.status_code"), "200");
    assert_eq!(server.says("http.response.body.size"), "300000");
    assert_eq!(server.says("dfget.source"), "origin");
    let download = only(&spans, "the download", |span| span.name == "download");
    assert_eq!((&download.parent, download.says("dfget.outcome")), (&server.id, "verified"));
    assert_eq!(download.says("dfget.bytes.origin"), "300000");
    let asked = only(&spans, "the registry's request", |span| span.kind == SpanKind::Client);
    assert_eq!((&asked.parent, asked.says("http.response.status_code")), (&download.id, "200"));
    assert_eq!(
        format!("{}:{}", asked.says("server.address"), asked.says("server.port")),
        stage.registry.origin.authority()
    );
    assert!(asked.took > 0 && asked.took <= download.took);

    let seen = stage.registry.origin.asked("GET", &blob.digest);
    assert_eq!(parent(&seen[0]), (TRACE.to_owned(), asked.id.clone()));
    assert_eq!(seen[0].headers.get("tracestate"), Some("vendor=kept"));

    let sent = &collected.requests()[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/v1/traces"));
    assert_eq!(sent.headers.get("content-type"), Some("application/x-protobuf"));
    assert_eq!(sent.headers.get("authorization"), Some("Bearer for-the-collector"));
    let done = stage.daemon.done_lines();
    assert!(done[0].ends_with(&format!(",\"trace_id\":\"{TRACE}\"}}")), "{done:?}");
    assert!(!stage.daemon.everything_said().contains("for-the-collector"));
}

#[test]
fn what_is_stored_is_told_of_with_the_check_of_the_right_to_it() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "");
    let blob = Blob::random(300_000, 2);
    let url = stage.registry.put("lab/image", &blob);
    assert_eq!(stage.get(&url).status, 200);
    let request = Request::get(&url).header("traceparent", traceparent());
    assert!(stage.fetch(&request).body == blob.bytes[..]);
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"lost\"}", 0);
    let (spans, cold): (Vec<_>, Vec<_>) =
        told(&mut stage, &collected).into_iter().partition(|span| span.trace == TRACE);
    let server = only(&spans, "the request", is_server);
    assert_eq!(server.says("dfget.source"), "cache");
    let check = only(&spans, "the check", |span| span.name == "access check");
    assert_eq!((&check.parent, check.says("dfget.access.verdict")), (&server.id, "allowed"));
    let head = only(&spans, "the question", |span| span.name == "HEAD");
    assert_eq!(head.parent, check.id);
    assert!(spans.iter().all(|span| span.name != "download"));
    let first = only(&cold, "a request without a trace", is_server);
    assert!(first.parent.is_empty() && cold.iter().all(|span| span.trace == first.trace));
}

#[test]
fn without_a_word_of_it_nothing_is_made_and_nothing_changed() {
    let (origin, collected) = collector();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", origin.authority())),
        ("OTEL_SDK_DISABLED", "true".to_owned()),
    ];
    let silent = |yaml: &str, set: bool| {
        Stage::with(DFGET, |mut options| {
            for (name, value) in variables.iter().take(if set { 2 } else { 0 }) {
                options = options.environment(name, value);
            }
            options.extra(yaml)
        })
    };
    let off = Stage::with(DFGET, |options| {
        options.environment(variables[0].0, &variables[0].1).extra("tracing: {endpoint: ''}")
    });
    for (mut stage, number) in [silent("", false), silent("", true), off].into_iter().zip(3..) {
        let blob = Blob::random(10_000, number);
        let url = stage.registry.put("lab/image", &blob);
        let request = Request::get(&url).header("traceparent", "as it came").header("tracestate", "a=1");
        assert!(stage.fetch(&request).body == blob.bytes[..]);
        let seen = stage.registry.origin.asked("GET", &blob.digest);
        assert_eq!(seen[0].headers.get("traceparent"), Some("as it came"));
        assert_eq!(seen[0].headers.get("tracestate"), Some("a=1"));
        assert!(!stage.daemon.done_lines()[0].contains("trace_id"));
        assert!(stage.daemon.stop().success());
    }
    assert!(collected.requests().is_empty());
}

#[test]
fn the_standard_variables_switch_it_on() {
    let (origin, collected) = collector();
    let mut stage = Stage::with(DFGET, |options| {
        options
            .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}/base/", origin.authority()))
            .environment("OTEL_EXPORTER_OTLP_HEADERS", "x-team=hpc%20one")
            .environment("OTEL_SERVICE_NAME", "pulls")
    });
    let url = stage.registry.put("lab/image", &Blob::random(10_000, 6));
    assert_eq!(stage.get(&url).status, 200);
    let spans = told(&mut stage, &collected);
    assert!(spans.len() == 3 && spans.iter().all(|span| span.service == "pulls"), "{spans:#?}");
    let sent = &collected.requests()[0];
    assert_eq!(sent.target, "/base/v1/traces");
    assert_eq!(sent.headers.get("x-team"), Some("hpc one"));
}

#[test]
fn a_parent_that_is_none_is_ignored_and_one_that_is_not_recorded_is_followed() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "");
    let unrecorded = format!("00-{TRACE}-{CLIENT}-00");
    let blobs = [Blob::random(10_000, 7), Blob::random(10_000, 8)];
    let urls = blobs.each_ref().map(|blob| stage.registry.put("lab/image", blob));
    let quiet = Request::get(&urls[0]).header("traceparent", &unrecorded);
    assert_eq!(stage.fetch(&quiet).status, 200);
    let seen = stage.registry.origin.asked("GET", &blobs[0].digest);
    assert_eq!(seen[0].headers.get("traceparent"), Some(unrecorded.as_str()));
    let wrong = Request::get(&urls[1]).header("traceparent", "00-nonsense").header("tracestate", "a=1");
    assert_eq!(stage.fetch(&wrong).status, 200);
    let spans = told(&mut stage, &collected);
    let server = only(&spans, "the request", is_server);
    assert!(server.parent.is_empty() && server.trace != TRACE);
    let seen = stage.registry.origin.asked("GET", &blobs[1].digest);
    assert_eq!(parent(&seen[0]).0, server.trace);
    assert_eq!(seen[0].headers.get("tracestate"), None);
}

#[test]
fn only_the_share_that_is_wanted_is_told_of() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "  ratio: 0\n");
    let url = stage.registry.put("lab/image", &Blob::random(10_000, 9));
    assert_eq!(stage.get(&url).status, 200);
    assert_eq!(stage.fetch(&Request::get(&url).header("traceparent", traceparent())).status, 200);
    let spans = told(&mut stage, &collected);
    assert!(spans.iter().any(is_server) && spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
}

#[test]
fn a_collector_that_fails_in_any_way_costs_spans_and_a_line() {
    let held = Gate::new();
    let late = held.clone();
    let dead = Origin::plain(|_| Answer::new(200).into());
    dead.go_down();
    let bad = [
        dead,
        Origin::plain(|_| Reply::Silence),
        Origin::plain(|_| Reply::Raw(b"\x16\x03\x01 nonsense\r\n\r\n".to_vec())),
        Origin::plain(|_| Answer::new(404).body(b"no such page".to_vec()).into()),
        Origin::plain(|_| Answer::new(200).body(b"<html>welcome</html>".to_vec()).into()),
        Origin::plain(|_| Answer::new(429).header("Retry-After", "1").into()),
        Origin::plain(|_| Answer::new(302).header("Location", "http://127.0.0.1:1/").into()),
        Origin::plain(move |_| {
            let _ = late.wait();
            Answer::new(503).into()
        }),
    ];
    for (number, collector) in bad.iter().enumerate() {
        let mut stage = stage(collector, "");
        let blob = Blob::random(300_000, 10 + number as u64);
        let url = stage.registry.put("lab/image", &blob);
        for _ in 0..3 {
            assert!(stage.get(&url).body == blob.bytes[..], "{number}");
        }
        // The end does not wait for it either, beyond what is said in `exporter.rs`.
        assert!(stage.daemon.stop().success(), "{number}");
        let log = stage.daemon.log();
        assert!(log.contains("the daemon has ended"), "{number}");
        let said = log.lines().filter(|line| line.contains("traces: http")).count();
        assert!(said <= 1, "{number}: {log}");
    }
    held.open();
}

#[test]
fn what_a_collector_does_not_take_is_counted_and_said_once() {
    let collector = Origin::plain(|_| Answer::new(400).body(b"canary of the collector".to_vec()).into());
    let stage = stage(&collector, "");
    let url = stage.registry.put("lab/image", &Blob::random(300_000, 20));
    assert_eq!(stage.get(&url).status, 200);
    // The request, its download, the registry's request.
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"lost\"}", 3);
    assert_eq!(stage.get(&url).status, 200);
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"lost\"}", 6);
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"sent\"}", 0);
    let log = stage.daemon.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("traces: http")).collect();
    assert!(said.len() == 1 && said[0].contains("answers 400; pulls go on without"), "{said:?}");
    assert!(!log.contains("canary of the collector"));
}

#[test]
fn spans_leave_while_the_daemon_runs() {
    let (origin, collected) = collector();
    let stage = stage(&origin, "");
    let url = stage.registry.put("lab/image", &Blob::random(300_000, 25));
    assert_eq!(stage.get(&url).status, 200);
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"sent\"}", 3);
    assert_eq!(collected.spans().len(), 3);
}

#[test]
fn what_is_left_at_the_end_is_sent() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "");
    let url = stage.registry.put("lab/image", &Blob::random(300_000, 21));
    assert_eq!(stage.get(&url).status, 200);
    let spans = told(&mut stage, &collected);
    assert!(spans.iter().any(is_server) && spans.iter().any(|span| span.name == "download"), "{spans:#?}");
}

#[test]
fn a_collector_that_is_this_proxy_is_not_asked() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let stage = Stage::with(DFGET, |options| {
        options.port(free).extra(&format!("tracing: {{endpoint: '127.0.0.1:{free}'}}"))
    });
    let url = stage.registry.put("lab/image", &Blob::random(10_000, 22));
    assert_eq!(stage.get(&url).status, 200);
    stage.daemon.wait_for_log("leads back to this proxy");
    stage.daemon.wait_for_metric("dfget_trace_spans_total{end=\"lost\"}", 3);
}

#[test]
fn a_collector_is_verified_by_the_systems_authorities_and_one_of_its_own() {
    let ca = TestCa::new("the collector's authority");
    let collected = Collected::default();
    let taken = collected.clone();
    let origin = Origin::https(&ca, move |request| taken.take(request));
    let pem: String = ca.certificate_pem().lines().map(|line| format!("    {line}\n")).collect();
    for (extra, end) in [(String::new(), "lost"), (format!("  caCert: |\n{pem}"), "sent")] {
        let stage = stage(&origin, &format!("  protocol: https\n{extra}"));
        let url = stage.registry.put("lab/image", &Blob::random(10_000, 26));
        assert_eq!(stage.get(&url).status, 200);
        stage.daemon.wait_for_metric(&format!("dfget_trace_spans_total{{end=\"{end}\"}}"), 3);
    }
    assert_eq!(collected.spans().len(), 3);
}

#[test]
fn no_credential_reaches_the_collector() {
    const CANARY: &str = "canary";
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "");
    let blob = Blob::random(300_000, 23);
    let url = stage.registry.put("lab/image", &blob);
    stage.registry.grant("lab/image", "Bearer canary-authorization");
    let loaded = |url: &str| {
        Request::get(format!("{url}?X-Amz-Signature=canary-signature&canary-key=1"))
            .header("Authorization", "Bearer canary-authorization")
            .header("Cookie", "session=canary-cookie")
            .header("Proxy-Authorization", "Basic canary-proxy-password")
            .header("Referer", "https://me:canary-in-userinfo@somewhere.test/")
            .header("User-Agent", "canary-agent")
            .header("X-Dragonfly-Tag", "canary-tag")
            .header("traceparent", traceparent())
            .header("tracestate", "vendor=canary-state")
            .header("baggage", "user=canary-user")
    };
    for _ in 0..2 {
        assert_eq!(stage.fetch(&loaded(&url)).status, 200);
    }
    let moved = Origin::https(&stage.ca, |request| match request.target.as_str() {
        target if target.starts_with("/files/") => {
            Answer::new(307).header("Location", "/elsewhere?sig=canary-of-the-redirect").into()
        }
        _ => Answer::new(200).header("X-Token", "canary-answer").body(b"content".to_vec()).into(),
    });
    for path in ["/files/x.sif", "/no/rule"] {
        assert_eq!(stage.fetch(&loaded(&moved.url(path))).status, 200);
    }
    let broken = Origin::https(&stage.ca, |_| Reply::Raw(b"HTTP/1.1 canary-status\r\n\r\n".to_vec()));
    assert!(stage.fetch(&loaded(&broken.url("/files/y.sif"))).status >= 500);
    let strange = Request::new("CANARY", moved.url("/no/rule"));
    let _ = stage.client().fetch(&strange);
    assert!(stage.daemon.stop().success());
    let requests = collected.requests();
    assert!(collected.spans().iter().filter(|span| is_server(span)).count() >= 5);
    for request in requests {
        let text = String::from_utf8_lossy(&request.body).to_lowercase();
        assert!(!text.contains(CANARY), "{text}");
        assert!(!request.headers.iter().any(|(_, value)| value.contains(CANARY)), "{:?}", request.headers);
    }
}

#[test]
fn failures_are_told_by_kind() {
    let (origin, collected) = collector();
    let mut stage = stage(&origin, "");
    let dead = Origin::plain(|_| Answer::new(200).into());
    dead.go_down();
    assert_eq!(stage.get(&dead.url("/no/rule")).status, 502);
    stage.registry.put("lab/closed", &Blob::random(10, 24));
    stage.registry.close("lab/closed");
    let digest = Blob::random(10, 24).digest;
    assert!(stage.get(&stage.registry.blob_url("lab/closed", &digest)).status >= 400);
    let spans = told(&mut stage, &collected);
    let refused = only(&spans, "the dead one", |span| span.says("error.type") == "connect");
    assert!(refused.failed && refused.kind == SpanKind::Client);
    let server = only(&spans, "its request", |span| span.id == refused.parent);
    assert_eq!((server.failed, server.says("error.type")), (true, "502"));
    let closed: Vec<_> =
        spans.iter().filter(|span| span.says("http.response.status_code") == "401").collect();
    assert!(closed.iter().any(|span| span.failed) && closed.iter().any(|span| !span.failed), "{closed:#?}");
}
