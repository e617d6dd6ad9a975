//! What a client of Dragonfly's daemon 2.0.9 was answered in each case that its study lists, and what is better: a test
//! for each. Where 2.0.9 was right the test says that it is still so.

use std::sync::mpsc;
use std::thread;

use dfget_testkit::answer::Framing;
use dfget_testkit::{Answer, Blob, Cut, Gate, Origin, Registry, Request, Response, Stage, TestCa};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

/// The header fields that a registry sends with a blob, beside the one that a test adds.
const OF_BLOBS: [&str; 6] = [
    "Content-Type",
    "Docker-Content-Digest",
    "Docker-Distribution-Api-Version",
    "ETag",
    "Cache-Control",
    "Accept-Ranges",
];

fn whole(response: &Response, blob: &Blob) -> bool {
    response.status == 200 && response.is_complete() && response.body == blob.bytes[..]
}

/// The answer to a GET, within a rule, of an origin that answers everything so.
fn answered_to_task(answer: Answer) -> Response {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, move |_| answer.clone().into());
    stage.get(&origin.url(&format!("/v2/{IMAGE}/blobs/{}", Blob::random(10, 1).digest)))
}

#[test]
fn outcome_the_first_get_of_a_blob_has_its_length_the_names_of_the_task_and_the_origins_headers() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    stage.registry.add_blob_header("X-Request-Id", "17");
    let response = stage.get(&stage.registry.put(IMAGE, &blob));
    assert!(whole(&response, &blob));
    assert_eq!(response.header("content-length"), Some("1048576"));
    for name in OF_BLOBS.iter().chain(&["X-Dragonfly-Task", "X-Dragonfly-Peer", "X-Request-Id"]) {
        assert!(response.header(name).is_some(), "{name}");
    }
}

#[test]
fn outcome_a_second_get_is_from_the_store_only_after_the_origin_took_the_credential() {
    let stage = Stage::with(DFGET, |options| options.extra("storage: {multiplex: true}"));
    let blob = Blob::random(MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.grant(IMAGE, "Bearer first");
    stage.registry.grant(IMAGE, "Bearer second");
    let get = |authorization: &str| stage.fetch(&Request::get(&url).authorization(authorization));
    assert!(whole(&get("Bearer first"), &blob));
    assert!(whole(&get("Bearer second"), &blob));
    assert_eq!(stage.registry.origin.asked("HEAD", &blob.digest).len(), 1, "the second one is asked about");
    assert_eq!(get("Bearer neither").status, 401);
    assert_eq!(stage.get(&url).status, 401);
    let sent = stage.registry.origin.asked("GET", &blob.digest);
    assert_eq!(sent.iter().filter(|entry| entry.status == 200).count(), 1);
}

#[test]
fn outcome_a_second_get_is_from_the_store_without_a_word_in_the_configuration() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    for _ in ["first", "second"] {
        assert!(whole(&stage.get(&url), &blob));
    }
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn outcome_head_post_and_put_on_a_matching_url_have_the_origins_headers() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |request| {
        let body = format!("{} of {} bytes", request.method, request.body.len());
        Answer::new(201)
            .header("Location", "/there")
            .header("Set-Cookie", "a=1")
            .body(body.into_bytes())
            .into()
    });
    let url = origin.url(&format!("/v2/{IMAGE}/blobs/sha256:00"));
    for (method, text) in [("HEAD", ""), ("POST", "POST of 3 bytes"), ("PUT", "PUT of 3 bytes")] {
        let request = Request::new(method, &url);
        let request = if method == "HEAD" { request } else { request.body(*b"abc") };
        let response = stage.fetch(&request);
        assert_eq!((response.status, response.text().as_str()), (201, text), "{method}");
        assert_eq!(response.header("location"), Some("/there"), "{method}");
        assert_eq!(response.header("set-cookie"), Some("a=1"), "{method}");
        assert_eq!(response.header("x-dragonfly-task"), None, "{method}");
    }
    let blob = Blob::random(MIB, 2);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(whole(&stage.get(&url), &blob));
    let head = stage.fetch(&Request::new("HEAD", &url));
    assert_eq!((head.status, head.header("content-length")), (200, Some("1048576")));
    assert!(OF_BLOBS.iter().all(|name| head.header(name).is_some()), "{:?}", head.headers);
}

