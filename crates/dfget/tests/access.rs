//! Who may have what is stored: for every reuse the client's own credential must have been accepted by the origin for
//! that very blob in that very repository.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use dfget_testkit::{Answer, Blob, Gate, Origin, Registry, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const SECRET: &str = "lab/secret";
const OTHER: &str = "bob/own";
const ALICE: &str = "Bearer alice";
const BOB: &str = "Bearer bob";

/// A registry where Alice may read [`SECRET`] and Bob [`OTHER`], and a blob of [`SECRET`] that Alice has pulled.
struct Lab {
    stage: Stage,
    blob: Blob,
    url: String,
}

impl Lab {
    fn new() -> Self {
        Self::with("access: {ttl: 0s}")
    }

    fn with(access: &str) -> Self {
        Self::prepared(access, |_| {})
    }

    fn prepared(access: &str, prepare: impl FnOnce(&Registry)) -> Self {
        let stage = Stage::with(DFGET, |options| options.extra(access));
        prepare(&stage.registry);
        let blob = Blob::random(200_000, 1);
        let url = stage.registry.put(SECRET, &blob);
        stage.registry.grant(SECRET, ALICE);
        stage.registry.grant(OTHER, BOB);
        let lab = Self { stage, blob, url };
        lab.assert_served(&lab.get(&lab.url, ALICE));
        lab
    }

    fn get(&self, url: &str, authorization: &str) -> Response {
        let request = Request::get(url);
        let request = if authorization.is_empty() { request } else { request.authorization(authorization) };
        self.stage.fetch(&request)
    }

    fn assert_served(&self, response: &Response) {
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(response.is_complete() && response.body == self.blob.bytes[..]);
    }

    /// How often the blob's bytes were fetched from the registry.
    fn downloads(&self) -> usize {
        self.stage.registry.downloads(&self.blob.digest)
    }

    /// How many requests the registry has answered.
    fn requests(&self) -> usize {
        self.stage.registry.origin.journal().len()
    }
}

#[test]
fn whoever_may_read_gets_it_from_the_store() {
    let lab = Lab::new();
    let before = lab.requests();
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert_eq!(lab.downloads(), 1);
    let asked = &lab.stage.registry.origin.journal()[before..];
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].headers.get("authorization")), ("HEAD", Some(ALICE)));
}

#[test]
fn no_credential_or_a_forged_one_gets_what_the_registry_says() {
    let lab = Lab::new();
    for authorization in ["", "Bearer forged", "Bearer alic", "bearer alice", "Basic YWxpY2U6"] {
        let response = lab.get(&lab.url, authorization);
        assert_eq!(response.status, 401, "{authorization:?}");
        assert!(response.text().contains("show a token"), "{authorization:?}: {}", response.text());
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("repository:lab/secret:pull"), "{authorization:?}: {challenge}");
    }
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert_eq!(lab.downloads() - 5, 1, "five refusals and one download");
}

#[test]
fn a_yes_is_remembered_for_its_ttl_and_for_its_owner() {
    let lab = Lab::with("access: {ttl: 10m}");
    let before = lab.requests();
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert_eq!(lab.requests(), before, "asked within the ttl");
    assert_eq!(lab.get(&lab.url, BOB).status, 401);
    assert_eq!(lab.get(&lab.url, "").status, 401);
}

#[test]
fn a_right_on_another_repository_opens_nothing() {
    let lab = Lab::with("access: {ttl: 10m}");
    assert_eq!(lab.get(&lab.url, BOB).status, 401, "on the private repository's own path");
    let through_his_own = lab.stage.registry.blob_url(OTHER, &lab.blob.digest);
    let response = lab.get(&through_his_own, BOB);
    assert_eq!(response.status, 404, "his own repository does not hold the private blob");
    assert!(response.text().contains("no such blob"), "{}", response.text());
}

