//! Redirects of origins: what is stored for them, where they may lead, and what goes along.

use std::sync::atomic::{AtomicUsize, Ordering};

use dfget_testkit::{Answer, Blob, DaemonOptions, Origin, Registry, Request, SiteProxy, Stage, TestCa};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// An origin that answers every request by this redirect.
fn redirecting(ca: &TestCa, status: u16, location: impl Into<String>) -> Origin {
    let location = location.into();
    Origin::https(ca, move |_| Answer::new(status).header("Location", location.clone()).into())
}

/// An origin that serves this content at every path.
fn serving(ca: &TestCa, blob: &Blob) -> Origin {
    let bytes = blob.bytes.clone();
    Origin::https(ca, move |_| Answer::new(200).header("ETag", "\"1\"").body(bytes.clone()).into())
}

fn blob_path(blob: &Blob) -> String {
    format!("/v2/some/image/blobs/{}", blob.digest)
}

/// A registry that is known by a name and an address of the network, as it is behind a site's proxy.
struct Far {
    ca: TestCa,
    registry: Registry,
    proxy: SiteProxy,
}

impl Far {
    fn new() -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https_named(&ca, "registry.test");
        let proxy = SiteProxy::to(registry.origin.address());
        Self { ca, registry, proxy }
    }

    /// A daemon that reaches it, with these lines.
    fn daemon(&self, extra: &str) -> dfget_testkit::Daemon {
        DaemonOptions::new(DFGET)
            .trust(&self.ca)
            .hosts("[{regx: '^registry\\.test:443$'}]")
            .environment("HTTPS_PROXY", &self.proxy.address().to_string())
            .extra(extra)
            .start()
    }

    fn put(&self, blob: &Blob) -> String {
        let url = self.registry.put("some/image", blob);
        url.replace(&self.registry.origin.authority(), "registry.test:443")
    }
}

#[test]
fn every_kind_of_redirect_is_followed_to_one_stored_copy() {
    let stage = Stage::new(DFGET);
    for (seed, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let blob = Blob::random(100_000, seed as u64);
        let store = serving(&stage.ca, &blob);
        let origin = redirecting(&stage.ca, status, store.url("/data"));
        for turn in ["cold", "warm"] {
            let answer = stage.get(&origin.url(&blob_path(&blob)));
            assert_eq!(answer.status, 200, "{status} {turn}: {}", answer.text());
            assert!(answer.body == blob.bytes[..], "{status} {turn}");
            assert_eq!(answer.header("location"), None, "{status} {turn}");
        }
        let asked = store.journal();
        assert_eq!(asked.len(), 1, "{status}: {asked:?}");
        assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("GET", "/data"), "{status}");
    }
}

#[test]
fn a_chain_is_followed_to_its_end_and_one_without_an_end_is_a_502() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 10);
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| {
        // `/N…` leads to `/N-1`, `/endless/N` to `/endless/N+1`.
        let (endless, number) = match request.target.strip_prefix("/endless/") {
            Some(number) => (true, number),
            None => (false, request.target.trim_start_matches('/')),
        };
        match (endless, number.parse::<u32>()) {
            (false, Ok(0)) => Answer::new(200).body(bytes.clone()).into(),
            (false, Ok(number)) => Answer::new(302).header("Location", format!("/{}", number - 1)).into(),
            (true, Ok(number)) => Answer::new(302).header("Location", format!("{}", number + 1)).into(),
            (_, Err(_)) if request.target.contains("other") => {
                Answer::new(307).header("Location", "/endless/0").into()
            }
            (_, Err(_)) => Answer::new(307).header("Location", "/5").into(),
        }
    });
    assert!(stage.get(&origin.url(&blob_path(&blob))).body == blob.bytes[..]);
    let other = Blob::random(10, 11);
    let answer = stage.get(&origin.url(&blob_path(&other).replace("some", "other")));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("redirect"), "{}", answer.text());
    assert!(origin.asked("GET", "/endless/").len() <= 10, "it ends: {:?}", origin.journal().len());
}