#[test]
fn outcome_what_no_rule_names_is_forwarded_with_nothing_added() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |request| match request.target.as_str() {
        "/moved" => {
            Answer::new(302).header("Location", "https://elsewhere.test/").body(*b"over there").into()
        }
        _ => Answer::new(200).header("X-Note", "kept").body(*b"here").into(),
    });
    let here = stage.get(&origin.url("/plain"));
    assert_eq!((here.status, here.text().as_str(), here.header("x-note")), (200, "here", Some("kept")));
    let moved = stage.get(&origin.url("/moved"));
    assert_eq!((moved.status, moved.text().as_str()), (302, "over there"));
    assert_eq!(moved.header("location"), Some("https://elsewhere.test/"));
    for entry in origin.journal() {
        let names: Vec<_> = entry.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert_eq!(names, ["host"], "{}", entry.target);
    }
    for response in [here, moved] {
        for name in ["via", "x-dragonfly-task", "x-dragonfly-peer", "x-cache", "age"] {
            assert_eq!(response.header(name), None, "{name}");
        }
    }
}

#[test]
fn outcome_a_host_that_is_not_hijacked_is_tunnelled() {
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'registry\\.test'}]"));
    let blob = Blob::random(1000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let direct = dfget_testkit::Client::new(stage.daemon.address(), stage.ca.client_config(&[]));
    let response = direct.fetch(&Request::get(&url)).expect("the origin's own certificate is shown");
    assert!(whole(&response, &blob));
    assert_eq!(response.header("x-dragonfly-task"), None);
}

#[test]
fn outcome_a_401_has_the_origins_challenge_and_body() {
    let stage = Stage::new(DFGET);
    let url = stage.registry.put(IMAGE, &Blob::random(1000, 1));
    stage.registry.close(IMAGE);
    let response = stage.get(&url);
    assert_eq!((response.status, response.header("content-type")), (401, Some("application/json")));
    assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer realm=")));
    assert!(response.text().contains("\"code\":\"UNAUTHORIZED\""), "{}", response.text());
}

#[test]
fn outcome_other_errors_have_the_origins_headers_and_body() {
    for status in [403, 404, 429, 500] {
        let body = format!("{{\"errors\":[{{\"code\":\"E{status}\"}}]}}");
        let answer = Answer::new(status)
            .header("Content-Type", "application/json")
            .header("Retry-After", "7")
            .header("X-Request-Id", "17")
            .reason("As It Is")
            .body(body.clone().into_bytes());
        let response = answered_to_task(answer);
        assert_eq!((response.status, response.text()), (status, body));
        assert_eq!(response.reason, "As It Is");
        assert_eq!(response.header("content-type"), Some("application/json"), "{status}");
        assert_eq!(response.header("retry-after"), Some("7"), "{status}");
        assert_eq!(response.header("x-request-id"), Some("17"), "{status}");
    }
}

#[test]
fn outcome_an_origin_that_refuses_the_connection_is_a_502_with_the_reason() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    origin.go_down();
    let told = |response: &Response, text: &str| {
        assert_eq!(response.status, 502, "{text}");
        assert!(text.contains("refused") && text.contains(&origin.authority()), "{text}");
    };
    for path in ["/v2/", "/v2/lab/image/blobs/sha256:00"] {
        let response = stage.get(&origin.url(path));
        told(&response, &response.text());
    }
    let connect = stage.client().connect(&origin.authority()).expect("an answer").expect_err("no tunnel");
    told(&connect, &connect.reason);
    told(&connect, &connect.text());
    // Gone between the CONNECT and the request.
    let registry = Registry::https(&stage.ca);
    let url = registry.put(IMAGE, &Blob::random(1000, 1));
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    registry.origin.go_down();
    let response = connection.fetch(&Request::get(&url)).expect("an answer");
    assert_eq!(response.status, 502);
    assert!(response.text().contains(&registry.origin.authority()), "{}", response.text());
}

