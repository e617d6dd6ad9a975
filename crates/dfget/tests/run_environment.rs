//! What the command of `dfget run` gets and nobody else: variables, bundles, a password; by the real binary.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use dfget_testkit::session::{proxy_of, until};
use dfget_testkit::{Blob, Client, Ended, Request, Running, Session, TestCa};

const TRUST: [&str; 5] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"];

fn session() -> Session {
    Session::new(env!("CARGO_BIN_EXE_dfget"))
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// The environment of a command with the registry's host hijacked.
fn environment(session: &Session, set: &[(&str, &str)], flags: &[&str]) -> BTreeMap<String, String> {
    let ended = Ended::of(session.script(flags, "env").envs(set.iter().copied())).ok();
    variables(&ended.stdout)
}

/// The names of what differs from the environment of `dfget run` itself.
fn changed(session: &Session, set: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let before = Ended::of(session.program("env").envs(set.iter().copied())).ok();
    let before = variables(&before.stdout);
    let after = environment(session, set, flags);
    assert!(before.keys().all(|name| after.contains_key(name)), "nothing is taken away: {after:?}");
    // The shell's own.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let differs = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    differs.map(|(name, _)| name.clone()).filter(|name| !own.contains(&name.as_str())).collect()
}

#[test]
fn the_command_gets_these_variables_and_no_others() {
    let session = session();
    let least = [
        "CURL_CA_BUNDLE",
        "DFGET_RUN_SAVED",
        "GIT_SSL_CAINFO",
        "HTTPS_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "https_proxy",
    ];
    assert_eq!(changed(&session, &[], &[]), least);
    assert_eq!(changed(&session, &[("NO_PROXY", "localhost,.example.org")], &[]), least);
    let mut with_no_proxy = least.to_vec();
    with_no_proxy.extend(["NO_PROXY", "no_proxy"]);
    with_no_proxy.sort_unstable();
    assert_eq!(changed(&session, &[("NO_PROXY", "127.0.0.0/8"), ("no_proxy", "*")], &[]), with_no_proxy);
}

#[test]
fn no_proxy_keeps_what_is_not_hijacked() {
    let session = session();
    let host = session.registry.origin.authority();
    let name = host.split(':').next().unwrap();
    let value = format!("localhost,{name},.example.org,127.0.0.0/8,10.0.0.0/8");
    let found = environment(&session, &[("NO_PROXY", &value), ("no_proxy", "*")], &[]);
    assert_eq!(found["NO_PROXY"], "localhost,.example.org,10.0.0.0/8");
    assert_eq!(found["no_proxy"], "");
    let all = environment(&session, &[("NO_PROXY", &value)], &["--all-hosts"]);
    assert_eq!(all["NO_PROXY"], format!("localhost,{name},127.0.0.0/8"));
}

#[test]
fn plain_text_brings_http_proxy_too() {
    let session = session();
    let ended = Ended::of(&mut session.run(&["--", "sh", "-c", "env", "http://r.test/x.sif"])).ok();
    let found = variables(&ended.stdout);
    for name in ["HTTP_PROXY", "http_proxy"] {
        assert_eq!(found.get(name), found.get("HTTPS_PROXY"), "{name}");
    }
}

#[test]
fn each_bundle_is_what_the_variable_named_and_our_authority() {
    let session = session();
    let other = TestCa::new("authority of a site").certificate_pem();
    let file = session.path("site.pem");
    fs::write(&file, &other).unwrap();
    let set = [("CURL_CA_BUNDLE", file.to_str().unwrap()), ("REQUESTS_CA_BUNDLE", "/no/such/file")];
    let mut command = session.script(&[], "env");
    let ended = Ended::of(command.envs(set)).ok();
    assert!(
        ended.stderr.contains("REQUESTS_CA_BUNDLE=/no/such/file cannot be read"),
        "what cannot be read is told: {}",
        ended.stderr
    );
    let found = variables(&ended.stdout);
    let bundle = |name: &str| fs::read_to_string(&found[name]).unwrap();
    let registry = session.ca.certificate_pem();
    let certificates = |text: &str| text.matches("BEGIN CERTIFICATE").count();
    let has = |name: &str, pem: &str| bundle(name).contains(pem.trim_end());
    assert_eq!(certificates(&bundle("SSL_CERT_FILE")), 2);
    assert!(has("SSL_CERT_FILE", &registry) && !has("SSL_CERT_FILE", &other));
    assert_eq!(certificates(&bundle("CURL_CA_BUNDLE")), 2);
    assert!(has("CURL_CA_BUNDLE", &other) && !has("CURL_CA_BUNDLE", &registry));
    let ours = session.files().into_iter().find(|path| path.extension().is_some_and(|end| end == "crt"));
    let ours = fs::read_to_string(ours.expect("the daemon made an authority")).unwrap();
    for name in TRUST {
        assert!(has(name, &ours), "{name}");
        let mode = fs::metadata(&found[name]).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Who trusts a site's authority by `SSL_CERT_FILE` alone reaches the site by `curl` as before.
#[test]
fn a_host_that_is_not_hijacked_is_trusted_as_before() {
    let session = session();
    let blob = Blob::random(1000, 31);
    let url = session.registry.put("p/image", &blob);
    let script = format!("curl -sS --fail -o got {url}");
    let _ = Ended::of(&mut session.run(&["--host", "127.0.0.1:9", "--", "sh", "-c", &script])).ok();
    assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
    session.daemon();
}

#[test]
fn the_daemon_and_the_caller_get_none_of_it() {
    let session = session();
    let mut running = Running::start(session.script(&[], "echo ready; read line").stdin(Stdio::piped()));
    running.wait_for("ready");
    for process in [running.id(), session.daemon()] {
        let environment = fs::read_to_string(format!("/proc/{process}/environ")).unwrap();
        assert!(!environment.contains("lease:") && !environment.contains("PROXY"), "{environment}");
        let arguments = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
        assert!(!arguments.contains("lease:"), "{arguments}");
    }
    running.type_in(b"\n");
    let _ = running.wait();
    assert!(!session.log().contains("lease:"), "{}", session.log());
}

#[test]
fn a_dry_run_shows_no_login_of_a_sites_proxy() {
    let session = session();
    for output in ["text", "json"] {
        for proxy in ["http://user:canary@proxy.test:3128", "socks5://user:canary@proxy.test"] {
            let arguments = ["--dry-run", "--output", output, "--", "touch", "oras://r.test/image:1"];
            let ended = Ended::of(session.run(&arguments).env("HTTPS_PROXY", proxy)).ok();
            let printed = ended.stdout + &ended.stderr;
            assert!(printed.contains("https_proxy") && !printed.contains("canary"), "{printed}");
        }
    }
}

#[test]
fn a_dry_run_prints_the_environment_and_runs_nothing() {
    let session = session();
    let image = "oras://r.test:5000/project/image:1";
    let mut command = session.run(&["--dry-run", "--", "touch", "ran", image]);
    let ended = Ended::of(command.env("NO_PROXY", "r.test,x.test")).ok();
    let found = variables(&ended.stdout);
    assert_eq!(found["HTTPS_PROXY"], "http://lease:SECRET@127.0.0.1:PORT");
    assert_eq!(found["NO_PROXY"], "x.test");
    assert!(TRUST.iter().all(|name| found.contains_key(*name)), "{found:?}");
    assert!(ended.stderr.contains("hijacking r.test:5000"), "{}", ended.stderr);

    let mut command = session.run(&["--dry-run", "--output", "json", "--", "touch", "ran", image]);
    let ended = Ended::of(&mut command).ok();
    assert_eq!(ended.stderr, "");
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["hosts"], serde_json::json!(["r.test:5000"]));
    assert_eq!(json["allHosts"], false);
    assert_eq!(json["environment"]["https_proxy"], "http://lease:SECRET@127.0.0.1:PORT");
    assert!(json["store"].as_str().unwrap().starts_with(session.path("tmp").to_str().unwrap()), "{json}");
    assert!(json["notes"].as_array().unwrap().iter().any(|note| note == "hijacking r.test:5000"), "{json}");

    let ended = Ended::of(&mut session.run(&["--dry-run", "--", "touch", "ran"])).ok();
    assert_eq!(ended.stdout.trim(), "");
    assert!(!session.path("home/ran").exists() && session.daemons().is_empty());
    let made: Vec<_> =
        [session.path("tmp"), session.path("run")].map(|dir| fs::read_dir(dir).unwrap().count()).into();
    assert_eq!(made, [0, 0], "it leaves no trace: {:?}", session.files());
}

#[test]
fn a_command_without_an_image_runs_as_if_we_were_not_there() {
    let session = session();
    let ended = Ended::of(&mut session.run(&["--", "env"])).ok();
    let direct = Ended::of(&mut session.program("env")).ok();
    assert_eq!(variables(&ended.stdout), variables(&direct.stdout));
    assert!(
        ended
            .stderr
            .contains("no image reference in the command: it runs directly; name its registries by --host"),
        "{}",
        ended.stderr
    );
    assert!(session.daemons().is_empty());
    // Whoever asked for quiet is not told.
    assert_eq!(Ended::of(&mut session.run(&["-q", "--", "true"])).stderr, "");
}

#[test]
fn a_pull_is_told_in_one_line() {
    let session = session();
    let blob = Blob::random(3 << 20, 11);
    let url = session.registry.put("p/image", &blob);
    let pull = |flags: &[&str]| {
        let command = [flags, &["--", "curl", "-sS", "--fail", "-o", "got", &url]].concat();
        let ended = Ended::of(&mut session.run(&command)).ok();
        assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..], "every byte is right");
        ended.stderr
    };
    assert_eq!(pull(&[]), "dfget run: 3.15 MB came from the registry and are kept on this node\n");
    let spared = "dfget run: 3.15 MB came from this node; no registry sent a byte of it for this command\n";
    assert_eq!(pull(&[]), spared);
    assert_eq!(pull(&["--quiet"]), "");
    assert_eq!(session.registry.downloads(&blob.digest), 1);
}

