//! `dfget doctor`, by the real binary: each trap of a first pull is found, with its remedy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::thread;

use dfget_testkit::{Home, Registry, Stage, TestCa};
use serde_json::Value;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// What it says in this home, with `~` for it, and how it ends.
fn doctor(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let output = run(home, arguments, variables);
    let text = String::from_utf8(output.stdout).expect("text");
    let text = text.replace(&home.path().display().to_string(), "~");
    // Its lines break where they are full, which depends on the name of the directory.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code().expect("an exit status"), text)
}

/// What it tells programs of one area: verdict, text and remedy of each finding.
fn found(home: &Home, area: &str, variables: &[(&str, &str)]) -> Vec<[String; 3]> {
    let output = run(home, &["--offline", "--output", "json"], variables);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = value["findings"].as_array().expect("a list").iter();
    let of = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    findings
        .filter(|finding| finding["area"] == area)
        .map(|finding| ["verdict", "text", "remedy"].map(|field| of(finding, field)))
        .collect()
}

fn run(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = home.command(DFGET);
    command.arg("doctor").args(arguments).env("DFGET_CONFIG", home.path().join("dfget.yaml"));
    command.envs(variables.iter().copied()).output().expect("the binary is there")
}

fn yaml(port: u16) -> String {
    format!(
        "dataDir: data
logDir: log
proxy:
  tcpListen: {{port: {port}}}
  proxies:
    - regx: 'blobs/sha256.*'
hijackHTTPS:
  cert: ca.crt
  key: ca.key
  hosts:
    - regx: '^r\\.invalid:443$'
"
    )
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|bound| bound.local_addr()).expect("a port").port()
}

#[test]
fn a_node_without_a_configuration_is_told_of_both_ways() {
    let home = Home::with_authority("");
    fs::remove_file(home.path().join("dfget.yaml")).expect("it was there");
    let output = run(&home, &["--offline"], &[("DFGET_CONFIG", "")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("there is no dfget.yaml; `dfget run` needs none"), "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn traps_of_a_shell_are_told_with_their_remedies() {
    let port = free_port();
    let home = Home::with_authority(&yaml(port));
    let (status, text) = doctor(&home, &["--offline"], &[]);
    assert_eq!(status, 0, "{text}");
    for expected in [
        "ok configuration ~/dfget.yaml",
        "note daemon none runs on this node",
        &format!("ok port 127.0.0.1:{port} is free, for proxy.tcpListen"),
        "note variables HTTPS_PROXY is not set in this shell: clients started here do not ask the daemon",
        &format!("→ HTTPS_PROXY=127.0.0.1:{port} apptainer pull …, or dfget run -- apptainer pull …"),
        "ok authority ~/ca.crt, for any host",
        "warning trust curl:",
        "does not hold the authority, so hijacked hosts are refused",
        "note trust Python's requests: has a list of its own as long as REQUESTS_CA_BUNDLE is not set",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let proxy = format!("127.0.0.1:{port}");
    let set = [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", ".invalid"), ("SSL_CERT_FILE", "ca.crt")];
    let (status, text) = doctor(&home, &["--offline"], &set);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains(
            "warning variables NO_PROXY holds `.invalid`, so that r.invalid is asked without the daemon"
        ),
        "{text}"
    );
    assert!(text.contains("curl: by ca.crt, and then hardly any other authority"), "{text}");
}

#[test]
fn what_would_fail_is_bad_and_so_is_the_exit_status() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("it is bound").port();
    let home = Home::with_authority(&yaml(port));
    let (status, text) = doctor(&home, &[], &[("SSL_CERT_FILE", "/nowhere/ca.crt")]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains(&format!("BAD port 127.0.0.1:{port} is taken by ")), "{text}");
    assert!(text.contains("BAD trust curl: SSL_CERT_FILE names /nowhere/ca.crt: "), "{text}");
    assert!(text.contains("BAD registry the name of r.invalid is not found: "), "{text}");
    assert!(text.ends_with(" to look at."), "{text}");
}

#[test]
fn a_registry_is_tried_with_the_certificates_of_the_file() {
    let ca = TestCa::new("the registry's");
    let running = Registry::https(&ca);
    let registry = running.origin.authority();
    let home = Home::with_authority(&yaml(free_port()));
    let (_, text) = doctor(&home, &[&registry], &[]);
    assert!(text.contains(&format!("BAD registry {registry}: ")), "its authority is unknown: {text}");
    home.write("origin.crt", &ca.certificate_pem());
    let pattern = registry.replace('.', "\\.");
    home.write(
        "dfget.yaml",
        &yaml(free_port()).replace(
            "    - regx: '^r\\.invalid:443$'",
            &format!("    - {{regx: '^{pattern}$', certs: [origin.crt]}}"),
        ),
    );
    let (_, text) = doctor(&home, &[&registry], &[]);
    assert!(text.contains(&format!("ok registry {registry} answers")), "{text}");
}

#[test]
fn programs_can_read_it() {
    let home = Home::with_authority(&yaml(free_port()));
    let output = run(&home, &["--offline", "--output", "json"], &[]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["bad"], 0);
    let findings = value["findings"].as_array().expect("a list");
    let of = |area: &str| findings.iter().filter(|finding| finding["area"] == area).count();
    assert_eq!(of("trust"), 4);
    assert_eq!(of("registry"), 0, "nothing is asked offline");
    assert!(value["warnings"].as_u64().expect("a number") >= 1);
}

/// Something at this socket that answers each question by this line.
fn daemon_that_says(socket: &Path, line: &'static str) {
    let listener = UnixListener::bind(socket).expect("a new socket");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut question = String::new();
            if BufReader::new(&stream).read_line(&mut question).is_ok_and(|length| length > 0) {
                let _ = (&stream).write_all(line.as_bytes());
            }
        }
    });
}