#[test]
fn outcome_an_origin_with_a_bad_certificate_is_a_502_with_the_reason() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&TestCa::new("unknown"), |_| Answer::new(200).into());
    let refusal = stage.client().connect(&origin.authority()).expect("an answer").expect_err("no tunnel");
    assert_eq!(refusal.status, 502);
    for text in [refusal.reason.clone(), refusal.text()] {
        assert!(text.contains("certificate") && text.contains(&origin.authority()), "{text}");
    }
    assert!(origin.journal().is_empty());
}

#[test]
fn outcome_a_tunnel_to_a_dead_host_is_a_502() {
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'registry\\.test'}]"));
    let origin = Origin::plain(|_| Answer::new(200).into());
    origin.go_down();
    let refusal = stage.client().connect(&origin.authority()).expect("an answer").expect_err("no tunnel");
    assert_eq!(refusal.status, 502);
    assert!(refusal.reason.contains("refused"), "{}", refusal.reason);
}

#[test]
fn outcome_a_range_of_what_is_not_here_has_the_right_total() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(10 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=100-199"));
    assert!(response.status == 206 && response.body == blob.bytes[100..200]);
    assert_eq!(response.header("content-range"), Some("bytes 100-199/10485760"));
}

#[test]
fn outcome_a_range_of_what_is_stored_says_so() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(10 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(whole(&stage.get(&url), &blob));
    let response = stage.fetch(&Request::get(&url).range("bytes=100-199"));
    assert!(response.status == 206 && response.body == blob.bytes[100..200]);
    assert_eq!(response.header("content-range"), Some("bytes 100-199/10485760"));
    assert_eq!(response.header("x-dragonfly-range"), Some("100-199"));
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1);
}

#[test]
fn outcome_a_suffix_range_of_what_is_not_here_has_the_right_numbers() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(10 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=-50"));
    assert!(response.status == 206 && response.body == blob.bytes[10 * MIB - 50..]);
    assert_eq!(response.header("content-range"), Some("bytes 10485710-10485759/10485760"));
}

#[test]
fn outcome_a_range_that_the_origin_ignores_is_cut_out_here() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(10 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.ignore_ranges();
    let response = stage.fetch(&Request::get(&url).range("bytes=100-199"));
    assert!(response.status == 206 && response.body == blob.bytes[100..200]);
    assert_eq!(response.header("content-range"), Some("bytes 100-199/10485760"));
}

#[test]
fn outcome_two_ranges_are_the_whole_or_their_parts_and_a_malformed_one_is_none() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let ask = |range: &str| stage.fetch(&Request::get(&url).range(range));
    assert!(whole(&ask("bytes=0-9,20-29"), &blob), "nothing is stored yet");
    let parts = ask("bytes=0-9,20-29");
    assert_eq!(parts.status, 206);
    assert!(
        parts.header("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges; boundary="))
    );
    assert!(whole(&ask("bytes=9-0"), &blob) && whole(&ask("bytes=first"), &blob));
}

#[test]
fn outcome_a_redirect_is_followed_without_the_credential_and_error_pages_are_not_kept() {
    let stage = Stage::new(DFGET);
    let files = Registry::https(&stage.ca);
    let blob = Blob::random(MIB, 1);
    files.put(IMAGE, &blob);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.redirect_blobs_to(Some(files.origin.url("")));
    files.set_outage(Some(503));
    let get = || stage.fetch(&Request::get(&url).authorization("Bearer a").header("Cookie", "b=1"));
    assert_eq!(get().status, 503);
    files.set_outage(None);
    assert!(whole(&get(), &blob), "the error page is gone");
    assert!(whole(&get(), &blob));
    let asked = files.origin.asked("GET", &blob.digest);
    let sent: Vec<_> = asked.iter().filter(|entry| entry.status == 200).collect();
    assert_eq!(sent.len(), 1, "the body is stored");
    for name in ["authorization", "cookie"] {
        assert!(asked.iter().all(|entry| entry.headers.get(name).is_none()), "{name}");
    }
}

