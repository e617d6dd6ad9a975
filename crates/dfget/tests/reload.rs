//! A configuration that changes while the daemon runs: by SIGHUP, by looking at the file, with errors in it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dfget_testkit::daemon::{DaemonOptions, Signal};
use dfget_testkit::session::send;
use dfget_testkit::{Blob, Connection, Gate, Registry, Request, Session, Stage, TestCa};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

/// A rule that matches nothing here.
const NO_RULE: &str = "[{regx: 'no-such-thing'}]";
const BLOBS: &str = "[{regx: 'blobs/sha256.*'}]";

/// A daemon whose file is written anew.
struct Lab {
    stage: Stage,
}

impl Lab {
    fn new(options: impl FnOnce(DaemonOptions) -> DaemonOptions) -> Self {
        Self { stage: Stage::with(DFGET, options) }
    }

    fn file(&self) -> PathBuf {
        self.stage.daemon.home().join("dfget.yaml")
    }

    /// Changes the file; what is replaced must be there.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).expect("the file is there");
        assert!(text.contains(from), "no {from:?} in\n{text}");
        fs::write(self.file(), text.replace(from, to)).expect("it can be written");
    }

    /// SIGHUP, until the log has one more line with `text`.
    fn hang_up_until(&self, text: &str) {
        let before = self.said(text);
        self.stage.daemon.send(Signal::HUP);
        self.wait_for(text, before + 1);
    }

    fn said(&self, text: &str) -> usize {
        self.stage.daemon.log().matches(text).count()
    }

    fn wait_for(&self, text: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.said(text) < times {
            assert!(Instant::now() < deadline, "not {times} times {text:?} in\n{}", self.stage.daemon.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn connection(&self, url: &str) -> Connection {
        self.stage.client().open(url).expect("an answer").expect("granted")
    }
}

fn fetch(connection: &mut Connection, url: &str, blob: &Blob) {
    let response = connection.fetch(&Request::get(url)).expect("an answer");
    assert!(response.status == 200 && response.is_complete() && response.body == blob.bytes[..]);
}

#[test]
fn outcome_sighup_reloads() {
    let lab = Lab::new(|options| options.rules(NO_RULE));
    let blob = Blob::random(300_000, 1);
    let url = lab.stage.registry.put(IMAGE, &blob);
    let mut kept = lab.connection(&url);
    for _ in 0..2 {
        fetch(&mut kept, &url, &blob);
    }
    assert_eq!(lab.stage.registry.downloads(&blob.digest), 2, "no rule makes it a task");
    lab.edit(NO_RULE, BLOBS);
    lab.hang_up_until("update proxy rules");
    for _ in 0..2 {
        fetch(&mut kept, &url, &blob);
    }
    assert_eq!(lab.stage.registry.downloads(&blob.digest), 3, "the rules hold on the old connection, too");
    for line in [
        "SIGHUP: config file ",
        "dfget.yaml changed: proxy.proxies\"",
        "previous rules: [{regx: no-such-thing}]",
        "current rules: [{regx: blobs/sha256.*}]",
    ] {
        assert_eq!(lab.said(line), 1, "{line}: {}", lab.stage.daemon.log());
    }
    lab.hang_up_until("is read again, nothing in it has changed");
    fetch(&mut kept, &url, &blob);
}

#[test]
fn what_was_told_under_another_configuration_is_asked_again() {
    let lab = Lab::new(|options| options.rules(NO_RULE).extra("manifests: {freshness: 10m}"));
    let url = lab.stage.registry.put_manifest(IMAGE, "latest", b"first");
    assert_eq!(lab.stage.get(&url).text(), "first");
    lab.stage.registry.put_manifest(IMAGE, "latest", b"second");
    assert_eq!(lab.stage.get(&url).text(), "first", "it holds");
    lab.edit(NO_RULE, BLOBS);
    lab.hang_up_until("update proxy rules");
    assert_eq!(lab.stage.get(&url).text(), "second");
}

#[test]
fn outcome_sigterm_keeps_data_and_drains() {
    let mut lab = Lab::new(|options| options);
    let blob = Blob::random(6 << 20, 2);
    let url = lab.stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    lab.stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
    let mut connection = lab.connection(&url);
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(1 << 20) == blob.bytes[..1 << 20]);
    lab.stage.daemon.terminate();
    lab.stage.daemon.wait_for_log("ending: no new connections; 1 are still served");
    gate.open();
    assert!(incoming.read_all().is_complete(), "what is under way comes to its end");
    assert_eq!(lab.stage.daemon.wait().code(), Some(0));
    lab.stage.daemon.start_again();
    assert!(lab.stage.get(&url).body == blob.bytes[..]);
    assert_eq!(lab.stage.registry.downloads(&blob.digest), 1, "what had come was kept");
}

#[test]
fn what_is_under_way_goes_on_as_it_began() {
    let lab = Lab::new(|options| options.rules(BLOBS));
    let blob = Blob::random(2 << 20, 3);
    let url = lab.stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    lab.stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
    let mut connection = lab.connection(&url);
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(1 << 20) == blob.bytes[..1 << 20]);
    lab.edit(BLOBS, "[{regx: 'blobs', direct: true}]");
    lab.hang_up_until("update proxy rules");
    gate.open();
    let rest = incoming.read_all();
    assert!(rest.is_complete() && rest.body == blob.bytes[1 << 20..], "{}", rest.body.len());
    fetch(&mut connection, &url, &blob);
    assert_eq!(lab.stage.registry.downloads(&blob.digest), 2, "the next request is forwarded");
}

