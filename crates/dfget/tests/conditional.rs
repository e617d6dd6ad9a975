//! HEAD and conditional requests for what is stored: answered from here, after the same question to the origin as for
//! a GET, as RFC 9110, sections 9.3.2 and 13, have it. For what is not stored the origin speaks for itself.

use dfget_testkit::{Blob, Request, Response, Stage, h2};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MODIFIED: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
const BEFORE: &str = "Sat, 29 Oct 1994 19:43:30 GMT";
const AFTER: &str = "Sat, 29 Oct 1994 19:43:32 GMT";

/// A stage whose registry dates its blobs, and a blob of it that is stored by now.
fn stored() -> (Stage, Blob, String, Response) {
    let stage = Stage::new(DFGET);
    stage.registry.add_blob_header("Last-Modified", MODIFIED);
    let blob = Blob::random(300_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let whole = stage.get(&url);
    assert!(whole.status == 200 && whole.body == blob.bytes[..]);
    (stage, blob, url, whole)
}

/// The header fields that tell of the content, in order.
fn described(response: &Response) -> Vec<(String, String)> {
    let ours = |name: &str| name.starts_with("x-dragonfly-") || name == "date" || name == "connection";
    let fields = response.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !ours(name)).collect();
    fields.sort();
    fields
}

#[test]
fn a_head_of_what_is_stored_is_the_head_of_the_get() {
    let (stage, blob, url, _) = stored();
    let heads = stage.registry.origin.asked("HEAD", &blob.digest).len();
    let get = stage.get(&url);
    let head = stage.fetch(&Request::new("HEAD", &url));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("300000"));
    assert_eq!(described(&head), described(&get));
    assert!(head.header("x-dragonfly-task").is_some());
    assert_eq!(
        stage.registry.origin.asked("HEAD", &blob.digest).len(),
        heads,
        "the origin accepted this client a moment ago"
    );
    let over_h2 = h2::fetch_all(&stage.client(), &[Request::new("HEAD", &url)]).expect("the proxy speaks h2");
    let over_h2 = over_h2[0].as_ref().expect("a head comes");
    assert_eq!((over_h2.status, over_h2.header("content-length")), (200, Some("300000")));
    assert!(over_h2.is_complete() && over_h2.body.is_empty());
}

#[test]
fn a_head_leaves_the_connection_good_for_the_next_request() {
    let (stage, blob, url, _) = stored();
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    for method in ["HEAD", "GET", "HEAD", "GET"] {
        let response = connection.fetch(&Request::new(method, &url)).expect("an answer");
        let expected = if method == "GET" { &blob.bytes[..] } else { &[] };
        assert!(response.status == 200 && response.body == expected, "{method}");
    }
}

#[test]
fn a_range_means_nothing_to_a_head() {
    let (stage, _, url, _) = stored();
    for range in ["bytes=0-9", "bytes=0-1,5-6", "bytes=999999999-"] {
        let head = stage.fetch(&Request::new("HEAD", &url).range(range));
        assert_eq!((head.status, head.header("content-length")), (200, Some("300000")), "{range}");
        assert_eq!(head.header("content-range"), None, "{range}");
    }
}

#[test]
fn a_head_opens_no_stored_content_to_whom_the_origin_refuses_it() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 2);
    let url = stage.registry.put("secret/image", &blob);
    stage.registry.grant("secret/image", "Bearer a");
    assert_eq!(stage.fetch(&Request::get(&url).authorization("Bearer a")).status, 200);
    let head = |authorization: &str| stage.fetch(&Request::new("HEAD", &url).authorization(authorization));
    assert_eq!(head("Bearer a").status, 200);
    let refused = head("Bearer b");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some(), "the origin's own answer");
    let conditional = Request::get(&url).header("If-None-Match", format!("\"{}\"", blob.digest));
    assert_eq!(
        stage.fetch(&conditional.clone().authorization("Bearer b")).status,
        401,
        "no 304 tells of it either"
    );
    assert_eq!(stage.fetch(&conditional.authorization("Bearer a")).status, 304);
    stage.registry.grant("secret/image", "Bearer b");
    assert_eq!(head("Bearer b").status, 200);
}

#[test]
fn a_head_starts_no_download() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 3);
    let url = stage.registry.put(IMAGE, &blob);
    let head = stage.fetch(&Request::new("HEAD", &url));
    assert_eq!((head.status, head.header("content-length")), (200, Some("100000")));
    assert_eq!(stage.registry.origin.asked("HEAD", &blob.digest).len(), 1);
    assert_eq!(stage.registry.downloads(&blob.digest), 0);
    assert!(stage.daemon.done_lines().is_empty());
    let missing = stage.fetch(&Request::new("HEAD", stage.registry.blob_url(IMAGE, "sha256:00")));
    assert_eq!((missing.status, missing.body.len()), (404, 0));
}

#[test]
fn a_head_is_answered_while_the_origin_is_down() {
    let (stage, _, url, _) = stored();
    stage.registry.origin.go_down();
    let head = stage.fetch(&Request::new("HEAD", &url));
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")));
}