#[test]
fn outcome_a_chunked_answer_keeps_its_headers() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.set_framing(Framing::Chunked);
    for turn in ["first", "second"] {
        let response = stage.get(&url);
        assert!(whole(&response, &blob), "{turn}");
        for name in OF_BLOBS {
            assert!(response.header(name).is_some(), "{turn}: {name}");
        }
    }
}

#[test]
fn outcome_an_empty_blob_keeps_its_headers() {
    let stage = Stage::new(DFGET);
    let blob = Blob::of(Vec::new());
    let url = stage.registry.put(IMAGE, &blob);
    for turn in ["first", "second"] {
        let response = stage.get(&url);
        assert!(whole(&response, &blob), "{turn}");
        assert_eq!(response.header("content-length"), Some("0"), "{turn}");
        for name in OF_BLOBS {
            assert!(response.header(name).is_some(), "{turn}: {name}");
        }
    }
}

#[test]
fn outcome_clients_at_once_are_one_download_and_have_bytes_before_its_end() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(3 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(MIB as u64, &held).into());
    let (began, beginnings) = mpsc::channel();
    let client = stage.client();
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let (client, url, blob, began) = (client.clone(), url.clone(), blob.clone(), began.clone());
            thread::spawn(move || {
                let mut connection = client.open(&url).expect("an answer").expect("granted");
                let mut incoming = connection.start(&Request::get(&url)).expect("a head");
                assert!(incoming.head.status == 200 && incoming.read(MIB / 2) == blob.bytes[..MIB / 2]);
                began.send(()).expect("the test waits");
                let rest = incoming.read_all();
                assert!(rest.is_complete() && rest.body == blob.bytes[MIB / 2..]);
            })
        })
        .collect();
    drop(began);
    assert_eq!(beginnings.iter().take(20).count(), 20, "the gate is closed, and yet");
    gate.open();
    for reader in readers {
        reader.join().expect("each gets the whole blob");
    }
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1);
}

#[test]
fn outcome_a_download_goes_on_without_its_client_unless_told_otherwise() {
    use dfget_testkit::origin::Outcome;
    for (configuration, end) in
        [("", Outcome::Whole), ("download: {finishAbandoned: false, stallTimeout: 10m}", Outcome::PeerLeft)]
    {
        let stage = Stage::with(DFGET, |options| options.extra(configuration));
        let blob = Blob::random(6 * MIB, 1);
        let url = stage.registry.put(IMAGE, &blob);
        let gate = Gate::new();
        let held = gate.clone();
        stage.registry.next_blob(move |answer| match end {
            Outcome::Whole => answer.hold_after(MIB as u64, &held).into(),
            _ => answer.stall_after(MIB as u64).into(),
        });
        let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
        assert_eq!(connection.start(&Request::get(&url)).expect("a head").read(1000).len(), 1000);
        connection.leave().expect("a client may leave");
        gate.open();
        stage.registry.origin.wait_until("the download ends", |journal| {
            journal.iter().any(|entry| entry.is("GET", &blob.digest) && entry.outcome == Some(end))
        });
        assert!(whole(&stage.get(&url), &blob));
        let downloads = if end == Outcome::Whole { 1 } else { 2 };
        assert_eq!(stage.registry.downloads(&blob.digest), downloads, "{configuration}");
    }
}

#[test]
fn outcome_a_download_that_breaks_off_is_never_a_whole_answer() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    let url = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(5));
    stage.registry.next_blob(|answer| answer.cut_after(500_000, Cut::Reset).into());
    let response = stage.get(&url);
    assert!(response.status == 502 || !response.is_complete(), "{}", response.status);
}