#[test]
fn a_repository_that_holds_the_same_blob_serves_it_from_the_store() {
    let lab = Lab::new();
    let url = lab.stage.registry.put(OTHER, &lab.blob);
    lab.assert_served(&lab.get(&url, BOB));
    assert_eq!(lab.downloads(), 1, "the authority has shown before that it has this blob");
    assert_eq!(lab.get(&url, ALICE).status, 401);
}

#[test]
fn a_yes_for_the_config_that_all_share_opens_no_other_blob() {
    let lab = Lab::with("access: {ttl: 10m}");
    let config = Blob::empty_config();
    lab.stage.registry.put(SECRET, &config);
    let own = lab.stage.registry.put(OTHER, &config);
    assert_eq!(lab.get(&own, BOB).status, 200);
    assert_eq!(lab.get(&lab.stage.registry.blob_url(SECRET, &config.digest), BOB).status, 401);
    assert_eq!(lab.get(&lab.url, BOB).status, 401);
    assert_eq!(lab.get(&lab.stage.registry.blob_url(OTHER, &lab.blob.digest), BOB).status, 404);
}

#[test]
fn a_revoked_right_is_gone_when_the_ttl_is_over() {
    let lab = Lab::new();
    lab.stage.registry.revoke(SECRET, ALICE);
    assert_eq!(lab.get(&lab.url, ALICE).status, 401);
    lab.stage.registry.set_outage(Some(503));
    let response = lab.get(&lab.url, ALICE);
    assert_ne!(response.status, 200, "a no ends the grace as well");
}

#[test]
fn an_expired_token_is_answered_by_the_registrys_challenge_and_a_new_one_is_served() {
    let lab = Lab::new();
    lab.stage.registry.revoke(SECRET, ALICE);
    lab.stage.registry.grant(SECRET, "Bearer alice-renewed");
    let response = lab.get(&lab.url, ALICE);
    assert_eq!(response.status, 401);
    assert!(response.header("www-authenticate").is_some(), "without it the clients ask for no new token");
    lab.assert_served(&lab.get(&lab.url, "Bearer alice-renewed"));
}

#[test]
fn a_registry_that_refuses_head_is_asked_for_one_byte() {
    let lab = Lab::prepared("access: {ttl: 0s}", Registry::refuse_head);
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert_eq!(lab.downloads(), 1);
    let probes = lab.stage.registry.origin.asked("GET", &lab.blob.digest);
    let probe = probes.last().expect("there was a download at least");
    assert_eq!(probe.range(), Some("bytes=0-0"));
    assert_eq!(lab.get(&lab.url, "Bearer forged").status, 401);
}

#[test]
fn a_redirect_in_answer_to_the_check_is_followed_for_one_byte_of_the_content() {
    let lab = Lab::new();
    let elsewhere = Registry::https(&lab.stage.ca);
    lab.stage.registry.redirect_blobs_to(Some(elsewhere.origin.url("")));
    elsewhere.put(SECRET, &lab.blob);
    lab.assert_served(&lab.get(&lab.url, ALICE));
    let asked = elsewhere.origin.journal();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[0].range(), asked[0].sent), ("GET", Some("bytes=0-0"), 1));
    assert_eq!(lab.downloads(), 1);
    assert_eq!(lab.get(&lab.url, "").status, 401);
    assert_eq!(lab.get(&lab.url, BOB).status, 401);
}

#[test]
fn a_redirect_to_something_of_another_length_is_no_yes() {
    let lab = Lab::new();
    let elsewhere = Registry::https(&lab.stage.ca);
    lab.stage.registry.redirect_blobs_to(Some(elsewhere.origin.url("")));
    elsewhere.put_as(SECRET, &lab.blob.digest, &Blob::random(lab.blob.len() - 1, 8).bytes);
    // What it leads to is this client's own answer, and a wrong one.
    if let Ok(response) = lab.stage.client().fetch(&Request::get(&lab.url).authorization(ALICE)) {
        assert!(response.status == 502 || !response.is_complete(), "{:?}", response.end);
        assert!(response.status == 502 || !lab.blob.bytes.starts_with(&response.body), "out of the store");
    }
    elsewhere.put(SECRET, &lab.blob);
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert_eq!(lab.downloads(), 2, "the first one, and the one that was redirected and wrong");
}

