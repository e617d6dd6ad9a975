//! What tells contents and clients apart: a content is what its URL and its origin say it is, a client is whatever in
//! its request may say who asks. Nothing that a client chooses makes one of them pass for another.

use std::sync::Arc;

use dfget_testkit::origin::Received;
use dfget_testkit::{Answer, Blob, Gate, Origin, Registry, Reply, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const ALICE: &str = "Bearer alice";
const OLDER: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
const NEWER: &str = "Tue, 02 Jan 2024 00:00:00 GMT";
const CANARY: &str = "canary-password";

/// A stage where what was allowed is remembered, so that a wrong yes would be seen.
fn remembering_stage() -> Stage {
    Stage::with(DFGET, |options| options.extra("verbose: true\naccess: {ttl: 10m}"))
}

/// What an origin answers that has `bytes` under this validator: 304 to a condition that they meet.
fn validated(request: &Received, bytes: &Arc<[u8]>, name: &str, value: &str) -> Answer {
    let unchanged = match name {
        "ETag" => request.headers.get("if-none-match") == Some(value),
        // These dates are in the order of their text.
        _ => request.headers.get("if-modified-since").is_some_and(|since| since >= value),
    };
    let answer = if unchanged { Answer::new(304) } else { Answer::new(200).body(Arc::clone(bytes)) };
    answer.header(name, value)
}

/// How many answers were sent with their whole body of `len` bytes.
fn downloads(origin: &Origin, part: &str, len: usize) -> usize {
    origin.asked("GET", part).iter().filter(|entry| entry.sent == len as u64).count()
}

fn assert_served(response: &Response, bytes: &[u8], who: &str) {
    assert_eq!(response.status, 200, "{who}: {}", response.text());
    assert!(response.is_complete() && response.body == bytes, "{who}");
}

fn with_cookie(url: &str, name: &str) -> Request {
    Request::get(url).header("Cookie", format!("session={name}"))
}

#[test]
fn a_url_aimed_at_the_task_id_of_a_private_file_gets_only_what_is_its_own() {
    for validator in ["Last-Modified", "ETag"] {
        let stage = remembering_stage();
        let (private, public) = (Blob::random(100_000, 1), Blob::random(100_000, 2));
        let (secret, open) = (private.bytes.clone(), public.bytes.clone());
        let origin = Origin::https(&stage.ca, move |request| {
            let is_secret = request.target.starts_with("/files/private/");
            if is_secret && request.headers.get("authorization") != Some(ALICE) {
                return Answer::new(401).into();
            }
            let (bytes, date) = if is_secret { (&secret, NEWER) } else { (&open, OLDER) };
            // An entity tag tells versions of one URL apart, not one URL from another.
            let value = if validator == "ETag" { "\"1\"" } else { date };
            validated(request, bytes, validator, value).into()
        });
        let alice = Request::get(origin.url("/files/private/a.sif")).authorization(ALICE);
        let eve = Request::get(origin.url("/files/?x=.sif"))
            .header("X-Dragonfly-Filter", "x")
            .header("X-Dragonfly-Tag", "private/a.sif");
        let hers = stage.fetch(&alice);
        assert_served(&hers, &private.bytes, validator);
        for _ in 0..2 {
            let aimed = stage.fetch(&eve);
            let id = aimed.header("x-dragonfly-task");
            assert_eq!(id, hers.header("x-dragonfly-task"), "the recipe of task ids cannot tell them apart");
            assert_served(&aimed, &public.bytes, validator);
        }
        assert_served(&stage.fetch(&alice), &private.bytes, validator);
        assert_eq!(downloads(&origin, "/files/private/", 100_000), 1, "{validator}: Alice's copy was kept");
    }
}

/// A registry that sends whoever is not Alice to a login page, by HEAD and GET alike.
fn registry_with_login(stage: &Stage, blob: &Blob) -> Origin {
    let bytes = blob.bytes.clone();
    Origin::https(&stage.ca, move |request| {
        let answer = match (request.target.as_str(), request.headers.get("authorization")) {
            ("/login", _) => Answer::new(200).header("Content-Type", "text/html").body(vec![b'<'; 300]),
            (_, Some(ALICE)) => Answer::new(200).body(bytes.clone()),
            _ => Answer::new(302).header("Location", "/login"),
        };
        answer.into()
    })
}

#[test]
fn who_is_sent_to_a_login_page_gets_no_byte_of_the_blob() {
    for ttl in ["0s", "10m"] {
        for order in [["", ALICE, "", ALICE], [ALICE, "", ALICE, ""]] {
            let stage = Stage::with(DFGET, |options| options.extra(&format!("access: {{ttl: {ttl}}}")));
            let blob = Blob::random(200_000, 3);
            let registry = registry_with_login(&stage, &blob);
            let url = registry.url(&format!("/v2/{IMAGE}/blobs/{}", blob.digest));
            let check = |who: &str, moment: &str| match who {
                "" => {
                    let response = stage.get(&url);
                    assert!(response.status >= 500, "ttl {ttl}, {moment}: {}", response.status);
                }
                who => {
                    assert_served(&stage.fetch(&Request::get(&url).authorization(who)), &blob.bytes, moment);
                }
            };
            for who in order {
                check(who, "while the registry answers");
            }
            assert_eq!(downloads(&registry, "/blobs/", 200_000), 1, "ttl {ttl}: Alice's copy was kept");
            registry.go_down();
            for who in ["", ALICE, ""] {
                check(who, "while the registry is down");
            }
        }
    }
}

#[test]
fn a_yes_for_a_login_page_opens_nothing_once_the_blob_is_there() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 10m}"));
    let blob = Blob::random(200_000, 4);
    let registry = registry_with_login(&stage, &blob);
    let url = registry.url(&format!("/v2/{IMAGE}/blobs/{}", blob.digest));
    // Each of these is a credential of its own, and joins what the others began.
    let mallory = |number: usize| Request::get(&url).header("x-n", number.to_string());
    let all = || {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8)
                .map(|number| {
                    scope.spawn({
                        let (stage, request) = (&stage, mallory(number));
                        move || stage.fetch(&request).status
                    })
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().expect("an answer")).collect::<Vec<_>>()
        })
    };
    let refused = |statuses: Vec<u16>| assert!(statuses.iter().all(|&status| status >= 500), "{statuses:?}");
    refused(all());
    for number in 0..8 {
        let part = stage.fetch(&mallory(number).range("bytes=0-0"));
        let refused = part.status >= 500;
        assert!(refused || part.body.len() <= 1, "a byte of the login page at most: {part:?}");
    }
    assert_served(&stage.fetch(&Request::get(&url).authorization(ALICE)), &blob.bytes, "Alice");
    refused(all());
    registry.go_down();
    refused(all());
}

