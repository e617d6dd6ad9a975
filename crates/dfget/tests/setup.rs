//! `dfget setup`, by the real binary: what is printed is for this machine, and speaks of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dfget_testkit::Stage;
use tempfile::TempDir;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

const YAML: &str = "dataDir: data\nlogDir: log\nhealth: {tcpListen: {port: 41000}}\n\
    tcpListen: {listen: 0.0.0.0, port: 8001}\nproxies: [{regx: 'blobs/sha256.*'}]\n\
    hijackHTTPS: {cert: keys/ca.crt, key: keys/ca.key, hosts: [{regx: '^r\\.test:5000$'}, {regx: 'ghcr\\.io'}]}\n";

fn home(yaml: &str) -> TempDir {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join("keys")).expect("a new directory");
    for name in ["ca.crt", "ca.key"] {
        fs::write(home.path().join("keys").join(name), "").expect("a new directory");
    }
    fs::write(home.path().join("dfget.yaml"), yaml).expect("a new directory");
    home
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(DFGET);
    command.arg("setup").args(arguments).current_dir(home).env_clear().env("HOME", home);
    command.output().expect("the binary is there")
}

/// What is printed with the configuration of the home, and what is said beside.
fn printed(home: &Path, what: &str) -> (String, String) {
    let output = run(home, &[what, "--config", "dfget.yaml"]);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert_eq!(output.status.code(), Some(0), "{what}: {stderr}");
    (stdout, stderr)
}

/// The names that the list has.
fn names(home: &Path) -> Vec<String> {
    let list = String::from_utf8(run(home, &[]).stdout).expect("text");
    list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn the_list_names_every_file_in_lines_of_a_terminal() {
    let home = home(YAML);
    let list = String::from_utf8(run(home.path(), &[]).stdout).expect("text");
    let expected = "\
`dfget setup WHAT` prints one of these for this machine:
  systemd         the daemon as a service of its own user
  systemd-socket  its ports, which stay while it restarts
  sysusers        the user of that service
  tmpfiles        what may be written beside dfget.yaml, and by whom
  apparmor        a profile for that service
  config          a dfget.yaml to begin with
  slurm-prolog    starts the daemon and fetches images before a job
  slurm-epilog    notes what was served, after a job
  job-script      a job whose nodes feed each other, without any set-up
  lmod            an environment module for clients
  apptainer       variables for apptainer and singularity of all users
  containerd      the daemon as mirror of all registries
  ansible         a playbook for all nodes, with the role of deploy/ansible
  prometheus      alerts
  grafana         a dashboard, to be imported
";
    assert_eq!(list, expected);
    assert!(list.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn paths_ports_and_registries_are_those_of_the_configuration() {
    let home = home(YAML);
    let here = home.path().display().to_string();
    let has = |what: &str, parts: &[&str]| {
        let (text, _) = printed(home.path(), what);
        for part in parts {
            let part = part.replace("HERE", &here).replace("DFGET", DFGET);
            assert!(text.contains(&part), "{what}: {part}\n{text}");
        }
    };
    has("systemd", &["ExecStart=DFGET daemon --config HERE/dfget.yaml\n", "Type=notify\n"]);
    has("systemd-socket", &["ListenStream=0.0.0.0:8001\n", "ListenStream=/run/dragonfly/lease.sock\n"]);
    has("slurm-prolog", &["/dev/tcp/127.0.0.1/41000'", " DFGET preheat -f "]);
    has("slurm-epilog", &["http://127.0.0.1:41000/metrics"]);
    has("job-script", &["oras://r.test:5000/project/image:1", "DFGET run --cluster \"$SLURM_JOB_NODELIST\""]);
    has("lmod", &["\"http://127.0.0.1:8001\"", "local bundle = \"HERE/keys/bundle.crt\""]);
    has("apptainer", &["HTTPS_PROXY=http://127.0.0.1:8001", "SSL_CERT_FILE=HERE/keys/bundle.crt"]);
    has("containerd", &["[host.\"http://127.0.0.1:8001\"]"]);
    has("ansible", &["        - r.test:5000\n        - ghcr.io:443\n"]);
    has("prometheus", &["targets: ['node001:41000']"]);
    has("apparmor", &["  DFGET mr,"]);
    for what in names(home.path()) {
        let (text, said) = printed(home.path(), &what);
        for usual in ["65001", "40901", "/usr/bin/dfget"] {
            assert!(!text.contains(usual), "{what}: {usual}\n{text}");
        }
        assert!(said.starts_with("dfget setup: "), "{what}: {said}");
    }
    let (_, said) = printed(home.path(), "systemd");
    let expected = "dfget setup: /etc/systemd/system/dfget.service; then: systemctl daemon-reload && systemctl \
                    enable --now dfget.service\n";
    assert_eq!(said, expected);
}

#[test]
fn a_file_is_written_that_was_not_there() {
    let home = home(YAML);
    let arguments = ["lmod", "--config", "dfget.yaml", "--output", "dfget.lua"];
    let output = run(home.path(), &arguments);
    assert!(output.status.success() && output.stdout.is_empty());
    let written = fs::read_to_string(home.path().join("dfget.lua")).expect("it is there");
    assert_eq!(written, printed(home.path(), "lmod").0);
    let again = run(home.path(), &arguments);
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.starts_with("error: dfget.lua is there already; look at it"), "{said}");
    let nowhere = run(home.path(), &["lmod", "--config", "dfget.yaml", "--output", "none/dfget.lua"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("none/dfget.lua cannot be written"));
}

#[test]
fn a_configuration_that_cannot_be_used_and_a_name_that_nothing_has_are_told() {
    let home = home("proxy: [");
    let broken = run(home.path(), &["lmod", "--config", "dfget.yaml"]);
    assert_eq!(broken.status.code(), Some(78));
    assert!(broken.stdout.is_empty() && broken.stderr.starts_with(b"error: "));
    let missing = run(home.path(), &["lmod", "--config", "none.yaml"]);
    assert_eq!(missing.status.code(), Some(78));
    let unknown = run(home.path(), &["slurm-prolg"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("'slurm-prolog'"));
    assert_eq!(run(home.path(), &["--output", "x"]).status.code(), Some(2));
}

/// Words of a text that are names of metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            (word.starts_with("dfget_") || word.starts_with("dragonfly_dfdaemon_")) && word.contains('_')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_speak_of_metrics_that_a_daemon_has() {
    let stage = Stage::new(DFGET);
    let scraped = stage.daemon.metrics().expect("the admin port answers");
    let known: BTreeSet<String> = scraped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect();
    for file in ["prometheus/rules.yml", "prometheus/rules.test.yml", "grafana/dashboard.json"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
        let text = fs::read_to_string(&path).expect("it is there");
        let used = metrics_in(&text);
        assert!(used.len() >= 2, "{file}");
        for name in used {
            assert!(known.contains(&name), "{file}: {name} is none of {known:?}");
        }
    }
    let dashboard = include_str!("../../../deploy/grafana/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() >= 10);
    for panel in panels {
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}