/// What an object store asks to be signed differs each time; what it is of does not.
#[test]
fn changing_signatures_make_one_stored_copy() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 0s}"));
    let blob = Blob::random(300_000, 20);
    let store = Registry::https(&stage.ca);
    store.put("store", &blob);
    let base = store.origin.url(&format!("/v2/store/blobs/{}", blob.digest));
    let signed = AtomicUsize::new(0);
    let origin = Origin::https(&stage.ca, move |_| {
        let number = signed.fetch_add(1, Ordering::SeqCst);
        let query = format!("X-Amz-Date=2026&X-Amz-Signature=canary-{number}");
        Answer::new(307).header("Location", format!("{base}?{query}")).into()
    });
    for user in ["alice", "bob", "alice"] {
        let request = Request::get(origin.url(&blob_path(&blob))).authorization(&format!("Bearer {user}"));
        let answer = stage.fetch(&request);
        assert!(answer.status == 200 && answer.body == blob.bytes[..], "{user}: {}", answer.status);
    }
    assert_eq!(store.downloads(""), 1, "{:?}", store.origin.journal());
    assert!(!stage.daemon.everything_said().contains("canary"), "signatures are secrets");
}

/// Scheme, host or port differ: another origin.
#[test]
fn credentials_stay_with_their_scheme_host_and_port() {
    let stage = Stage::with(DFGET, |options| options.extra("download: {redirects: {downgrade: true}}"));
    let blob = Blob::random(10_000, 30);
    let bytes = blob.bytes.clone();
    let plain = Origin::plain(move |_| Answer::new(200).body(bytes.clone()).into());
    let other = serving(&stage.ca, &blob);
    let own = blob.bytes.clone();
    let (plain_url, other_url) = (plain.url("/x"), other.url("/x"));
    let origin = Origin::https(&stage.ca, move |request| {
        let location = match request.target.as_str() {
            "/same" => return Answer::new(200).body(own.clone()).into(),
            path if path.contains("/plain/") => plain_url.clone(),
            path if path.contains("/other/") => other_url.clone(),
            _ => format!("https://{}/same", request.headers.get("host").unwrap_or_default()),
        };
        Answer::new(302).header("Location", location).into()
    });
    for place in ["plain", "other", "same"] {
        let url = origin.url(&format!("/files/{place}/x.sif"));
        let request = Request::get(url).authorization("Bearer canary").header("Cookie", "a=canary");
        let answer = stage.fetch(&request);
        assert!(answer.status == 200 && answer.body == blob.bytes[..], "{place}: {}", answer.text());
    }
    for entry in plain.journal().iter().chain(&other.journal()) {
        assert!(!format!("{:?}", entry.headers).contains("canary"), "{entry:?}");
    }
    let same = origin.asked("GET", "/same");
    assert_eq!(same[0].headers.get("authorization"), Some("Bearer canary"));
}

#[test]
fn a_redirect_to_plain_text_is_followed_only_where_that_is_allowed() {
    let blob = Blob::random(50_000, 40);
    for (extra, status) in [("", 502), ("download: {redirects: {downgrade: true}}", 200)] {
        let stage = Stage::with(DFGET, |options| options.extra(extra));
        let bytes = blob.bytes.clone();
        let plain = Origin::plain(move |_| Answer::new(200).body(bytes.clone()).into());
        let origin = redirecting(&stage.ca, 307, plain.url("/x"));
        let answer = stage.get(&origin.url(&blob_path(&blob)));
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(plain.journal().is_empty(), status == 502);
        if status == 502 {
            assert!(answer.text().contains("download.redirects.downgrade"), "{}", answer.text());
        }
    }
}

#[test]
fn what_names_no_place_is_a_502_and_no_secret_of_it_is_told() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1000, 50);
    let without = Origin::https(&stage.ca, |_| Answer::new(307).into());
    let places =
        ["ftp://x.test/canary", "file:///etc/canary", "http://", "https://x:canary@", "javascript:canary"];
    let mut origins = vec![without];
    origins.extend(places.map(|place| redirecting(&stage.ca, 307, place)));
    for origin in &origins {
        let answer = stage.get(&origin.url(&blob_path(&blob)));
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("redirect"), "{}", answer.text());
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    assert!(!stage.daemon.everything_said().contains("canary"));
}