/// The proxy's port and password as the command was told them.
fn lease(running: &mut Running) -> (std::net::SocketAddr, String) {
    let line = running.wait_for("HTTPS_PROXY=");
    proxy_of(line.trim_start_matches("HTTPS_PROXY="))
}

const HOLD: &str = "env | grep ^HTTPS_PROXY=; echo ready; read line";

#[test]
fn nobody_comes_in_without_the_leases_password() {
    let session = session();
    let blob = Blob::random(100_000, 3);
    let url = session.registry.put("p/image", &blob);
    let mut running = Running::start(session.script(&[], HOLD).stdin(Stdio::piped()));
    let (address, login) = lease(&mut running);
    let ask = |login: Option<&str>| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--cacert"]).arg(session.path("trusted.pem"));
        command.args(["--proxy", &format!("http://{address}"), "-o", "/dev/null", "-w", "%{http_connect}"]);
        if let Some(login) = login {
            command.args(["--proxy-user", login]);
        }
        Ended::of(command.arg(&url)).stdout
    };
    for wrong in [None, Some("lease:"), Some("lease:0123456789abcdef"), Some(&login.replace("lease", "user"))]
    {
        assert_eq!(ask(wrong), "407", "{wrong:?}");
    }
    assert_eq!(ask(Some(&login)), "200");
    let plain = Client::new(address, session.ca.client_config(&[]));
    let refused = plain.fetch(&Request::get("http://127.0.0.1:1/")).unwrap();
    assert_eq!(refused.status, 407, "requests in plain text neither");

    // The password of one lease opens no other.
    let mut second = Running::start(session.script(&[], HOLD).stdin(Stdio::piped()));
    let (other, _) = lease(&mut second);
    assert_ne!(other, address);
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_connect}", "--proxy-user", &login, &url]);
    assert_eq!(Ended::of(command.args(["--proxy", &format!("http://{other}")])).stdout, "407");
    for mut running in [running, second] {
        running.type_in(b"\n");
        let _ = running.wait();
    }
}

