//! A registry that is overloaded, failing or gone: what is stored keeps flowing to those who may have it, nobody adds
//! to its load, and a pull that it asks to wait waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfget_testkit::session::until;
use dfget_testkit::{Answer, Blob, Origin, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const ALICE: &str = "Bearer alice";
const BOB: &str = "Bearer bob";
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A closed repository with a tag and a blob, of which Alice has pulled both.
struct Lab {
    stage: Stage,
    ping: String,
    tag: String,
    blob: Blob,
    url: String,
}

impl Lab {
    /// `extra` are lines of the configuration. Nothing that was said once holds for longer than a moment.
    fn new(extra: &str) -> Self {
        let stage = Stage::with(DFGET, |options| {
            options.extra(&format!("access: {{ttl: 0s}}\nmanifests: {{freshness: 1ms}}\n{extra}"))
        });
        let blob = Blob::random(100_000, 1);
        let url = stage.registry.put(IMAGE, &blob);
        let tag = stage.registry.put_manifest(IMAGE, "latest", MANIFEST);
        let ping = stage.registry.origin.url("/v2/");
        stage.registry.grant(IMAGE, ALICE);
        let lab = Self { stage, ping, tag, blob, url };
        lab.pull();
        lab
    }

    fn get(&self, url: &str, who: &str) -> Response {
        self.stage.fetch(&Request::get(url).authorization(who))
    }

    /// What a pull of Alice asks for, all of it answered.
    fn pull(&self) {
        for (url, expected) in
            [(&self.ping, &b"{}"[..]), (&self.tag, MANIFEST), (&self.url, &self.blob.bytes)]
        {
            let response = self.get(url, ALICE);
            assert_eq!(response.status, 200, "{url}: {}", response.text());
            assert!(response.is_complete() && response.body == expected, "{url}");
        }
    }

    fn requests(&self) -> usize {
        self.stage.registry.origin.journal().len()
    }
}

#[test]
fn a_whole_pull_is_served_from_before_while_the_registry_is_sick() {
    for (status, seconds) in
        [(429, None), (429, Some(60)), (500, None), (502, None), (503, Some(60)), (504, None)]
    {
        let lab = Lab::new("download: {stallTimeout: 1s}");
        match seconds {
            Some(seconds) => lab.stage.registry.set_outage_for(status, seconds),
            None => lab.stage.registry.set_outage(Some(status)),
        }
        lab.pull();
        lab.pull();
        let stranger = lab.get(&lab.tag, BOB);
        assert_eq!(stranger.status, status, "{}", stranger.text());
        assert!(lab.get(&lab.url, BOB).status >= 400);
        lab.stage.daemon.wait_for_log("is answered as it was");
    }
}

#[test]
fn a_whole_pull_is_served_from_before_while_the_registry_is_gone() {
    let lab = Lab::new("download: {stallTimeout: 1s}");
    lab.stage.registry.origin.go_down();
    lab.pull();
    assert!(lab.get(&lab.tag, BOB).status >= 500);
    lab.stage.registry.origin.come_back();
    lab.stage.registry.put_manifest(IMAGE, "latest", b"another");
    // Until it is asked again it counts as silent, for some seconds.
    until("the registry is asked again", || (lab.get(&lab.tag, ALICE).body == b"another").then_some(()));
}

#[test]
fn without_a_grace_a_sick_registry_is_everybodys_own() {
    let stage = Stage::with(DFGET, |options| {
        options.extra("access: {offlineGrace: 0s}\nmanifests: {freshness: 1ms}\ndownload: {stallTimeout: 1s}")
    });
    let tag = stage.registry.put_manifest(IMAGE, "latest", MANIFEST);
    assert_eq!(stage.get(&tag).status, 200);
    stage.registry.set_outage(Some(503));
    assert_eq!(stage.get(&tag).status, 503);
}

#[test]
fn a_registry_that_asks_for_a_pause_is_not_asked_before_it_is_over() {
    let lab = Lab::new("download: {stallTimeout: 1s}");
    lab.stage.registry.set_outage_for(429, 3600);
    let unseen = lab.stage.registry.put(IMAGE, &Blob::random(1000, 2));
    let first = lab.get(&unseen, ALICE);
    assert_eq!((first.status, first.header("retry-after")), (429, Some("3600")), "its own answer");
    assert!(first.text().contains("come back later"));
    let before = lab.requests();
    for _ in 0..5 {
        let again = lab.get(&unseen, ALICE);
        assert_eq!(again.status, 429, "{}", again.text());
        let wait: u64 = again.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or_default();
        assert!((3000..=3600).contains(&wait), "{wait}");
        lab.pull();
    }
    assert_eq!(lab.requests(), before, "not one request more");
    assert_eq!(lab.get(&unseen, BOB).status, 429);
    assert_eq!(lab.requests(), before + 1, "another user has a quota of his own");
}

#[test]
fn what_a_registry_refuses_one_user_says_nothing_of_another() {
    let stage = Stage::with(DFGET, |options| {
        options.extra("access: {ttl: 0s}\nmanifests: {freshness: 1ms}\ndownload: {stallTimeout: 1s}")
    });
    let blob = Blob::random(1000, 5);
    let (digest, bytes) = (blob.digest.clone(), blob.bytes.clone());
    let changed = Arc::new(AtomicBool::new(false));
    let (later, path) = (Arc::clone(&changed), format!("/v2/{IMAGE}/blobs/{digest}"));
    let is_blob = path.clone();
    let origin = Origin::https(&stage.ca, move |request| {
        let alice = request.headers.get("authorization") == Some(ALICE);
        match (later.load(Ordering::Relaxed), alice) {
            (true, true) => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\"").into(),
            (true, false) => Answer::new(429).header("Retry-After", "60").into(),
            (false, _) if request.target == is_blob => Answer::new(200).body(bytes.clone()).into(),
            (false, _) => Answer::new(200).body(MANIFEST.to_vec()).into(),
        }
    });
    let get = |path: &str, who: &str| stage.fetch(&Request::get(origin.url(path)).authorization(who)).status;
    let tag = format!("/v2/{IMAGE}/manifests/latest");
    for who in [ALICE, BOB] {
        assert_eq!((get(&tag, who), get(&path, who)), (200, 200));
    }
    changed.store(true, Ordering::Relaxed);
    assert_eq!((get(&tag, BOB), get(&path, BOB)), (200, 200), "Bob's quota is used up: as it was before");
    assert_eq!((get(&tag, ALICE), get(&path, ALICE)), (401, 401), "and Alice has no right any more");
}

