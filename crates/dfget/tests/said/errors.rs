//! What goes wrong on the way: one line, what is wrong and what to do, with its exit status.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use dfget_testkit::{Answer, Blob, Ended, Origin, Reply, Session, Stage, TestCa};

use crate::transcript::{DFGET, Transcript, beside, when_stored};

/// An address that looks like one of a test, and is as long.
const ADDRESS: &str = "127.0.0.1:54321";

fn of(session: &Session) -> impl Fn(&[&str]) -> Command {
    move |words| {
        let mut command = session.program(DFGET);
        command.args(words);
        command
    }
}

/// A server whose answer to `/STATUS` has that status, and to any other path is a file; `/expired` takes no token that
/// `/token` gives.
fn server(ca: &TestCa, blob: &Blob) -> Origin {
    let bytes = blob.bytes.to_vec();
    Origin::https(ca, move |request| match request.target.trim_start_matches('/').parse() {
        Ok(401) => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\"").into(),
        Ok(status) => Answer::new(status).body(b"a page\n".to_vec()).into(),
        Err(_) if request.target == "/silent" => Reply::Silence,
        Err(_) if request.target == "/expired" => {
            let host = request.headers.get("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"https://{host}/token\",error=\"invalid_token\"");
            Answer::new(401).header("WWW-Authenticate", challenge).into()
        }
        Err(_) if request.target.starts_with("/token") => {
            Answer::new(200).body(b"{\"token\":\"of yesterday\"}".to_vec()).into()
        }
        Err(_) => Answer::new(200).body(bytes.clone()).into(),
    })
}

#[test]
fn snapshot_of_what_an_origin_refuses() {
    let session = Session::new(DFGET);
    let blob = Blob::random(1000, 1);
    let origin = server(&session.ca, &blob);
    let strange = server(&TestCa::new("an authority that nobody trusts"), &blob);
    let gone = Origin::https(&session.ca, |_| Answer::new(200).into());
    gone.go_down();
    let mut transcript = Transcript::new();
    transcript.word(origin.authority(), ADDRESS);
    transcript.word(strange.authority(), "127.0.0.1:54322");
    transcript.word(gone.authority(), "127.0.0.1:54323");
    for status in [401, 403, 404, 410] {
        transcript.run(of(&session), &format!("dfget --direct {}", origin.url(&format!("/{status}"))));
    }
    for url in [origin.url("/expired"), gone.url("/x"), strange.url("/x")] {
        transcript.run(of(&session), &format!("dfget --direct {url}"));
    }
    let stale = format!("dfget --direct {} -H Authorization:of-yesterday", origin.url("/expired"));
    let Ended { stderr, .. } = transcript.run(of(&session), &stale);
    assert!(!stderr.contains("yesterday"), "{stderr}");
    let wrong = format!("sha256:{}", "1".repeat(64));
    transcript.run(of(&session), &format!("dfget --direct {} --digest {wrong}", origin.url("/file")));
    transcript.run(of(&session), &format!("dfget --direct {} --timeout 1500ms", origin.url("/silent")));
    transcript.run(of(&session), &format!("dfget {} --disable-back-source", origin.url("/file")));
    transcript.end("errors/origin.txt");
}

#[test]
fn snapshot_of_outputs_that_cannot_be() {
    let session = Session::new(DFGET);
    let blob = Blob::random(1000, 2);
    let origin = server(&session.ca, &blob);
    let home = session.path("home");
    fs::write(home.join("image.sif"), "mine").expect("it is ours");
    fs::create_dir(home.join("tree")).expect("it is ours");
    fs::write(home.join("tree/file"), "mine").expect("it is ours");
    let mut transcript = Transcript::new();
    transcript.word(home.display(), "~");
    transcript.word(origin.authority(), ADDRESS);
    let url = origin.url("/file");
    for output in ["image.sif", "image.sif/below", "/dev/full"] {
        transcript.run(of(&session), &format!("dfget --direct {url} -O {output}"));
    }
    // Standard output that takes nothing.
    let mut full = of(&session)(&["--direct", &url, "-O", "-"]);
    full.stdout(fs::File::options().write(true).open("/dev/full").expect("Linux has it"));
    let output = full.stderr(std::process::Stdio::piped()).spawn().expect("it runs").wait_with_output();
    let output = output.expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or(-1);
    let ended = Ended { code, stdout: String::new(), stderr };
    transcript.show(&format!("dfget --direct {url} -O - >/dev/full"), &ended);
    assert_eq!(fs::read_to_string(home.join("image.sif")).expect("it is there"), "mine");
    let mut names: Vec<_> =
        fs::read_dir(&home).expect("ours").map(|entry| entry.expect("one").file_name()).collect();
    names.retain(|name| !name.to_string_lossy().starts_with('.'));
    names.sort();
    assert_eq!(names, ["image.sif", "tree"], "nothing half-written is left");
    transcript.end("errors/output.txt");
}

