//! `dfget doctor`, by the real binary: each trap of a first pull is found, with its remedy.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use dfget_testkit::{Home, Registry, TestCa};

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
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["bad"], 0);
    let findings = value["findings"].as_array().expect("a list");
    let of = |area: &str| findings.iter().filter(|finding| finding["area"] == area).count();
    assert_eq!(of("trust"), 4);
    assert_eq!(of("registry"), 0, "nothing is asked offline");
    assert!(value["warnings"].as_u64().expect("a number") >= 1);
}

#[test]
fn a_wrong_command_line_is_told_so() {
    let home = Home::with_authority(&yaml(free_port()));
    let output = run(&home, &["bad/name"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("error: bad/name names no registry: "), "{text}");
}