#[test]
fn an_overloaded_registry_is_bridged_by_the_grace_for_those_it_knew() {
    for status in [429, 500, 503] {
        let lab = Lab::new();
        let unseen = lab.stage.registry.put(SECRET, &Blob::random(1000, 7));
        lab.stage.registry.set_outage(Some(status));
        lab.assert_served(&lab.get(&lab.url, ALICE));
        let stranger = lab.get(&lab.url, BOB);
        assert_eq!(stranger.status, status, "{}", stranger.text());
        assert!(stranger.text().contains("come back later"), "{}", stranger.text());
        assert_eq!(lab.get(&unseen, ALICE).status, status, "a yes for one blob is none for another");
    }
}

#[test]
fn a_dead_registry_is_bridged_by_the_grace_even_after_a_restart() {
    let mut lab = Lab::new();
    lab.stage.registry.origin.go_down();
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert!(lab.get(&lab.url, BOB).status >= 500);
    assert!(lab.stage.daemon.stop().success());
    lab.stage.daemon.start_again();
    lab.assert_served(&lab.get(&lab.url, ALICE));
    assert!(lab.get(&lab.url, BOB).status >= 500);
    assert!(lab.get(&lab.url, "").status >= 500);
}

#[test]
fn without_a_grace_a_dead_registry_serves_nobody() {
    let lab = Lab::with("access: {ttl: 0s, offlineGrace: 0s}");
    lab.stage.registry.set_outage(Some(503));
    assert_eq!(lab.get(&lab.url, ALICE).status, 503);
    lab.stage.registry.origin.go_down();
    assert!(lab.get(&lab.url, ALICE).status >= 500);
    lab.stage.registry.set_outage(None);
    lab.stage.registry.origin.come_back();
    lab.assert_served(&lab.get(&lab.url, ALICE));
}

#[test]
fn a_host_that_only_claims_to_have_the_digest_gets_nothing_out_of_the_store() {
    let lab = Lab::new();
    let impostor = Registry::https(&lab.stage.ca);
    let wrong = Blob::random(lab.blob.len(), 2);
    let url = impostor.put_as("evil/image", &lab.blob.digest, &wrong.bytes);
    let request = Request::get(&url).authorization("Bearer mallory");
    // The wrong body may be known for wrong before its head is on the way; then the connection just ends.
    if let Ok(response) = lab.stage.client().fetch(&request) {
        assert!(response.status == 502 || !response.is_complete());
        assert!(response.status == 502 || wrong.bytes.starts_with(&response.body), "bytes from elsewhere");
    }
    lab.assert_served(&lab.get(&lab.url, ALICE));
}

#[test]
fn a_host_that_says_yes_and_then_has_nothing_gets_nothing_out_of_the_store() {
    let lab = Lab::new();
    let impostor = Origin::https(&lab.stage.ca, |request| match request.method.as_str() {
        "HEAD" => Answer::new(200).header("ETag", "\"x\"").into(),
        _ => Answer::new(404).body(b"nothing".to_vec()).into(),
    });
    let response = lab.get(&impostor.url(&format!("/v2/a/blobs/{}", lab.blob.digest)), "");
    assert_eq!((response.status, response.text().as_str()), (404, "nothing"));
}

#[test]
fn a_mirror_proves_itself_by_three_ranges_and_is_then_served_from_the_store() {
    let lab = Lab::new();
    let mirror = Registry::https(&lab.stage.ca);
    let url = mirror.put("mirror/image", &lab.blob);
    lab.assert_served(&lab.get(&url, ""));
    let asked = mirror.origin.asked("GET", &lab.blob.digest);
    let ranges: HashSet<_> = asked.iter().filter_map(|entry| entry.range()).collect();
    assert_eq!((asked.len(), ranges.len()), (3, 3), "{ranges:?}");
    let sent: u64 = asked.iter().map(|entry| entry.sent).sum();
    assert!(sent < lab.blob.len() as u64 / 2, "{sent} bytes");
    lab.assert_served(&lab.get(&url, ""));
    assert_eq!(mirror.origin.asked("GET", &lab.blob.digest).len(), 3, "proven once");
}