#[test]
fn a_pull_that_is_asked_to_wait_waits_and_succeeds() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(300_000, 3);
    let url = stage.registry.put(IMAGE, &blob);
    for refusal in [429, 503] {
        stage.registry.next_blob(move |_| Answer::new(refusal).header("Retry-After", "1").into());
    }
    let response = stage.get(&url);
    assert!(response.status == 200 && response.is_complete() && response.body == blob.bytes[..]);
    let log = stage.daemon.log();
    assert!(log.contains("answers 429 Too Many Requests"), "{log}");
    assert!(log.contains("is asked again in"), "{log}");
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 3);
}

#[test]
fn a_429_without_a_time_is_sat_out_as_well() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(300_000, 4);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|_| Answer::new(429).body(b"slow down".to_vec()).into());
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 2);
}

#[test]
fn no_more_requests_are_sent_than_the_budget_allows() {
    let stage = Stage::with(DFGET, |options| {
        options.extra("download: {originBudget: {requests: 3, per: 10m}}\nmanifests: {freshness: 10m}")
    });
    let blobs: Vec<_> = (0..6).map(|seed| Blob::random(1000, 10 + seed)).collect();
    let urls: Vec<_> = blobs.iter().map(|blob| stage.registry.put(IMAGE, blob)).collect();
    let statuses: Vec<_> = urls.iter().map(|url| stage.get(url)).collect();
    for (at, response) in statuses.iter().enumerate() {
        if at < 3 {
            assert_eq!(response.status, 200, "{}", response.text());
        } else {
            assert_eq!(response.status, 429, "{}", response.text());
            assert!(response.text().contains("originBudget"), "the key is named: {}", response.text());
            assert!(response.header("retry-after").is_some());
        }
    }
    for url in &urls[..3] {
        assert_eq!(stage.get(url).status, 200, "what is stored costs nothing");
    }
    assert_eq!(stage.registry.origin.journal().len(), 3);
}