#[test]
fn a_head_of_a_file_without_a_digest_is_of_what_is_there_now() {
    let stage = Stage::new(DFGET);
    let version = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let now = std::sync::Arc::clone(&version);
    let origin = dfget_testkit::Origin::https(&stage.ca, move |request| {
        let version = now.load(std::sync::atomic::Ordering::SeqCst);
        let etag = format!("\"{version}\"");
        if request.headers.get("if-none-match") == Some(&etag) {
            return dfget_testkit::Answer::new(304).header("ETag", etag).into();
        }
        dfget_testkit::Answer::new(200).header("ETag", etag).body(vec![0; 1000 * version]).into()
    });
    let url = origin.url("/files/a.sif");
    assert_eq!(stage.get(&url).body.len(), 1000);
    let head = || stage.fetch(&Request::new("HEAD", &url));
    assert_eq!(head().header("content-length"), Some("1000"));
    version.store(2, std::sync::atomic::Ordering::SeqCst);
    assert_eq!((head().status, head().header("content-length")), (200, Some("2000")));
    assert_eq!(stage.get(&url).body.len(), 2000);
}

/// Request fields, then the status.
type Case = (&'static [(&'static str, &'static str)], u16);

#[test]
fn conditions_are_judged_here_for_what_is_stored() {
    let (stage, blob, url, whole) = stored();
    let etag = whole.header("etag").expect("the registry sends one").to_owned();
    let asked = stage.registry.origin.journal().len();
    let cases: [Case; 15] = [
        (&[("If-None-Match", "ETAG")], 304),
        (&[("If-None-Match", "W/ETAG")], 304),
        (&[("If-None-Match", "\"x\", ETAG")], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"x\"")], 200),
        (&[("If-Modified-Since", MODIFIED)], 304),
        (&[("If-Modified-Since", BEFORE)], 200),
        (&[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)], 200),
        (&[("If-Match", "ETAG")], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", "W/ETAG")], 412),
        (&[("If-Match", "\"x\"")], 412),
        (&[("If-Unmodified-Since", BEFORE)], 412),
        (&[("If-Unmodified-Since", MODIFIED)], 200),
        (&[("If-Match", "ETAG"), ("If-Unmodified-Since", BEFORE), ("If-None-Match", "ETAG")], 304),
    ];
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    for (conditions, status) in cases {
        for method in ["GET", "HEAD"] {
            let request = conditions.iter().fold(Request::new(method, &url), |request, (name, value)| {
                request.header(name, value.replace("ETAG", &etag))
            });
            let response = connection.fetch(&request).expect("an answer");
            assert_eq!(response.status, status, "{method} {conditions:?}");
            assert!(response.is_complete(), "{method} {conditions:?}");
            match (status, method) {
                (200, "GET") => assert!(response.body == blob.bytes[..], "{conditions:?}"),
                (304, _) => {
                    assert_eq!(response.header("etag"), Some(etag.as_str()), "{conditions:?}");
                    assert_eq!(response.header("cache-control"), Some("max-age=31536000"), "{conditions:?}");
                    assert!(response.header("date").is_some(), "{conditions:?}");
                    for name in ["content-type", "content-length", "last-modified", "transfer-encoding"] {
                        assert_eq!(response.header(name), None, "{name} {conditions:?}");
                    }
                }
                (412, "GET") => {
                    assert_eq!(response.header("etag"), Some(etag.as_str()), "{conditions:?}");
                    assert!(response.text().contains("without the condition"), "{}", response.text());
                }
                _ => {}
            }
        }
    }
    assert_eq!(stage.registry.origin.journal().len(), asked, "the origin was asked nothing");
}

#[test]
fn a_condition_comes_before_a_range() {
    let (stage, blob, url, whole) = stored();
    let etag = whole.header("etag").expect("the registry sends one").to_owned();
    let ask =
        |name: &str, value: &str| stage.fetch(&Request::get(&url).range("bytes=5-9").header(name, value));
    assert_eq!(ask("If-None-Match", &etag).status, 304);
    assert_eq!(ask("If-Match", "\"x\"").status, 412);
    for (name, value) in
        [("If-Match", etag.as_str()), ("If-None-Match", "\"x\""), ("If-Range", &etag), ("If-Range", MODIFIED)]
    {
        let part = ask(name, value);
        assert!(part.status == 206 && part.body == blob.bytes[5..10], "{name}: {value}");
    }
    for value in [BEFORE, AFTER, &format!("W/{etag}"), "\"x\"", "never"] {
        let all = ask("If-Range", value);
        assert!(all.status == 200 && all.body == blob.bytes[..], "If-Range: {value}");
    }
}

#[test]
fn conditions_on_what_is_not_stored_are_the_origins_to_judge() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 4);
    let url = stage.registry.put(IMAGE, &blob);
    let etag = format!("\"{}\"", blob.digest);
    for _ in 0..2 {
        let response = stage.fetch(&Request::get(&url).header("If-None-Match", &etag));
        assert_eq!((response.status, response.body.len()), (304, 0));
    }
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    assert!(asked.len() == 2 && asked.iter().all(|entry| entry.headers.get("if-none-match") == Some(&etag)));
    let response = stage.fetch(&Request::get(&url).header("If-None-Match", "\"x\""));
    assert!(response.status == 200 && response.body == blob.bytes[..]);
}

#[test]
fn the_question_about_a_right_carries_no_condition() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 0s}"));
    let blob = Blob::random(100_000, 5);
    let url = stage.registry.put(IMAGE, &blob);
    let etag = stage.get(&url).header("etag").expect("the registry sends one").to_owned();
    for method in ["GET", "HEAD"] {
        let response = stage.fetch(&Request::new(method, &url).header("If-None-Match", &etag));
        assert_eq!(response.status, 304, "{method}");
    }
    let asked = stage.registry.origin.asked("HEAD", &blob.digest);
    assert_eq!(asked.len(), 2, "each time");
    assert!(asked.iter().all(|entry| entry.headers.get("if-none-match").is_none()));
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}
