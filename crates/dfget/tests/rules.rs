//! Which requests become tasks, and where they go: rules in the order of the file, the first match wins.

use dfget_testkit::{Blob, Registry, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

#[test]
fn the_first_rule_that_matches_wins() {
    let stage = Stage::with(DFGET, |options| {
        options.rules("[{regx: 'lab/direct/blobs', direct: true}, {regx: 'blobs/sha256.*'}]")
    });
    let blob = Blob::random(100_000, 1);
    for (repository, downloads) in [("lab/direct", 2), ("lab/task", 1)] {
        let url = stage.registry.put(repository, &blob);
        for _ in 0..2 {
            assert!(stage.get(&url).body == blob.bytes[..], "{repository}");
        }
        let whole = stage.registry.origin.asked("GET", repository);
        assert_eq!(whole.iter().filter(|entry| entry.sent == 100_000).count(), downloads, "{repository}");
    }
}

#[test]
fn a_rule_may_send_a_host_elsewhere() {
    let mirror = Registry::plain();
    let rule = format!("[{{regx: 'blobs/sha256.*', redirect: '{}'}}]", mirror.origin.authority());
    let stage = Stage::with(DFGET, |options| options.rules(&rule));
    let registry = Registry::plain();
    let blob = Blob::random(100_000, 2);
    mirror.put(IMAGE, &blob);
    let response = stage.get(&registry.blob_url(IMAGE, &blob.digest));
    assert!(response.status == 200 && response.body == blob.bytes[..], "{}", response.text());
    assert!(registry.origin.journal().is_empty());
}

#[test]
fn a_rule_may_rewrite_the_url() {
    let mirror = Registry::plain();
    let rule =
        format!("[{{regx: 'http://[^/]+/(v2/.*)', redirect: 'http://{}/$1'}}]", mirror.origin.authority());
    let stage = Stage::with(DFGET, |options| options.rules(&rule));
    let registry = Registry::plain();
    let blob = Blob::random(100_000, 3);
    mirror.put(IMAGE, &blob);
    let response = stage.get(&registry.blob_url(IMAGE, &blob.digest));
    assert!(response.status == 200 && response.body == blob.bytes[..], "{}", response.text());
    let put = Request::new("PUT", registry.origin.url("/v2/lab/image/manifests/4")).body(b"{}".as_slice());
    assert_eq!(stage.fetch(&put).status, 201, "what is no GET is rewritten as well");
    assert_eq!(mirror.origin.asked("PUT", "/manifests/4").len(), 1);
    assert!(registry.origin.journal().is_empty());
}

#[test]
fn a_rule_may_turn_http_into_https() {
    let stage = Stage::with(DFGET, |options| options.rules("[{regx: 'blobs/sha256.*', useHTTPS: true}]"));
    let blob = Blob::random(100_000, 4);
    let url = stage.registry.put(IMAGE, &blob).replace("https://", "http://");
    let response = stage.get(&url);
    assert!(response.status == 200 && response.body == blob.bytes[..], "{}", response.text());
}

#[test]
fn without_a_rule_nothing_is_kept() {
    let stage = Stage::with(DFGET, |options| options.rules("[]"));
    let blob = Blob::random(100_000, 5);
    let url = stage.registry.put(IMAGE, &blob);
    for turn in 1..=2 {
        assert!(stage.get(&url).body == blob.bytes[..]);
        assert_eq!(stage.registry.downloads(&blob.digest), turn);
    }
}

#[test]
fn the_same_digest_from_two_repositories_is_stored_once() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(300_000, 6);
    for repository in ["one/image", "two/image"] {
        assert!(stage.get(&stage.registry.put(repository, &blob)).body == blob.bytes[..]);
    }
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}
