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

#[test]
fn the_status_of_no_cluster_is_a_matter_of_the_file_the_list_or_the_key() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let status = |arguments: &[&str]| {
        let mut command = Command::new(DFGET);
        command.args(["cluster", "status"]).args(arguments).env_clear();
        Ended::of(command.env("HOME", home.path()).env("DFGET_SYSTEM_SOCKET", path("no.sock")))
    };
    let says = |arguments: &[&str], code: i32, text: &str| {
        let ended = status(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(text), "{arguments:?}: {}", ended.stderr);
    };
    std::fs::write(path("alone.yaml"), "proxies: [{regx: a}]\n").unwrap();
    says(&["--config", &path("alone.yaml")], 78, "alone.yaml names no cluster: set cluster.members");
    says(&["--config", &path("none.yaml")], 78, "none.yaml");
    says(&["--cluster", "node["], 2, "--cluster: a `[` without its `]` at character 5");
    says(&["--cluster", "n1", "--cluster-port", "65534"], 2, "65534");
    let key = path("key");
    says(&["--cluster", "n1", "--cluster-key", &key], 78, "there is no cluster key at ");
    assert!(!std::path::Path::new(&key).exists(), "whoever only asks makes none");
    let text = "cluster: {members: n1, keyFile: key}\nproxies: [{regx: a}]\n";
    std::fs::write(path("cluster.yaml"), text).unwrap();
    says(&["--config", &path("cluster.yaml")], 78, "; no daemon of this node can be asked instead");
    std::fs::write(path("empty"), "# nobody\n").unwrap();
    let text =
        format!("cluster: {{membersFile: {}, keyFile: {key}}}\nproxies: [{{regx: a}}]\n", path("empty"));
    std::fs::write(path("empty.yaml"), text).unwrap();
    write_key(&key);
    says(&["--config", &path("empty.yaml")], 78, "no member of the cluster is known");
}

#[test]
fn the_status_of_members_that_nobody_runs_is_that_they_are_down() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("key").display().to_string();
    write_key(&key);
    // Nobody listens at a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let members = ["--cluster", "127.0.0.[1-3]", "--cluster-port", &free, "--cluster-key", &key];
    let ended = dfget(&[&["cluster", "status"][..], &members].concat());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let output =
        Command::new(DFGET).args(["cluster", "status", "--output", "json"]).args(members).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["total"]["down"]), (Some(1), &3.into()), "{json}");
    assert_eq!(json["members"][0]["thisNode"], true, "{json}");
    let reason = json["members"][2]["reason"].as_str().unwrap();
    assert!(reason.contains("cannot connect to 127.0.0.3:"), "{reason}");
}

fn write_key(path: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let made = Command::new(DFGET).args(["cluster", "key"]).output().expect("the binary is there");
    std::fs::write(path, made.stdout).expect("it can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}
