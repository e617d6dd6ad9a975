//! What clients ask of the daemon by `X-Dragonfly-*` headers, and what they are told by them (`docs/headers.md`).
//! None of them reaches an origin, opens what is stored, or makes another client's request mean something else.

use std::sync::Arc;

use dfget_testkit::origin::{Entry, Received};
use dfget_testkit::{Answer, Blob, Origin, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const LEN: usize = 300_000;
const SETTLED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// An origin that gives each of `files` under its path, with a validator.
fn files(stage: &Stage, files: Vec<(&'static str, Blob)>) -> Origin {
    Origin::https(&stage.ca, move |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        match files.iter().find(|(name, _)| *name == path) {
            Some((_, blob)) => tagged(request, blob).into(),
            None => Answer::new(404).body(b"no such file".to_vec()).into(),
        }
    })
}

fn tagged(request: &Received, blob: &Blob) -> Answer {
    let tag = format!("\"{}\"", blob.digest);
    if request.headers.get("if-none-match") == Some(&tag) {
        return Answer::new(304).header("ETag", tag);
    }
    Answer::new(200).header("ETag", tag).body(Arc::clone(&blob.bytes))
}

/// Whole bodies that the origin has sent of what `part` names.
fn downloads(origin: &Origin, part: &str) -> usize {
    origin.asked("GET", part).iter().filter(|entry| entry.status == 200).count()
}

fn assert_served(response: &Response, blob: &Blob, who: &str) {
    assert_eq!(response.status, 200, "{who}: {}", response.text());
    assert!(response.is_complete() && response.body == blob.bytes[..], "{who}");
}

fn assert_refused(response: &Response, words: &str) {
    assert_eq!(response.status, 400, "{}", response.text());
    assert!(response.text().contains(words), "{}", response.text());
    assert_eq!(response.header("x-dragonfly-error-type"), Some("proxy"));
}

#[test]
fn no_header_of_ours_reaches_an_origin() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 1);
    let origin = files(&stage, vec![("/files/a.sif", blob.clone()), ("/other/a.sif", blob.clone())]);
    for path in ["/files/a.sif", "/other/a.sif"] {
        let request = Request::get(origin.url(path))
            .header("X-Dragonfly-Tag", "t")
            .header("X-Dragonfly-Application", "app")
            .header("X-Dragonfly-Priority", "3")
            .header("X-Dragonfly-Filter", "x")
            .header("X-Dragonfly-Filtered-Query-Params", "x,y")
            .header("X-Dragonfly-Prefetch", "true")
            .header("X-Dragonfly-Piece-Length", "8mib")
            .header("X-Dragonfly-Registry", "https://elsewhere.test")
            .header("X-Dragonfly-Unheard-Of", "1");
        assert_served(&stage.fetch(&request), &blob, path);
    }
    for entry in origin.journal() {
        let ours =
            entry.headers.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-dragonfly"));
        assert_eq!(ours, None, "{}", entry.target);
    }
}

#[test]
fn a_client_may_make_a_get_a_task_that_no_rule_makes_one() {
    let stage =
        Stage::with(DFGET, |options| options.rules("[{regx: '/never/'}, {regx: '/direct/', direct: true}]"));
    let blob = Blob::random(LEN, 2);
    let origin = files(&stage, vec![("/data/a.sif", blob.clone()), ("/direct/a.sif", blob.clone())]);
    let wish = |path: &str| Request::get(origin.url(path)).header("X-Dragonfly-Use-P2P", "true");
    let plain = stage.get(&origin.url("/data/a.sif"));
    assert_eq!(plain.header("x-dragonfly-task"), None, "without the header it is forwarded");
    for turn in ["cold", "warm"] {
        assert_served(&stage.fetch(&wish("/data/a.sif")), &blob, turn);
    }
    assert_eq!(downloads(&origin, "/data/a.sif"), 2, "one forwarded, one for the task");
    let declined =
        stage.fetch(&Request::get(origin.url("/data/a.sif")).header("X-Dragonfly-Use-P2P", "false"));
    assert_eq!(declined.header("x-dragonfly-task"), None);
    let direct = stage.fetch(&wish("/direct/a.sif"));
    assert_served(&direct, &blob, "direct");
    assert_eq!(direct.header("x-dragonfly-task"), None, "the site's `direct` stands above the client's wish");
    let head = Request::new("HEAD", origin.url("/data/a.sif")).header("X-Dragonfly-Use-P2P", "true");
    assert_eq!(stage.fetch(&head).header("x-dragonfly-task"), None, "only a GET becomes a task");
}

