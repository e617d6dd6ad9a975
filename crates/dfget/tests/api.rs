//! `/api/v1` of a real daemon: what it tells, and to whom.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfget_testkit::{Blob, Request, Stage};
use serde_json::Value;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

fn socket(stage: &Stage) -> PathBuf {
    stage.daemon.api_socket()
}

/// The status and the body.
fn ask(socket: &Path, path: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect(&answer);
    let body = answer.split_once("\r\n\r\n").expect(&answer).1;
    (status, serde_json::from_str(body).expect(body))
}

#[test]
fn a_stored_content_is_told_with_its_origin_and_its_uses() {
    let mut stage = Stage::new(DFGET);
    let blob = Blob::random(3 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let look = |stage: &Stage| ask(&socket(stage), "/api/v1/contents").1["contents"][0].clone();
    for uses in [0, 1, 2] {
        assert!(stage.get(&url).body == blob.bytes[..]);
        let seen = look(&stage);
        assert_eq!(seen["uses"], uses, "the first pull was none from the store: {seen}");
        assert_eq!(seen["digest"], blob.digest.as_str());
        assert_eq!(seen["task"], blob.digest.trim_start_matches("sha256:"));
        assert_eq!((&seen["kind"], &seen["complete"]), (&"blob".into(), &true.into()));
        assert_eq!(seen["size"], 3 * MIB);
        assert_eq!(seen["origins"][0]["places"], serde_json::json!([IMAGE]));
        let authority = seen["origins"][0]["authority"].as_str().unwrap_or_default();
        assert!(url.starts_with(authority), "{authority}");
    }
    stage.registry.put("lab/other", &blob);
    assert!(stage.get(&url.replace(IMAGE, "lab/other")).body == blob.bytes[..]);
    assert_eq!(look(&stage)["origins"][0]["places"], serde_json::json!([IMAGE, "lab/other"]));
    let (_, stat) = ask(&socket(&stage), "/api/v1/stat");
    assert_eq!((&stat["uses"], &stat["servedBytes"]), (&3.into(), &(9 * MIB).into()));
    stage.daemon.stop();
    stage.daemon.start_again();
    assert_eq!(look(&stage)["uses"], 3, "uses outlive a restart");
}

#[test]
fn a_running_download_is_told_with_its_pieces_and_without_what_is_secret() {
    let stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 10m}"));
    let blob = Blob::random(12 * MIB, 2);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.stall_after(9 * MIB as u64).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let request = Request::get(format!("{url}?token=canary")).header("Authorization", "Bearer canary");
    assert_eq!(connection.start(&request).expect("a head").read(9 * MIB).len(), 9 * MIB);
    let deadline = Instant::now() + Duration::from_secs(20);
    let task = loop {
        let (status, tasks) = ask(&socket(&stage), "/api/v1/tasks");
        assert_eq!(status, 200);
        let text = tasks.to_string();
        assert!(!text.contains("canary"), "{text}");
        let task = tasks["tasks"][0].clone();
        if task["pieces"] == serde_json::json!([[0, 18]]) {
            break task;
        }
        assert!(Instant::now() < deadline, "{text}");
    };
    assert_eq!((&task["total"], &task["pieceLength"]), (&(12 * MIB).into(), &(MIB / 2).into()));
    assert_eq!(task["url"], url.as_str());
    assert_eq!(task["repository"], IMAGE);
    assert_eq!(task["bytes"], serde_json::json!({"cache": 0, "peers": 0, "origin": 9 * MIB}));
    assert_eq!(task["readers"], 1);
    let (_, contents) = ask(&socket(&stage), "/api/v1/contents?complete=false");
    assert_eq!(contents["matched"], 1, "{contents}");
}

#[test]
fn a_node_is_told_with_its_room_and_its_counters() {
    let stage = Stage::with(DFGET, |options| options.extra("storage: {diskGCThreshold: 100Mi}"));
    let blob = Blob::random(MIB, 3);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).is_complete());
    assert!(stage.get(&url).is_complete());
    let (_, node) = ask(&socket(&stage), "/api/v1/node");
    assert_eq!(node["pid"], stage.daemon.id().expect("it runs"));
    assert_eq!(node["store"]["place"], stage.daemon.data_dir().display().to_string());
    assert_eq!((&node["store"]["contents"], &node["store"]["quotaBytes"]), (&1.into(), &(100 * MIB).into()));
    assert_eq!(node["counters"]["served"]["cache"], serde_json::json!({"requests": 1, "bytes": MIB}));
    assert_eq!(node["counters"]["tasks"], 1);
}

#[test]
fn the_socket_is_its_owners_and_goes_with_the_daemon() {
    let mut stage = Stage::new(DFGET);
    let socket = socket(&stage);
    assert_eq!(std::fs::metadata(&socket).expect("it is there").mode() & 0o777, 0o600);
    stage.daemon.stop();
    assert!(!socket.exists());
}
