//! Who may use the proxy at all, and for which hosts: `basicAuth`, `whiteList`, `maxConcurrency`, and addresses that
//! no client may reach through it.

use std::net::TcpListener;

use dfget_testkit::{Answer, Blob, Gate, Origin, Registry, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
/// Requests in progress, those that wait for their turn included.
const RUNNING: &str = "dragonfly_dfdaemon_proxy_request_running{method=\"GET\"}";
/// `user:canary-password` in base64.
const RIGHT: &str = "Basic dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

#[test]
fn without_the_right_password_there_is_a_407_with_a_challenge() {
    let stage =
        Stage::with(DFGET, |options| options.proxy("basicAuth: {username: user, password: canary-password}"));
    let registry = Registry::plain();
    for wrong in [None, Some("Basic dXNlcjp3cm9uZw=="), Some("Basic !!"), Some("Bearer x")] {
        let mut client = stage.client();
        let mut request = Request::get(registry.origin.url("/v2/"));
        if let Some(wrong) = wrong {
            client = client.with_connect_header("Proxy-Authorization", wrong);
            request = request.header("Proxy-Authorization", wrong);
        }
        let tunnel = client.connect(&stage.registry.origin.authority()).expect("an answer");
        let refusal = tunnel.expect_err("no tunnel without the password");
        let forwarded = client.fetch(&request).expect("an answer");
        for answer in [refusal, forwarded] {
            assert_eq!(answer.status, 407, "{wrong:?}");
            let challenge = answer.header("proxy-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Basic "), "{wrong:?}: {challenge}");
        }
    }
    assert!(registry.origin.journal().is_empty());
    let client = stage.client().with_connect_header("Proxy-Authorization", RIGHT);
    assert_eq!(
        client.fetch(&Request::get(stage.registry.origin.url("/v2/"))).expect("an answer").status,
        200
    );
    let request = Request::get(registry.origin.url("/v2/")).header("Proxy-Authorization", RIGHT);
    assert_eq!(stage.fetch(&request).status, 200);
    for origin in [&registry.origin, &stage.registry.origin] {
        assert_eq!(origin.journal()[0].headers.get("proxy-authorization"), None);
    }
    assert!(!stage.daemon.everything_said().contains("canary-password"));
}

#[test]
fn hosts_and_ports_that_the_white_list_does_not_name_are_a_403() {
    let allowed = Registry::plain();
    let refused = Registry::plain();
    let (host, port) = parts(&allowed.origin);
    let stage = Stage::with(DFGET, |options| {
        options.proxy(&format!("whiteList: [{{host: {host}, ports: ['{port}']}}]"))
    });
    assert_eq!(stage.get(&allowed.origin.url("/v2/")).status, 200);
    assert!(stage.client().connect(&allowed.origin.authority()).is_ok());
    assert_eq!(stage.get(&refused.origin.url("/v2/")).status, 403);
    for authority in [refused.origin.authority(), format!("{host}:1")] {
        let refusal = stage.client().connect(&authority).expect("an answer").expect_err("not on the list");
        assert_eq!(refusal.status, 403, "{authority}");
        assert!(refusal.reason.contains("whiteList"), "the key to change is named: {}", refusal.reason);
    }
    assert!(refused.origin.journal().is_empty());
}

#[test]
fn outcome_proxy_auth_missing_or_wrong_is_407_with_a_challenge() {
    let stage =
        Stage::with(DFGET, |options| options.proxy("basicAuth: {username: user, password: canary-password}"));
    let authority = stage.registry.origin.authority();
    for login in ["", "Proxy-Authorization: Basic dXNlcjp3cm9uZw==\r\n"] {
        for line in [
            format!("CONNECT {authority}"),
            format!("GET http://{authority}/v2/"),
            // Origin form: requests to a mirror.
            "GET /v2/".to_owned(),
            "POST /v2/".to_owned(),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: {authority}\r\n{login}Connection: close\r\n\r\n");
            let answer =
                String::from_utf8(stage.client().ask_raw(&request).expect("an answer")).expect("text");
            assert!(answer.starts_with("HTTP/1.1 407 "), "{line}: {answer}");
            assert!(answer.to_lowercase().contains("\nproxy-authenticate: basic realm="), "{line}: {answer}");
        }
    }
    assert!(stage.registry.origin.journal().is_empty());
}

