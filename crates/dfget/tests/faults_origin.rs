//! Origins that break off, stall, lie about lengths and ranges, or redirect to where they must not.
//!
//! The real clients neither resume nor time out, so the daemon does both for them: unless all hope is lost, a client
//! sees one good answer.

use std::sync::atomic::{AtomicBool, Ordering};

use dfget_testkit::answer::Framing;
use dfget_testkit::content::gzip;
use dfget_testkit::{Answer, Blob, Cut, End, Origin, Registry, Reply, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

/// A stage whose daemon gives up on a silent origin after a second.
fn impatient() -> Stage {
    Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 1s}"))
}

#[test]
fn a_download_cut_at_any_byte_is_resumed_unseen() {
    let stage = impatient();
    let len = 5 * MIB + 3;
    let cuts = [0, 1, 65_536, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, len - 16_384, len - 1];
    for (seed, cut_at) in cuts.into_iter().enumerate() {
        for (kind, how) in [Cut::Finish, Cut::Fin, Cut::Reset].into_iter().enumerate() {
            let blob = Blob::random(len, (seed * 3 + kind) as u64);
            let url = stage.registry.put(IMAGE, &blob);
            stage.registry.next_blob(move |answer| answer.cut_after(cut_at as u64, how).into());
            let response = stage.get(&url);
            assert_eq!((response.status, response.end), (200, End::Length), "cut at {cut_at} by {how:?}");
            assert!(response.body == blob.bytes[..], "cut at {cut_at} by {how:?}");
            assert!(stage.registry.downloads(&blob.digest) > 1, "the fault did not happen");
        }
    }
}

#[test]
fn a_resumed_download_asks_for_the_rest_only() {
    let stage = impatient();
    let blob = Blob::random(6 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let cut_at = 5 * MIB as u64;
    stage.registry.next_blob(move |answer| answer.cut_after(cut_at, Cut::Fin).into());
    assert!(stage.get(&url).body == blob.bytes[..]);
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].range(), Some(format!("bytes={cut_at}-{}", blob.len() - 1).as_str()));
    assert_eq!(asked[1].sent, MIB as u64);
}

#[test]
fn a_download_cut_many_times_still_ends_well() {
    let stage = impatient();
    let blob = Blob::random(3 * MIB, 2);
    let url = stage.registry.put(IMAGE, &blob);
    for part in 1..=5 {
        stage.registry.next_blob(move |answer| answer.cut_after(part * 100_000, Cut::Reset).into());
    }
    let response = stage.get(&url);
    assert!(response.is_complete() && response.body == blob.bytes[..]);
}

#[test]
fn an_origin_that_sends_no_head_is_a_502_that_names_it_and_the_next_request_is_served() {
    let stage = impatient();
    let replies =
        [Reply::Cut(Cut::Finish), Reply::Cut(Cut::Reset), Reply::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())];
    for (seed, reply) in replies.into_iter().enumerate() {
        let blob = Blob::random(100_000, seed as u64);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.every_blob(move |_| reply.clone());
        let response = stage.get(&url);
        assert_eq!(response.status, 502, "reply {seed}");
        let origin = stage.registry.origin.authority();
        assert!(response.text().contains(&origin), "reply {seed}: {}", response.text());
        stage.registry.heal();
        let response = stage.get(&url);
        assert!(
            response.status == 200 && response.body == blob.bytes[..],
            "reply {seed}: {}",
            response.text()
        );
    }
}

#[test]
fn a_stalled_download_is_resumed_on_another_connection() {
    let stage = impatient();
    for stall_at in [0, 1, 300_000, 999_999] {
        let blob = Blob::random(1_000_000, stall_at);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.next_blob(move |answer| answer.stall_after(stall_at).into());
        let response = stage.get(&url);
        assert_eq!((response.status, response.end), (200, End::Length), "stalled at {stall_at}");
        assert!(response.body == blob.bytes[..], "stalled at {stall_at}");
        let asked = stage.registry.origin.asked("GET", &blob.digest);
        assert_ne!(asked[0].connection, asked[1].connection, "stalled at {stall_at}");
    }
}

#[test]
fn an_origin_that_always_stalls_does_not_hang_the_client() {
    let stage = impatient();
    let url = stage.registry.put(IMAGE, &Blob::random(1_000_000, 1));
    stage.registry.every_blob(|answer| answer.stall_after(0).into());
    let response = stage.get(&url);
    assert_ne!(response.end, End::Stalled);
    assert!(response.status >= 500 || !response.is_complete(), "{}", response.status);
}

