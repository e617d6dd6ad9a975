//! Credentials: they go to the origin they are meant for, and nowhere else.

use std::fs;
use std::path::Path;

use dfget_testkit::{Answer, Blob, Origin, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const CANARIES: [&str; 6] = [
    "canary-authorization",
    "canary-cookie",
    "canary-signature",
    "canary-proxy-password",
    "canary-of-another-query-key",
    "canary-in-userinfo",
];

/// A request that carries every kind of credential there is.
fn loaded(url: &str) -> Request {
    Request::get(format!("{url}?X-Amz-Signature=canary-signature&token=canary-of-another-query-key"))
        .header("Authorization", "Bearer canary-authorization")
        .header("Cookie", "session=canary-cookie")
        .header("Proxy-Authorization", "Basic canary-proxy-password")
        .header("Referer", "https://me:canary-in-userinfo@somewhere.test/")
}

fn assert_clean(place: &str, bytes: &[u8]) {
    for canary in CANARIES {
        let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "{canary} is in {place}:\n{}", String::from_utf8_lossy(bytes));
    }
}

fn assert_clean_below(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory of the daemon") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_clean_below(&path);
        } else if path.is_file() {
            // Not the socket, which holds nothing.
            assert_clean(&path.display().to_string(), &fs::read(&path).expect("a file of the daemon"));
        }
    }
}

#[test]
fn no_credential_is_printed_logged_or_kept_whatever_happens() {
    let mut stage = Stage::with(DFGET, |options| options.extra("verbose: true\naccess: {ttl: 0s}"));
    let mut answers: Vec<Response> = Vec::new();
    let fetch = |stage: &Stage, url: &str| stage.fetch(&loaded(url));

    let blob = Blob::random(300_000, 1);
    let good = stage.registry.put("lab/image", &blob);
    stage.registry.grant("lab/image", "Bearer canary-authorization");
    assert_eq!(fetch(&stage, &good).status, 200);
    assert_eq!(fetch(&stage, &good).status, 200);

    let broken = Blob::random(1000, 2);
    let wrong = stage.registry.put_as("lab/image", &broken.digest, &broken.with_flipped_byte(1));
    answers.push(fetch(&stage, &wrong));
    stage.registry.put("lab/closed", &blob);
    stage.registry.close("lab/closed");
    answers.push(fetch(&stage, &stage.registry.blob_url("lab/closed", &blob.digest)));

    let nonsense = Origin::https(&stage.ca, |_| dfget_testkit::Reply::Raw(b"nonsense\r\n\r\n".to_vec()));
    answers.push(fetch(&stage, &nonsense.url("/files/x.sif")));
    answers.push(fetch(&stage, &nonsense.url("/no/rule")));
    let stranger = Origin::https(&dfget_testkit::TestCa::new("stranger"), |_| Answer::new(200).into());
    answers.push(fetch(&stage, &stranger.url("/files/x.sif")));
    let dead = Origin::plain(|_| Answer::new(200).into());
    dead.go_down();
    answers.push(fetch(&stage, &dead.url("/files/x.sif")));
    answers.push(fetch(&stage, &dead.url("/no/rule")));

    for answer in &answers {
        assert!(answer.status >= 400, "{}", answer.status);
        assert_clean("an error body", &answer.body);
        assert_clean("a reason phrase", answer.reason.as_bytes());
    }
    assert!(stage.daemon.stop().success());
    assert!(stage.daemon.done_lines().len() >= 2, "the log was written");
    assert_clean_below(stage.daemon.home());
}
