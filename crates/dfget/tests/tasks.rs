//! One download for many readers: when bytes come, and who is slow. Who comes and who leaves is in `outcomes.rs`.

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
