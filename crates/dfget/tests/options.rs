//! Options of `dfget.yaml` that change what a running daemon does, each seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dfget_testkit::answer::Cut;
use dfget_testkit::{Answer, Blob, Origin, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const CANARY: &str = "canary-of-a-secret";

#[test]
fn headers_are_logged_with_their_names_and_no_secret() {
    let stage = Stage::with(DFGET, |options| {
        let login = format!("dumpHTTPContent: true\nbasicAuth: {{username: u, password: {CANARY}}}");
        options.extra("verbose: true").proxy(&login)
    });
    let blob = Blob::random(1000, 1);
    let bytes = blob.bytes.clone();
    let origin = Origin::plain(move |_| {
        let answer = Answer::new(200).header("Set-Cookie", CANARY).header("X-Token", CANARY);
        answer.header("ETag", "\"1\"").body(bytes.clone()).into()
    });
    // user "u"
    let login = format!("Basic {}", base64(&format!("u:{CANARY}")));
    for path in ["/files/a.sif", "/other/a.sif"] {
        let request = Request::get(origin.url(&format!("{path}?X-Amz-Signature={CANARY}")))
            .authorization(&format!("Bearer {CANARY}"))
            .header("Proxy-Authorization", login.clone())
            .header("Cookie", CANARY)
            .header("Private-Token", CANARY)
            .header("Accept", "application/x-sif");
        assert!(stage.fetch(&request).body == blob.bytes[..], "{path}");
    }
    let log = stage.daemon.log();
    for part in [
        "accept: application/x-sif",
        "private-token: (",
        "proxy-authorization: (",
        "cookie: (",
        "answer: 200 to GET",
    ] {
        assert!(log.contains(part), "{part}:\n{log}");
    }
    assert!(!log.contains(CANARY) && !log.contains(&login["Basic ".len()..]), "a secret:\n{log}");
}

/// Base64 (RFC 4648, section 4).
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits =
            bytes.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - bytes.len()));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(move |at| if at <= bytes.len() { digit(at) } else { '=' }).collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

#[test]
fn a_broken_download_is_tried_as_often_as_the_file_says() {
    for (attempts, asked) in [(1, 1), (3, 3)] {
        let options =
            format!("download: {{concurrent: {{initBackoff: 0, maxBackoff: 0, maxAttempts: {attempts}}}}}");
        let stage = Stage::with(DFGET, |daemon| daemon.extra(&options));
        let blob = Blob::random(300_000, 2);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.every_blob(|answer| answer.cut_after(0, Cut::Reset).into());
        assert_eq!(stage.get(&url).status, 502, "{attempts}");
        assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), asked, "{attempts}");
    }
}

#[test]
fn the_store_is_made_with_the_mode_of_the_file_and_the_blobs_stay_its_owners() {
    let stage = Stage::with(DFGET, |options| options.extra("dataDirMode: 0750"));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&stage.daemon.data_dir()), 0o750);
    assert_eq!(mode(&stage.daemon.data_dir().join("tasks")), 0o700);
    assert!(stage.daemon.everything_said().contains("dataDirMode: others see the names of files"));
}

#[test]
fn a_full_log_is_renamed_and_old_ones_go() {
    let stage = Stage::with(DFGET, |options| options.extra("logMaxSize: 1\nlogMaxBackups: 2"));
    let logs = stage.daemon.home().join("log/daemon");
    let core = logs.join("core.log");
    for day in 1..=4 {
        fs::write(logs.join(format!("core-2026-01-0{day}T00-00-00.000.log")), "old").expect("an old log");
    }
    fs::rename(&core, logs.join("moved")).expect("the log is moved away");
    fs::write(&core, vec![b'\n'; 1 << 20]).expect("a full log");
    let url = stage.registry.put(IMAGE, &Blob::random(1000, 3));
    let full = || fs::metadata(&core).is_ok_and(|log| log.len() >= 1 << 20);
    let mut pulls = 0;
    while full() {
        assert!(pulls < 10_000, "it is never renamed");
        pulls += 1;
        assert_eq!(stage.get(&url).status, 200);
    }
    let old = fs::read_dir(&logs).expect("the logs").flatten();
    assert_eq!(old.filter(|file| file.file_name().to_string_lossy().starts_with("core-")).count(), 2);
}
