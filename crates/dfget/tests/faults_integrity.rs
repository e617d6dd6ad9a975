//! Bodies that are not what their digest says: a 502 while the head is held, a broken body afterwards, and nothing
//! wrong on disk in either case.

use dfget_testkit::answer::Framing;
use dfget_testkit::{Answer, Blob, End, Gate, Registry, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const HELD_WHOLE: usize = 64 * 1024;
const HELD_BACK: usize = 16 * 1024;

#[test]
fn a_small_body_with_a_wrong_byte_is_a_502_and_is_not_stored() {
    for len in [1, 2, 1000, HELD_WHOLE] {
        let stage = Stage::new(DFGET);
        let blob = Blob::random(len, len as u64);
        let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(len - 1));
        let response = stage.get(&url);
        assert_eq!(response.status, 502, "{len} bytes");
        assert!(response.text().contains("sha256"), "the cause is told: {}", response.text());
        stage.registry.put(IMAGE, &blob);
        let response = stage.get(&url);
        assert_eq!(response.status, 200, "{len} bytes: {}", response.text());
        assert!(response.body == blob.bytes[..], "{len} bytes");
    }
}

#[test]
fn a_large_body_with_a_wrong_byte_breaks_off_before_its_last_16_kib() {
    for (len, flipped) in [(HELD_WHOLE + 1, 0), (300_000, 299_999), (5 << 20, 3 << 20)] {
        let stage = Stage::new(DFGET);
        let blob = Blob::random(len, len as u64);
        let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(flipped));
        let response = stage.get(&url);
        assert!(response.status == 502 || !response.is_complete(), "{len} bytes: {:?}", response.end);
        assert!(
            response.status == 502 || response.body.len() <= len - HELD_BACK,
            "{len}: {}",
            response.body.len()
        );
        stage.registry.put(IMAGE, &blob);
        let response = stage.get(&url);
        assert_eq!((response.status, response.end), (200, End::Length), "{len} bytes");
        assert!(response.body == blob.bytes[..], "{len} bytes");
    }
}

#[test]
fn a_wrong_body_without_length_never_ends_well() {
    for framing in [Framing::Chunked, Framing::Close] {
        for len in [1000, 300_000] {
            let stage = Stage::new(DFGET);
            stage.registry.set_framing(framing);
            let blob = Blob::random(len, 1);
            let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(len / 2));
            let response = stage.get(&url);
            assert!(
                response.status == 502 || !response.is_complete(),
                "{framing:?}, {len} bytes: {response:?}"
            );
            stage.registry.put(IMAGE, &blob);
            assert!(stage.get(&url).body == blob.bytes[..], "{framing:?}, {len} bytes");
        }
    }
}

#[test]
fn a_body_shorter_than_its_length_is_never_passed_on_as_whole() {
    for len in [1000, 300_000] {
        let stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 1s}"));
        let blob = Blob::random(len, 2);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.set_framing(Framing::Declared(len as u64 + 100));
        let response = stage.get(&url);
        assert!(response.status == 502 || !response.is_complete(), "{len} bytes: {:?}", response.end);
    }
}

#[test]
fn a_body_longer_than_its_length_is_a_wrong_one_and_spoils_nothing_after_it() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(2000, 3);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.every_blob(|answer| answer.framing(Framing::Declared(1500)).into());
    assert_eq!(stage.get(&url).status, 502);
    stage.registry.heal();
    let response = stage.get(&url);
    assert_eq!(response.status, 200, "the surplus must not be read as the next answer: {}", response.text());
    assert!(response.body == blob.bytes[..]);
}

#[test]
fn clients_that_share_a_wrong_download_all_learn_of_it() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1 << 20, 5);
    let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(1 << 19));
    let client = stage.client();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (client, request) = (client.clone(), Request::get(&url));
            std::thread::spawn(move || client.fetch(&request))
        })
        .collect();
    for reader in readers {
        let response = reader.join().expect("a reader ends").expect("the daemon answers");
        assert!(response.status == 502 || !response.is_complete(), "{:?}", response.end);
    }
}

#[test]
fn an_empty_blob_is_a_blob() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(0, 0);
    let url = stage.registry.put(IMAGE, &blob);
    for turn in ["cold", "warm"] {
        let response = stage.get(&url);
        assert_eq!((response.status, response.body.len()), (200, 0), "{turn}");
        assert_eq!(response.header("content-length"), Some("0"), "{turn}");
    }
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn a_manifest_by_digest_is_verified_too() {
    let stage = Stage::new(DFGET);
    let manifest = Blob::of(b"{\"schemaVersion\":2}".to_vec());
    let url = stage.registry.put_manifest(IMAGE, &manifest.digest, b"{\"schemaVersion\":3}");
    assert_eq!(stage.get(&url).status, 502);
    stage.registry.put_manifest(IMAGE, &manifest.digest, &manifest.bytes);
    let response = stage.get(&url);
    assert_eq!(response.status, 200);
    assert!(response.body == manifest.bytes[..]);
    assert_eq!(response.header("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
}

#[test]
fn an_http_1_0_client_gets_no_content_whose_end_it_could_not_tell() {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let blob = Blob::random(100_000, 5);
    let url = registry.put(IMAGE, &blob);
    let ask = || {
        let request = format!("GET {url} HTTP/1.0\r\nHost: {}\r\n\r\n", registry.origin.authority());
        stage.client().ask_raw(&request).expect("an answer")
    };
    let gate = Gate::new();
    let held = gate.clone();
    registry.next_blob(move |answer| answer.framing(Framing::Chunked).hold_after(90_000, &held).into());
    let answer = ask();
    assert!(answer[..16].windows(5).any(|part| part == b" 502 "), "its length is not known yet");
    gate.open();
    stage.daemon.wait_for_log("peer task done");
    assert!(ask().ends_with(&blob.bytes[..]), "now it is");
}

#[test]
fn a_condition_in_the_request_does_not_open_the_gate() {
    let stage = Stage::new(DFGET);
    for len in [1000, 300_000] {
        let blob = Blob::random(len, 6);
        let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(5));
        for (name, value) in [("If-None-Match", "\"other\""), ("Expect", "100-continue")] {
            let response = stage.fetch(&Request::get(&url).header(name, value));
            assert!(
                response.status == 502 || !response.is_complete(),
                "{len} bytes, {name}: {}",
                response.status
            );
        }
    }
}

#[test]
fn a_success_that_is_not_the_content_is_a_502() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1000, 7);
    let url = stage.registry.put(IMAGE, &blob);
    for status in [201, 203] {
        stage.registry.next_blob(move |_| Answer::new(status).body(vec![b'<'; 1000]).into());
        assert_eq!(stage.get(&url).status, 502, "{status}");
    }
    assert!(stage.get(&url).body == blob.bytes[..]);
}