#[test]
fn outcome_white_list_refuses_403() {
    let stage = Stage::with(DFGET, |options| options.proxy("whiteList: [{host: registry.test}]"));
    let refused = Registry::plain();
    let answer = stage.get(&refused.origin.url("/v2/"));
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains(&refused.origin.authority()), "{}", answer.text());
    let tunnel = stage.client().connect(&refused.origin.authority()).expect("an answer");
    assert_eq!(tunnel.expect_err("no tunnel").status, 403);
    assert!(refused.origin.journal().is_empty());
}

#[test]
fn outcome_no_debug_endpoints_on_the_proxy_port() {
    let stage = Stage::with(DFGET, |options| options.extra("# canary-comment"));
    for path in ["/env", "/args", "/debug/pprof/", "/debug/vars", "/debug/requests", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(stage.client().ask_raw(&request).expect("an answer")).expect("text");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.contains("canary") && !answer.contains("proxies"), "{path}: {answer}");
    }
}

/// A client cannot choose by an inner request what it may not choose by its CONNECT.
#[test]
fn a_request_inside_a_tunnel_goes_to_its_target_alone() {
    let other = Registry::plain();
    let (other_host, _) = parts(&other.origin);
    let stage = Stage::with(DFGET, |options| {
        options.proxy(&format!("whiteList: [{{regx: '^127\\.'}}, {{host: {other_host}}}]"))
    });
    let url = stage.registry.origin.url("/v2/");
    let mut connection = stage.client().open(&url).expect("an answer").expect("a tunnel");
    let head = format!("GET /v2/ HTTP/1.1\r\nHost: {}\r\n\r\n", other.origin.authority());
    connection.send(head.as_bytes()).expect("it reads");
    assert_eq!(connection.receive("GET").expect("an answer").read_all().status, 421);
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        other.origin.url("/v2/"),
        stage.registry.origin.authority()
    );
    connection.send(head.as_bytes()).expect("it reads");
    assert_eq!(connection.receive("GET").expect("an answer").read_all().status, 421);
    assert!(other.origin.journal().is_empty() && stage.registry.origin.asked("GET", "").is_empty());
}

/// What a rule spells its author has allowed; what it takes from the request the client chooses.
#[test]
fn a_rewritten_target_is_on_the_white_list_or_spelled_by_its_rule() {
    let spelled = Registry::plain();
    let chosen = Registry::plain();
    let rules = format!(
        "[{{regx: '^http://spelled\\.test/', redirect: '{}'}}, \
          {{regx: '^http://chosen\\.test/to/([^/]*)/', redirect: 'http://$1/'}}]",
        spelled.origin.authority()
    );
    let stage =
        Stage::with(DFGET, |options| options.rules(&rules).proxy("whiteList: [{regx: '^[a-z]*\\.test$'}]"));
    assert_eq!(stage.get("http://spelled.test/v2/").status, 200);
    let answer = stage.get(&format!("http://chosen.test/to/{}/v2/", chosen.origin.authority()));
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("whiteList"), "{}", answer.text());
    assert_eq!((spelled.origin.journal().len(), chosen.origin.journal().len()), (1, 0));
}

#[test]
fn a_redirect_that_is_followed_leads_to_hosts_of_the_white_list_only() {
    let store = Registry::plain();
    let registry = Registry::plain();
    let blob = Blob::random(100_000, 5);
    let url = registry.put("some/image", &blob);
    store.put("some/image", &blob);
    registry.redirect_blobs_to(Some(store.origin.url("")));
    let (host, _) = parts(&registry.origin);
    let refusing = Stage::with(DFGET, |options| options.proxy(&format!("whiteList: [{{host: {host}}}]")));
    let answer = refusing.get(&url);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains(&store.origin.authority()), "{}", answer.text());
    assert!(store.origin.journal().is_empty());
    let (other, _) = parts(&store.origin);
    let allowing = Stage::with(DFGET, |options| {
        options.proxy(&format!("whiteList: [{{host: {host}}}, {{host: {other}}}]"))
    });
    assert!(allowing.get(&url).body == blob.bytes[..]);
}

