//! What every pull asks before its first blob is asked once for all who ask alike: `/v2/`, manifests, tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dfget_testkit::{
    Answer, Blob, DaemonOptions, Gate, Origin, Registry, Reply, Request, Response, Stage, TestCa,
};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const ALICE: &str = "Bearer alice";
const BOB: &str = "Bearer bob";
const FIRST: &[u8] = br#"{"schemaVersion":2,"config":{}}"#;
const SECOND: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A stage with a tag `latest`, whose URL is returned.
fn tagged(extra: &str) -> (Stage, String) {
    let stage = Stage::with(DFGET, |options| options.extra(extra));
    let url = stage.registry.put_manifest(IMAGE, "latest", FIRST);
    (stage, url)
}

/// How often the registry was asked by `method` for what contains `part`.
fn asked(registry: &Registry, method: &str, part: &str) -> usize {
    registry.origin.asked(method, part).len()
}

/// What `count` clients get that send the same at the same time, once the origin has seen the first of them and they
/// have had time to come.
fn at_once(stage: &Stage, count: usize, gate: &Gate, request: &Request) -> Vec<Response> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(|| stage.fetch(request))).collect();
        stage.daemon.wait_for_metric("dragonfly_dfdaemon_proxy_request_running{method=\"GET\"}", count);
        gate.open();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

/// An origin that answers all with `answer` once `gate` is open, and the daemon before it.
fn gated(extra: &str, answer: impl Fn() -> Answer + Send + Sync + 'static) -> (Stage, Origin, Gate) {
    let stage = Stage::with(DFGET, |options| options.extra(extra));
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::https(&stage.ca, move |_| {
        let _ = held.wait();
        answer().into()
    });
    (stage, origin, gate)
}

#[test]
fn clients_that_ask_for_one_tag_at_once_are_one_request_at_the_registry() {
    let (stage, origin, gate) = gated("manifests: {freshness: 0s}", || {
        Answer::new(200)
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .header("Set-Cookie", "session=of-the-first")
            .body(FIRST.to_vec())
    });
    let answers = at_once(&stage, 20, &gate, &Request::get(origin.url("/v2/lab/image/manifests/latest")));
    for answer in &answers {
        assert_eq!((answer.status, &answer.body[..]), (200, FIRST), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
        assert_eq!(answer.header("content-length"), Some(FIRST.len().to_string().as_str()));
    }
    assert_eq!(origin.journal().len(), 1, "even with no freshness at all");
    let cookies = answers.iter().filter(|answer| answer.header("set-cookie").is_some()).count();
    assert_eq!(cookies, 1, "what is for one client is for no other");
}

#[test]
fn those_who_waited_share_a_failure_too_and_nobody_later_does() {
    for status in [404, 403, 500, 503] {
        let (stage, origin, gate) = gated("", move || {
            Answer::new(status).header("Retry-After", "120").body(b"{\"errors\":[]}".to_vec())
        });
        let request = Request::get(origin.url("/v2/lab/image/manifests/latest")).authorization(ALICE);
        for answer in at_once(&stage, 10, &gate, &request) {
            assert_eq!((answer.status, answer.text().as_str()), (status, "{\"errors\":[]}"));
        }
        assert_eq!(origin.journal().len(), 1, "{status}");
        let later = stage.fetch(&request);
        if status == 503 {
            assert_eq!(later.status, 429, "the registry asked to be left alone: {}", later.text());
            assert!(
                later.header("retry-after").is_some_and(|wait| wait.parse().is_ok_and(|wait: u64| wait > 60))
            );
            assert_eq!(origin.journal().len(), 1);
        } else {
            assert_eq!(later.status, status);
            assert_eq!(origin.journal().len(), 2, "{status} is not remembered");
        }
    }
}

#[test]
fn those_who_waited_share_that_the_registry_did_not_answer() {
    let stage = Stage::new(DFGET);
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::https(&stage.ca, move |_| {
        let _ = held.wait();
        Reply::Raw(b"this is no HTTP\r\n\r\n".to_vec())
    });
    let request = Request::get(origin.url("/v2/lab/image/manifests/latest"));
    for answer in at_once(&stage, 10, &gate, &request) {
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains(&origin.authority()), "{}", answer.text());
    }
    let together = origin.journal().len();
    assert_eq!(stage.fetch(&request).status, 502);
    assert_eq!(origin.journal().len(), 2 * together, "ten at once are as many attempts as one");
}