#[test]
fn a_credential_counts_wherever_it_stands() {
    let stage = remembering_stage();
    for (seed, place) in (10..).zip(["query", "PRIVATE-TOKEN", "X-JFrog-Art-Api"]) {
        let blob = Blob::random(100_000, seed);
        let bytes = blob.bytes.clone();
        let origin = Origin::https(&stage.ca, move |request| {
            let shown = match place {
                "query" => request.target.split_once("?token=").map(|(_, token)| token),
                header => request.headers.get(header),
            };
            match shown {
                Some("alice") => Answer::new(200).body(bytes.clone()).into(),
                _ => Answer::new(403).body(b"who are you?".to_vec()).into(),
            }
        });
        let url = origin.url(&format!("/v2/{IMAGE}/blobs/{}", blob.digest));
        let fetch = |token: &str| {
            let request = match place {
                _ if token.is_empty() => Request::get(&url),
                "query" => Request::get(format!("{url}?token={token}")),
                header => Request::get(&url).header(header, token),
            };
            stage.fetch(&request)
        };
        assert_served(&fetch("alice"), &blob.bytes, place);
        for token in ["", "eve", "alic", "alice2"] {
            let refused = fetch(token);
            assert_eq!(
                (refused.status, refused.text().as_str()),
                (403, "who are you?"),
                "{place}: {token:?}"
            );
        }
        assert_served(&fetch("alice"), &blob.bytes, place);
        assert_eq!(downloads(&origin, "/blobs/", 100_000), 1, "{place}");
    }
}

/// An origin that gives Alice and Bob, told by their cookies, each a file of their own under one URL, Alice's the newer.
fn personal_origin(stage: &Stage, answer: impl Fn(Answer) -> Reply + Send + Sync + 'static) -> Origin {
    Origin::https(&stage.ca, move |request| match request.headers.get("cookie") {
        Some("session=alice") => {
            answer(validated(request, &Blob::random(100_000, 21).bytes, "Last-Modified", NEWER))
        }
        Some("session=bob") => {
            validated(request, &Blob::random(100_000, 22).bytes, "Last-Modified", OLDER).into()
        }
        _ => Answer::new(401).into(),
    })
}

#[test]
fn a_copy_that_only_a_date_tells_from_another_is_for_its_owner_alone() {
    let stage = remembering_stage();
    let origin = personal_origin(&stage, Into::into);
    let url = origin.url("/files/mine.sif");
    for (name, seed) in [("alice", 21), ("bob", 22), ("alice", 21), ("bob", 22)] {
        let own = Blob::random(100_000, seed);
        assert_served(&stage.fetch(&with_cookie(&url, name)), &own.bytes, name);
    }
    assert_eq!(stage.get(&url).status, 401);
    assert_eq!(downloads(&origin, "/files/mine.sif", 100_000), 3, "Alice's is kept, Bob's is not");
}

