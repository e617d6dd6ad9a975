//! HTTP/2 inside the hijack, as `h2spec` judges it: all its cases (generic, http2, hpack), of a path that is forwarded
//! and of one that comes from the store.

use std::process::Command;

use dfget_testkit::{Answer, Blob, DaemonOptions, Forwarder, Origin, Request, TestCa};

use super::support::{dfget_binary, h2spec_dir, run, scripts_dir};

/// Cases that fail for a reason that is not ours to mend: the case, and the reason. There are none.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// Has `h2spec` ask for this path, `body` at the origin, through a daemon with all set up.
fn judged(path: &str, body: Vec<u8>) {
    run(Command::new(scripts_dir().join("h2spec")).arg(h2spec_dir())).ok();
    let ca = TestCa::new("authority of the origin");
    let origin = Origin::https_with(
        |_| ca.leaf(&["127.0.0.1"]),
        move |_| Answer::new(200).header("Content-Type", "text/plain").body(body.clone()).into(),
    );
    let daemon = DaemonOptions::new(dfget_binary()).trust(&ca).start();
    let forwarder = Forwarder::through(daemon.client(), origin.address());
    let address = forwarder.address();
    let url = format!("https://{address}{path}");
    let stored = daemon.client().fetch(&Request::get(&url)).expect("an answer");
    assert_eq!(stored.status, 200, "{}", stored.text());

    let ended = run(Command::new(h2spec_dir().join("bin/h2spec"))
        .args(["--tls", "--insecure", "--strict", "--timeout", "10", "--path", path])
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]));
    // 146 tests, 146 passed, 0 skipped, 0 failed
    let summary = ended.stdout.lines().rfind(|line| line.contains(" tests, ")).unwrap_or_default();
    let count = |what: &str| {
        let counts = summary.split(", ").filter_map(|count| count.split_once(' '));
        counts.filter(|(_, named)| *named == what).find_map(|(count, _)| count.parse::<usize>().ok())
    };
    println!("{summary}");
    assert!(
        count("failed") == Some(EXCEPTIONS.len()) && count("skipped") == Some(0),
        "{EXCEPTIONS:?}\n{}{}",
        ended.stdout,
        ended.stderr
    );
    assert!(count("passed") >= Some(140), "{summary}");
}

#[test]
fn h2spec_finds_no_fault_with_what_is_forwarded() {
    judged("/no/rule/names/this", b"It came from far away.".to_vec());
}

#[test]
fn h2spec_finds_no_fault_with_what_is_stored() {
    let blob = Blob::random(200_000, 1);
    judged(&format!("/v2/lab/image/blobs/{}", blob.digest), blob.bytes.to_vec());
}
