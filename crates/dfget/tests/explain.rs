//! `dfget explain`, by the real binary: what it says of each decision, word for word, and that it asks nobody.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use dfget_testkit::{Blob, Home, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

const CONFIG: &str = "dataDir: data
proxies:
  - regx: 'blobs/sha256.*'
  - {regx: 'manifests/sha256.*'}
  - {regx: '/files/'}
  - {regx: '/live/', direct: true}
  - {regx: '//old', useHTTPS: true, redirect: new.test}
hijackHTTPS:
  cert: ca.crt
  key: ca.key
  hosts:
    - regx: '^r\\.test:443$'
    - {regx: '\\.insecure\\.test:', insecure: true}
";

/// `dfget explain` in this home, where nobody can be asked.
fn run(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let variables = variables.iter().copied();
    explain(home.path()).args(arguments).envs(variables).output().expect("the binary is there")
}

/// What is printed, and the exit status.
fn say(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let output = run(home, arguments, variables);
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(errors, "");
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// The line of a step, without its name.
fn said_of(home: &Home, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    step(&say(home, arguments, variables).0, name)
}

fn explain(home: &Path) -> Command {
    explain_by(Path::new(DFGET), home)
}

fn explain_by(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["explain", "--config", "dfget.yaml"])
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"));
    command
}

/// The words of the first step of this name.
fn step(text: &str, name: &str) -> String {
    let mut lines = text.lines().skip_while(|line| line.get(2..14).is_none_or(|head| head.trim() != name));
    let first = lines.next().unwrap_or_default();
    assert_ne!(first, "", "no step {name} in\n{text}");
    let rest = lines.take_while(|line| line.starts_with("              "));
    let words: Vec<_> = std::iter::once(&first[14..]).chain(rest.map(str::trim)).collect();
    words.join(" ")
}

const PROXIED: (&str, &str) = ("HTTPS_PROXY", "127.0.0.1:65001");

#[test]
fn an_image_by_its_tag() {
    let home = Home::with_authority(CONFIG);
    let (text, code) = say(&home, &["oras://r.test/lab/image:1"], &[PROXIED]);
    assert_eq!(
        text,
        "by dfget.yaml

GET https://r.test/v2/lab/image/manifests/1
              the manifest, by its tag
  client      proxied: HTTPS_PROXY is 127.0.0.1:65001, and no entry of NO_PROXY
              names the host
  white list  every target may be reached: there is no whiteList
  connection  opened: hosts[0], `^r\\.test:443$` (dfget.yaml:12)
  authority   HOME/ca.crt, which is for any host
  rule        none of 5 rules of `proxies` matches: forwarded, nothing is stored
              (dfget.yaml:2)
  tag         a tag may move: what it means is asked again after 10s
              (manifests.freshness), once for all clients with the same login;
              blobs are asked for by their digests

GET https://r.test/v2/lab/image/blobs/sha256:…
              each blob, by its digest
  client      proxied: HTTPS_PROXY is 127.0.0.1:65001, and no entry of NO_PROXY
              names the host
  white list  every target may be reached: there is no whiteList
  connection  opened: hosts[0], `^r\\.test:443$` (dfget.yaml:12)
  authority   HOME/ca.crt, which is for any host
  rule        proxies[0], `blobs/sha256.*` (dfget.yaml:3)
  task        one for each digest, whose hex is its id
  cached      ask with the digest: `dfget explain https://…/blobs/sha256:…`
  readers     whoever r.test allows it to, by the client's own Authorization and
              other personal headers and the query, asked for each content of
              lab/image: a yes counts for 1 min; while r.test does not answer,
              its last yes counts for 24 h

yes: it is accelerated
"
        .replace("HOME", &home.path().display().to_string())
    );
    assert_eq!(code, Some(0));
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("ca.crt")), "{text}");
}

