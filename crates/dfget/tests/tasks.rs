//! One download for many readers: who comes, who leaves, who is slow.

use std::sync::mpsc;
use std::thread;

use dfget_testkit::origin::Outcome;
use dfget_testkit::{Blob, Gate, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

#[test]
fn the_first_bytes_arrive_when_the_origin_has_sent_them() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(8 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(100, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(100) == blob.bytes[..100], "the gate is closed, and yet");
    gate.open();
    let rest = incoming.read_all();
    assert!(rest.is_complete() && rest.body == blob.bytes[100..]);
}

#[test]
fn many_clients_at_once_are_one_download_and_all_get_bytes_before_its_end() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(3 * MIB, 2);
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
                assert!(incoming.read(MIB / 2) == blob.bytes[..MIB / 2]);
                began.send(()).expect("the test waits");
                let rest = incoming.read_all();
                assert!(rest.is_complete() && rest.body == blob.bytes[MIB / 2..]);
            })
        })
        .collect();
    drop(began);
    assert_eq!(beginnings.iter().take(20).count(), 20, "all have half a MiB while the gate is closed");
    gate.open();
    for reader in readers {
        reader.join().expect("each gets the whole blob");
    }
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1);
}

#[test]
fn a_client_that_leaves_does_not_stop_the_download() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(6 * MIB, 3);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(MIB as u64, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    assert_eq!(connection.start(&Request::get(&url)).expect("a head").read(1000).len(), 1000);
    connection.leave().expect("a client may leave");
    gate.open();
    stage.registry.origin.wait_until("the download is whole", |journal| {
        journal.iter().any(|entry| entry.is("GET", &blob.digest) && entry.outcome == Some(Outcome::Whole))
    });
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn an_abandoned_download_stops_when_the_configuration_says_so() {
    let stage =
        Stage::with(DFGET, |options| options.extra("download: {finishAbandoned: false, stallTimeout: 10m}"));
    let blob = Blob::random(6 * MIB, 4);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.stall_after(MIB as u64).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    assert_eq!(connection.start(&Request::get(&url)).expect("a head").read(1000).len(), 1000);
    connection.leave().expect("a client may leave");
    stage.registry.origin.wait_until("the daemon hangs up", |journal| {
        journal.iter().any(|entry| entry.outcome == Some(Outcome::PeerLeft))
    });
    assert!(stage.get(&url).body == blob.bytes[..], "the next client starts it again");
}

#[test]
fn a_slow_reader_slows_nobody() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(24 * MIB, 5);
    let url = stage.registry.put(IMAGE, &blob);
    let mut slow = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = slow.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(1000) == blob.bytes[..1000]);
    let quick = stage.get(&url);
    assert!(
        quick.is_complete() && quick.body == blob.bytes[..],
        "the slow one has read nothing more meanwhile"
    );
    let rest = incoming.read_all();
    assert!(rest.is_complete() && rest.body == blob.bytes[1000..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn every_answer_from_a_task_is_a_line_in_the_log() {
    let stage = Stage::new(DFGET);
    let url = stage.registry.put(IMAGE, &Blob::random(MIB, 10));
    assert_eq!(stage.get(&url).status, 200);
    stage.daemon.wait_for_log("peer task done, cost: ");
    assert_eq!(stage.daemon.done_lines().len(), 1);
    assert!(
        stage.daemon.done_lines()[0].contains("\"source\":\"origin\""),
        "{:?}",
        stage.daemon.done_lines()
    );
    assert_eq!(stage.get(&url).status, 200);
    stage.daemon.wait_for_log("\"source\":\"cache\"");
    let lines = stage.daemon.done_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        for field in [
            "\"level\":\"info\"",
            "\"ts\":\"",
            "\"caller\":\"",
            "\"peer\":\"",
            "\"task\":\"",
            "\"component\":\"PeerTask\"",
        ] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
}
