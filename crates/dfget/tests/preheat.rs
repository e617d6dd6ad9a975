//! `dfget preheat`, by the real binary: what it gets is in the store afterwards, and how it ends tells how it went.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use dfget_testkit::{Answer, Blob, Ended, Session, Stage};
use serde_json::Value;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

fn preheat(session: &Session, arguments: &[&str]) -> Ended {
    let mut command = session.program(DFGET);
    Ended::of(command.arg("preheat").args(arguments))
}

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

#[test]
fn what_was_preheated_comes_from_the_store() {
    let session = Session::new(DFGET);
    let blobs = [Blob::random(700_000, 1), Blob::random(300_000, 2)];
    let urls = blobs.each_ref().map(|blob| session.registry.put("p/a", blob));
    let told = object(&preheat(&session, &["--output", "json", &urls[0], &urls[1], &urls[0]]));
    assert_eq!((&told["version"], &told["ok"]), (&1.into(), &true.into()), "{told}");
    assert_eq!(told["images"].as_array().unwrap().len(), 2, "each once: {told}");
    assert_eq!(told["images"][0]["sources"]["origin"], 700_000, "{told}");
    session.wait_for_no_daemon();
    for (url, blob) in urls.iter().zip(&blobs) {
        let mut again = session.program(DFGET);
        let got = Ended::of(again.args(["get", "--output", "json", "-O", &blob.digest[7..15], url])).ok();
        let got: Value = serde_json::from_str(&got.stdout).unwrap();
        assert_eq!(got["sources"]["cache"], blob.len(), "{got}");
        assert_eq!(session.registry.downloads(&blob.digest), 1);
    }
}

#[test]
fn a_list_and_a_project_name_images() {
    let session = Session::new(DFGET);
    let blob = Blob::random(10_000, 3);
    let url = session.registry.put("p/a", &blob);
    let home = session.path("home");
    fs::write(home.join("images.txt"), format!("# two\n{url}\n\n{url}  # again\n")).unwrap();
    fs::create_dir_all(home.join("flow/modules")).unwrap();
    fs::write(
        home.join("flow/modules/a.nf"),
        format!("  container '{url}'\n  container \"${{params.x}}\"\n"),
    )
    .unwrap();
    let dry = preheat(&session, &["--project", "flow", "--dry-run"]);
    assert_eq!((dry.code, dry.stdout.trim()), (0, url.as_str()), "{}", dry.stderr);
    assert!(
        dry.stderr.contains("flow/modules/a.nf:2: only a run knows this image: ${params.x}"),
        "{}",
        dry.stderr
    );
    assert_eq!(session.registry.downloads(&blob.digest), 0);
    let ended = preheat(&session, &["-f", "images.txt", "--project", "flow"]).ok();
    assert!(ended.stderr.contains("1 of 1 images are here"), "{}", ended.stderr);
    assert_eq!(session.registry.downloads(&blob.digest), 1);
    fs::write(home.join("images.txt"), "docker://a\ndocker://b docker://c\n").unwrap();
    let wrong = preheat(&session, &["-f", "images.txt"]);
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.starts_with("error: images.txt: line 2: `docker://b docker://c` is more"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_failure_holds_up_no_other_and_decides_the_exit_status() {
    let session = Session::new(DFGET);
    let good = Blob::random(10_000, 4);
    let url = session.registry.put("p/a", &good);
    let missing = url.replace(&good.digest[7..], &"0".repeat(64));
    let ended = preheat(&session, &[&missing, &url]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("1 of 2 images are here"), "{}", ended.stderr);
    assert_eq!(session.registry.downloads(&good.digest), 1);
    let forgiven = preheat(&session, &["--best-effort", &missing]);
    assert_eq!(forgiven.code, 0, "{}", forgiven.stderr);
    assert!(forgiven.stderr.contains("going on all the same"), "{}", forgiven.stderr);
    let closed = session.registry.put("p/closed", &Blob::random(10_000, 5));
    session.registry.every_blob(|_| Answer::new(403).into());
    let told = object(&preheat(&session, &["--output", "json", &closed]));
    assert_eq!((&told["ok"], &told["images"][0]["exitCode"]), (&false.into(), &77.into()), "{told}");
}

#[test]
fn nothing_named_and_nonsense_are_told_so() {
    let session = Session::new(DFGET);
    let nothing = preheat(&session, &[]);
    assert_eq!((nothing.code, nothing.stderr.contains("no image is named")), (2, true), "{}", nothing.stderr);
    let nonsense = preheat(&session, &["library://a/b/c"]);
    assert_eq!(nonsense.code, 2, "{}", nonsense.stderr);
    let missing = preheat(&session, &["-f", "missing.txt"]);
    assert!(missing.code == 2 && missing.stderr.contains("missing.txt"), "{}", missing.stderr);
    let missing = preheat(&session, &["--project", "missing"]);
    assert!(missing.code == 2 && missing.stderr.contains("missing"), "{}", missing.stderr);
}

#[test]
fn what_is_not_done_in_time_ends_as_timeout_says() {
    let session = Session::new(DFGET);
    let blob = Blob::random(1_000_000, 6);
    let url = session.registry.put("p/a", &blob);
    session.registry.every_blob(|answer| answer.stall_after(100_000).into());
    let late = preheat(&session, &["--timeout", "2s", &url]);
    assert_eq!(late.code, 124, "{}", late.stderr);
    assert!(late.stderr.contains("not done within 2s"), "{}", late.stderr);
}

#[test]
fn only_root_and_the_daemons_own_user_may_fill_other_nodes() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        // Not by a macro, whose words the test harness keeps to itself when the test ends well.
        writeln!(std::io::stderr(), "left out: becoming another user needs root; it runs in CI")
            .expect("it is open");
        return;
    }
    let stage = Stage::new(DFGET);
    let home = stage.daemon.home();
    // So that it is the daemon that refuses, and not the way to it.
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let socket = home.join("lease.sock");
    open(home, 0o755).expect("it is ours");
    open(&socket, 0o666).expect("it is ours");
    let place = tempfile::tempdir().expect("a directory");
    open(place.path(), 0o755).expect("it is ours");
    let binary = place.path().join("dfget");
    assert!(Command::new("cp").arg(DFGET).arg(&binary).status().expect("cp is there").success());
    let url = stage.registry.put("p/a", &Blob::random(10_000, 9));
    let preheat = |uid: u32| {
        let mut command = Command::new(&binary);
        command.args(["preheat", "--nodes", "2", &url]).env_clear().env("HOME", "/");
        Ended::of(command.env("DFGET_SYSTEM_SOCKET", &socket).uid(uid).gid(uid))
    };
    let refused = preheat(NOBODY);
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert!(refused.stderr.contains("only root and the daemon's own user"), "{}", refused.stderr);
    let alone = preheat(0);
    assert_eq!(alone.code, 78, "{}", alone.stderr);
    assert!(alone.stderr.contains("it belongs to no cluster"), "{}", alone.stderr);
    assert!(stage.registry.origin.journal().is_empty());
}