#[test]
fn no_connection_is_dropped_however_often_it_reloads() {
    let lab = Lab::new(|options| options.rules(BLOBS));
    let blob = Blob::random(300_000, 10);
    let url = lab.stage.registry.put(IMAGE, &blob);
    thread::scope(|scope| {
        for alpn in [&[][..], &["h2"]] {
            let (lab, url, blob) = (&lab, &url, &blob);
            scope.spawn(move || {
                let client = lab.stage.daemon.client_offering(alpn);
                let mut kept = alpn.is_empty().then(|| lab.connection(url));
                for _ in 0..100 {
                    if let Some(kept) = &mut kept {
                        fetch(kept, url, blob);
                    }
                    let Ok(Ok(mut new)) = client.open(url) else { unreachable!("a connection is refused") };
                    if alpn.is_empty() {
                        fetch(&mut new, url, blob);
                    }
                }
            });
        }
        for _ in 0..10 {
            lab.edit(BLOBS, NO_RULE);
            lab.hang_up_until("update proxy rules");
            lab.edit(NO_RULE, BLOBS);
            lab.hang_up_until("update proxy rules");
        }
    });
    assert_eq!(lab.said("update proxy rules"), 20);
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let lab = Lab::new(|options| options.rules(NO_RULE).extra("reload: {interval: 1s}"));
    lab.edit(NO_RULE, BLOBS);
    lab.wait_for("update proxy rules", 1);
    assert_eq!(lab.said("SIGHUP"), 0);
    lab.edit("interval: 1s", "interval: 0");
    lab.wait_for("changed: reload.interval", 1);
    lab.edit(BLOBS, NO_RULE);
    lab.hang_up_until("update proxy rules");
}

#[test]
fn a_broken_file_keeps_the_old_configuration_and_says_why_once() {
    let lab = Lab::new(|options| options.rules(BLOBS).extra("reload: {interval: 1s}"));
    let blob = Blob::random(1000, 4);
    let url = lab.stage.registry.put(IMAGE, &blob);
    lab.edit(BLOBS, "[{regx: '('}, {regx: ''}]");
    let refused = "dfget.yaml cannot be used, the old configuration stays in effect: 2 errors";
    lab.wait_for(refused, 1);
    lab.wait_for("proxy.proxies[1].regx: ", 1);
    let line = "dfget.yaml:8:20: proxy.proxies[0].regx: not a valid regular expression";
    assert_eq!(lab.said(line), 1, "{}", lab.stage.daemon.log());
    for _ in 0..2 {
        assert!(lab.stage.get(&url).body == blob.bytes[..]);
    }
    assert_eq!(lab.stage.registry.downloads(&blob.digest), 1, "the old rules hold");
    // Some looks later it has not been said again.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!((lab.said(refused), lab.said(line)), (1, 1));
    lab.hang_up_until(refused);
    lab.edit("[{regx: '('}, {regx: ''}]", NO_RULE);
    lab.wait_for("update proxy rules", 1);
}

#[test]
fn no_file_at_all_never_ends_the_daemon() {
    let mut lab = Lab::new(|options| options.rules(BLOBS));
    let text = fs::read(lab.file()).expect("the file");
    let refused = "cannot be used, the old configuration stays in effect: 1 error";
    fs::remove_file(lab.file()).expect("it can be removed");
    lab.hang_up_until(refused);
    fs::create_dir(lab.file()).expect("a directory in its place");
    lab.hang_up_until(refused);
    fs::remove_dir(lab.file()).expect("it can be removed");
    fs::write(lab.file(), b"\xff\xfe{{{").expect("it can be written");
    lab.hang_up_until(refused);
    fs::write(lab.file(), text).expect("it can be written");
    lab.hang_up_until("is read again, nothing in it has changed");
    let url = lab.stage.registry.put(IMAGE, &Blob::random(1000, 5));
    assert_eq!(lab.stage.get(&url).status, 200);
    assert!(lab.stage.daemon.stop().success());
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let lab = Lab::new(|options| options.extra("keepStorage: true"));
    lab.edit("keepStorage: true\n", "keepStorage: false\nmetrics: 127.0.0.1:1\n");
    lab.edit("/log\n", "/log2\n");
    lab.hang_up_until("not in effect before the daemon is restarted: metrics, logDir\"");
    assert_eq!(lab.said("changed: keepStorage, metrics, logDir\""), 1, "{}", lab.stage.daemon.log());
    lab.edit("metrics: 127.0.0.1:1\n", "");
    lab.hang_up_until("not in effect before the daemon is restarted: logDir\"");
}