#[test]
fn a_file_at_a_url() {
    let home = Home::with_authority(CONFIG);
    let url = "https://x.insecure.test/files/a.sif?b=1&X-Amz-Signature=canary&a=2";
    let (text, code) = say(&home, &[url], &[PROXIED]);
    assert_eq!(
        text,
        "by dfget.yaml

GET https://x.insecure.test/files/a.sif?b=…&X-Amz-Signature=…&a=…
              the URL itself
  client      proxied: HTTPS_PROXY is 127.0.0.1:65001, and no entry of NO_PROXY
              names the host
  white list  every target may be reached: there is no whiteList
  connection  opened: hosts[1], `\\.insecure\\.test:`; the origin's certificate is
              not verified (insecure) (dfget.yaml:13)
  authority   HOME/ca.crt, which is for any host
  rule        proxies[2], `/files/` (dfget.yaml:5)
  task        TASK
  canonical   https://x.insecure.test/files/a.sif?a=…&b=…
  cached      no: it is fetched by the first who asks
  readers     whoever x.insecure.test allows it to, by the client's own
              Authorization and other personal headers and the query, asked for
              each version of it: a yes counts for 1 min; while x.insecure.test
              does not answer, its last yes counts for 24 h

yes: it is accelerated
"
        .replace("HOME", &home.path().display().to_string())
        .replace("TASK", &step(&text, "task"))
    );
    assert_eq!(step(&text, "task").len(), 64);
    assert_eq!(code, Some(0));
    let other = said_of(&home, "task", &[&url.replace("canary", "other")], &[PROXIED]);
    assert_eq!(other, step(&text, "task"), "the signature is no part of it");
    let tagged = said_of(&home, "task", &[url, "-H", "X-Dragonfly-Tag: t"], &[PROXIED]);
    assert_ne!(tagged, step(&text, "task"));
    assert!(!home.path().join("data").exists(), "a look makes no store");
}

#[test]
fn what_the_clients_variables_do() {
    let home = Home::with_authority(CONFIG);
    let said = |reference: &str, variables: &[(&str, &str)]| {
        let (text, code) = say(&home, &[reference], variables);
        (step(&text, "client"), code)
    };
    let image = "oras://r.test/lab/image:1";
    assert_eq!(
        said(image, &[]),
        ("HTTPS_PROXY is not set here; clients need HTTPS_PROXY=127.0.0.1:65001".to_owned(), Some(0))
    );
    assert_eq!(
        said(image, &[PROXIED, ("NO_PROXY", "a, .test"), ("no_proxy", "")]),
        (
            "not proxied: the entry `.test` of NO_PROXY names it; `NO_PROXY=''` before the command lifts that, \
             `no_proxy=''` does not: the upper case counts first"
                .to_owned(),
            Some(1)
        )
    );
    assert_eq!(
        said(image, &[("https_proxy", "http://u:secret@127.0.0.1:65001"), ("no_proxy", "r.test")]),
        (
            "not proxied: the entry `r.test` of no_proxy names it; `no_proxy=''` before the command lifts that"
                .to_owned(),
            Some(1)
        )
    );
    assert_eq!(
        said(image, &[("https_proxy", "http://u:secret@127.0.0.1:65001"), ("no_proxy", "")]),
        (
            "proxied: https_proxy is 127.0.0.1:65001, and no entry of NO_PROXY names the host".to_owned(),
            Some(0)
        )
    );
    assert_eq!(
        said(image, &[("HTTPS_PROXY", "proxy.site.test:3128")]),
        (
            "not by this proxy: HTTPS_PROXY is proxy.site.test:3128, and this one listens on 127.0.0.1:65001"
                .to_owned(),
            Some(1)
        )
    );
    assert_eq!(
        said("localhost:5000/lab/image:1", &[PROXIED]),
        (
            "not proxied: clients written in Go (Apptainer, oras, crane) never use a proxy for localhost and \
             127.0.0.0/8, whatever NO_PROXY says"
                .to_owned(),
            Some(1)
        )
    );
}