#[test]
fn a_content_that_has_not_the_digest_which_its_client_names_does_not_end_well() {
    let stage = Stage::new(DFGET);
    let (right, wrong) = (Blob::random(LEN, 3), Blob::random(LEN, 4));
    let origin = files(&stage, vec![("/files/a.sif", right.clone()), ("/other/a.sif", right.clone())]);
    // A task and, where no rule matches, an answer for this client alone: both are verified.
    for path in ["/files/a.sif", "/other/a.sif"] {
        let named = |digest: &str| Request::get(origin.url(path)).header("X-Dragonfly-Digest", digest);
        let refused = stage.fetch(&named(&wrong.digest));
        assert!(!(refused.status == 200 && refused.is_complete()), "{path}: {}", refused.status);
        for turn in ["cold", "warm"] {
            assert_served(&stage.fetch(&named(&right.digest)), &right, turn);
        }
        assert_served(&stage.get(&origin.url(path)), &right, "nobody else is hurt by it");
    }
}

#[test]
fn the_digest_of_a_stored_content_opens_nothing() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 10m}"));
    let secret = Blob::random(LEN, 5);
    let url = stage.registry.put(IMAGE, &secret);
    stage.registry.close(IMAGE);
    stage.registry.grant(IMAGE, "Bearer alice");
    assert_served(&stage.fetch(&Request::get(&url).authorization("Bearer alice")), &secret, "Alice");
    // Eve has a server of her own that says yes to everything, and knows the digest.
    let hers = Blob::random(LEN, 6);
    let bytes = hers.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| match request.headers.get("if-none-match") {
        Some(_) => Answer::new(304).into(),
        None => Answer::new(200).header("ETag", "\"1\"").body(Arc::clone(&bytes)).into(),
    });
    for path in ["/files/eve.sif", "/files/other.sif"] {
        let request = Request::get(origin.url(path))
            .header("X-Dragonfly-Digest", secret.digest.clone())
            .header("X-Dragonfly-Content-For-Calculating-Task-ID", "x");
        for turn in ["first", "second"] {
            let got = stage.fetch(&request);
            assert!(!(got.status == 200 && got.is_complete()), "{turn}: {}", got.status);
            assert!(
                !got.body.windows(64).any(|window| window == &secret.bytes[..64]),
                "{turn}: a byte of Alice's"
            );
        }
    }
    // Nor does the header open the blob's own URL.
    let mine = stage.fetch(&Request::get(&url).header("X-Dragonfly-Digest", secret.digest.clone()));
    assert_eq!(mine.status, 401);
}

#[test]
fn what_is_one_clients_own_stays_its_own_whatever_digest_another_names() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 10m}"));
    let (hers, his) = (Blob::random(LEN, 7), Blob::random(LEN, 8));
    let (alices, bobs) = (hers.bytes.clone(), his.bytes.clone());
    // One URL, a content for each user, and a validator that cannot tell them apart.
    let origin = Origin::https(&stage.ca, move |request| {
        if request.headers.get("if-modified-since").is_some() {
            return Answer::new(304).header("Last-Modified", SETTLED).into();
        }
        let mine = if request.headers.get("authorization") == Some("Bearer alice") { &alices } else { &bobs };
        Answer::new(200).header("Last-Modified", SETTLED).body(Arc::clone(mine)).into()
    });
    let named = |who: &str| {
        let request = Request::get(origin.url("/files/mine.sif")).authorization(who);
        stage.fetch(&request.header("X-Dragonfly-Digest", hers.digest.clone()))
    };
    for turn in ["cold", "warm"] {
        assert_served(&named("Bearer alice"), &hers, turn);
        let his = named("Bearer bob");
        assert!(!(his.status == 200 && his.is_complete()), "{turn}: {}", his.status);
        assert!(!his.body.windows(64).any(|window| window == &hers.bytes[..64]), "{turn}: a byte of Alice's");
    }
    let alices =
        |entry: &&Entry| entry.headers.get("authorization") == Some("Bearer alice") && entry.status == 200;
    assert_eq!(
        origin.asked("GET", "/files/mine.sif").iter().filter(alices).count(),
        1,
        "hers is kept for her"
    );
}

