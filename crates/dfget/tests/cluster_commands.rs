//! What the command line has for a cluster, by the real binary.

use std::process::Command;

use dfget_testkit::{Ended, Running, Session};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

fn dfget(arguments: &[&str]) -> Ended {
    Ended::of(Command::new(DFGET).args(arguments))
}

#[test]
fn a_key_is_printed_that_nobody_has_yet() {
    let keys = [0, 1].map(|_| {
        let output = Command::new(DFGET).args(["cluster", "key"]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    });
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        assert!(key.len() == 65 && key.ends_with('\n'), "{key:?}");
        assert!(key.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{key:?}");
    }
}

#[test]
fn a_wrong_list_of_nodes_is_told_before_anything_runs() {
    let ended = dfget(&["run", "--cluster", "node[1-", "--", "true"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("--cluster: a number is missing at character 8"), "{}", ended.stderr);
    for wrong in [
        &["run", "--cluster-port", "7", "--", "true"][..],
        &["run", "--cluster", "a", "--cluster-port", "65534", "--", "true"],
        &["run", "--cluster", "a", "--cluster-linger", "soon", "--", "true"],
        &["daemon", "--cluster-port", "0"],
    ] {
        assert_eq!(dfget(wrong).code, 2, "{wrong:?}");
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("c.yaml");
    std::fs::write(&file, "proxies: [{regx: a}]\n").unwrap();
    let ended = dfget(&["daemon", "--config", file.to_str().unwrap(), "--cluster", "b["]);
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("--cluster: a `[` without its `]` at character 2"), "{}", ended.stderr);
}

#[test]
fn a_command_of_a_cluster_has_a_daemon_of_its_own_and_leaves_with_it() {
    let session = Session::new(DFGET);
    let sockets = || {
        let files = session.files();
        files.into_iter().filter(|path| path.extension().is_some_and(|name| name == "sock")).count()
    };
    let mut plain =
        Running::start(session.script(&[], "echo ready; read line").stdin(std::process::Stdio::piped()));
    plain.wait_for("ready");
    assert_eq!(sockets(), 1);
    let arguments = ["--verbose", "--cluster", "127.0.0.1", "--cluster-linger", "0"];
    let mut command = session.script(&arguments, "true");
    let ended = Ended::of(command.env("SLURM_JOB_ID", "7"));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("started a daemon"), "{}", ended.stderr);
    assert_eq!(sockets(), 1, "the cluster's has ended with its command");
}