/// Through a daemon that runs as another user, or on another host, a client would be somebody else there.
#[test]
fn metadata_and_link_local_addresses_are_a_403_by_address_and_by_name() {
    let names = "download: {resolve: {innocent.test: 169.254.169.254, six.test: 'fd00:ec2::254'}}";
    let stage =
        Stage::with(DFGET, |options| options.extra(names).hosts("[{regx: 'innocent'}, {regx: '^127'}]"));
    let places = [
        "169.254.169.254",
        "innocent.test",
        "six.test",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
    ];
    for place in places {
        for port in [80, 443] {
            let tunnel = stage.client().connect(&format!("{place}:{port}")).expect("an answer");
            let refusal = tunnel.expect_err("no tunnel there");
            assert_eq!(refusal.status, 403, "{place}: {}", refusal.reason);
            assert!(refusal.reason.contains("whiteList"), "{}", refusal.reason);
        }
        let answer = stage.get(&format!("http://{place}:80/latest/meta-data/"));
        assert_eq!(answer.status, 403, "{place}: {}", answer.text());
        let task = stage.get(&format!("http://{place}:80/files/x"));
        assert_eq!(task.status, 403, "{place}: {}", task.text());
    }
}

/// Somebody on another host has no business with what listens on this one's loopback.
#[test]
fn a_proxy_for_other_hosts_leads_to_no_loopback_unless_it_is_named() {
    let refused = Registry::plain();
    let named = Registry::plain();
    let spelled = Registry::plain();
    let (named_host, _) = parts(&named.origin);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let rules = format!(
        "[{{regx: '^http://spelled\\.test/', redirect: '{}'}}, {{regx: '/files/'}}]",
        spelled.origin.authority()
    );
    let stage = Stage::with(DFGET, |options| {
        options
            .rules(&rules)
            .extra("download: {resolve: {innocent.test: 127.0.0.1}}")
            .proxy(&format!("whiteList: [{{host: {named_host}}}, {{regx: '.*'}}]"))
            .listen(&format!("{{listen: 0.0.0.0, port: {port}}}"))
    });
    let authority = refused.origin.authority();
    let (_, refused_port) = parts(&refused.origin);
    for target in
        [authority.clone(), format!("innocent.test:{refused_port}"), format!("0.0.0.0:{refused_port}")]
    {
        let tunnel = stage.client().connect(&target).expect("an answer");
        assert_eq!(tunnel.expect_err("no tunnel").status, 403, "{target}");
        for path in ["/v2/", "/files/x"] {
            let answer = stage.get(&format!("http://{target}{path}"));
            assert_eq!(answer.status, 403, "{target}{path}: {}", answer.text());
        }
    }
    assert!(refused.origin.journal().is_empty());
    assert_eq!(stage.get(&named.origin.url("/v2/")).status, 200);
    assert_eq!(stage.get("http://spelled.test/v2/").status, 200);
}

