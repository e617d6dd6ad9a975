//! Which store is meant, who may ask about it, and what is said where neither daemon nor store answers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use dfget_testkit::{Blob, Ended, Running, Session, Stage};

use crate::kit::{DFGET, IMAGE, MIB, cache, command, pulled};

/// Nobody in particular.
const NOBODY: u32 = 65_534;

#[test]
fn another_user_is_refused() {
    if !rustix_is_root() {
        eprintln!("not root: no other user to be");
        return;
    }
    let stage = Stage::new(DFGET);
    pulled(&stage, IMAGE, &Blob::random(MIB, 1));
    // All but the modes of the socket and of the store lets him in.
    fs::set_permissions(stage.daemon.home(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let binary = stage.daemon.home().join("dfget");
    fs::copy(DFGET, &binary).expect("there is room");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let socket = stage.daemon.api_socket();
    let as_nobody = |arguments: &[&str]| {
        let like = command(&stage.daemon, arguments);
        let mut command = Command::new(&binary);
        command.args(like.get_args()).current_dir("/").env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ended::of(command.env("XDG_RUNTIME_DIR", "/nowhere").uid(NOBODY).gid(NOBODY))
    };
    for arguments in [&["ls"][..], &["rm", "--all", "--yes"], &["export", "-"]] {
        let ended = as_nobody(arguments);
        let expected = format!(
            "error: the daemon at {} belongs to another user: ask as root, or as its own user\n",
            socket.display()
        );
        assert_eq!((ended.code, ended.stderr.as_str(), ended.stdout.as_str()), (77, expected.as_str(), ""));
    }
    // Even if the mode of the socket let him in, the kernel tells who he is.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let ended = as_nobody(&["ls"]);
    let expected = "error: this socket is for root and for the daemon's own user only\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (77, expected));
    let store = stage.daemon.data_dir();
    let ended = as_nobody(&["ls", "--store", &store.display().to_string()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (77, ""), "{}", ended.stderr);
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn it_is_said_why_nobody_answers() {
    let mut stage = Stage::new(DFGET);
    pulled(&stage, IMAGE, &Blob::random(MIB, 2));
    let socket = stage.daemon.api_socket();
    fs::remove_file(&socket).expect("the daemon serves there");
    let ended = cache(&stage.daemon, &["ls"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (75, ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("that daemon serves no API to you: ask as its own user or as root"),
        "{}",
        ended.stderr
    );
    let ended = cache(&stage.daemon, &["ls", "--socket", "nowhere.sock"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (75, "error: nobody serves an API at nowhere.sock\n"));
    stage.daemon.stop();
    let ended = cache(&stage.daemon, &["ls", "--store", "elsewhere"]);
    let expected =
        format!("error: nothing is stored in {}\n", stage.daemon.home().join("elsewhere").display());
    assert_eq!((ended.code, ended.stderr), (1, expected));
    assert!(!stage.daemon.home().join("elsewhere").exists(), "a look makes nothing");
    fs::write(stage.daemon.home().join("broken.yaml"), "proxy: [").expect("it is ours");
    assert_eq!(cache(&stage.daemon, &["ls", "--config", "broken.yaml"]).code, 78);
    assert_eq!(cache(&stage.daemon, &["ls"]).ok().stdout.lines().count(), 3);
    fs::write(stage.daemon.data_dir().join("index.redb"), "nonsense").expect("it is ours");
    // A damaged index is begun anew, as the daemon's start does.
    let ended = cache(&stage.daemon, &["ls"]).ok();
    assert_eq!(ended.stdout.lines().count(), 2);
    assert!(ended.stderr.starts_with("warning: the index was damaged ("), "{}", ended.stderr);
}

#[test]
fn the_daemon_of_a_command_is_asked_and_its_store_after_it() {
    let session = Session::new(DFGET);
    let blob = Blob::random(MIB, 3);
    let url = session.registry.put(IMAGE, &blob);
    let ls = || {
        let mut command = session.program(DFGET);
        Ended::of(command.args(["cache", "ls"]))
    };
    let script = format!("curl --silent --fail --output pulled {url} && echo ready; read line");
    let mut running = Running::start(session.script(&[], &script).stdin(std::process::Stdio::piped()));
    running.wait_for("ready");
    let shown = ls().ok().stdout;
    assert!(shown.contains(&blob.digest[7..19]) && shown.contains("1.0 MiB"), "{shown}");
    running.type_in(b"\n");
    assert_eq!(running.wait_for_end(), 0);
    session.wait_for_no_daemon();
    let left =
        session.files().iter().filter(|path| path.extension().is_some_and(|end| end == "admin")).count();
    assert_eq!(left, 0, "its socket goes with it");
    let shown = ls().ok().stdout;
    assert!(
        shown.contains(&blob.digest[7..19]) && shown.ends_with("1 content, 1.0 MiB on disk\n"),
        "{shown}"
    );
}

#[test]
fn a_store_that_is_named_is_asked_of_the_daemon_that_has_it() {
    let (one, other) = (Stage::new(DFGET), Stage::new(DFGET));
    let blob = Blob::random(MIB, 4);
    pulled(&other, IMAGE, &blob);
    let store = other.daemon.data_dir().display().to_string();
    // The other's daemon is not where this one's commands look.
    let ended = cache(&one.daemon, &["ls", "--store", &store]);
    assert_eq!(ended.code, 75, "{}", ended.stderr);
    let socket = other.daemon.api_socket().display().to_string();
    let ended = cache(&one.daemon, &["ls", "--socket", &socket]).ok();
    assert!(ended.stdout.contains(&blob.digest[7..19]), "{}", ended.stdout);
    let own = one.daemon.data_dir().display().to_string();
    assert_eq!(cache(&one.daemon, &["ls", "--store", &own]).ok().stdout.lines().count(), 2);
}