/// The lease's port ends with its command.
#[test]
fn the_port_is_closed_when_the_command_has_ended() {
    let session = session();
    let mut running = Running::start(session.script(&[], HOLD).stdin(Stdio::piped()));
    let mut other = Running::start(session.script(&[], HOLD).stdin(Stdio::piped()));
    let (address, _) = lease(&mut running);
    let (others, _) = lease(&mut other);
    running.type_in(b"\n");
    let _ = running.wait();
    until("the port to be closed", || std::net::TcpStream::connect(address).is_err().then_some(()));
    assert!(std::net::TcpStream::connect(others).is_ok(), "the other's stays");
    other.type_in(b"\n");
    let _ = other.wait();
}

#[test]
fn everything_is_private() {
    let session = session();
    let blob = Blob::random(200_000, 5);
    let (ended, got) = session.fetch(&session.registry.put("p/image", &blob));
    assert!(ended.code == 0 && got == blob.bytes[..], "{}", ended.stderr);
    let own = [session.path("run"), session.path("tmp")];
    let kept =
        session.files().into_iter().filter(|path| own.iter().any(|dir| path.starts_with(dir) && path != dir));
    let kept: Vec<_> = kept.collect();
    assert!(kept.iter().any(|path| path.ends_with("daemon/core.log")), "{kept:?}");
    assert!(kept.iter().any(|path| path.extension().is_some_and(|end| end == "key")), "{kept:?}");
    for path in kept {
        let found = fs::symlink_metadata(&path).unwrap();
        let mode = found.mode() & 0o777;
        if found.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
        } else if path.extension().is_none_or(|end| end != "crt") {
            // A certificate is for everybody; its directory is closed.
            assert_eq!(mode & 0o177, 0, "{} has {mode:o}", path.display());
        }
    }
}