#[test]
fn a_download_that_only_a_date_tells_from_another_is_not_joined() {
    let stage = remembering_stage();
    let gate = Gate::new();
    let held = gate.clone();
    let origin = personal_origin(&stage, move |answer| answer.hold_after(50_000, &held).into());
    let url = origin.url("/files/mine.sif");
    let mut alice = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = alice.start(&with_cookie(&url, "alice")).expect("a head");
    assert!(incoming.read(1000) == Blob::random(100_000, 21).bytes[..1000], "hers is under way");
    assert_served(&stage.fetch(&with_cookie(&url, "bob")), &Blob::random(100_000, 22).bytes, "bob");
    gate.open();
    assert!(incoming.read_all().is_complete());
}

#[test]
fn a_copy_under_a_strong_entity_tag_is_shared_by_all_whom_the_origin_lets() {
    let stage = remembering_stage();
    let file = Blob::random(100_000, 30);
    let bytes = file.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| match request.headers.get("cookie") {
        Some("session=alice" | "session=bob") => validated(request, &bytes, "ETag", "\"30\"").into(),
        _ => Answer::new(401).into(),
    });
    let url = origin.url("/files/shared.sif");
    for name in ["alice", "bob", "alice"] {
        assert_served(&stage.fetch(&with_cookie(&url, name)), &file.bytes, name);
    }
    assert_eq!(stage.fetch(&with_cookie(&url, "eve")).status, 401);
    assert_eq!(downloads(&origin, "/files/shared.sif", 100_000), 1);
}

#[test]
fn what_an_origin_calls_one_clients_own_is_not_kept() {
    let stage = remembering_stage();
    for (name, value) in [
        ("Cache-Control", "private, max-age=60"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding, Cookie"),
    ] {
        let origin = Origin::https(&stage.ca, move |request| {
            let seed = if request.headers.get("cookie") == Some("session=alice") { 31 } else { 32 };
            // The same tag for both: what is kept would be handed to the other.
            let answer = validated(request, &Blob::random(100_000, seed).bytes, "ETag", "\"1\"");
            answer.header(name, value).into()
        });
        let url = origin.url("/files/own.sif");
        for (who, seed) in [("alice", 31), ("alice", 31), ("bob", 32), ("alice", 31)] {
            let own = Blob::random(100_000, seed);
            assert_served(&stage.fetch(&with_cookie(&url, who)), &own.bytes, &format!("{name}: {value}"));
        }
        assert_eq!(downloads(&origin, "/files/own.sif", 100_000), 4, "{name}: {value}");
    }
}

#[test]
fn a_manifest_that_is_a_blob_too_is_described_as_what_it_was_asked_for() {
    let stage = Stage::new(DFGET);
    for (seed, blob_first) in [(40, true), (41, false)] {
        let manifest = Blob::of(format!("{{\"schemaVersion\":2,\"seed\":{seed}}}").into_bytes());
        let mut kinds = [
            (stage.registry.put(IMAGE, &manifest), "application/octet-stream"),
            (
                stage.registry.put_manifest(IMAGE, &manifest.digest, &manifest.bytes),
                "application/vnd.oci.image.manifest.v1+json",
            ),
        ];
        if !blob_first {
            kinds.reverse();
        }
        for turn in ["cold", "warm"] {
            for (url, content_type) in &kinds {
                let response = stage.get(url);
                assert_served(&response, &manifest.bytes, turn);
                assert_eq!(response.header("content-type"), Some(*content_type), "{turn}: {url}");
            }
        }
    }
}

#[test]
fn a_range_that_is_all_of_a_content_is_held_to_its_digest() {
    for len in [7000, 200_000] {
        for stored in [true, false] {
            let blob = Blob::random(len, 50);
            let last = format!("bytes=0-{}", len - 1);
            for range in ["bytes=0-", &last] {
                let stage = Stage::new(DFGET);
                if stored {
                    assert_served(
                        &stage.get(&stage.registry.put(IMAGE, &blob)),
                        &blob.bytes,
                        "the right one",
                    );
                }
                let impostor = Registry::https(&stage.ca);
                let wrong = Blob::random(len, 51).bytes;
                let url = impostor.put_as("evil/image", &blob.digest, &wrong);
                // The wrong body may be known for wrong before its head is on the way; then the connection just ends.
                if let Ok(response) = stage.client().fetch(&Request::get(&url).range(range)) {
                    assert!(
                        response.status == 502 || (response.status == 206 && !response.is_complete()),
                        "{range}, stored: {stored}: {} {:?}",
                        response.status,
                        response.end
                    );
                    assert!(response.status == 502 || wrong.starts_with(&response.body), "{range}");
                }
                assert!(!impostor.origin.asked("GET", &blob.digest).is_empty(), "it was asked at all");
            }
        }
    }
}

#[test]
fn a_range_that_begins_a_download_is_a_line_in_the_log_under_its_own_name() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(400_000, 60);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=1000-1999"));
    assert_eq!(response.status, 206, "{}", response.text());
    assert!(response.body == blob.bytes[1000..2000]);
    stage.daemon.wait_for_log("peer task done, cost: ");
    let lines = stage.daemon.done_lines();
    let peer = response.header("x-dragonfly-peer").expect("every answer of a task names its peer");
    assert!(lines.len() == 1 && lines[0].contains(peer), "{peer}: {lines:?}");
}