#[test]
fn an_origin_that_is_a_mirror_itself_is_asked_for_each_registry() {
    let stage = Stage::with(DFGET, |options| options.extra("manifests: {freshness: 10m}"));
    let origin =
        Origin::https(&stage.ca, |request| Answer::new(200).body(request.target.clone().into_bytes()).into());
    for registry in ["one.test", "two.test", "one.test"] {
        let path = format!("/v2/lab/image/manifests/latest?ns={registry}");
        assert_eq!(stage.get(&origin.url(&path)).text(), path);
    }
    assert_eq!(origin.journal().len(), 2);
}

#[test]
fn a_no_takes_back_what_was_good_whoever_may_be_told_of_it() {
    let stage = Stage::with(DFGET, |options| options.extra("manifests: {freshness: 1ms}"));
    let count = AtomicUsize::new(0);
    let origin = Origin::https(&stage.ca, move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::new(200).body(FIRST.to_vec()).into(),
        1 => Answer::new(403).header("Vary", "X-Whatever").into(),
        _ => Answer::new(503).into(),
    });
    let statuses = [(); 3].map(|()| {
        thread::sleep(Duration::from_millis(5));
        stage.get(&origin.url("/v2/lab/image/manifests/latest")).status
    });
    assert_eq!(statuses, [200, 403, 503]);
}

#[test]
fn what_lies_at_v2_is_only_told_again_if_a_registry_says_that_it_is_one() {
    let stage = Stage::new(DFGET);
    for (headers, requests) in [(&[][..], 2), (&[("Docker-Distribution-Api-Version", "registry/2.0")][..], 1)]
    {
        let origin = Origin::https(&stage.ca, move |_| {
            let answer = Answer::new(200).body(b"{}".to_vec());
            headers.iter().fold(answer, |answer, (name, value)| answer.header(name, *value)).into()
        });
        for _ in 0..2 {
            assert_eq!(stage.get(&origin.url("/v2/")).text(), "{}");
        }
        assert_eq!(origin.journal().len(), requests, "{headers:?}");
    }
}

#[test]
fn a_tag_holds_for_its_freshness_and_for_its_credential_alone() {
    let (stage, url) = tagged("manifests: {freshness: 10m}");
    stage.registry.grant(IMAGE, ALICE);
    let get = |who| stage.fetch(&Request::get(&url).authorization(who));
    assert_eq!(get(ALICE).body, FIRST);
    stage.registry.put_manifest(IMAGE, "latest", SECOND);
    let again = get(ALICE);
    assert_eq!((again.status, &again.body[..]), (200, FIRST), "not asked again");
    assert!(again.header("docker-content-digest").is_some_and(|digest| digest.starts_with("sha256:")));
    assert_eq!(asked(&stage.registry, "GET", "manifests/latest"), 1);
    assert_eq!(get(BOB).status, 401, "nobody else's credential opens it");
    assert_eq!(stage.get(&url).status, 401);
    stage.registry.grant(IMAGE, BOB);
    assert_eq!(get(BOB).body, SECOND);
}

#[test]
fn a_head_is_answered_by_what_a_get_brought_and_never_the_other_way_round() {
    let (stage, url) = tagged("manifests: {freshness: 10m}");
    let head = || stage.fetch(&Request::new("HEAD", &url));
    let first = head();
    assert_eq!((first.status, first.header("content-length")), (200, Some("31")));
    assert_eq!((asked(&stage.registry, "HEAD", "latest"), asked(&stage.registry, "GET", "latest")), (1, 0));
    assert_eq!(stage.get(&url).body, FIRST);
    assert_eq!(head().header("docker-content-digest"), first.header("docker-content-digest"));
    assert_eq!((asked(&stage.registry, "HEAD", "latest"), asked(&stage.registry, "GET", "latest")), (1, 1));
}