#[test]
fn requests_beyond_the_bound_wait_for_their_turn_in_the_order_of_their_coming() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::plain(move |request| {
        let answer = Answer::new(200).body(vec![b'x'; 1000]);
        if request.target == "/first" { answer.hold_after(10, &held) } else { answer }.into()
    });
    let stage = Stage::with(DFGET, |options| options.proxy("maxConcurrency: 1"));
    let open = |path: &str| {
        let request = Request::get(origin.url(path));
        let mut connection = stage.client().open(&origin.url(path)).expect("a proxy").expect("absolute form");
        connection.send_head(&request).expect("it reads");
        connection
    };
    // A response counts until its end, an idle connection and an answered CONNECT count nothing.
    let mut idle = stage.client().open(&origin.url("/idle")).expect("a proxy").expect("absolute form");
    assert_eq!(idle.fetch(&Request::get(origin.url("/idle"))).expect("an answer").status, 200);
    let tunnel = stage.client().connect(&stage.registry.origin.authority());
    let _tunnel = tunnel.expect("an answer").expect("a tunnel");
    let mut first = open("/first");
    origin.wait_until("the first request is there", |journal| journal.len() == 2);
    let mut leaver = Some(open("/leaver"));
    let mut waiting = Vec::new();
    for path in ["/second", "/third", "/fourth"] {
        waiting.push(open(path));
        stage.daemon.wait_for_metric(RUNNING, 1 + waiting.len() + usize::from(leaver.is_some()));
        if let Some(leaver) = leaver.take() {
            leaver.leave().expect("a reset");
            stage.daemon.wait_for_metric(RUNNING, 2);
        }
    }
    assert_eq!(origin.journal().len(), 2, "one runs, the others wait");
    gate.open();
    assert_eq!(first.receive("GET").expect("an answer").read_all().body.len(), 1000);
    for connection in &mut waiting {
        assert_eq!(connection.receive("GET").expect("an answer").read_all().body.len(), 1000);
    }
    let targets: Vec<_> = origin.journal().into_iter().map(|entry| entry.target).collect();
    assert_eq!(targets, ["/idle", "/first", "/second", "/third", "/fourth"]);
}

/// Stored or not, hijacked or not: what counts is the request, and it counts until its last byte.
#[test]
fn a_stored_response_in_a_hijacked_connection_counts_until_it_is_read() {
    let stage = Stage::with(DFGET, |options| options.proxy("maxConcurrency: 1"));
    // More than the buffers of a connection take.
    let blob = Blob::random(40 << 20, 7);
    let url = stage.registry.put("some/image", &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    let open = || stage.client().open(&url).expect("an answer").expect("a tunnel");
    let (mut first, mut second) = (open(), open());
    let request = Request::get(&url).authorization("Bearer another");
    first.send_head(&request).expect("it reads");
    let unread = first.receive("GET").expect("a head");
    second.send_head(&request).expect("it reads");
    stage.daemon.wait_for_metric(RUNNING, 2);
    let heads = stage.registry.origin.asked("HEAD", &blob.digest).len();
    assert_eq!(heads, 1, "the second one's right is not asked for before its turn");
    assert!(unread.read_all().body == blob.bytes[..]);
    assert!(second.receive("GET").expect("a head").read_all().body == blob.bytes[..]);
}

#[test]
fn a_full_queue_is_a_503_that_names_the_key() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::plain(move |_| Answer::new(200).body(vec![b'x'; 1000]).hold_after(10, &held).into());
    let stage = Stage::with(DFGET, |options| options.proxy("maxConcurrency: 2"));
    let head = Request::get(origin.url("/x"));
    let open = |_| {
        let mut connection = stage.client().open(&origin.url("/x")).expect("a proxy").expect("absolute form");
        connection.send_head(&head).expect("it reads");
        connection
    };
    // Two run and 512 wait.
    let waiting: Vec<_> = (0..2 + 512).map(open).collect();
    stage.daemon.wait_for_metric(RUNNING, 2 + 512);
    let answer = stage.get(&origin.url("/x"));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert!(answer.text().contains("raise maxConcurrency"), "{}", answer.text());
    let tunnel = stage.client().connect(&stage.registry.origin.authority()).expect("an answer");
    let refusal = tunnel.expect_err("a CONNECT is a request");
    assert!(refusal.status == 503 && refusal.reason.contains("maxConcurrency"), "{}", refusal.reason);
    assert_eq!(origin.journal().len(), 2);
    drop(waiting);
    gate.open();
}

fn parts(origin: &Origin) -> (String, String) {
    let authority = origin.authority();
    let (host, port) = authority.split_once(':').expect("an authority has a port");
    (host.to_owned(), port.to_owned())
}