#[test]
fn a_resume_after_a_change_never_mixes_two_contents() {
    let stage = impatient();
    let (old, new) = (Blob::random(2 * MIB, 1), Blob::random(2 * MIB, 2));
    let changed = AtomicBool::new(false);
    let (before, after) = (old.clone(), new.clone());
    let origin = Origin::https(&stage.ca, move |request| {
        let (blob, tag) =
            if changed.load(Ordering::SeqCst) { (&after, "\"new\"") } else { (&before, "\"old\"") };
        let answer = Answer::new(200).body(blob.bytes.clone()).header("ETag", tag);
        if request.method == "GET" && !changed.swap(true, Ordering::SeqCst) {
            return answer.header("Accept-Ranges", "bytes").cut_after(500_000, Cut::Fin).into();
        }
        answer.into()
    });
    let url = origin.url("/files/changing.sif");
    let response = stage.get(&url);
    if response.is_complete() {
        assert!(response.body == new.bytes[..]);
    } else {
        assert!(old.bytes.starts_with(&response.body));
    }
    let response = stage.get(&url);
    assert!(response.is_complete() && response.body == new.bytes[..]);
}

#[test]
fn a_wrong_content_range_is_not_believed() {
    let stage = impatient();
    let blob = Blob::random(2 * MIB, 3);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.cut_after(500_000, Cut::Fin).into());
    stage.registry.next_blob(|answer| {
        let shifted = format!("bytes 500001-{}/{}", 2 * MIB - 1, 2 * MIB);
        answer.replace_header("Content-Range", &shifted).into()
    });
    stage.registry.next_blob(|answer| {
        let other_total = format!("bytes 500000-{}/{}", 2 * MIB - 1, 3 * MIB);
        answer.replace_header("Content-Range", &other_total).into()
    });
    let response = stage.get(&url);
    assert!(response.is_complete(), "{:?}", response.end);
    assert!(response.body == blob.bytes[..]);
}

#[test]
fn a_200_in_answer_to_a_resume_is_cut_to_what_is_missing() {
    let stage = impatient();
    stage.registry.ignore_ranges();
    let blob = Blob::random(2 * MIB, 4);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.cut_after(700_000, Cut::Fin).into());
    let response = stage.get(&url);
    assert_eq!((response.status, response.end), (200, End::Length));
    assert!(response.body == blob.bytes[..]);
}

#[test]
fn a_200_in_answer_to_a_clients_range_still_gives_the_client_its_range() {
    let stage = impatient();
    stage.registry.ignore_ranges();
    let blob = Blob::random(2 * MIB, 5);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=1000000-1000099"));
    assert_eq!(response.status, 206);
    assert_eq!(response.header("content-range"), Some("bytes 1000000-1000099/2097152"));
    assert!(response.body == blob.bytes[1_000_000..1_000_100]);
}

#[test]
fn gzip_that_nobody_asked_for_never_passes_as_the_blob() {
    let stage = impatient();
    let blob = Blob::random(300_000, 6);
    let url = stage.registry.put(IMAGE, &blob);
    let coded = gzip(&blob.bytes);
    stage.registry.next_blob(move |answer| answer.body(coded).header("Content-Encoding", "gzip").into());
    for turn in ["cold", "warm"] {
        let response = stage.fetch(&Request::get(&url).header("Accept-Encoding", "gzip"));
        assert_eq!((response.status, response.header("content-encoding")), (200, None), "{turn}");
        assert!(response.body == blob.bytes[..], "{turn}");
    }
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    let accepted = asked[0].headers.get("accept-encoding").unwrap_or("identity");
    assert_eq!(accepted, "identity", "what is stored under a digest is asked for as it is");
}

#[test]
fn interim_answers_of_an_origin_are_passed_over() {
    let stage = impatient();
    let blob = Blob::random(200_000, 7);
    let url = stage.registry.put(IMAGE, &blob);
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(20);
    stage.registry.next_blob(move |answer| answer.preceded_by(hints).into());
    let response = stage.get(&url);
    assert_eq!(response.status, 200);
    assert!(response.body == blob.bytes[..]);
}

#[test]
fn a_body_without_length_streams_is_cached_and_can_be_ranged() {
    for framing in [Framing::Chunked, Framing::Close] {
        let stage = impatient();
        stage.registry.set_framing(framing);
        let blob = Blob::random(400_000, 8);
        let url = stage.registry.put(IMAGE, &blob);
        let cold = stage.get(&url);
        assert!(cold.is_complete() && cold.body == blob.bytes[..], "{framing:?}");
        let warm = stage.fetch(&Request::get(&url).range("bytes=-10"));
        assert_eq!(warm.status, 206, "{framing:?}");
        assert!(warm.body == blob.bytes[399_990..], "{framing:?}");
        assert_eq!(stage.registry.downloads(&blob.digest), 1, "{framing:?}");
    }
}

#[test]
fn a_body_without_length_that_breaks_off_never_ends_well() {
    for framing in [Framing::Chunked, Framing::Close] {
        let stage = impatient();
        stage.registry.set_framing(framing);
        stage.registry.ignore_ranges();
        let blob = Blob::random(400_000, 8);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.every_blob(|answer| answer.cut_after(300_000, Cut::Fin).into());
        let response = stage.get(&url);
        assert!(response.status == 502 || !response.is_complete(), "{framing:?}: {:?}", response.end);
    }
}

