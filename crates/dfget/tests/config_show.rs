//! `dfget config show`, by the real binary: complete, true, and itself a configuration.

use std::fs;
use std::process::{Command, Output};

use dfget_testkit::{Blob, Home, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// `dfget config` in this home, for a user of another.
fn run(home: &Home, arguments: &[&str]) -> Output {
    let mut command = home.command(DFGET);
    command.arg("config").args(arguments).env("HOME", "/home/u").output().expect("the binary is there")
}

fn show(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, &[&["show"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Keys and values alone.
fn values(yaml: &str) -> Vec<&str> {
    yaml.lines().map(|line| line.split("  #").next().unwrap_or_default().trim_end()).skip(1).collect()
}

#[test]
fn every_value_stands_with_the_place_it_is_from() {
    let home = Home::new(
        "dataDir: /d\nlogDir: logs\nproxy: proxy.yaml\nbasicAuth: {username: u, password: hunter2}\n\
         access:\n  ttl: 5m\n",
    );
    home.write("proxy.yaml", "proxies:\n  - regx: 'blobs/sha256.*'\ntcpListen: {port: 7}\n");
    let text = show(&home, &["--config", "dfget.yaml", "--verbose"]);
    let here = home.path().display();
    let start = "\
# the configuration of dfget as it is in effect: dfget.yaml, by the command line
# `***` stands for a secret: fill it in again before this file is used
aliveTime: 0                                # default
gcInterval: 1m                              # default
keepStorage: true                           # default
# metrics:                                  # not set
";
    assert!(text.starts_with(start), "{text}");
    for line in [
        "dataDir: /d                                 # dfget.yaml:1",
        "verbose: true                               # flag --verbose",
        "  ttl: 5m                                   # dfget.yaml:6",
        "  offlineGrace: 24h                         # default",
        "    port: 7                                 # proxy.yaml:3",
        "    - regx: 'blobs/sha256.*'                # proxy.yaml:2",
        "      useHTTPS: false                       # default",
        "      # redirect:                           # not set",
        "    password: '***'                         # dfget.yaml:4; fill it in again",
        "  # hijackHTTPS:                            # not set",
    ] {
        let line = line.replace("# proxy.yaml", &format!("# {here}/proxy.yaml"));
        assert!(text.lines().any(|shown| shown == line), "no {line:?} in\n{text}");
    }
    assert!(text.contains(&format!("logDir: '{here}/logs'")), "{text}");
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_is_shown_is_a_configuration_that_means_the_same() {
    let stage = Stage::with(DFGET, |options| options.extra("storage: {diskGCThreshold: 1Gi}\nmetrics: ':0'"));
    let file = stage.daemon.home().join("dfget.yaml");
    let show = || {
        let output = Command::new(DFGET)
            .args(["config", "show", "--config"])
            .arg(&file)
            .output()
            .expect("it is there");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let first = show();
    fs::write(&file, &first).expect("it can be written");
    assert_eq!(values(&first), values(&show()));
    stage.daemon.send(dfget_testkit::daemon::Signal::HUP);
    stage.daemon.wait_for_log("is read again, nothing in it has changed");
    let blob = Blob::random(1000, 1);
    let url = stage.registry.put("lab/image", &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
}

#[test]
fn programs_get_a_list_of_keys() {
    let home = Home::new("dataDir: /d\nproxies:\n  - regx: a\n    direct: true\ndefaultTag: t\n");
    let json = show(&home, &["--config", "dfget.yaml", "--output", "json", "--console"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["version"], &json["file"]), (&1.into(), &"dfget.yaml".into()));
    let settings = json["settings"].as_array().expect("a list");
    let of = |key: &str| {
        let setting = settings.iter().find(|setting| setting["key"] == key);
        let setting = setting.unwrap_or_else(|| panic!("no {key}"));
        let source = &setting["source"];
        (
            setting["value"].to_string(),
            source["kind"].as_str().expect("text").to_owned(),
            source["line"].as_u64(),
        )
    };
    let file = || "file".to_owned();
    assert_eq!(of("proxy.proxies[0].direct"), ("true".to_owned(), file(), Some(4)));
    assert_eq!(of("proxy.defaultTag"), ("\"t\"".to_owned(), file(), Some(5)));
    assert_eq!(of("console"), ("true".to_owned(), "flag".to_owned(), None));
    assert_eq!(of("proxy.tcpListen.port"), ("65001".to_owned(), "default".to_owned(), None));
    assert_eq!(of("proxy.basicAuth.password"), ("null".to_owned(), "unset".to_owned(), None));
    assert_eq!(of("health.tcpListen.port").0, "{\"end\":65535,\"start\":40901}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_not_shown() {
    let home = Home::new("proxies: [{regx: '('}]\ndataDir: /d\n");
    let output = run(&home, &["show", "--config", "dfget.yaml"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
    let errors = String::from_utf8(output.stderr).expect("text");
    assert!(errors.starts_with("error: dfget.yaml:1:18: proxies[0].regx: "), "{errors}");
}

#[test]
fn the_reference_is_that_of_the_documentation() {
    let home = Home::new("");
    let output = run(&home, &["reference"]);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(include_str!("../../../docs/configuration.md").contains(table.trim_end()), "{table}");
}
