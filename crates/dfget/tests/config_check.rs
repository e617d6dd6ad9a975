//! `dfget config check`, by the real binary.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const GOOD: &str = r"proxies: [{regx: blobs/sha256.*}]
hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r\.example:443$'}]}
";

/// A directory with a key pair and this `dfget.yaml`.
fn site(yaml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    let authority = dfget_testkit::TestCa::new("authority of a site");
    write("ca.crt", &authority.certificate_pem());
    write("ca.key", &authority.key_pem());
    write("dfget.yaml", yaml);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(directory.path().join("ca.key"), mode).expect("closed");
    directory
}

/// Runs the binary in the directory, which is its home, too.
fn dfget(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dfget"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .output()
        .expect("the binary is there")
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_file_is_told_what_it_would_do() {
    let site = site(GOOD);
    let (code, stdout, stderr) = texts(&dfget(site.path(), &["config", "check", "dfget.yaml"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stdout,
        "dfget.yaml: 0 errors, 0 warnings; \
         the proxy would listen on 127.0.0.1:65001 and hijack `^r\\.example:443$`\n"
    );
    assert_eq!(stderr, "");
}

#[test]
fn an_authority_that_would_be_made_or_found_is_told() {
    let own = GOOD.replace("cert: ca.crt, key: ca.key, ", "");
    let site = site(&own);
    let summary = || texts(&dfget(site.path(), &["config", "check", "dfget.yaml"])).1;
    let file = site.path().join("ca.crt");
    assert!(summary().ends_with(&format!(", with the authority {}\n", file.display())), "{}", summary());
    std::fs::remove_file(site.path().join("ca.key")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let made = format!(", with an authority it would make, {} for r.example\n", file.display());
    assert!(summary().ends_with(&made), "{}", summary());
    let (_, stdout, _) = texts(&dfget(site.path(), &["config", "check", "dfget.yaml", "--output", "json"]));
    let said: Value = serde_json::from_str(&stdout).unwrap();
    let expected = serde_json::json!({"cert": file.display().to_string(), "exists": false});
    assert_eq!(said["proxy"]["authority"], expected);
    assert!(!file.exists(), "a check makes nothing");
}

#[test]
fn warnings_are_said_and_do_not_fail() {
    let site = site(&format!("{GOOD}aliveTim: 5m\n"));
    let (code, stdout, stderr) = texts(&dfget(site.path(), &["config", "check", "dfget.yaml"]));
    assert_eq!(code, Some(0));
    assert_eq!(
        stderr,
        "warning: dfget.yaml:3:1: aliveTim: unknown key, ignored; write `aliveTime` if that is meant\n"
    );
    assert!(stdout.starts_with("dfget.yaml: 0 errors, 1 warning; "), "{stdout}");
}

#[test]
fn errors_are_all_said_and_fail_with_78() {
    let site = site(&format!("{GOOD}aliveTime: soon\nverbose: 7\n"));
    let (code, stdout, stderr) = texts(&dfget(site.path(), &["config", "check", "dfget.yaml"]));
    assert_eq!(code, Some(78));
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: dfget.yaml:")).count(), 2, "{stderr}");
    assert_eq!(stdout, "dfget.yaml: 2 errors, 0 warnings; the daemon would not start\n");
}

#[test]
fn programs_get_json() {
    let site = site(&format!("{GOOD}aliveTime: soon\nverbos: true\n"));
    let arguments = ["config", "check", "dfget.yaml", "--output", "json"];
    let (code, stdout, stderr) = texts(&dfget(site.path(), &arguments));
    assert_eq!((code, stderr.as_str()), (Some(78), ""));
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(said["version"], 1);
    assert_eq!((&said["errors"], &said["warnings"]), (&1.into(), &1.into()));
    assert_eq!(said["proxy"], Value::Null);
    let error = &said["diagnostics"][0];
    assert_eq!((&error["severity"], &error["code"]), (&"error".into(), &"bad-value".into()));
    assert_eq!(
        (&error["line"], &error["column"], &error["key"]),
        (&3.into(), &12.into(), &"aliveTime".into())
    );
    assert_eq!(said["diagnostics"][1]["code"], "unknown-key");

    std::fs::write(site.path().join("dfget.yaml"), GOOD).unwrap();
    let (code, stdout, _) = texts(&dfget(site.path(), &arguments));
    assert_eq!(code, Some(0));
    let said: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(said["proxy"]["listen"], "127.0.0.1:65001");
    assert_eq!(said["proxy"]["hijack"][0], r"^r\.example:443$");
}

#[test]
fn a_missing_file_and_one_without_a_proxy_fail_with_78() {
    let site = site("verbose: true\n");
    let (code, _, stderr) = texts(&dfget(site.path(), &["config", "check", "other.yaml"]));
    assert_eq!(code, Some(78));
    assert!(
        stderr.starts_with("error: other.yaml: the configuration cannot be read: no such file"),
        "{stderr}"
    );
    let (code, _, stderr) = texts(&dfget(site.path(), &["config", "check", "dfget.yaml"]));
    assert_eq!(code, Some(78));
    assert!(stderr.starts_with("error: dfget.yaml: no key of the proxy, so there is nothing"), "{stderr}");
}

#[test]
fn the_users_own_file_is_found() {
    let site = site("");
    let directory = site.path().join(".config/dragonfly");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("dfget.yaml"), "nonsense: 1\n").unwrap();
    // A machine with a configuration of its own would be looked at first.
    if !Path::new("/etc/dragonfly/dfget.yaml").exists() {
        let (code, stdout, stderr) = texts(&dfget(site.path(), &["config", "check"]));
        assert_eq!(code, Some(78));
        assert!(stdout.contains(".config/dragonfly/dfget.yaml: 1 error, 1 warning; "), "{stdout}");
        assert!(stderr.contains("nonsense: unknown key"), "{stderr}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let site = site(GOOD);
    let mut child = Command::new(env!("CARGO_BIN_EXE_dfget"))
        .args(["config", "check", "dfget.yaml"])
        .current_dir(site.path())
        .env("HOME", site.path())
        .stdin(std::process::Stdio::null())
        .stdout({
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        })
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_command_line_fails_with_2_and_help_fits_80_columns() {
    let site = site("");
    assert_eq!(texts(&dfget(site.path(), &["config", "chekc"])).0, Some(2));
    assert_eq!(texts(&dfget(site.path(), &["config", "check", "--output", "xml"])).0, Some(2));
    assert_eq!(texts(&dfget(site.path(), &[])).0, Some(2));
    for arguments in
        [&["--help"][..], &["daemon", "--help"], &["config", "--help"], &["config", "check", "--help"]]
    {
        let (code, stdout, _) = texts(&dfget(site.path(), arguments));
        assert_eq!(code, Some(0));
        assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    }
    let (_, stdout, _) = texts(&dfget(site.path(), &["--version"]));
    assert_eq!(stdout, format!("dfget {}\n", env!("CARGO_PKG_VERSION")));
}
