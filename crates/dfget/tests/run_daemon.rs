//! How `dfget run` finds, starts and outlives a daemon, by the real binary.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use dfget_testkit::answer::Reply;
use dfget_testkit::daemon::Signal;
use dfget_testkit::session::{kill, send, until};
use dfget_testkit::{Blob, Ended, Gate, Running, Session};

fn session() -> Session {
    Session::new(env!("CARGO_BIN_EXE_dfget"))
}

/// The session's socket and lock, by a first run that is over.
fn socket_and_lock(session: &Session) -> (PathBuf, PathBuf) {
    let _ = Ended::of(&mut session.script(&[], "true")).ok();
    let found = |end: &str| {
        let files = session.files();
        files.into_iter().find(|path| path.extension().is_some_and(|name| name == end))
    };
    let socket = found("sock").expect("the daemon listens");
    session.wait_for_no_daemon();
    assert!(!socket.exists(), "a daemon that has left leaves no socket");
    (socket, found("lock").expect("it was started under a lock"))
}

/// A blob, and that a pull of it ends well.
fn assert_pulls(session: &Session, seed: u64) -> Ended {
    let blob = Blob::random(200_000, seed);
    let (ended, got) = session.fetch(&session.registry.put("p/image", &blob));
    assert!(ended.code == 0 && got == blob.bytes[..], "{}", ended.stderr);
    ended
}

/// A server at `path` that hands each connection to `serve`, on a thread of its own.
fn squat(path: &PathBuf, serve: impl Fn(UnixStream) + Send + Sync + 'static) {
    let listener = UnixListener::bind(path).expect("the place is free");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || stream.map(|stream| serve(stream)));
        }
    });
}

#[test]
fn one_daemon_serves_all_and_leaves_after_the_last() {
    let session = session();
    let mut first = Running::start(session.script(&[], "echo ready; read line").stdin(Stdio::piped()));
    first.wait_for("ready");
    let daemon = session.daemon();
    assert_pulls(&session, 1);
    assert_pulls(&session, 2);
    assert_eq!(session.daemon(), daemon);
    first.type_in(b"\n");
    assert_eq!(first.wait().code, 0);
    session.wait_for_no_daemon();
    assert!(session.log().contains("leaving"), "{}", session.log());
    // What it stored is there for the next.
    let blob = Blob::random(200_000, 1);
    let (ended, _) = session.fetch(&session.registry.put("p/image", &blob));
    assert!(ended.stderr.contains("came from this node"), "{}", ended.stderr);
    assert_eq!(session.registry.downloads(&blob.digest), 1);
}

#[test]
fn twenty_that_start_at_once_share_one_daemon_and_one_download() {
    let session = session();
    let blob = Blob::random(4 << 20, 3);
    let url = session.registry.put("p/image", &blob);
    let pids = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for task in 0..20 {
            let (session, url, blob, pids) = (&session, &url, &blob, &pids);
            scope.spawn(move || {
                let file = format!("got-{task}");
                let ended = Ended::of(&mut session.curl(url, &file)).ok();
                assert!(fs::read(session.path("home").join(&file)).unwrap() == blob.bytes[..], "{task}");
                let used = ended.stderr.lines().find(|line| line.contains("using the daemon of this user"));
                pids.lock().unwrap().push(used.expect("it is told").to_owned());
            });
        }
    });
    let mut pids = pids.into_inner().unwrap();
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert_eq!(session.registry.downloads(&blob.digest), 1);
}

#[test]
fn what_a_dead_daemon_leaves_holds_nobody_up() {
    let session = session();
    let (socket, lock) = socket_and_lock(&session);
    // A socket on which nobody listens, as a daemon that was killed leaves it.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists() && lock.exists());
    assert!(assert_pulls(&session, 4).stderr.contains("started a daemon"));
    session.wait_for_no_daemon();
    fs::write(&socket, "no socket at all").unwrap();
    assert!(assert_pulls(&session, 5).stderr.contains("started a daemon"));
}

#[test]
fn a_socket_that_closes_at_once_is_replaced() {
    let session = session();
    let (socket, _) = socket_and_lock(&session);
    squat(&socket, drop);
    assert!(assert_pulls(&session, 6).stderr.contains("started a daemon"));
}

#[test]
fn garbage_at_the_socket_is_told_and_the_command_runs_directly() {
    let session = session();
    let (socket, _) = socket_and_lock(&session);
    squat(&socket, |mut stream| {
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n");
        let _ = BufReader::new(stream).read_until(0, &mut Vec::new());
    });
    let said = assert_pulls(&session, 7).stderr;
    assert!(said.contains("no daemon: process ") && said.contains("the command runs directly"), "{said}");
    assert!(said.contains("gives no answer that this version understands"), "{said}");
    assert!(session.daemons().is_empty());
}

