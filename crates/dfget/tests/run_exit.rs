//! How `dfget run` ends, and how signals reach its command, by the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use dfget_testkit::daemon::Signal;
use dfget_testkit::session::send;
use dfget_testkit::{Ended, Running, Session};

fn session() -> Session {
    Session::new(env!("CARGO_BIN_EXE_dfget"))
}

/// The same command with a daemon and without one: how it ends does not depend on that.
fn both_ways(script: &str, check: impl Fn(&Ended)) {
    let session = session();
    check(&Ended::of(&mut session.run(&["--", "sh", "-c", script])));
    assert!(session.daemons().is_empty(), "no daemon for a command without an image");
    check(&Ended::of(&mut session.script(&[], script)));
    session.daemon();
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    for code in [0, 1, 7, 42, 125, 255] {
        let ended = Ended::of(&mut session().run(&["-q", "--", "sh", "-c", &format!("exit {code}")]));
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""));
    }
    both_ways("echo out; echo err >&2; exit 3", |ended| {
        assert_eq!((ended.code, ended.stdout.as_str()), (3, "out\n"));
        assert!(ended.stderr.contains("err\n"), "{}", ended.stderr);
    });
}

#[test]
fn a_command_that_a_signal_ends_gives_128_and_the_signal() {
    both_ways("kill -TERM $$", |ended| assert_eq!(ended.code, 143));
    both_ways("kill -KILL $$", |ended| assert_eq!(ended.code, 137));
}

#[test]
fn a_command_that_is_not_there_gives_127_and_begins_nothing() {
    let session = session();
    let host = session.registry.origin.authority();
    for name in ["no-such-program", "./no-such-program", "/no/such/program", ""] {
        let ended = Ended::of(&mut session.run(&["--host", &host, "--", name]));
        assert_eq!(ended.code, 127, "{}", ended.stderr);
        assert!(ended.stderr.starts_with(&format!("error: {name}: command not found; ")), "{}", ended.stderr);
    }
    assert!(session.daemons().is_empty());
    assert!(!session.runtime().exists());
}

#[test]
fn a_file_that_may_not_be_run_gives_126() {
    let session = session();
    fs::write(session.path("home/plain"), "echo\n").unwrap();
    fs::write(session.path("home/nonsense"), [0; 64]).unwrap();
    fs::set_permissions(session.path("home/nonsense"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["./plain", "./nonsense", "/usr"] {
        let ended = Ended::of(&mut session.run(&["--", name]));
        assert_eq!(ended.code, 126, "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("error: {name}: ")), "{}", ended.stderr);
    }
}

#[test]
fn a_wrong_command_line_gives_2() {
    let session = session();
    for arguments in [
        &["--host", "a b", "--", "true"][..],
        &["--host", "", "--", "true"],
        &["--host", "https://r.test/", "--", "true"],
        &["--no-such-flag", "--", "true"],
        &["--"],
        &["--output", "json", "--", "true"],
        &["--quiet", "--verbose", "--", "true"],
    ] {
        let ended = Ended::of(&mut session.run(arguments));
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
    let ended = Ended::of(&mut session.run(&["--host", "a b", "--", "true"]));
    assert!(ended.stderr.contains("write it as registry.example.org"), "{}", ended.stderr);
}

#[test]
fn the_commands_own_flags_are_the_commands() {
    let session = session();
    for arguments in [&["-q", "echo", "-n", "--host", "x"][..], &["-q", "--", "echo", "-n", "--host", "x"]] {
        let ended = Ended::of(&mut session.run(arguments)).ok();
        assert_eq!(ended.stdout, "--host x");
    }
}

#[test]
fn a_signal_for_dfget_reaches_the_command() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let session = session();
        let script =
            format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = Running::start(&mut session.script(&[], &script));
        running.wait_for("ready");
        running.send(signal);
        let ended = running.wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (9, &*format!("ready\ngot {name}\n")));
    }
}

#[test]
fn a_signal_that_the_command_does_not_handle_ends_both() {
    let session = session();
    let mut running = Running::start(&mut session.script(&[], "echo ready; exec sleep 100"));
    running.wait_for("ready");
    running.send(Signal::TERM);
    assert_eq!(running.wait().code, 143);
    session.wait_for_no_daemon();
}

/// `nohup dfget run …`: what the caller ignores stays ignored.
#[test]
fn what_was_ignored_before_is_ignored_by_the_command_too() {
    let session = session();
    let host = session.registry.origin.authority();
    let script = "trap '' HUP; exec \"$@\"";
    let inner = "echo $$; echo ready; read line; echo \"still here $line\"";
    let mut command = session.program("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_dfget"), "run", "--host", &host, "--", "sh"]);
    let mut running = Running::start(command.args(["-c", inner]).stdin(Stdio::piped()));
    let child = running.wait_for("").parse().unwrap();
    running.wait_for("ready");
    running.send(Signal::HUP);
    send(child, Signal::HUP);
    running.type_in(b"and well\n");
    let ended = running.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.ends_with("still here and well\n"), "{}", ended.stdout);
}

/// `dfget run` of this script at a terminal, which `script` of util-linux makes.
fn at_a_terminal(session: &Session, inner: &str) -> Running {
    fs::write(session.path("home/inner"), inner).expect("the home can be written");
    let host = session.registry.origin.authority();
    let line = format!("exec {} run --host {host} -- sh ./inner", env!("CARGO_BIN_EXE_dfget"));
    let mut command = session.program("script");
    Running::start(
        command
            .env("SHELL", "/bin/sh")
            .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped()),
    )
}

const CTRL_C: &[u8] = b"\x03";

#[test]
fn ctrl_c_reaches_the_command_once_each_time() {
    let session = session();
    let inner = "n=0\ntrap 'n=$((n+1)); echo caught $n' INT\necho ready\n\
                 until read line; do :; done\necho \"$line after $n\"\nexit 5\n";
    let mut running = at_a_terminal(&session, inner);
    running.wait_for("ready");
    running.type_in(CTRL_C);
    running.wait_for("caught 1");
    running.type_in(CTRL_C);
    running.wait_for("caught 2");
    running.type_in(b"end\n");
    running.wait_for("end after 2");
    assert_eq!(running.wait().code, 5);
}

#[test]
fn ctrl_c_ends_a_command_that_does_not_handle_it() {
    let session = session();
    let mut running = at_a_terminal(&session, "echo ready\nexec sleep 100\n");
    running.wait_for("ready");
    running.type_in(CTRL_C);
    assert_eq!(running.wait().code, 130);
    session.wait_for_no_daemon();
}

#[test]
fn ctrl_c_does_not_end_the_daemon_that_others_use() {
    let session = session();
    let mut other = Running::start(session.script(&[], "echo ready; read line").stdin(Stdio::piped()));
    other.wait_for("ready");
    let daemon = session.daemon();
    let mut running = at_a_terminal(&session, "echo ready\nexec sleep 100\n");
    running.wait_for("ready");
    running.type_in(CTRL_C);
    assert_eq!(running.wait().code, 130);
    assert_eq!(session.daemon(), daemon);
    other.type_in(b"end\n");
    assert_eq!(other.wait().code, 0);
}
