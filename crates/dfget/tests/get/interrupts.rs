//! Ctrl-C, and the try after it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use dfget_testkit::session::until;
use dfget_testkit::{Blob, Gate, Running, Session};
use rustix::process::Signal;

use super::support::{DFGET, Files, WAYS, dfget, get_json, got, home, names, session};

const LEN: usize = 3_000_000;

/// What is kept beside the output, and how long it is.
fn part(session: &Session) -> Option<(PathBuf, u64)> {
    let name = names(session).into_iter().find(|name| name.ends_with(".part"))?;
    let path = home(session, &name);
    let len = fs::metadata(&path).ok()?.len();
    Some((path, len))
}

/// Begins a download that stands still after `bytes`, and waits until `least` of them are here.
fn begun(session: &Session, files: &Files, way: &[&str], bytes: u64, least: u64) -> Running {
    let gate = Gate::new();
    files.fault(move |answer| answer.hold_after(bytes, &gate).into());
    let running = Running::start(&mut dfget(session, &[&[files.url("x").as_str()][..], way].concat()));
    until("the bytes to come", || part(session).filter(|(_, len)| *len >= least));
    running
}

#[test]
fn what_has_come_is_kept_and_gone_on_with() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 1);
        let files = Files::https(&session, &blob);
        let running = begun(&session, &files, way, 2_000_000, 1_000_000);
        running.send(Signal::INT);
        let ended = running.wait();
        assert_eq!(ended.code, 130, "{}", ended.stderr);
        assert_eq!(
            ended.stderr,
            "error: interrupted; what has come is kept, and the same command goes on from there\n"
        );
        let (path, len) = part(&session).expect("a part is kept");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!home(&session, "x").exists(), "nothing half-written has its name");
        let object = get_json(&session, way, &[&files.url("x")]);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
        assert_eq!(object["resumedBytes"], len, "{object}");
        assert_eq!(names(&session), ["x"]);
    }
}

#[test]
fn a_content_that_changed_meanwhile_is_got_anew() {
    for way in WAYS {
        let session = session();
        let files = Files::https(&session, &Blob::random(LEN, 2));
        let running = begun(&session, &files, way, 2_000_000, 1_000_000);
        running.send(Signal::INT);
        assert_eq!(running.wait().code, 130);
        let other = Blob::random(LEN, 3);
        files.change(&other);
        let object = get_json(&session, way, &[&files.url("x")]);
        assert!(fs::read(home(&session, "x")).unwrap() == other.bytes[..]);
        assert_eq!(object["resumedBytes"], 0, "{object}");
        assert_eq!(names(&session), ["x"], "the old part is gone");
    }
}

#[test]
fn a_part_that_rotted_is_found_by_the_digest() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 4);
        let files = Files::https(&session, &blob);
        let gate = Gate::new();
        files.fault(move |answer| answer.hold_after(2_000_000, &gate).into());
        let arguments = [files.url("x"), "--digest".to_owned(), blob.digest.clone()];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let running = Running::start(&mut dfget(&session, &[&arguments[..], way].concat()));
        let (path, _) = until("the bytes to come", || part(&session).filter(|(_, len)| *len >= 1_000_000));
        running.send(Signal::INT);
        assert_eq!(running.wait().code, 130);
        let mut rotten = fs::read(&path).unwrap();
        rotten[1000] ^= 1;
        fs::write(&path, rotten).unwrap();
        got(&session, way, &arguments);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    }
}

#[test]
fn a_second_ctrl_c_and_other_signals_end_it_too() {
    let session = session();
    let files = Files::https(&session, &Blob::random(LEN, 5));
    for signals in [&[Signal::INT, Signal::INT][..], &[Signal::TERM], &[Signal::HUP]] {
        let running = begun(&session, &files, &["--direct"], 2_000_000, 1);
        signals.iter().for_each(|signal| running.send(*signal));
        assert_eq!(running.wait().code, 130, "{signals:?}");
        assert!(!home(&session, "x").exists());
        fs::remove_file(part(&session).expect("it is kept").0).unwrap();
    }
}

#[test]
fn what_the_caller_lets_be_ignored_stays_so() {
    let session = session();
    let blob = Blob::random(LEN, 8);
    let files = Files::https(&session, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    files.fault(move |answer| answer.hold_after(2_000_000, &held).into());
    let script = "trap '' HUP INT; exec \"$@\"";
    let mut command = session.program("sh");
    command.args(["-c", script, "sh", DFGET, &files.url("x"), "--direct"]);
    let running = Running::start(&mut command);
    until("the bytes to come", || part(&session).filter(|(_, len)| *len >= 1_000_000));
    running.send(Signal::HUP);
    running.send(Signal::INT);
    gate.open();
    let _ = running.wait().ok();
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
}

#[test]
fn a_killed_one_leaves_no_output_either() {
    let session = session();
    let blob = Blob::random(LEN, 6);
    let files = Files::https(&session, &blob);
    let running = begun(&session, &files, &["--direct"], 2_000_000, 1_000_000);
    running.send(Signal::KILL);
    assert_eq!(running.wait().code, 137);
    assert!(!home(&session, "x").exists());
    got(&session, &["--direct"], &[&files.url("x")]);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    assert_eq!(names(&session), ["x"]);
}

#[test]
fn two_at_once_do_not_spoil_each_other() {
    let session = session();
    let blob = Blob::random(LEN, 7);
    let files = Files::https(&session, &blob);
    let running = begun(&session, &files, &["--direct"], 2_000_000, 1_000_000);
    got(&session, &["--direct"], &[&files.url("x")]);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    running.send(Signal::INT);
    assert_eq!(running.wait().code, 130);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
}
