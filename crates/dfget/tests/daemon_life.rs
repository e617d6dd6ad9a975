//! How a daemon lives and ends: signals, idleness, expiry, and a cache that is not kept.

use dfget_testkit::daemon::Signal;
use dfget_testkit::{Blob, Gate, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

#[test]
fn a_cache_that_is_not_kept_is_empty_after_the_end() {
    let mut stage = Stage::with(DFGET, |options| options.extra("keepStorage: false"));
    let blob = Blob::random(300_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    for _ in 0..2 {
        assert!(stage.get(&url).body == blob.bytes[..]);
    }
    assert_eq!(stage.registry.downloads(&blob.digest), 1, "while it lives it is a cache");
    assert!(stage.daemon.stop().success());
    stage.daemon.start_again();
    assert!(stage.daemon.log().contains("store opened: 0 tasks and 0 partial ones, 0 bytes"));
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 2);
}

#[test]
fn a_daemon_that_nobody_uses_for_its_alive_time_leaves_well() {
    let mut stage = Stage::with(DFGET, |options| options.extra("aliveTime: 1s"));
    let blob = Blob::random(1000, 2);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.daemon.wait().code(), Some(0));
    assert!(stage.daemon.log().contains("nobody used the daemon for 1 s (aliveTime); leaving"));
    stage.daemon.start_again();
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 1, "what was cached was kept");
}

#[test]
fn signals_that_do_not_mean_the_end_are_answered_in_the_log() {
    let mut stage = Stage::new(DFGET);
    let url = stage.registry.put(IMAGE, &Blob::random(1000, 3));
    stage.daemon.send(Signal::HUP);
    stage.daemon.wait_for_log("SIGHUP: config file ");
    stage.daemon.send(Signal::USR1);
    stage.daemon.wait_for_log("SIGUSR1: the log level is debug now");
    assert_eq!(stage.get(&url).status, 200);
    assert!(stage.daemon.stop().success());
}

#[test]
fn sigint_and_sigquit_end_it_as_sigterm_does() {
    for signal in [Signal::INT, Signal::QUIT] {
        let mut stage = Stage::new(DFGET);
        stage.daemon.send(signal);
        assert_eq!(stage.daemon.wait().code(), Some(0));
        assert!(stage.daemon.log().contains("the daemon has ended"));
    }
}

#[test]
fn a_second_signal_ends_the_drain_and_what_came_is_kept() {
    let mut stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 10m}"));
    let blob = Blob::random(12 << 20, 4);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(9 << 20, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(9 << 20) == blob.bytes[..9 << 20]);
    stage.daemon.terminate();
    stage.daemon.wait_for_log("ending: no new connections; 1 are still served");
    stage.daemon.terminate();
    assert_eq!(stage.daemon.wait().code(), Some(0));
    assert!(stage.daemon.log().contains("told twice to end: 1 connections are cut"));
    assert!(!incoming.read_all().is_complete(), "the client sees that its answer was cut");
    gate.open();
    stage.daemon.start_again();
    let response = stage.get(&url);
    assert!(response.is_complete() && response.body == blob.bytes[..]);
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    let range = asked.last().and_then(|entry| entry.range()).unwrap_or_default().to_owned();
    assert_ne!(range, "", "the second download began where the first was cut");
}

#[test]
fn what_nobody_reads_for_the_expire_time_is_forgotten() {
    let stage =
        Stage::with(DFGET, |options| options.extra("gcInterval: 50ms\nstorage: {taskExpireTime: 1ms}"));
    let blob = Blob::random(300_000, 5);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    stage.daemon.wait_for_log("task reclaimed: ");
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 2);
}