#[test]
fn a_signature_in_the_query_is_a_credential() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 0s}"));
    let blob = Blob::random(100_000, 3);
    let bytes = blob.bytes.clone();
    let good = Arc::new(Mutex::new(HashSet::from(["X-Amz-Signature=one", "X-Amz-Signature=two"])));
    let known = Arc::clone(&good);
    let origin = Origin::https(&stage.ca, move |request| {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        if known.lock().expect("no handler fails").contains(query) {
            Answer::new(200).body(bytes.clone()).into()
        } else {
            Answer::new(403).body(b"signature expired".to_vec()).into()
        }
    });
    let url =
        |signature: &str| origin.url(&format!("/v2/a/blobs/{}?X-Amz-Signature={signature}", blob.digest));
    for signature in ["one", "two", "one"] {
        let response = stage.get(&url(signature));
        assert!(
            response.status == 200 && response.body == blob.bytes[..],
            "{signature}: {}",
            response.text()
        );
    }
    assert_eq!(origin.asked("GET", "/blobs/").len(), 1, "one blob, whatever the signature");
    let response = stage.get(&url("three"));
    assert_eq!((response.status, response.text().as_str()), (403, "signature expired"));
    good.lock().expect("no handler fails").remove("X-Amz-Signature=one");
    assert_eq!(stage.get(&url("one")).status, 403);
}

#[test]
fn a_cookie_is_a_credential() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 10m}"));
    let blob = Blob::random(100_000, 4);
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| match request.headers.get("cookie") {
        Some("session=alice") => {
            Answer::new(200).body(bytes.clone()).header("Set-Cookie", "session=next").into()
        }
        _ => Answer::new(401).into(),
    });
    let url = origin.url(&format!("/v2/a/blobs/{}", blob.digest));
    let alice = Request::get(&url).header("Cookie", "session=alice");
    assert_eq!(stage.fetch(&alice).status, 200);
    let warm = stage.fetch(&alice);
    assert!(warm.status == 200 && warm.body == blob.bytes[..]);
    assert_eq!(warm.header("set-cookie"), None, "another answer's cookie is nobody's");
    assert_eq!(stage.fetch(&Request::get(&url).header("Cookie", "session=bob")).status, 401);
    assert_eq!(stage.get(&url).status, 401);
}

#[test]
fn a_second_client_with_another_right_joins_a_running_download_only_if_it_may() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 10m}"));
    let blob = Blob::random(2 << 20, 5);
    let url = stage.registry.put(SECRET, &blob);
    stage.registry.grant(SECRET, ALICE);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
    let mut alice = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = alice.start(&Request::get(&url).authorization(ALICE)).expect("a head");
    assert!(incoming.read(1000) == blob.bytes[..1000]);
    assert_eq!(stage.fetch(&Request::get(&url).authorization(BOB)).status, 401);
    assert_eq!(stage.get(&url).status, 401);
    gate.open();
    assert!(incoming.read_all().is_complete());
}

#[test]
fn a_host_that_claims_to_have_the_digest_joins_no_download_from_another() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(2 << 20, 6);
    let url = stage.registry.put(SECRET, &blob);
    stage.registry.grant(SECRET, ALICE);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
    let mut alice = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = alice.start(&Request::get(&url).authorization(ALICE)).expect("a head");
    assert!(incoming.read(1000) == blob.bytes[..1000]);
    let impostor = Origin::https(&stage.ca, |request| match request.method.as_str() {
        "HEAD" => Answer::new(200).into(),
        _ => Answer::new(404).body(b"nothing".to_vec()).into(),
    });
    let response = stage.get(&impostor.url(&format!("/v2/{SECRET}/blobs/{}", blob.digest)));
    assert_eq!((response.status, response.text().as_str()), (404, "nothing"));
    gate.open();
    assert!(incoming.read_all().is_complete());
}
