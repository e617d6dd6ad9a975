//! A large content that comes slowly is fetched by several ranges at once.

use dfget_testkit::gate::Gate;
use dfget_testkit::{Answer, Blob, End, Reply, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

/// A stage whose registry gives one blob of 32 MiB, to the first request only a MiB before the gate opens.
fn slow_stage(options: &str, gate: &Gate) -> (Stage, Blob, String) {
    let stage = Stage::with(DFGET, |daemon| daemon.extra(options));
    let blob = Blob::random(32 * MIB, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(MIB as u64, &gate).into());
    (stage, blob, url)
}

#[test]
fn the_rest_of_a_slow_stream_comes_by_other_ranges() {
    let gate = Gate::new();
    let (stage, blob, url) = slow_stage("", &gate);
    let response = std::thread::scope(|scope| {
        let pull = scope.spawn(|| stage.get(&url));
        stage.registry.origin.wait_until("three further requests", |journal| {
            journal.iter().filter(|entry| entry.is("GET", &blob.digest)).count() == 4
        });
        gate.open();
        pull.join().expect("an answer")
    });
    assert_eq!((response.status, response.end), (200, End::Length));
    assert!(response.body == blob.bytes[..]);
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    let ranges: Vec<_> = asked.iter().filter_map(|entry| entry.range().map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 3, "{asked:?}");
    assert!(ranges.iter().any(|range| range.ends_with(&format!("-{}", blob.len() - 1))), "{ranges:?}");
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 4, "it is kept");
}

#[test]
fn an_origin_that_refuses_ranges_at_once_is_asked_for_one_after_another() {
    let gate = Gate::new();
    let options = "download: {stallTimeout: 1s}";
    let (stage, blob, url) = slow_stage(options, &gate);
    let response = std::thread::scope(|scope| {
        let pull = scope.spawn(|| stage.get(&url));
        stage.registry.every_blob(|answer| match answer.status() {
            206 => Reply::from(Answer::new(403).body(b"one at a time".to_vec())),
            _ => answer.into(),
        });
        stage.daemon.wait_for_log("one after another");
        stage.registry.heal();
        gate.open();
        pull.join().expect("an answer")
    });
    assert_eq!((response.status, response.end), (200, End::Length), "{}", stage.daemon.log());
    assert!(response.body == blob.bytes[..]);
}