#[test]
fn what_is_asked_for_in_another_form_is_another_question() {
    let (stage, url) = tagged("manifests: {freshness: 10m}");
    for accept in ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"] {
        for _ in 0..2 {
            let _ = stage.fetch(&Request::get(&url).header("Accept", accept));
        }
    }
    assert_eq!(asked(&stage.registry, "GET", "latest"), 2, "one for each");
    for (name, value) in [("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Range", "bytes=0-1")] {
        let before = asked(&stage.registry, "GET", "latest");
        let _ = stage.fetch(&Request::get(&url).header(name, value));
        assert_eq!(asked(&stage.registry, "GET", "latest"), before + 1, "{name}: {value}");
    }
}

#[test]
fn an_old_tag_is_asked_for_by_a_head_and_fetched_only_if_it_changed() {
    let (stage, url) = tagged("manifests: {freshness: 1ms}");
    assert_eq!(stage.get(&url).body, FIRST);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(stage.get(&url).body, FIRST);
    assert_eq!((asked(&stage.registry, "HEAD", "latest"), asked(&stage.registry, "GET", "latest")), (1, 1));
    stage.registry.put_manifest(IMAGE, "latest", SECOND);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(stage.get(&url).body, SECOND);
    assert_eq!((asked(&stage.registry, "HEAD", "latest"), asked(&stage.registry, "GET", "latest")), (2, 2));
}

#[test]
fn without_a_digest_an_old_tag_is_asked_for_by_its_validator() {
    let stage = Stage::with(DFGET, |options| options.extra("manifests: {freshness: 1ms}"));
    let origin = Origin::https(&stage.ca, |request| {
        if request.headers.get("if-none-match") == Some("\"one\"") {
            return Answer::new(304).header("ETag", "\"one\"").into();
        }
        Answer::new(200).header("ETag", "\"one\"").body(FIRST.to_vec()).into()
    });
    let url = origin.url("/v2/lab/image/manifests/latest");
    for _ in 0..3 {
        assert_eq!((stage.get(&url).status, &stage.get(&url).body[..]), (200, FIRST));
        thread::sleep(Duration::from_millis(5));
    }
    let whole = origin.journal().iter().filter(|entry| entry.status == 200).count();
    assert_eq!(whole, 1, "{:?}", origin.journal());
}

#[test]
fn a_push_through_the_daemon_is_seen_at_once() {
    let (stage, url) = tagged("manifests: {freshness: 10m}");
    let other = stage.registry.put_manifest("lab/other", "latest", FIRST);
    assert_eq!((stage.get(&url).body, stage.get(&other).body), (FIRST.to_vec(), FIRST.to_vec()));
    let pushed = stage.fetch(&Request::new("PUT", &url).body(SECOND));
    assert_eq!(pushed.status, 201);
    assert_eq!(stage.get(&url).body, SECOND);
    stage.registry.put_manifest("lab/other", "latest", SECOND);
    assert_eq!(stage.get(&other).body, FIRST, "another repository is not concerned");
}

#[test]
fn a_manifest_that_is_not_what_it_is_called_is_not_handed_out() {
    let stage = Stage::with(DFGET, |options| options.rules("[{regx: 'blobs/sha256'}]"));
    let right = Blob::of(FIRST.to_vec());
    let url = stage.registry.put_manifest(IMAGE, &right.digest, SECOND);
    let answer = stage.get(&url);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains(&right.digest), "{}", answer.text());
    stage.registry.put_manifest(IMAGE, &right.digest, FIRST);
    assert_eq!(stage.get(&url).body, FIRST, "nothing of the wrong one was kept");
}

#[test]
fn a_revoked_right_to_a_tag_is_gone_with_its_freshness() {
    let stage = Stage::with(DFGET, |options| options.extra("manifests: {freshness: 1ms}"));
    let url = stage.registry.put_manifest(IMAGE, "latest", FIRST);
    stage.registry.grant(IMAGE, ALICE);
    let get = || stage.fetch(&Request::get(&url).authorization(ALICE));
    assert_eq!(get().status, 200);
    stage.registry.revoke(IMAGE, ALICE);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(get().status, 401);
    stage.registry.set_outage(Some(503));
    assert_eq!(get().status, 503, "a no ends the grace as well");
}