#[test]
fn access_rules_hold_for_the_next_request_on_an_old_connection() {
    let lab = Lab::new(|options| options.proxy("whiteList: [{regx: '^127'}]"));
    let blob = Blob::random(1000, 6);
    let url = lab.stage.registry.put(IMAGE, &blob);
    let mut kept = lab.connection(&url);
    fetch(&mut kept, &url, &blob);
    lab.edit("{regx: '^127'}", "{host: elsewhere.test}");
    lab.hang_up_until("changed: proxy.whiteList");
    let refused = kept.fetch(&Request::get(&url)).expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.text());
    lab.edit("whiteList: [{host: elsewhere.test}]", "basicAuth: {username: u, password: hunter2}");
    lab.hang_up_until("proxy.basicAuth.password");
    let asked = lab.stage.client().open(&url).expect("an answer").expect_err("a login is asked for");
    assert_eq!(asked.status, 407);
    fetch(&mut kept, &url, &blob);
    assert!(!lab.stage.daemon.everything_said().contains("hunter2"));
}

#[test]
fn hijacked_hosts_and_their_trust_change() {
    let roots = TestCa::new("roots that the daemon trusts");
    let stranger = TestCa::new("nobody trusts this one");
    let registry = Registry::https(&stranger);
    let blob = Blob::random(1000, 7);
    let url = registry.put(IMAGE, &blob);
    let stage = Stage::with(DFGET, |options| options.trust(&roots).hosts("[{regx: '^127'}]"));
    let lab = Lab { stage };
    let get = || lab.stage.client().fetch(&Request::get(&url));
    assert_eq!(get().expect("an answer").status, 502);
    lab.edit("[{regx: '^127'}]", "[{regx: '^127', insecure: true}]");
    lab.hang_up_until("changed: proxy.hijackHTTPS.hosts");
    assert_eq!(get().expect("an answer").status, 200);
    lab.edit(", insecure: true", "");
    lab.hang_up_until("changed: proxy.hijackHTTPS.hosts");
    assert_eq!(get().expect("an answer").status, 502, "no connection of the insecure time is used again");
    lab.edit("[{regx: '^127'}]", "[{regx: '^other'}]");
    lab.hang_up_until("changed: proxy.hijackHTTPS.hosts");
    assert!(
        get().is_err(),
        "the client sees the certificate of the registry itself, which it does not trust"
    );
    lab.stage.daemon.wait_for_log("matches no hijackHTTPS.hosts[].regx: its connections are tunnelled");
}

#[test]
fn limits_of_the_store_change() {
    let lab = Lab::new(|options| options.extra("gcInterval: 10m\nstorage: {taskExpireTime: 10h}"));
    let blob = Blob::random(300_000, 8);
    let url = lab.stage.registry.put(IMAGE, &blob);
    assert!(lab.stage.get(&url).body == blob.bytes[..]);
    lab.edit(
        "gcInterval: 10m\nstorage: {taskExpireTime: 10h}",
        "gcInterval: 50ms\nstorage: {taskExpireTime: 1ms}",
    );
    lab.hang_up_until("changed: gcInterval, storage.taskExpireTime");
    lab.stage.daemon.wait_for_log("task reclaimed: ");
}

#[test]
fn the_file_of_the_proxys_own_keys_is_followed_too() {
    let home = tempfile::tempdir().expect("a directory");
    let separate = home.path().join("proxy.yaml");
    let lab = Lab::new(|options| options.rules(BLOBS).extra("reload: {interval: 1s}"));
    let text = fs::read_to_string(lab.file()).expect("the file");
    let (daemon, proxy) = text.split_once("proxy:\n").expect("the section");
    let proxy: String = proxy.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    let proxy = proxy.replace("cert: ca.crt, key: ca.key", &{
        let home = lab.stage.daemon.home().display();
        format!("cert: {home}/ca.crt, key: {home}/ca.key")
    });
    fs::write(&separate, &proxy).expect("it can be written");
    fs::write(lab.file(), format!("{daemon}proxy: {}\n", separate.display())).expect("it can be written");
    lab.hang_up_until("is read again, nothing in it has changed");
    fs::write(&separate, proxy.replace(BLOBS, NO_RULE)).expect("it can be written");
    lab.wait_for("update proxy rules", 1);
    fs::write(&separate, proxy.replace(BLOBS, "[{regx: 7, direct: maybe}]")).expect("it can be written");
    lab.wait_for("proxy.yaml:2:29: proxies[0].direct: not true or false", 1);
}