#[test]
fn snapshot_of_logins_that_cannot_be_read() {
    let session = Session::new(DFGET);
    let blob = Blob::random(1000, 3);
    let url = session.registry.put("p/image", &blob);
    let home = session.path("home");
    fs::create_dir(home.join("directory")).expect("it is ours");
    for (name, text) in [
        ("broken.json", r#"{"auths":"#),
        ("other.json", r#"{"auths":{"r.test":"canary"}}"#),
        ("binary.json", "\u{0}\u{1}"),
    ] {
        fs::write(home.join(name), text).expect("it is ours");
    }
    let mut transcript = Transcript::new();
    transcript.word(home.display(), "~");
    transcript.word(session.registry.origin.authority(), ADDRESS);
    for file in ["missing.json", "directory", "broken.json", "other.json", "binary.json"] {
        transcript.run(of(&session), &format!("dfget --direct {url} -O x --authfile {file}"));
    }
    assert!(!home.join("x").exists());
    transcript.end("errors/logins.txt");
}

/// A bundle of two contents.
fn bundle() -> Vec<u8> {
    let stage = Stage::new(DFGET);
    for (length, seed) in [(3000, 1), (700, 2)] {
        let blob = Blob::random(length, seed);
        assert!(stage.get(&stage.registry.put("lab/image", &blob)).is_complete());
    }
    when_stored(&stage.daemon, 2)
}

#[test]
fn snapshot_of_bundles_that_are_none() {
    let bundle = bundle();
    let stage = Stage::new(DFGET);
    let home = stage.daemon.home();
    let mut tampered = bundle.clone();
    let blob = Blob::random(3000, 1);
    let place = bundle.windows(64).position(|window| window == &blob.bytes[..64]).expect("it is in there");
    tampered[place] ^= 1;
    let write = |name: &str, bytes: &[u8]| fs::write(home.join(name), bytes).expect("it is ours");
    write("cut.tar", &bundle[..place + 10]);
    write("tampered.tar", &tampered);
    write("empty.tar", b"");
    write("compressed.tar", b"\x1f\x8b\x08\x00\x00\x00\x00\x00");
    write("noise.tar", &[7; 4096]);
    write("whole.tar", &bundle);
    let mut transcript = Transcript::new();
    transcript.word(home.display(), "~");
    let run = |words: &[&str]| beside(&stage.daemon, words);
    for name in ["cut", "tampered", "empty", "compressed", "noise", "missing", "whole"] {
        transcript.run(run, &format!("dfget cache import {name}.tar"));
    }
    transcript.run(run, "dfget cache export whole.tar");
    transcript.run(run, "dfget cache export none.tar elsewhere.test");
    transcript.end("errors/bundles.txt");
}

#[test]
fn snapshot_of_a_store_that_is_not_as_was_meant() {
    let mut stage = Stage::new(DFGET);
    let blob = Blob::random(3000, 5);
    assert!(stage.get(&stage.registry.put("lab/image", &blob)).is_complete());
    let _ = when_stored(&stage.daemon, 1);
    let mut transcript = Transcript::new();
    transcript.word(stage.daemon.home().display(), "~");
    for typed in [
        "dfget cache rm 0000000",
        "dfget cache rm alpine --yes",
        "dfget cache rm lab.test/image:1 --yes",
        "dfget cache rm --all",
        "dfget cache gc --to 0",
        "dfget cache ls --socket nobody.sock",
        "dfget cache ls --store nowhere",
        "dfget cache ls --config nowhere.yaml",
    ] {
        transcript.run(|words| beside(&stage.daemon, words), typed);
    }
    stage.daemon.stop();
    transcript.run(|words| beside(&stage.daemon, words), "dfget top --once");
    transcript.run(|words| beside(&stage.daemon, words), "dfget cluster status");
    transcript.end("errors/store.txt");
}

/// A daemon whose API is another: it gives this answer to all that it is asked.
fn other_daemon(socket: &Path, answer: &'static str) {
    let listener = UnixListener::bind(socket).expect("a new socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "{answer}");
        }
    });
}

#[test]
fn snapshot_of_a_daemon_of_another_version() {
    let home = tempfile::tempdir().expect("a directory");
    let mut transcript = Transcript::new();
    transcript.word(home.path().display(), "~");
    let run = |words: &[&str]| {
        let mut command = Command::new(DFGET);
        command.args(words).current_dir(home.path()).env_clear().env("HOME", home.path());
        command
    };
    for (name, answer) in [
        (
            "gone.sock",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\nConnection: close\r\n\r\n{\"error\":\"no such path\"}\r\n",
        ),
        (
            "new.sock",
            "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{\"contents\":\"9\"}",
        ),
        ("none.sock", "220 mail.test ESMTP\r\n"),
    ] {
        other_daemon(&home.path().join(name), answer);
        let ended = transcript.run(run, &format!("dfget cache ls --socket {name}"));
        assert!(ended.code != 0 && ended.stderr.contains("version"), "{name}: {}", ended.stderr);
    }
    transcript.end("errors/versions.txt");
}

#[test]
fn snapshot_of_commands_that_cannot_be_run() {
    let session = Session::new(DFGET);
    let home = session.path("home");
    fs::write(home.join("script"), "#!/bin/sh\n").expect("it is ours");
    fs::set_permissions(home.join("script"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::write(home.join("keys"), "").expect("it is ours");
    fs::set_permissions(home.join("keys"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut transcript = Transcript::new();
    transcript.word(home.display(), "~");
    for typed in [
        "dfget run -- no-such-command",
        "dfget run -- ./script",
        "dfget cluster status --cluster n1 --cluster-key missing",
        "dfget cluster status --cluster n1 --cluster-key keys",
        "dfget cluster status --cluster n1 --cluster-key .",
        "dfget ca show missing.crt",
        "dfget ca show script",
        "dfget ca bundle missing.crt",
        "dfget config check missing.yaml",
        "dfget config show --config missing.yaml",
        "dfget man nowhere",
    ] {
        transcript.run(of(&session), typed);
    }
    transcript.end("errors/files.txt");
}
