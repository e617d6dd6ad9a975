//! `dfget daemon` with a configuration it cannot run on, by the real binary.

use std::process::{Command, Output};

fn daemon(yaml: &str) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("dfget.yaml"), yaml).expect("written");
    Command::new(env!("CARGO_BIN_EXE_dfget"))
        .args(["daemon", "--config", "dfget.yaml"])
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .env("DFGET_SYSTEM_SOCKET", directory.path().join("lease.sock"))
        .output()
        .expect("the binary is there")
}

#[test]
fn all_errors_and_warnings_are_said_and_the_exit_status_is_78() {
    let output = daemon("proxies: [{regx: '('}]\nhijackHTTPS: {cert: no.crt, key: no.key}\naliveTim: 1s\n");
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for start in [
        "error: dfget.yaml:1:18: proxies[0].regx: ",
        "error: dfget.yaml:2:21: hijackHTTPS.cert: ",
        "error: dfget.yaml:2:34: hijackHTTPS.key: ",
        "warning: dfget.yaml:3:1: aliveTim: unknown key",
    ] {
        assert!(stderr.lines().any(|line| line.starts_with(start)), "{start}\n{stderr}");
    }
}

#[test]
fn without_a_key_of_the_proxy_there_is_nothing_to_serve() {
    let output = daemon("verbose: true\n");
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "error: dfget.yaml: no key of the proxy, so there is nothing to serve; \
         write `proxies` and `hijackHTTPS`, docs/configuration.md has an example\n"
    );
}