#[test]
fn a_daemon_of_another_version_is_told_with_what_to_do() {
    let session = session();
    let (socket, _) = socket_and_lock(&session);
    squat(&socket, |mut stream| {
        let reason = "it speaks version 0 of the lease protocol and dfget 9 speaks 1; end the older one";
        let line = format!(
            "{{\"type\":\"refused\",\"protocol\":0,\"version\":\"0.0.1\",\"reason\":\"{reason}\"}}\n"
        );
        let _ = stream.write_all(line.as_bytes());
        let _ = BufReader::new(stream).read_until(0, &mut Vec::new());
    });
    let said = assert_pulls(&session, 8).stderr;
    assert!(said.contains("dfget 0.0.1) says: it speaks version 0"), "{said}");
    assert!(said.contains("the command runs directly"), "{said}");
}

/// A request of an older command, in the same words but an older number.
#[test]
fn a_daemon_refuses_an_older_command_with_what_to_do() {
    let session = session();
    let mut running = Running::start(session.script(&[], "echo ready; read line").stdin(Stdio::piped()));
    running.wait_for("ready");
    let socket = session.files().into_iter().find(|path| path.extension().is_some_and(|end| end == "sock"));
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(socket.as_ref().unwrap()).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    };
    let request = "{\"type\":\"lease\",\"protocol\":0,\"version\":\"0.0.1\",\"secret\":\"0123456789abcdef0123\",\
                   \"hosts\":[],\"allHosts\":true,\"images\":[]}\n";
    let answer = ask(request);
    assert!(
        answer.contains("\"refused\"") && answer.contains("dfget 0.0.1 speaks 0; end the older one"),
        "{answer}"
    );
    assert!(
        ask(&request.replace("\"protocol\":0", "\"protocol\":1")).contains("no listening socket came along")
    );
    for nonsense in ["\n", "{}\n", "GET / HTTP/1.1\r\n\r\n", "{\"type\":\"done\"}\n"] {
        assert!(ask(nonsense).contains("this is no request for a lease"), "{nonsense:?}");
    }
    running.type_in(b"\n");
    assert_eq!(running.wait().code, 0);
}

/// The wait is bounded: seconds after, the command runs.
#[test]
fn a_socket_that_never_answers_does_not_hold_the_command_for_ever() {
    let session = session();
    let (socket, _) = socket_and_lock(&session);
    squat(&socket, |stream| {
        let _ = BufReader::new(stream).read_until(0, &mut Vec::new());
    });
    let said = assert_pulls(&session, 9).stderr;
    assert!(said.contains("does not answer") && said.contains("the command runs directly"), "{said}");
}

/// A daemon that hangs does not even take connections, once its queue is full.
#[test]
fn a_socket_whose_queue_is_full_does_not_hold_the_command_for_ever() {
    let session = session();
    let (socket, _) = socket_and_lock(&session);
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = Vec::new();
    // Ends when the queue is full: a connection that would have to wait is refused without that.
    while let Ok(stream) = connect_now(&socket) {
        waiting.push(stream);
    }
    let said = assert_pulls(&session, 10).stderr;
    assert!(said.contains("does not answer") && said.contains("the command runs directly"), "{said}");
}

fn connect_now(path: &PathBuf) -> Result<std::os::fd::OwnedFd, rustix::io::Errno> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// A blob whose download stops in the middle until the gate opens, and `curl` of it under way.
fn pull_held_up(session: &Session, script: &str) -> (Running, Blob, Gate) {
    let blob = Blob::random(3 << 20, 12);
    let url = session.registry.put("p/image", &blob);
    let gate = Gate::new();
    let held = gate.clone();
    session.registry.next_blob(move |answer| Reply::Answer(answer.hold_after(1 << 20, &held)));
    let script = script.replace("URL", &url);
    let mut running = Running::start(session.script(&[], &script).stdin(Stdio::piped()));
    running.wait_for("ready");
    session.registry.origin.wait_until("a part of the blob has been sent", |journal| {
        journal.iter().any(|entry| entry.is("GET", &blob.digest) && entry.sent >= 1 << 20)
    });
    (running, blob, gate)
}

#[test]
fn a_kill_of_dfget_run_does_not_end_its_commands_pull() {
    let session = session();
    let (running, blob, gate) =
        pull_held_up(&session, "echo ready; curl -sS --fail -o got URL; echo $? >code.new; mv code.new code");
    let daemon = session.daemon();
    running.send(Signal::KILL);
    assert_eq!(running.wait_for_end(), 137);
    // The daemon has seen the end of its holder when it says so; the pull goes on.
    gate.open();
    let code = until("the pull to end", || fs::read_to_string(session.path("home/code")).ok());
    assert_eq!(code, "0\n");
    assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
    assert!(session.daemons().iter().all(|left| *left == daemon));
    session.wait_for_no_daemon();
}