#[test]
fn a_request_that_takes_the_port_for_a_registry() {
    let home = Home::with_authority(
        "dataDir: data
registryMirror: {url: 'https://main.test', dynamic: true}
extraRegistryMirrors: [{url: 'https://off.test', direct: true}, {url: 'https://rules.test/hub', useProxies: true}]
proxies: [{regx: 'hub/v2/x/blobs'}]
whiteList: [{host: main.test}, {host: off.test}, {host: rules.test}]
",
    );
    let digest = format!("sha256:{}", "ab".repeat(32));
    let blob = format!("http://127.0.0.1:65001/v2/x/blobs/{digest}");
    let said = |url: &str, name: &str, arguments: &[&str]| {
        let (text, code) = say(&home, &[&[url][..], arguments].concat(), &[]);
        (step(&text, name), code)
    };
    let mirror = |url: &str, arguments: &[&str]| said(url, "mirror", arguments).0;
    assert_eq!(mirror(&blob, &[]), format!("leads to https://main.test/v2/x/blobs/{digest} (dfget.yaml:2)"));
    assert_eq!(said(&blob, "task", &[]), ("ab".repeat(32), Some(0)));
    assert_eq!(said(&blob, "digest", &[]).0, format!("{digest}, verified"));
    let head = said(&blob, "head", &["--method", "HEAD"]);
    assert_eq!(head, ("answered from the store if the content is there, else forwarded".to_owned(), Some(0)));
    let (task, code) = said("http://localhost:65001/v2/x/manifests/1", "task", &[]);
    assert_eq!(task, "forwarded: only blobs and manifests by digest are tasks of a mirror");
    assert_eq!(code, Some(1));
    let off = &["-H", "X-Dragonfly-Registry: https://off.test"];
    assert_eq!(said(&blob, "task", off).0, "forwarded: the mirror says `direct`");
    let by_rules = said(&format!("{blob}?ns=rules.test"), "rule", &[]);
    assert_eq!(by_rules, ("proxies[0], `hub/v2/x/blobs` (dfget.yaml:4)".to_owned(), Some(0)));
    let other = format!("{blob}?ns=other.test");
    assert!(mirror(&other, &[]).contains("as the client says: only where that is an address of the network"));
    assert_eq!(said(&other, "white list", &[]).0, "refused with 403: no entry of whiteList names it");
    let bad = mirror(&blob, &["-H", "X-Dragonfly-Registry: ftp://x"]);
    assert!(
        bad.starts_with("answered with 400: the header `X-Dragonfly-Registry` names no registry"),
        "{bad}"
    );
    let (text, _) = say(&Home::with_authority("dataDir: data\nproxies: [{regx: x}]\n"), &[&blob], &[]);
    let disabled = step(&text, "mirror");
    assert!(disabled.starts_with("answered with 404: this is a proxy"), "{disabled}");
    let tunnelled = said("oras://main.test/x:1", "connection", &[]).0;
    assert!(tunnelled.ends_with("`dfget explain http://127.0.0.1:65001/v2/…`"), "{tunnelled}");
}