#[test]
fn a_rule_that_says_direct_is_heeded() {
    let stage = Stage::with(DFGET, |options| {
        options.rules("[{regx: 'manifests/', direct: true}, {regx: 'blobs/sha256'}]")
    });
    let url = stage.registry.put_manifest(IMAGE, "latest", FIRST);
    for _ in 0..2 {
        assert_eq!(stage.get(&url).body, FIRST);
    }
    assert_eq!(asked(&stage.registry, "GET", "latest"), 2);
}

#[test]
fn an_answer_too_long_for_a_manifest_streams_through() {
    let stage = Stage::new(DFGET);
    let long = Blob::random(5 << 20, 1);
    let url = stage.registry.put_manifest(IMAGE, "latest", &long.bytes);
    for _ in 0..2 {
        let answer = stage.get(&url);
        assert!(answer.status == 200 && answer.is_complete() && answer.body == long.bytes[..]);
    }
    assert_eq!(asked(&stage.registry, "GET", "latest"), 2);
}

/// A registry whose tokens are from a server of its own, and that server: each token is another.
fn with_tokens(change: impl FnOnce(DaemonOptions) -> DaemonOptions, answer: &'static str) -> (Stage, Origin) {
    let ca = TestCa::new("authority of the token server");
    let stage = Stage::with(DFGET, |options| {
        // The registry is hijacked by name, so nothing but its challenge tells of the token server.
        change(options.trust(&ca))
    });
    let count = AtomicUsize::new(0);
    let tokens = Origin::https(&ca, move |request| {
        if request.headers.get("authorization").is_some_and(|shown| shown.ends_with("wrong")) {
            return Answer::new(401).body(b"{\"details\":\"no\"}".to_vec()).into();
        }
        let token = count.fetch_add(1, Ordering::Relaxed);
        let body = answer.replace("TOKEN", &format!("token-{token}"));
        Answer::new(200)
            .header("Content-Type", "application/json")
            .header("Cache-Control", "no-store")
            .body(body.into_bytes())
            .into()
    });
    stage.registry.set_realm(&tokens.url("/token"));
    (stage, tokens)
}

const LASTING: &str = r#"{"token":"TOKEN","access_token":"TOKEN","expires_in":300}"#;

#[test]
fn a_token_is_shared_by_those_with_the_same_login_and_scope() {
    let (stage, tokens) = with_tokens(|options| options, LASTING);
    let challenge = stage.get(&stage.registry.origin.url("/v2/"));
    assert!(challenge.status == 401 && challenge.header("www-authenticate").is_some());
    let url = tokens.url("/token?scope=repository%3Alab%2Fimage%3Apull&service=r");
    let get = |url: &str, who: &str| {
        let request = Request::get(url);
        let answer = stage.fetch(&if who.is_empty() { request } else { request.authorization(who) });
        (answer.status, answer.text())
    };
    let anonymous = get(&url, "");
    assert_eq!(anonymous, get(&url, ""));
    assert_eq!(tokens.journal().len(), 1);
    let dev = get(&url, "Basic ZGV2OnNlY3JldA==");
    assert_eq!(dev, get(&url, "Basic ZGV2OnNlY3JldA=="));
    assert_ne!(dev, anonymous, "another login is another token");
    assert_ne!(get(&url.replace("image", "other"), ""), anonymous, "another scope is another token");
    assert_eq!(tokens.journal().len(), 3);
    for _ in 0..2 {
        assert_eq!(get(&url, "Basic wrong").0, 401);
    }
    assert_eq!(tokens.journal().len(), 5, "a no is not remembered");
}