#[test]
fn a_login_and_a_fragment_in_a_place_are_not_sent() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1000, 60);
    let store = serving(&stage.ca, &blob);
    let place = format!("https://key:secret@{}/data?a=b#part", store.authority());
    let origin = redirecting(&stage.ca, 307, place);
    assert!(stage.get(&origin.url(&blob_path(&blob))).body == blob.bytes[..]);
    let asked = &store.journal()[0];
    assert_eq!(asked.target, "/data?a=b");
    assert_eq!(asked.headers.get("authorization"), None);
}

/// A registry on the network must not aim the daemon at what trusts this machine.
#[test]
fn a_far_registry_leads_to_no_address_of_this_machine_unless_it_is_allowed() {
    let far = Far::new();
    let blob = Blob::random(200_000, 70);
    let url = far.put(&blob);
    let local = Registry::https(&far.ca);
    local.put("some/image", &blob);
    far.registry.redirect_blobs_to(Some(local.origin.url("")));
    let host = local.origin.address().ip();
    let allowing = [
        "download: {redirects: {allow: [127.0.0.0/8]}}".to_owned(),
        format!("download: {{redirects: {{allow: ['{host}']}}}}"),
    ];
    let refusing = ["".to_owned(), "download: {redirects: {allow: [10.0.0.0/8, cdn.test]}}".to_owned()];
    for extra in &refusing {
        let daemon = far.daemon(extra);
        let answer = daemon.client().fetch(&Request::get(&url)).expect("an answer");
        assert_eq!(answer.status, 502, "{extra}: {}", answer.text());
        assert!(answer.text().contains("download.redirects.allow"), "{}", answer.text());
    }
    assert!(local.origin.journal().is_empty());
    for extra in &allowing {
        let answer = far.daemon(extra).client().fetch(&Request::get(&url)).expect("an answer");
        assert!(answer.status == 200 && answer.body == blob.bytes[..], "{extra}: {}", answer.text());
    }
}

#[test]
fn a_name_that_leads_to_this_machine_is_refused_like_its_address() {
    let far = Far::new();
    let blob = Blob::random(20_000, 71);
    let url = far.put(&blob);
    let resolve = "download: {resolve: {innocent.test: 127.0.0.1, link.test: 169.254.1.1}}";
    // `NO_PROXY` leaves it to the daemon to look these names up.
    let daemon = DaemonOptions::new(DFGET)
        .trust(&far.ca)
        .hosts("[{regx: '^registry\\.test:443$'}]")
        .environment("HTTPS_PROXY", &far.proxy.address().to_string())
        .environment("NO_PROXY", "innocent.test,link.test")
        .extra(resolve)
        .start();
    for host in ["innocent.test", "link.test"] {
        far.registry.redirect_blobs_to(Some(format!("https://{host}:9")));
        let answer = daemon.client().fetch(&Request::get(&url)).expect("an answer");
        assert_eq!(answer.status, 502, "{host}: {}", answer.text());
        assert!(answer.text().contains("refused to follow a redirect"), "{}", answer.text());
    }
}

/// The question whether a second client may have a stored content follows the same policy.
#[test]
fn an_access_check_is_led_nowhere_that_a_download_is_not() {
    let far = Far::new();
    let blob = Blob::random(20_000, 72);
    let url = far.put(&blob);
    let local = Registry::https(&far.ca);
    local.put("some/image", &blob);
    let daemon = far.daemon("access: {ttl: 0s}");
    let fetch = |user: &str| {
        let request = Request::get(&url).authorization(&format!("Bearer {user}"));
        daemon.client().fetch(&request).expect("an answer")
    };
    assert!(fetch("alice").body == blob.bytes[..]);
    far.registry.redirect_blobs_to(Some(local.origin.url("")));
    let answer = fetch("bob");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(local.origin.journal().is_empty(), "{:?}", local.origin.journal());
}