#[test]
fn no_text_of_a_clients_makes_two_urls_one_content() {
    let stage = Stage::new(DFGET);
    let (one, other) = (Blob::random(LEN, 9), Blob::random(LEN, 10));
    let origin = files(&stage, vec![("/files/one.sif", one.clone()), ("/files/other.sif", other.clone())]);
    let same = |path: &str| {
        let request =
            Request::get(origin.url(path)).header("X-Dragonfly-Content-For-Calculating-Task-ID", "same");
        stage.fetch(&request)
    };
    let (first, second) = (same("/files/one.sif"), same("/files/other.sif"));
    assert_served(&first, &one, "one");
    assert_served(&second, &other, "other");
    let id = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    assert_eq!(first.header("x-dragonfly-task-id"), Some(id), "the id is that text's");
    assert_eq!(second.header("x-dragonfly-task-id"), Some(id));
    // Nor do query keys that a client has left out: the validators tell them apart.
    let left_out = |query: &str| {
        let request =
            Request::get(origin.url(&format!("/files/{query}"))).header("X-Dragonfly-Filter", "name");
        stage.fetch(&request)
    };
    assert_served(&left_out("one.sif?name=1"), &one, "one");
    assert_served(&left_out("other.sif?name=1"), &other, "other");
}

#[test]
fn a_client_chooses_which_query_keys_count() {
    let stage = Stage::with(DFGET, |options| options.proxy("defaultFilter: session"));
    let blob = Blob::random(LEN, 11);
    let origin = files(&stage, vec![("/files/a.sif", blob.clone())]);
    let id = |header: Option<(&str, &str)>, query: &str| {
        let mut request = Request::get(origin.url(&format!("/files/a.sif?{query}")));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = stage.fetch(&request);
        assert_served(&response, &blob, query);
        response.header("x-dragonfly-task").expect("a task").to_owned()
    };
    assert_eq!(id(None, "session=1"), id(None, "session=2"), "as the configuration says");
    assert_ne!(id(None, "sig=1"), id(None, "sig=2"));
    for header in [("X-Dragonfly-Filter", "sig&other"), ("X-Dragonfly-Filtered-Query-Params", "other, sig")] {
        assert_eq!(id(Some(header), "sig=1"), id(Some(header), "sig=2"), "{header:?}");
        assert_ne!(id(Some(header), "session=1"), id(Some(header), "session=2"), "{header:?}");
    }
}

#[test]
fn a_range_starts_the_whole_download_where_the_client_or_the_site_says_so() {
    for (setting, header, whole) in [
        ("false", Some("true"), true),
        ("true", None, true),
        ("true", Some("false"), false),
        ("false", None, false),
    ] {
        let stage =
            Stage::with(DFGET, |options| options.extra(&format!("download: {{prefetch: {setting}}}")));
        let blob = Blob::random(5_000_000, 12);
        let url = stage.registry.put(IMAGE, &blob);
        let mut request = Request::get(&url).range("bytes=100-199");
        if let Some(value) = header {
            request = request.header("X-Dragonfly-Prefetch", value);
        }
        let part = stage.fetch(&request);
        assert_eq!(part.status, 206, "{setting} {header:?}");
        assert!(part.body == blob.bytes[100..200], "{setting} {header:?}");
        if whole {
            stage.daemon.wait_for_log("peer task done");
            let later = stage.fetch(&Request::get(&url).range("bytes=4999000-"));
            assert!(later.body == blob.bytes[4_999_000..], "{setting} {header:?}");
            let asked = stage.registry.origin.asked("GET", &blob.digest);
            assert_eq!(asked.len(), 1, "{setting} {header:?}: the rest came with the first");
            assert_eq!(asked[0].range(), None);
        } else {
            let asked = stage.registry.origin.asked("GET", &blob.digest);
            assert!(asked[0].range().is_some(), "{setting} {header:?}: only the part is fetched");
        }
    }
}