#[test]
fn answers_to_posted_logins_are_never_shared() {
    let (stage, tokens) = with_tokens(
        |options| options,
        r#"{"access_token":"TOKEN","expires_in":300,"refresh_token":"canary-refresh"}"#,
    );
    let _ = stage.get(&stage.registry.origin.url("/v2/"));
    let post = Request::new("POST", tokens.url("/token"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("grant_type=refresh_token&refresh_token=canary-refresh");
    assert_ne!(stage.fetch(&post).text(), stage.fetch(&post).text());
    let get =
        |who| stage.fetch(&Request::get(tokens.url("/token?offline_token=true")).authorization(who)).text();
    assert_eq!(get("Basic one"), get("Basic one"), "what the same login may have at any time");
    assert_ne!(get("Basic one"), get("Basic two"));
    assert_eq!(tokens.journal().len(), 4);
    assert!(!stage.daemon.everything_said().contains("canary-refresh"));
}

#[test]
fn a_token_that_is_about_to_end_is_given_to_nobody_else() {
    let (stage, tokens) = with_tokens(|options| options, r#"{"token":"TOKEN","expires_in":30}"#);
    let _ = stage.get(&stage.registry.origin.url("/v2/"));
    let get = Request::get(tokens.url("/token"));
    assert_ne!(stage.fetch(&get).text(), stage.fetch(&get).text());
}

#[test]
fn a_token_that_a_registry_refuses_is_given_to_nobody_again() {
    let (stage, tokens) = with_tokens(|options| options, LASTING);
    let _ = stage.get(&stage.registry.origin.url("/v2/"));
    let blob = Blob::random(1000, 5);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.grant(IMAGE, "Bearer token-1");
    let get = || stage.get(&tokens.url("/token")).text();
    let shown =
        |token: &str| stage.fetch(&Request::get(&url).authorization(&format!("Bearer {token}"))).status;
    let first = get();
    assert!(first.contains("token-0") && first == get());
    assert_eq!(shown("token-0"), 401);
    assert!(get().contains("token-1"), "a new one");
    assert_eq!(shown("token-1"), 200);
    assert!(get().contains("token-1"), "and that holds");
}

#[test]
fn nobody_but_a_registry_of_the_configuration_says_where_tokens_are_from() {
    let (stage, tokens) = with_tokens(|options| options, LASTING);
    let other = Registry::plain();
    other.set_realm(&tokens.url("/token"));
    assert_eq!(stage.get(&other.origin.url("/v2/")).status, 401);
    let get = Request::get(tokens.url("/token"));
    assert_ne!(stage.fetch(&get).text(), stage.fetch(&get).text());
}

#[test]
fn a_blob_is_no_token_whoever_says_so() {
    let stage = Stage::new(DFGET);
    let (right, wrong) = (Blob::random(1000, 6), Blob::of(br#"{"token":"x","expires_in":300}"#.to_vec()));
    let url = stage.registry.put_as("other/image", &right.digest, &wrong.bytes);
    stage.registry.set_realm(&url);
    assert_eq!(stage.get(&stage.registry.origin.url("/v2/")).status, 401);
    for _ in 0..2 {
        let answer = stage.get(&url);
        assert!(answer.status >= 500 || !answer.is_complete(), "what has not its digest: {}", answer.text());
    }
}

#[test]
fn what_looks_like_a_token_but_is_at_no_realm_is_nobodys_business() {
    let (stage, tokens) = with_tokens(|options| options, LASTING);
    let get = Request::get(tokens.url("/token"));
    assert_ne!(stage.fetch(&get).text(), stage.fetch(&get).text(), "no registry has named it yet");
}

#[test]
fn the_host_of_tokens_is_hijacked_once_a_registry_names_it() {
    for (setting, hijacked) in [("", true), (", tokenHosts: false", false)] {
        let ca = TestCa::new("authority of all origins");
        let registry = Registry::https(&ca);
        let tokens = Origin::https(&ca, |_| Answer::new(200).body(b"{}".to_vec()).into());
        registry.set_realm(&tokens.url("/token"));
        let authority = registry.origin.authority();
        let pattern = authority.replace('.', "\\.");
        let daemon = DaemonOptions::new(DFGET)
            .trust(&ca)
            .hosts(&format!("[{{regx: '^{pattern}$'}}]{setting}"))
            .start();
        let client = daemon.client();
        let url = tokens.url("/token");
        let speaks = || client.open(&url).is_ok_and(|opened| opened.is_ok());
        assert!(!speaks(), "a blind tunnel: our authority is not its certificate's");
        let ping = client.fetch(&Request::get(registry.origin.url("/v2/"))).expect("an answer");
        assert_eq!(ping.status, 401);
        assert_eq!(speaks(), hijacked, "{setting}");
    }
}