#[test]
fn each_way_not_to_be_accelerated_is_named() {
    let more = "whiteList: [{host: r.test, ports: [443]}, {regx: insecure}]\nbasicAuth: {username: u, password: hunter2}\n";
    let home = Home::with_authority(&format!("{CONFIG}{more}"));
    let said = |name: &str, arguments: &[&str]| {
        let (text, code) = say(&home, arguments, &[PROXIED]);
        assert_eq!(code, Some(1), "{text}");
        assert!(!text.contains("hunter2"));
        step(&text, name)
    };
    assert_eq!(
        said("white list", &["https://other.test/files/x"]),
        "refused with 403: no entry of whiteList names it"
    );
    assert_eq!(
        said("white list", &["https://r.test:8443/files/x"]),
        "refused with 403: not a port of whiteList[0] (dfget.yaml:14)"
    );
    assert_eq!(
        said("connection", &["https://r.test:8443/files/x"]),
        "tunnelled unseen: no hijackHTTPS.hosts[].regx is found in `r.test:8443` (dfget.yaml:11)"
    );
    assert_eq!(said("task", &["https://r.test/live/x"]), "forwarded: the rule says `direct`");
    assert_eq!(
        said("task", &["https://r.test/files/x", "--method", "POST"]),
        "forwarded: only a GET becomes a task, not a POST"
    );
    let refused = said("headers", &["https://r.test/files/x", "-H", "X-Dragonfly-Output-Path: /x"]);
    assert!(refused.starts_with("answered with 400: "), "{refused}");
    let wished = &["https://r.test/elsewhere", "-H", "X-Dragonfly-Use-P2P: true"];
    let (text, code) = say(&home, wished, &[PROXIED]);
    let rule = step(&text, "rule");
    assert_eq!((rule.as_str(), code), ("no rule matches, but a header makes it a task", Some(0)), "{text}");
    assert_eq!(
        said("task", &["https://r.test/files/x", "-H", "If-None-Match: \"1\""]),
        "forwarded: what `if-none-match` means is for the origin to say"
    );
    assert_eq!(
        said_of(&home, "login", &["https://r.test/files/x"], &[PROXIED]),
        "clients must send Proxy-Authorization: Basic (basicAuth), else they get 407 (dfget.yaml:15)"
    );
    assert_eq!(
        said_of(&home, "rule", &["http://old/x"], &[]),
        "proxies[4], `//old`, makes it https://new.test/x (dfget.yaml:7)"
    );
    let unmade = Home::with_authority("dataDir: data\nproxies: [{regx: x}]\n");
    assert_eq!(
        said_of(&unmade, "connection", &["https://r.test/x"], &[]),
        "tunnelled unseen: there is no hijackHTTPS"
    );
}