#[test]
fn no_credential_follows_a_redirect_to_another_host() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 0s}"));
    let elsewhere = Registry::https(&stage.ca);
    let blob = Blob::random(200_000, 70);
    let url = stage.registry.put(IMAGE, &blob);
    elsewhere.put(IMAGE, &blob);
    stage.registry.redirect_blobs_to(Some(elsewhere.origin.url("")));
    let request = Request::get(&url)
        .authorization(ALICE)
        .header("Cookie", "session=alice")
        .header("PRIVATE-TOKEN", "alice")
        .header("User-Agent", "a client");
    for turn in ["cold", "warm"] {
        assert_served(&stage.fetch(&request), &blob.bytes, turn);
    }
    assert_eq!(
        stage.registry.origin.asked("GET", &blob.digest)[0].headers.get("private-token"),
        Some("alice")
    );
    let asked = elsewhere.origin.journal();
    assert!(asked.len() >= 2, "the download and the check: {asked:?}");
    for entry in asked {
        for name in ["authorization", "cookie", "private-token"] {
            assert_eq!(entry.headers.get(name), None, "{name} in {entry:?}");
        }
        assert_eq!(entry.headers.get("user-agent"), Some("a client"), "what names nobody goes along");
    }
}

#[test]
fn a_login_in_the_url_of_a_request_is_refused_and_not_repeated() {
    let mut stage = remembering_stage();
    let origin = Origin::plain(|_| Answer::new(200).into());
    let authority = origin.authority();
    for login in [format!("user:{CANARY}"), CANARY.to_owned(), format!(":{CANARY}")] {
        for path in ["/files/a.sif", "/no/rule"] {
            let request = format!("GET http://{login}@{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n");
            let answer = stage.client().ask_raw(&format!("{request}Connection: close\r\n\r\n"));
            let answer = String::from_utf8(answer.expect("an answer")).expect("text");
            assert!(answer.starts_with("HTTP/1.1 400 "), "{login}: {answer}");
            assert!(answer.contains("send them as a header instead"), "the remedy is told: {answer}");
            assert!(!answer.contains(CANARY), "{answer}");
        }
    }
    assert!(origin.journal().is_empty());
    assert!(stage.daemon.stop().success());
    assert!(!stage.daemon.everything_said().contains(CANARY), "{}", stage.daemon.everything_said());
}

#[test]
fn a_login_in_a_redirect_is_neither_used_nor_repeated() {
    let mut stage = remembering_stage();
    let file = Blob::random(100_000, 80);
    let bytes = file.bytes.clone();
    let elsewhere =
        Origin::https(&stage.ca, move |request| validated(request, &bytes, "ETag", "\"80\"").into());
    let dead = Origin::https(&stage.ca, |_| Answer::new(200).into());
    dead.go_down();
    let (good, lost) = (elsewhere.authority(), dead.authority());
    let origin = Origin::https(&stage.ca, move |request| {
        let own = request.headers.get("host").unwrap_or_default();
        let (scheme, host) = match request.target.as_str() {
            "/files/good.sif" => ("https", good.as_str()),
            "/files/lost.sif" => ("https", lost.as_str()),
            "/files/loop.sif" => ("https", own),
            "/files/plain.sif" => ("http", good.as_str()),
            _ => ("ftp", own),
        };
        let location = format!("{scheme}://key:{CANARY}@{host}{}", request.target);
        Answer::new(307).header("Location", location).into()
    });
    assert_served(&stage.get(&origin.url("/files/good.sif")), &file.bytes, "a login is no hindrance");
    for entry in elsewhere.journal() {
        assert_eq!(entry.headers.get("authorization"), None, "{entry:?}");
    }
    for path in ["/files/lost.sif", "/files/loop.sif", "/files/plain.sif", "/files/other.sif"] {
        let response = stage.get(&origin.url(path));
        assert!(response.status >= 500, "{path}: {}", response.status);
        assert!(!response.text().contains(CANARY), "{path}: {}", response.text());
        assert!(!response.reason.contains(CANARY), "{path}: {}", response.reason);
    }
    assert!(stage.daemon.stop().success());
    assert!(!stage.daemon.everything_said().contains(CANARY), "{}", stage.daemon.everything_said());
}