#[test]
fn a_daemon_of_another_version_is_told_with_which_is_older_and_how_to_restart_it() {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    for (line, verdict, words, remedy) in [
        (
            "{\"type\":\"seen\",\"version\":\"0.0.1\",\"pid\":1,\"store\":null,\"contents\":[]}\n",
            "warning",
            format!("of dfget 0.0.1, older than this command ({OWN})"),
            "systemctl restart dfget",
        ),
        (
            // So it says to somebody who may not know what is stored.
            "{\"type\":\"refused\",\"protocol\":9,\"version\":\"99.1.0\",\"reason\":\"no\"}\n",
            "warning",
            format!("of dfget 99.1.0, newer than this command ({OWN})"),
            "type -a dfget",
        ),
        ("\n", "warning", "does not tell its version".to_owned(), "systemctl restart dfget"),
    ] {
        let home = Home::with_authority(&yaml(free_port()));
        daemon_that_says(&home.path().join("lease.sock"), line);
        let found = found(&home, "daemon", &[]);
        let [[verdict_told, text, remedy_told]] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(verdict_told, verdict, "{text}");
        assert!(text.contains(&words) && remedy_told.contains(remedy), "{text}: {remedy_told}");
    }
}

#[test]
fn an_old_daemon_of_dfget_run_is_told_and_leaves_by_itself() {
    let home = Home::with_authority(&yaml(free_port()));
    let runtime = home.path().join("dragonfly");
    fs::create_dir(&runtime).expect("a new directory");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("it is closed");
    let old = "{\"type\":\"seen\",\"version\":\"0.0.1\",\"pid\":1,\"store\":null,\"contents\":[]}\n";
    daemon_that_says(&runtime.join("run.sock"), old);
    // Its API stands beside it.
    let _api = UnixListener::bind(runtime.join("run.admin")).expect("a new socket");
    let found = found(&home, "daemon", &[]);
    let [[verdict, text, remedy]] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(verdict, "warning", "{text}");
    assert!(text.contains("/dragonfly/run.sock, of dfget 0.0.1, older"), "{text}");
    assert!(remedy.contains("it leaves when the last command of `dfget run` has ended"), "{remedy}");
}

#[test]
fn the_daemon_that_this_very_binary_runs_is_of_its_version() {
    let stage = Stage::new(DFGET);
    let home = Home::with_authority(&yaml(free_port()));
    let socket = stage.daemon.home().join("lease.sock");
    let found = found(&home, "daemon", &[("DFGET_SYSTEM_SOCKET", socket.to_str().expect("text"))]);
    let [[verdict, text, _]] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(verdict, "ok", "{text}");
    assert!(text.contains(&format!("of dfget {}, as this command is", env!("CARGO_PKG_VERSION"))), "{text}");
}

#[test]
fn a_store_that_may_take_more_than_its_disk_has_is_told() {
    let text = |storage: &str| {
        let home = Home::with_authority(&(yaml(free_port()) + storage));
        let disks = found(&home, "disk", &[]);
        disks.into_iter().find(|[_, text, _]| text.contains("the daemon's store")).expect("it is looked at")
    };
    let [verdict, words, remedy] = text("storage: {diskGCThreshold: 900000Gi, diskGCThresholdPercent: 0}\n");
    assert!(words.contains("the store may take 966 TB, and the whole disk has "), "{words}");
    assert_eq!(verdict, "warning", "{words}");
    assert!(remedy.contains("set storage.diskGCThreshold to less"), "{remedy}");
    let [_, words, _] = text("storage: {diskGCThreshold: 1Mi}\n");
    assert!(!words.contains("may take"), "{words}");
}

#[test]
fn a_wrong_command_line_is_told_so() {
    let home = Home::with_authority(&yaml(free_port()));
    let output = run(&home, &["bad/name"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("error: bad/name names no registry: "), "{text}");
}