#[test]
fn who_wants_only_what_is_stored_causes_no_download() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 13);
    let url = stage.registry.put(IMAGE, &blob);
    let stored_only = Request::get(&url).header("X-Dragonfly-Disable-Back-To-Source", "true");
    let absent = stage.fetch(&stored_only);
    assert_eq!(absent.status, 504);
    assert!(absent.text().contains("not stored here"), "{}", absent.text());
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 0);
    assert_served(&stage.get(&url), &blob, "fetched by another");
    assert_served(&stage.fetch(&stored_only), &blob, "now it is here");
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
    let origin = files(&stage, vec![("/other/a.sif", blob.clone()), ("/files/a.sif", blob.clone())]);
    for path in ["/other/a.sif", "/files/a.sif"] {
        let request = Request::get(origin.url(path)).header("X-Dragonfly-Disable-Back-To-Source", "true");
        assert_eq!(stage.fetch(&request).status, 504, "{path}");
        let conditional = request.header("If-None-Match", "\"x\"");
        assert_eq!(stage.fetch(&conditional).status, 504, "{path}, conditional");
    }
    assert_eq!(origin.journal().len(), 0, "nothing is asked");
    stage.registry.close(IMAGE);
    let later = stage.fetch(&stored_only.header("Authorization", "Bearer eve"));
    assert_eq!(later.status, 401, "and only for who may have it");
}

#[test]
fn wrong_values_are_refused_in_words_before_anything_is_asked() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 14);
    let url = stage.registry.put(IMAGE, &blob);
    let with = |name: &str, value: &str| stage.fetch(&Request::get(&url).header(name, value));
    let refused = [
        ("X-Dragonfly-Priority", "7", "X-Dragonfly-Priority takes a number from 0 to 6"),
        ("X-Dragonfly-Prefetch", "maybe", "X-Dragonfly-Prefetch takes `true` or `false`"),
        ("X-Dragonfly-Digest", "sha256:0", "X-Dragonfly-Digest takes `sha256:`"),
        ("X-Dragonfly-Piece-Length", "1kib", "X-Dragonfly-Piece-Length takes a length from 4mib on"),
        ("X-Dragonfly-Output-Path", "/etc/cron.d/evil", "write a file on its own host"),
        ("X-Dragonfly-Force-Hard-Link", "true", "write a file on its own host"),
    ];
    for (name, value, words) in refused {
        assert_refused(&with(name, value), words);
    }
    let other = Blob::random(10, 15).digest;
    assert_refused(&with("X-Dragonfly-Digest", &other), "another digest than the URL");
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 0);
    let post = Request::new("POST", &url).header("X-Dragonfly-Output-Path", "/x").body(b"x".to_vec());
    assert_refused(&stage.fetch(&post), "write a file");
    assert!(!stage.daemon.everything_said().contains("cron.d"), "no value is repeated");
    assert_served(&with("X-Dragonfly-Priority", "6"), &blob, "a good one");
}

#[test]
fn an_answer_says_of_which_task_it_is_and_whether_it_was_stored() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 16);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.add_blob_header("X-Dragonfly-Task-Download-Finished", "true");
    let cold = stage.get(&url);
    let id = blob.digest.strip_prefix("sha256:").expect("a sha256");
    assert_eq!((cold.header("x-dragonfly-task"), cold.header("x-dragonfly-task-id")), (Some(id), Some(id)));
    assert_eq!(cold.header("x-dragonfly-task-download-finished"), None, "the origin's word is not ours");
    let ip = cold.header("x-dragonfly-server-ip").expect("the node's address").to_owned();
    assert!(cold.header("x-dragonfly-peer").is_some_and(|peer| peer.starts_with(&ip)));
    stage.daemon.wait_for_log("peer task done");
    let warm = stage.get(&url);
    assert_eq!(warm.header("x-dragonfly-task-download-finished"), Some("true"));
    assert_eq!(warm.header("x-dragonfly-range"), None);
    let part = stage.fetch(&Request::get(&url).range("bytes=100-199"));
    assert_eq!((part.status, part.header("x-dragonfly-range")), (206, Some("100-199")));
    let by_url =
        stage.fetch(&Request::get(&url).header("X-Dragonfly-Enable-Task-ID-Based-Blob-Digest", "false"));
    assert_ne!(by_url.header("x-dragonfly-task-id"), Some(id));
    assert_eq!(
        by_url.header("x-dragonfly-task-download-finished"),
        Some("true"),
        "the same content all the same"
    );
}

#[test]
fn an_error_says_whose_it_is_and_an_origins_answer_is_left_as_it_is() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 17);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.close(IMAGE);
    let denied = stage.get(&url);
    assert_eq!((denied.status, denied.header("x-dragonfly-error-type")), (401, None));
    let plain = stage.client().fetch(&Request::get("http://127.0.0.1:1/files/x")).expect("an answer");
    assert_eq!((plain.status, plain.header("x-dragonfly-error-type")), (502, Some("backend")));
}