#[test]
fn an_authority_that_is_not_for_the_host_is_noticed() {
    let yaml = "dataDir: data\nproxies: [{regx: x}]\nhijackHTTPS: {hosts: [{regx: '^r\\.test:443$'}]}\n";
    let home = Home::with_authority(yaml);
    fs::remove_file(home.path().join("ca.key")).expect("it can be removed");
    fs::remove_file(home.path().join("ca.crt")).expect("it can be removed");
    assert_eq!(
        said_of(&home, "authority", &["https://r.test/x"], &[]),
        "the one to be made, which is for r.test"
    );
    let made = Command::new(DFGET)
        .args(["ca", "create", "--host", "other.test", "--dir", "."])
        .current_dir(home.path())
        .output()
        .expect("the binary is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let authority = said_of(&home, "authority", &["https://r.test/x"], &[]);
    assert!(authority.starts_with("tunnelled unseen: "), "{authority}");
    let remedy = " only; `dfget ca rotate --host other.test --host r.test` makes another";
    assert!(authority.ends_with(remedy), "{authority}");
}

#[test]
fn programs_get_the_same_as_json() {
    let home = Home::with_authority(CONFIG);
    let digest = format!("sha256:{}", "ab".repeat(32));
    let reference = format!("docker://r.test/a@{digest}");
    let (text, _) = say(&home, &[&reference, "--output", "json"], &[PROXIED]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((json["version"].as_i64(), json["accelerated"].as_bool()), (Some(1), Some(true)));
    let manifest = &json["requests"][0];
    assert_eq!(manifest["digest"], digest);
    assert_eq!(manifest["taskId"], "ab".repeat(32));
    assert_eq!(manifest["stored"]["state"], "nothing");
    let rule = manifest["steps"].as_array().expect("a list").iter().find(|step| step["step"] == "rule");
    let rule = rule.expect("a step for the rule");
    assert_eq!((&rule["file"], &rule["line"]), (&"dfget.yaml".into(), &4.into()));
}

#[test]
fn what_cannot_be_explained_is_told_by_the_exit_status() {
    let home = Home::with_authority(CONFIG);
    let ended = |arguments: &[&str]| {
        let output = run(&home, arguments, &[]);
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    assert_eq!(
        ended(&["docker://r.test/a@sha256:x"]),
        (Some(2), "error: the digest is none: write sha256: and 64 hex digits\n".to_owned())
    );
    let secret = ended(&["https://u:canary@r.test/x"]);
    assert_eq!(secret.0, Some(2));
    assert!(!secret.1.contains("canary"), "{}", secret.1);
    let header = ended(&["https://r.test/x", "-H", "canary"]);
    assert_eq!(header, (Some(2), "error: -H: not a header; write -H 'Name: value'\n".to_owned()));
    assert_eq!(ended(&["https://r.test/x", "--method", "no method"]).0, Some(2));
    home.write("dfget.yaml", "proxies: [{regx: '('}]\n");
    let (code, errors) = ended(&["https://r.test/x"]);
    assert_eq!(code, Some(78));
    assert!(errors.starts_with("error: dfget.yaml:1:18: proxies[0].regx: "), "{errors}");
}

#[test]
fn what_is_stored_is_asked_of_the_daemon_and_found_without_it() {
    let mut stage = Stage::with(DFGET, |options| options.environment("XDG_RUNTIME_DIR", "."));
    let blob = Blob::random(300_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let stored = |stage: &Stage| -> serde_json::Value {
        let home = stage.daemon.home();
        let output = explain(home).args([&url, "--output", "json"]).output().expect("the binary is there");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json["requests"][0]["stored"].clone()
    };
    assert_eq!(stored(&stage)["state"], "nothing");
    assert!(stage.get(&url).body == blob.bytes[..]);
    let asked = stage.registry.origin.journal().len();
    let of_daemon = stored(&stage);
    assert_eq!((&of_daemon["state"], &of_daemon["bytes"]), (&"whole".into(), &300_000.into()));
    let elsewhere = tempfile::tempdir().expect("a directory");
    let mut unknowing = explain(stage.daemon.home());
    unknowing
        .env("XDG_RUNTIME_DIR", elsewhere.path())
        .env("DFGET_SYSTEM_SOCKET", elsewhere.path().join("none"));
    let unknown = unknowing.arg(&url).output().expect("the binary is there");
    assert_eq!(
        step(&String::from_utf8(unknown.stdout).expect("text"), "cached"),
        format!("unknown: a daemon holds the store in {}", stage.daemon.data_dir().display())
    );
    assert!(stage.daemon.stop().success());
    assert_eq!(stored(&stage), of_daemon, "the same without a daemon");
    stage.daemon.start_again();
    assert_eq!(stored(&stage), of_daemon);
    assert_eq!(stage.registry.origin.journal().len(), asked, "the registry is not asked");
}

#[test]
fn other_users_are_not_told_what_is_stored() {
    if !rustix::process::geteuid().is_root() {
        // Not by a macro, whose words the test harness keeps to itself when the test ends well.
        writeln!(io::stderr(), "left out: becoming another user needs root; it runs in CI")
            .expect("it is open");
        return;
    }
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1000, 2);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    let home = stage.daemon.home();
    for path in [home.to_owned(), home.join("dfget.yaml")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("root may");
    }
    // The one under test may lie where that user cannot go.
    let binary = home.join("dfget");
    fs::copy(DFGET, &binary).expect("there is room for it");
    let output =
        explain_by(&binary, home).arg(&url).uid(65_534).gid(65_534).output().expect("it can be started");
    let text = String::from_utf8(output.stdout).expect("text");
    let cached = step(&text, "cached");
    assert!(cached.starts_with("unknown: "), "{cached}");
}