#[test]
fn sigusr1_changes_the_level_of_the_log_and_back() {
    let lab = Lab::new(|options| options);
    let url = lab.stage.registry.put(IMAGE, &Blob::random(1000, 9));
    let debug = "\"level\":\"debug\"";
    assert_eq!(lab.stage.get(&url).status, 200);
    assert_eq!(lab.said(debug), 0);
    lab.stage.daemon.send(Signal::USR1);
    lab.wait_for("SIGUSR1: the log level is debug now", 1);
    assert_eq!(lab.stage.get(&url).status, 200);
    lab.wait_for(debug, 1);
    lab.stage.daemon.send(Signal::USR1);
    lab.wait_for("SIGUSR1: the log level is info now", 1);
    let before = lab.said(debug);
    assert_eq!(lab.stage.get(&url).status, 200);
    assert_eq!(lab.said(debug), before);
    fs::write(lab.file(), format!("verbose: true\n{}", fs::read_to_string(lab.file()).expect("the file")))
        .expect("it can be written");
    lab.hang_up_until("changed: verbose");
    assert_eq!(lab.stage.get(&url).status, 200);
    lab.wait_for(debug, before + 1);
}

#[test]
fn a_sighup_while_it_starts_does_not_end_it() {
    let home = tempfile::tempdir().expect("a directory");
    let pipe = home.path().join("dfget.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    let mut daemon = Command::new(DFGET)
        .args(["daemon", "--console", "--config"])
        .arg(&pipe)
        .env_clear()
        .env("DFGET_SYSTEM_SOCKET", home.path().join("lease.sock"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary is there");
    // Opened only when the daemon has begun to read.
    let mut writer = fs::File::options().write(true).open(&pipe).expect("the daemon reads");
    send(daemon.id(), Signal::HUP);
    let data = home.path().join("data");
    let yaml = format!(
        "dataDir: {}\ntcpListen: {{port: 0}}\nhealth: {{tcpListen: {{port: 0}}}}\nproxies: [{{regx: a}}]\n",
        data.display()
    );
    writer.write_all(yaml.as_bytes()).expect("the daemon reads");
    drop(writer);
    let mut lines = BufReader::new(daemon.stdout.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.expect("text").contains("serve proxy at tcp://")), "it does not start");
    let told = "dfget.yaml is no regular file and cannot be read again";
    assert!(lines.any(|line| line.expect("text").contains(told)), "it does not heed the signal");
    send(daemon.id(), Signal::TERM);
    assert!(lines.any(|line| line.expect("text").contains("the daemon has ended")), "it does not end");
    assert!(daemon.wait().expect("it can be waited for").success());
}

#[test]
fn the_next_lease_is_by_the_new_configuration() {
    let session = Session::new(DFGET);
    fs::create_dir(session.runtime()).expect("a directory");
    fs::set_permissions(session.runtime(), fs::Permissions::from_mode(0o700)).expect("and closed");
    let (system, run) = (session.path("system.sock"), session.path("run"));
    let options = DaemonOptions::new(DFGET).trust(&session.ca).hosts("[{regx: '^other'}]");
    let options = options.environment("XDG_RUNTIME_DIR", run.to_str().expect("text"));
    let daemon = options.environment("DFGET_SYSTEM_SOCKET", system.to_str().expect("text")).start();
    daemon.wait_for_log("serve leases for `dfget run` at");
    let blob = Blob::random(1000, 11);
    let url = session.registry.put(IMAGE, &blob);
    let (ended, got) = session.fetch(&url);
    assert!(ended.stderr.contains("matches no hijackHTTPS.hosts[].regx"), "{}", ended.stderr);
    assert!(got == blob.bytes[..]);
    let file = daemon.home().join("dfget.yaml");
    let text = fs::read_to_string(&file).expect("the file");
    fs::write(&file, text.replace("'^other'", "'^127\\.'")).expect("it can be written");
    daemon.send(Signal::HUP);
    daemon.wait_for_log("changed: proxy.hijackHTTPS.hosts");
    let (ended, got) = session.fetch(&url);
    assert!(ended.stderr.contains("using the daemon at "), "{}", ended.stderr);
    assert!(got == blob.bytes[..]);
    assert_eq!(daemon.done_lines().len(), 1);
}
