//! Options of `dfget.yaml` that change what a running daemon does, each seen from outside.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use dfget_testkit::answer::Cut;
use dfget_testkit::ca::ClientConfig;
use dfget_testkit::wire::Wire;
use dfget_testkit::{Answer, Blob, DaemonOptions, Origin, Registry, Request, Stage, TestCa};

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

/// What a client gets by `request`, over TLS to the proxy's port.
fn over_tls(stage: &Stage, trust: Arc<ClientConfig>, request: &str) -> io::Result<String> {
    let mut wire = Wire::dial(stage.daemon.address())?.start_tls("127.0.0.1", trust)?;
    wire.write_all(request.as_bytes())?;
    let mut answer = [0; 4096];
    let mut got = 0;
    while !answer[..got].windows(4).any(|four| four == b"\r\n\r\n") {
        match wire.read(&mut answer[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(String::from_utf8_lossy(&answer[..got]).into_owned())
}

#[test]
fn the_proxys_own_port_speaks_tls_where_the_file_says_so() {
    let site = TestCa::new("authority of the site");
    let leaf = site.leaf(&["127.0.0.1"]);
    let (cert, key) = leaf.pem();
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let security = format!("security:\n  cert: |\n{}  key: |\n{}", indented(cert), indented(key));
    let stage = Stage::with(DFGET, |options| options.proxy(&security));
    let origin = Origin::plain(|_| Answer::new(200).header("X-Mark", "the origin's").into());
    let trust = site.client_config(&["h2", "http/1.1"]);
    let get = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/a"));
    let answer = over_tls(&stage, Arc::clone(&trust), &get).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("the origin's"), "{answer}");
    let authority = stage.registry.origin.authority();
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let answer = over_tls(&stage, trust, &connect).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Who speaks plain HTTP gets no answer, and the log says what to do.
    let plain = stage.client().send_raw(get.as_bytes()).expect("the port takes it");
    assert!(!plain.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&plain));
    stage.daemon.wait_for_log("its proxy must be set as https://");
    assert!(stage.daemon.everything_said().contains("beside HTTPS_PROXY=https://127.0.0.1:"));
}

#[test]
fn only_clients_with_a_certificate_come_in_where_the_file_says_so() {
    let site = TestCa::new("authority of the site");
    let leaf = site.leaf(&["127.0.0.1"]);
    let (cert, key) = leaf.pem();
    let options = DaemonOptions::new(DFGET)
        .proxy("security: {cert: p.pem, key: p.key, caCert: ca.pem, tlsVerify: true}");
    // The files are missing at first: that is said, with the line.
    let refusal = options.clone().try_start(|_| {}).expect_err("no such files");
    assert!(refusal.printed.contains("proxy.security.cert: there is no such file"), "{}", refusal.printed);
    let write = |home: &Path, key: &str| {
        for (name, text) in [("p.pem", cert), ("p.key", key), ("ca.pem", &site.certificate_pem())] {
            fs::write(home.join(name), text).expect("a file");
        }
    };
    let other = site.leaf(&["127.0.0.1"]);
    let refusal = options.clone().try_start(|home| write(home, other.pem().1)).expect_err("another's key");
    assert!(refusal.printed.contains("proxy.security.key: "), "{}", refusal.printed);
    assert_eq!(refusal.code, Some(78));
    let daemon = options.try_start(|home| write(home, key)).expect("it starts");
    let stage = Stage { ca: TestCa::new("unused"), registry: Registry::plain(), daemon };
    let request = "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = over_tls(&stage, site.client_config(&[]), request);
    assert!(answer.as_ref().map_or(true, String::is_empty), "without a certificate: {answer:?}");
    stage.daemon.wait_for_log("a client could not begin TLS");
    let answer = over_tls(&stage, site.client_config_as(&site.client_leaf("someone"), &[]), request)
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 502"), "with one it is served: {answer}");
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