#[test]
fn errors_of_the_origin_reach_the_client_unchanged() {
    let stage = impatient();
    for status in [401, 403, 404, 429, 500] {
        let url = stage.registry.put(IMAGE, &Blob::random(1000, u64::from(status)));
        let expected = format!("{{\"errors\":[{{\"message\":\"because of {status}\"}}]}}").into_bytes();
        let body = expected.clone();
        stage.registry.every_blob(move |_| {
            Answer::new(status)
                .header("Content-Type", "application/json; charset=utf-8")
                .header("WWW-Authenticate", "Bearer realm=\"https://auth.test/token\"")
                .header("Retry-After", "1")
                .header("X-Request-Id", "a-name-of-this-request")
                .body(body.clone())
                .into()
        });
        let response = stage.get(&url);
        assert_eq!(response.status, status);
        assert!(response.body == expected, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"https://auth.test/token\""));
        assert_eq!(response.header("retry-after"), Some("1"));
        assert_eq!(response.header("x-request-id"), Some("a-name-of-this-request"));
    }
}

#[test]
fn an_error_of_the_origin_is_not_remembered() {
    let stage = impatient();
    let blob = Blob::random(100_000, 1);
    let url = stage.registry.blob_url(IMAGE, &blob.digest);
    assert_eq!(stage.get(&url).status, 404);
    stage.registry.put(IMAGE, &blob);
    let response = stage.get(&url);
    assert!(response.status == 200 && response.body == blob.bytes[..]);
}

#[test]
fn a_redirect_is_followed_without_the_credential_and_stored_under_the_digest() {
    let stage = impatient();
    let elsewhere = Registry::https(&stage.ca);
    let blob = Blob::random(2 * MIB, 10);
    let url = stage.registry.put(IMAGE, &blob);
    elsewhere.put(IMAGE, &blob);
    stage.registry.grant(IMAGE, "Bearer alice");
    stage.registry.redirect_blobs_to(Some(elsewhere.origin.url("")));
    let request = Request::get(&url).authorization("Bearer alice").header("Cookie", "session=alice");
    for turn in ["cold", "warm"] {
        let response = stage.fetch(&request);
        assert_eq!((response.status, response.end), (200, End::Length), "{turn}");
        assert!(response.body == blob.bytes[..], "{turn}");
    }
    let asked = elsewhere.origin.journal();
    assert_eq!(asked.len(), 1, "once, although two clients pulled: {asked:#?}");
    assert_eq!(asked[0].headers.get("authorization"), None);
    assert_eq!(asked[0].headers.get("cookie"), None);
}

#[test]
fn a_relative_redirect_keeps_the_credential() {
    let stage = impatient();
    let blob = Blob::random(100_000, 11);
    let digest = blob.digest.clone();
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| {
        if request.headers.get("authorization") != Some("Bearer alice") {
            return Answer::new(401).into();
        }
        match request.target.as_str() {
            "/storage/1" => Answer::new(200).body(bytes.clone()).into(),
            _ => Answer::new(307).header("Location", "/storage/1").into(),
        }
    });
    let url = origin.url(&format!("/v2/a/blobs/{digest}"));
    let response = stage.fetch(&Request::get(url).authorization("Bearer alice"));
    assert_eq!(response.status, 200);
    assert!(response.body == blob.bytes[..]);
}

#[test]
fn redirects_in_a_circle_end_in_a_502() {
    let stage = impatient();
    let url = stage.registry.put(IMAGE, &Blob::random(1000, 12));
    stage.registry.redirect_blobs_to(Some(stage.registry.origin.url("")));
    let response = stage.get(&url);
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains("redirect"), "{}", response.text());
}

#[test]
fn a_redirect_to_a_metadata_address_is_refused() {
    let stage = impatient();
    let url = stage.registry.put(IMAGE, &Blob::random(1000, 13));
    stage.registry.redirect_blobs_to(Some("http://169.254.169.254".to_owned()));
    let response = stage.get(&url);
    assert_eq!(response.status, 502, "{}", response.text());
    let said = response.text();
    assert!(said.contains("169.254.169.254") && said.contains("redirect"), "{said}");
}

#[test]
fn a_token_that_expires_during_a_download_ends_it_and_the_next_client_continues_it() {
    let stage = impatient();
    let blob = Blob::random(6 * MIB, 14);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.grant(IMAGE, "Bearer old");
    stage.registry.grant(IMAGE, "Bearer new");
    let cut_at = 5 * MIB as u64;
    stage.registry.next_blob(move |answer| answer.cut_after(cut_at, Cut::Fin).into());
    stage.registry.next_blob(|_| {
        Answer::new(401).header("WWW-Authenticate", "Bearer realm=\"https://a.test/\"").into()
    });
    let broken = stage.fetch(&Request::get(&url).authorization("Bearer old"));
    assert_eq!((broken.status, broken.end), (200, End::Truncated));
    assert!(blob.bytes.starts_with(&broken.body));
    stage.registry.revoke(IMAGE, "Bearer old");
    let whole = stage.fetch(&Request::get(&url).authorization("Bearer new"));
    assert!(whole.is_complete() && whole.body == blob.bytes[..]);
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    let last = asked.last().and_then(|entry| entry.range()).unwrap_or_default();
    assert!(last.starts_with(&format!("bytes={cut_at}-")), "what had come was kept: {asked:?}");
}