/// Of two that share a daemon, the end of one does not touch the other's pull.
#[test]
fn a_kill_of_one_command_does_not_touch_another() {
    let session = session();
    let mut other = Running::start(session.script(&[], "echo ready; read line").stdin(Stdio::piped()));
    other.wait_for("ready");
    let (running, blob, gate) = pull_held_up(&session, "echo ready; curl -sS --fail -o got URL");
    other.send(Signal::KILL);
    let _ = other.wait();
    gate.open();
    assert_eq!(running.wait().code, 0);
    assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
}

#[test]
fn after_a_kill_of_the_daemon_the_command_goes_on_and_finds_another() {
    let session = session();
    let blobs = [21, 22, 23].map(|seed| Blob::random(300_000, seed));
    let urls = blobs.each_ref().map(|blob| session.registry.put("p/image", blob));
    let step = |number: usize| {
        format!("read line; curl -sS --fail -o got{number} {} && echo done{number}; ", urls[number])
    };
    let again = format!("until [ \"$line\" = end ]; do {}done", step(2));
    let script = format!("echo ready; {}{}{again}", step(0), step(1));
    let mut running = Running::start(session.script(&[], &script).stdin(Stdio::piped()));
    running.wait_for("ready");
    running.type_in(b"\n");
    running.wait_for("done0");
    let first = session.daemon();
    kill(first);
    // At once: directly, or already by the next daemon; well in any case.
    running.type_in(b"\n");
    running.wait_for("done1");
    let second = until("another daemon", || session.daemons().into_iter().find(|daemon| *daemon != first));
    // What is asked for after a while goes through it.
    until("a pull through the other daemon", || {
        running.type_in(b"\n");
        running.wait_for("done2");
        let line = format!("lease for process {} ", running.id());
        let log = session.log();
        (log.matches(&line).count() == 2 && log.matches("peer task done").count() >= 2).then_some(())
    });
    assert_eq!(session.daemon(), second);
    running.type_in(b"end\n");
    let ended = running.wait();
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("the daemon is gone; what comes now goes directly"), "{}", ended.stderr);
    for (number, blob) in blobs.iter().enumerate() {
        assert!(fs::read(session.path("home").join(format!("got{number}"))).unwrap() == blob.bytes[..]);
    }
}

/// The authority for all hosts lives in its daemon's memory: the next one has another, which programs that run already
/// do not trust, and so is not let in.
#[test]
fn a_daemon_with_other_authorities_is_not_taken_for_the_one_that_died() {
    let session = session();
    let url = session.registry.put("p/image", &Blob::random(1000, 51));
    let script = format!("echo ready; read line; curl -sS --fail -o got {url}");
    let mut running =
        Running::start(session.run(&["--all-hosts", "--", "sh", "-c", &script]).stdin(Stdio::piped()));
    running.wait_for("ready");
    kill(session.daemon());
    let refused = "its authorities are not those that the command began with";
    until("the next daemon to refuse", || session.log().contains(refused).then_some(()));
    running.type_in(b"\n");
    assert_eq!(running.wait().code, 0);
    assert_eq!(session.log().matches("\"msg\":\"lease for process").count(), 1, "{}", session.log());
}

/// A daemon that is told to end lets pulls under way end, and takes no more of them.
#[test]
fn a_term_for_the_daemon_lets_pulls_under_way_end() {
    let session = session();
    let (running, blob, gate) = pull_held_up(&session, "echo ready; curl -sS --fail -o got URL");
    send(session.daemon(), Signal::TERM);
    until("the daemon to end", || session.log().contains("ending: no new connections").then_some(()));
    gate.open();
    let ended = running.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
}

/// The daemon of a configuration is used where it hijacks the host, and not where it does not.
#[test]
fn a_daemon_that_runs_already_is_used() {
    let session = session();
    let binary = env!("CARGO_BIN_EXE_dfget");
    let start = |hosts: &str| {
        let options = dfget_testkit::DaemonOptions::new(binary).trust(&session.ca).hosts(hosts);
        let options = options.environment("XDG_RUNTIME_DIR", session.path("run").to_str().unwrap());
        let system = session.path("system.sock");
        options.environment("DFGET_SYSTEM_SOCKET", system.to_str().unwrap()).start()
    };
    fs::create_dir(session.runtime()).unwrap();
    fs::set_permissions(session.runtime(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut daemon = start("[{regx: '^127\\.'}]");
    daemon.wait_for_log("serve leases for `dfget run` at");
    let said = assert_pulls(&session, 31).stderr;
    assert!(said.contains("using the daemon at ") && session.daemons().is_empty(), "{said}");
    assert_eq!(daemon.done_lines().len(), 1);
    daemon.stop();

    let daemon = start("[{regx: '^registry\\.test'}]");
    daemon.wait_for_log("serve leases for `dfget run` at");
    let said = assert_pulls(&session, 32).stderr;
    assert!(said.contains("matches no hijackHTTPS.hosts[].regx of its configuration"), "{said}");
    assert!(said.contains("using the daemon of this user"), "{said}");
    session.daemon();
}