/// What others may enter is closed to them before it is used.
#[test]
fn an_open_directory_is_closed() {
    let session = session();
    fs::create_dir(session.runtime()).unwrap();
    fs::set_permissions(session.runtime(), fs::Permissions::from_mode(0o777)).unwrap();
    let _ = Ended::of(&mut session.script(&[], "true")).ok();
    assert_eq!(fs::metadata(session.runtime()).unwrap().mode() & 0o777, 0o700);
    session.daemon();
}

#[test]
fn a_bundle_that_vanishes_comes_back() {
    let session = session();
    let blob = Blob::random(100_000, 8);
    let url = session.registry.put("p/image", &blob);
    let script = format!(
        "echo bundle \"$CURL_CA_BUNDLE\"; read line; curl -sS --fail --cacert \"$SSL_CERT_FILE\" -o got {url}"
    );
    let mut running = Running::start(session.script(&[], &script).stdin(Stdio::piped()));
    let line = running.wait_for("bundle ");
    let curl = Path::new(line.trim_start_matches("bundle "));
    let all: Vec<_> = fs::read_dir(curl.parent().unwrap())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.contains(session.ca.certificate_pem().trim_end())
        })
        .collect();
    assert!(!all.is_empty());
    for path in &all {
        fs::remove_file(path).unwrap();
    }
    until("the bundle to come back", || all.iter().all(|path| path.exists()).then_some(()));
    running.type_in(b"\n");
    let ended = running.wait();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
}

#[test]
fn a_run_in_a_run_is_served_by_the_same_daemon() {
    let session = session();
    let blob = Blob::random(1 << 20, 21);
    let url = session.registry.put("p/image", &blob);
    let dfget = env!("CARGO_BIN_EXE_dfget");
    let inner = format!("{dfget} run --verbose -- curl -sS --fail -o inner {url}");
    let outer = session.script(&["--verbose"], &format!("{inner} && curl -sS --fail -o outer {url}"));
    let ended = Ended::of(&mut { outer }).ok();
    for file in ["home/inner", "home/outer"] {
        assert!(fs::read(session.path(file)).unwrap() == blob.bytes[..], "{file}");
    }
    assert_eq!(session.registry.downloads(&blob.digest), 1);
    let used: Vec<_> =
        ended.stderr.lines().filter(|line| line.contains("using the daemon of this user")).collect();
    assert_eq!(used.len(), 2, "{}", ended.stderr);
    assert_eq!(used[0], used[1]);
    assert!(!ended.stderr.contains("through the proxy that was set before"), "{}", ended.stderr);
}

/// Of three that lie in each other the innermost starts from what was before all, whatever those around it set.
#[test]
fn a_run_in_a_run_in_a_run_takes_none_of_them_for_the_sites_proxy() {
    let session = session();
    let dfget = env!("CARGO_BIN_EXE_dfget");
    let host = session.registry.origin.authority();
    let innermost = format!("{dfget} run --verbose --host {host} -- env");
    let middle = format!("{dfget} run --host {host} -- {innermost}");
    // The outer one alone is asked for something in plain text.
    let mut outer = session.run(&["--", "sh", "-c", &middle, "http://r.test/x.sif"]);
    let ended = Ended::of(&mut outer).ok();
    assert!(!ended.stderr.contains("through the proxy that was set before"), "{}", ended.stderr);
    session.daemon();
}

/// A variable that is no text is handed on as it is.
#[test]
fn variables_that_are_no_text_stay() {
    use std::os::unix::ffi::OsStrExt as _;
    let session = session();
    let odd = std::ffi::OsStr::from_bytes(b"a\xffb");
    let ended = session.script(&[], "printf %s \"$ODD\"").env("ODD", odd).output().unwrap();
    assert_eq!(ended.stdout, b"a\xffb");
}
