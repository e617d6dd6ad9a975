//! What a start needs and says, for those who start the daemon otherwise than its unit does: without root, at a
//! terminal, in a shell with a client's variables.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use dfget_testkit::{Blob, Client, Registry, Request, TestCa, ca};
use tempfile::TempDir;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

/// A home with an authority for the hijack, a registry, and a configuration that has no directories of its own.
struct Site {
    home: TempDir,
    authority: TestCa,
    registry: Registry,
}

/// A daemon that said where it listens. It is killed when dropped.
struct Running {
    child: Child,
    /// What it printed on standard error up to the address.
    said: String,
    proxy: SocketAddr,
    admin: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

/// Any free ports, rules for blobs, and a hijack of this machine.
const SERVED: &str = "health: {tcpListen: {port: 0}}\n\
    tcpListen: {port: 0}\n\
    proxies: [{regx: 'blobs/sha256.*'}]\n\
    hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^127\\.'}]}\n";

// === impl Site ===

impl Site {
    /// `yaml` as `dfget.yaml` in a new home.
    fn new(yaml: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let (authority, roots) = (TestCa::new("hijack authority"), TestCa::new("authority of the registry"));
        let site = Self { registry: Registry::https(&roots), authority, home };
        site.write("ca.crt", &site.authority.certificate_pem());
        site.write("ca.key", &site.authority.key_pem());
        site.write("roots.pem", &roots.certificate_pem());
        site.write("dfget.yaml", yaml);
        site
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file for its owner alone.
    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("and closed");
    }

    /// `program` with the daemon's arguments, in the home, with no variable but the roots of the registry.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("SSL_CERT_FILE", self.path().join("roots.pem"))
            .env("DFGET_SYSTEM_SOCKET", self.path().join("lease.sock"))
            .stdin(Stdio::null());
        command
    }

    fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(DFGET, arguments).stdout(Stdio::null()))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(DFGET, arguments).output().expect("the binary is there")
    }

    /// Pulls a blob through the daemon.
    fn assert_pulls(&self, daemon: &Running) {
        let blob = Blob::random(300_000, 7);
        let url = self.registry.put(IMAGE, &blob);
        let response = self.client(daemon).fetch(&Request::get(url)).expect("an answer");
        assert!(response.is_complete() && response.body == blob.bytes[..], "{}", response.status);
    }

    fn client(&self, daemon: &Running) -> Client {
        Client::new(daemon.proxy, self.authority.client_config(&[]))
    }
}

// === impl Running ===

impl Running {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary is there");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = Self { child, said: String::new(), proxy: nowhere, admin: nowhere, stderr };
        (daemon.proxy, daemon.admin) = daemon.wait_for_addresses();
        daemon
    }

    /// Reads what is printed up to the line with the addresses.
    fn wait_for_addresses(&mut self) -> (SocketAddr, SocketAddr) {
        loop {
            let start = self.said.len();
            let read = self.stderr.read_line(&mut self.said).expect("text");
            assert!(read > 0, "the daemon ended; it said:\n{}", self.said);
            if let Some(addresses) = self.said[start..].strip_prefix("dfget daemon: proxy on ") {
                let (proxy, admin) = addresses.trim().split_once(", admin on ").expect("both addresses");
                return (proxy.parse().expect("an address"), admin.parse().expect("an address"));
            }
        }
    }

    /// SIGTERM; gives the exit status and all that was printed on standard error.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().expect("a shell");
        assert!(sent.success());
        let mut said = std::mem::take(&mut self.said);
        self.stderr.read_to_string(&mut said).expect("text");
        (self.child.wait().expect("a child can be waited for").code(), said)
    }

    /// The body of `/metrics`.
    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the port is open");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it was made").permissions().mode() & 0o777
}

/// Starts the daemon as somebody who may write nothing but the site's home.
fn start_as_nobody(site: &Site, arguments: &[&str], variables: &[(&str, &Path)]) -> Running {
    const NOBODY: u32 = 65534;
    let binary = site.path().join("dfget");
    // Not by this process: a descriptor for writing that another test's child inherits makes the file "busy".
    let copied = Command::new("cp").arg(DFGET).arg(&binary).status().expect("cp runs");
    assert!(copied.success(), "a copy where everybody may go");
    let mut command = site.command(&binary, arguments);
    command.stdout(Stdio::null()).envs(variables.iter().copied());
    // Only root may become somebody else; anybody else is an ordinary user already.
    if chown(site.path(), Some(NOBODY), Some(NOBODY)).is_ok() {
        for entry in fs::read_dir(site.path()).expect("the home") {
            let path = entry.expect("an entry").path();
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    Running::of(&mut command)
}

#[test]
fn an_ordinary_user_gets_directories_of_their_own() {
    let site = Site::new(SERVED);
    let home = site.path();
    let daemon = start_as_nobody(&site, &["daemon", "--config", "dfget.yaml"], &[("HOME", home)]);
    site.assert_pulls(&daemon);
    let (code, said) = daemon.stop();
    let log = home.join(".local/state/dragonfly/log/daemon/core.log");
    assert!(said.contains(&format!("log: {}\n", log.display())), "{said}");
    assert!(!said.contains("warning: no cache"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(mode(&log), 0o600);
    for private in [".local/state/dragonfly/log/daemon", ".cache/dragonfly"] {
        assert_eq!(mode(&home.join(private)), 0o700, "{private}");
    }
    assert!(fs::read_to_string(&log).expect("the log").contains("peer task done, cost: "));
}

#[test]
fn a_user_without_a_home_needs_two_directories_and_no_more() {
    let site = Site::new(&format!("dataDir: data\nlogDir: log\n{SERVED}"));
    let daemon = start_as_nobody(&site, &["daemon", "--config", "dfget.yaml"], &[]);
    site.assert_pulls(&daemon);
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(site.path().join("log/daemon/core.log").is_file() && site.path().join("data").is_dir());
}

#[test]
fn the_console_gets_every_line_and_no_file_is_named() {
    let site = Site::new(&format!("dataDir: data\nlogDir: log\n{SERVED}"));
    let arguments = ["daemon", "--config", "dfget.yaml", "--console"];
    let mut daemon = Running::of(site.command(DFGET, &arguments).stdout(Stdio::piped()));
    site.assert_pulls(&daemon);
    let mut stdout = daemon.child.stdout.take().expect("it is piped");
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(!said.contains("log: "), "{said}");
    let mut lines = String::new();
    stdout.read_to_string(&mut lines).expect("text");
    assert!(lines.contains(" INFO  serve proxy at tcp://127.0.0.1:"), "{lines}");
    assert!(lines.contains("peer task done, cost: "), "{lines}");
    assert!(lines.ends_with("the daemon has ended\n"), "the last lines are waited for:\n{lines}");
    assert!(!site.path().join("log").exists());
}

#[test]
fn a_console_that_nobody_reads_holds_no_pull_up() {
    let site = Site::new(&format!("dataDir: data\n{SERVED}"));
    let arguments = ["daemon", "--config", "dfget.yaml", "--console"];
    let mut daemon = Running::of(site.command(DFGET, &arguments).stdout(Stdio::piped()));
    let unread = daemon.child.stdout.take().expect("it is piped");
    let url = site.registry.put(IMAGE, &Blob::random(1000, 8));
    let mut connection = site.client(&daemon).open(&url).expect("an answer").expect("granted");
    // Each logs a line of more than 150 bytes; a pipe takes 64 KiB of them.
    for number in 0..1000 {
        let response = connection.fetch(&Request::get(&url)).expect("an answer");
        assert_eq!(response.status, 200, "request {number}");
    }
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0), "{said}");
    drop(unread);
}

#[test]
fn a_certificate_in_the_configuration_must_be_saved_first() {
    let indented = |text: String| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let site = Site::new("");
    let authority = &site.authority;
    let hijack = format!(
        "hijackHTTPS:\n  hosts: [{{regx: '^127\\.'}}]\n  cert: |\n{}  key: |\n{}",
        indented(authority.certificate_pem()),
        indented(authority.key_pem())
    );
    let (ports, _) = SERVED.split_once("hijackHTTPS").expect("it is there");
    site.write("dfget.yaml", &format!("dataDir: data\nlogDir: log\n{ports}{hijack}"));
    let daemon = site.start(&["daemon", "--config", "dfget.yaml"]);
    site.assert_pulls(&daemon);
    let (_, said) = daemon.stop();
    assert!(said.contains("hijackHTTPS.cert; save its text to a file first, for example "), "{said}");
    assert!(said.contains(": set SSL_CERT_FILE=/"), "{said}");
    assert!(!said.contains("PRIVATE KEY") && !said.contains("the configuration itself"), "{said}");
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let site = Site::new(&format!("dataDir: data\nlogDir: log\n{SERVED}"));
    let script = format!("ulimit -Sn 300; ulimit -Hn 2000; exec {DFGET} daemon --config dfget.yaml");
    let daemon = Running::of(site.command("/bin/sh", &["-c", &script]).stdout(Stdio::null()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.child.id())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["2000", "2000"]);
    let log = fs::read_to_string(site.path().join("log/daemon/core.log")).expect("the log");
    assert!(log.contains("open files: at most 2000, raised from 300"), "{log}");
    assert!(log.contains("at most 2000 files can be open at once, 4096 or more are advised; raise"), "{log}");
}

#[test]
fn a_store_that_cannot_be_opened_is_said_aloud_and_pulls_go_on() {
    let site = Site::new(&format!("dataDir: ca.crt/data\nlogDir: log\n{SERVED}"));
    let daemon = site.start(&["daemon", "--config", "dfget.yaml"]);
    site.assert_pulls(&daemon);
    assert!(daemon.metrics().contains("\ndfget_store_open 0\n"));
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0));
    let line = said.lines().find(|line| line.starts_with("warning: no cache, pulls stream through: "));
    let line = line.expect("it is said");
    assert!(line.contains("ca.crt/data") && line.ends_with("then restart"), "{line}");
}

#[test]
fn a_variable_that_is_meant_for_clients_is_told_and_our_authority_vouches_for_no_origin() {
    let site = Site::new(&format!("dataDir: data\nlogDir: log\n{SERVED}"));
    let ca = site.path().join("ca.crt");
    let mut command = site.command(DFGET, &["daemon", "--config", "dfget.yaml"]);
    let daemon = Running::of(command.env("SSL_CERT_FILE", &ca).stdout(Stdio::null()));
    let url = site.registry.put(IMAGE, &Blob::random(1000, 9));
    let refusal = site.client(&daemon).open(&url).expect("an answer").expect_err("an origin without roots");
    assert_eq!(refusal.status, 502);
    assert!(daemon.metrics().contains("\ndfget_store_open 1\n"));
    let (_, said) = daemon.stop();
    let start = format!("warning: SSL_CERT_FILE={} holds the daemon's own authority", ca.display());
    assert!(said.contains(&start) && said.contains("`env -u SSL_CERT_FILE dfget daemon`"), "{said}");
}

/// The same as [`SERVED`] without an authority, in a home without one. The pattern is made of the registry's
/// address and port.
fn without_authority(pattern: impl FnOnce(&str, &str) -> String) -> Site {
    let (ports, _) = SERVED.split_once("hijackHTTPS").expect("it is there");
    let site = Site::new("");
    let (_, port) = origin(&site);
    let pattern = pattern(&address(&site).replace('.', r"\."), &port);
    let hijack = format!("hijackHTTPS: {{hosts: [{{regx: '{pattern}'}}]}}\n");
    site.write(
        "dfget.yaml",
        &format!("dataDir: {0}/data\nlogDir: {0}/log\n{ports}{hijack}", site.path().display()),
    );
    for name in ["ca.crt", "ca.key"] {
        fs::remove_file(site.path().join(name)).expect("it was there");
    }
    site
}

/// The pattern for the registry alone.
fn anchored(address: &str, port: &str) -> String {
    format!("^{address}:{port}$")
}

/// Address and port of the registry.
fn origin(site: &Site) -> (String, String) {
    let authority = site.registry.origin.authority();
    let (host, port) = authority.rsplit_once(':').expect("a port");
    (host.to_owned(), port.to_owned())
}

fn address(site: &Site) -> String {
    origin(site).0
}

/// Pulls a blob through the daemon, trusting this file alone.
fn assert_pulls_with_curl(site: &Site, daemon: &Running, cert: &Path) {
    let blob = Blob::random(300_000, 11);
    let url = site.registry.put(IMAGE, &blob);
    let pulled = site.path().join("pulled");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "", "--proxy"])
        .arg(daemon.proxy.to_string())
        .arg("--cacert")
        .arg(cert)
        .arg("--output")
        .arg(&pulled)
        .arg(url)
        .env_clear()
        .output()
        .expect("curl is needed: apt-get install curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&pulled).expect("pulled") == blob.bytes[..]);
}

#[test]
fn an_authority_is_made_at_the_first_start_and_found_at_the_next() {
    let site = without_authority(anchored);
    let arguments = ["daemon", "--config", "dfget.yaml"];
    let cert = site.path().join("ca.crt");
    let daemon = site.start(&arguments);
    assert_eq!((mode(&cert), mode(&site.path().join("ca.key"))), (0o644, 0o600));
    assert_pulls_with_curl(&site, &daemon, &cert);
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0), "{said}");
    let line = |verb| format!("certificate authority {verb}: {}, for {}\n", cert.display(), address(&site));
    assert!(said.contains(&line("made")), "{said}");
    assert!(said.contains(&format!("clients must trust {}: set SSL_CERT_FILE=", cert.display())), "{said}");
    assert!(!said.contains("PRIVATE KEY"), "{said}");

    let before = fs::read(&cert).expect("there");
    let daemon = site.start(&arguments);
    assert_pulls_with_curl(&site, &daemon, &cert);
    let (_, said) = daemon.stop();
    assert!(said.contains(&line("found")), "{said}");
    assert_eq!(fs::read(&cert).expect("there"), before);
}

#[test]
fn hosts_outside_of_the_authority_are_said_and_tunnelled() {
    let site = without_authority(anchored);
    let arguments = ["daemon", "--config", "dfget.yaml"];
    assert!(
        site.run(&["ca", "create", "--config", "dfget.yaml", "--host", "r.example.com"]).status.success()
    );
    let daemon = site.start(&arguments);
    // The registry's own certificate comes through the tunnel.
    assert_pulls_with_curl(&site, &daemon, &site.path().join("roots.pem"));
    let (code, said) = daemon.stop();
    assert_eq!(code, Some(0), "{said}");
    let address = address(&site);
    let warning = format!(
        "warning: the certificate authority {} is for r.example.com only, so connections to {address} are tunnelled, \
         and nothing of them is cached; make a new one by `dfget ca rotate --host {address}` and restart\n",
        site.path().join("ca.crt").display()
    );
    assert!(said.contains(&warning), "{said}");
    let log = fs::read_to_string(site.path().join("log/daemon/core.log")).expect("the log");
    assert!(log.contains("lies outside of what our certificate authority is for"), "{log}");

    assert!(site.run(&["ca", "rotate", "--config", "dfget.yaml", "--host", &address]).status.success());
    let daemon = site.start(&arguments);
    assert_pulls_with_curl(&site, &daemon, &site.path().join("ca.crt"));
    assert!(!daemon.stop().1.contains("tunnelled"));
}

#[test]
fn patterns_that_spell_no_host_need_an_authority_that_is_there() {
    let site = without_authority(|_, _| r"^127\.[0-9.]+:".to_owned());
    let said = refused_by_both(&site);
    assert!(
        said.starts_with("error: dfget.yaml:6:") && said.contains("hijackHTTPS.hosts[0].regx: "),
        "{said}"
    );
    assert!(said.contains("make one by `dfget ca create --dir ") && said.contains("`--any-host`"), "{said}");
    assert!(!site.path().join("ca.key").exists());
    assert!(site.run(&["ca", "create", "--config", "dfget.yaml", "--any-host"]).status.success());
    let daemon = site.start(&["daemon", "--config", "dfget.yaml"]);
    assert_pulls_with_curl(&site, &daemon, &site.path().join("ca.crt"));
    assert!(daemon.stop().1.contains("certificate authority found: "));
}

#[test]
fn an_authority_of_our_own_that_cannot_be_used_is_refused_and_left() {
    let site = without_authority(anchored);
    site.write("ca.key", "no key");
    let said = refused_by_both(&site);
    assert!(
        said.contains("hijackHTTPS: ") && said.contains("ca.key is there without its certificate"),
        "{said}"
    );
    assert_eq!(fs::read(site.path().join("ca.key")).expect("left"), b"no key");
}

#[test]
fn who_cannot_write_beside_the_configuration_gets_an_authority_in_the_data_directory() {
    let site = without_authority(anchored);
    let text = fs::read_to_string(site.path().join("dfget.yaml")).expect("there");
    let foreign = tempfile::tempdir().expect("a directory");
    fs::write(
        foreign.path().join("dfget.yaml"),
        text.lines().skip(2).map(|line| format!("{line}\n")).collect::<String>(),
    )
    .expect("written");
    fs::set_permissions(foreign.path(), fs::Permissions::from_mode(0o555)).expect("closed");
    let config = foreign.path().join("dfget.yaml");
    let arguments = ["daemon", "--config", config.to_str().expect("text")];
    let daemon = start_as_nobody(&site, &arguments, &[("HOME", site.path())]);
    let cert = site.path().join(".cache/dragonfly/ca.crt");
    assert_pulls_with_curl(&site, &daemon, &cert);
    let (_, said) = daemon.stop();
    assert!(
        said.contains(&format!("certificate authority made: {}, for {}\n", cert.display(), address(&site))),
        "{said}"
    );
    assert!(!foreign.path().join("ca.key").exists());
}

/// What the check and the daemon say of one file; both must refuse it, in the same words.
fn refused_by_both(site: &Site) -> String {
    let check = site.run(&["config", "check", "dfget.yaml"]);
    let daemon = site.run(&["daemon", "--config", "dfget.yaml"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&check.stderr);
    assert_eq!((check.status.code(), daemon.status.code()), (Some(78), Some(78)), "{said}");
    assert_eq!(said, text(&daemon.stderr));
    assert!(!said.contains("BEGIN"), "nothing of a file is printed: {said}");
    said
}

#[test]
fn the_check_refuses_what_the_daemon_refuses() {
    // Below, so that the places of what is refused stay as they are.
    let served = &format!("{SERVED}dataDir: data\nlogDir: log\n");
    let (no_ca, its_key) = ca::no_authority("just a server");
    let other = TestCa::new("another").key_pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let table = [
        ("4:21: hijackHTTPS.cert: ", "CA:TRUE", Some(no_ca.as_str()), Some(its_key.as_str())),
        ("4:34: hijackHTTPS.key: ", "does not match", None, Some(other.as_str())),
        ("4:34: hijackHTTPS.key: ", "is encrypted", None, Some(encrypted)),
        ("4:21: hijackHTTPS.cert: ", "cannot be read", Some(garbage), None),
    ];
    for (place, reason, cert, key) in table {
        let site = Site::new(served);
        cert.inspect(|text| site.write("ca.crt", text));
        key.inspect(|text| site.write("ca.key", text));
        let said = refused_by_both(&site);
        assert!(said.starts_with(&format!("error: dfget.yaml:{place}")) && said.contains(reason), "{said}");
    }
    let swapped = Site::new(&served.replace("cert: ca.crt, key: ca.key", "cert: ca.key, key: ca.crt"));
    let said = refused_by_both(&swapped);
    assert!(said.starts_with("error: dfget.yaml:4:21: hijackHTTPS.cert: "), "{said}");
    assert!(said.contains("are `cert` and `key` swapped?"), "{said}");

    let roots = Site::new(&served.replace("'^127\\.'", "'^127\\.', certs: [bad.pem]"));
    roots.write("bad.pem", garbage);
    let said = refused_by_both(&roots);
    assert!(said.contains("hijackHTTPS.hosts[0].certs[0]: ") && said.contains("bad.pem: "), "{said}");

    let taken = Site::new(&served.replace("health: {", "health: {path: /metrics, "));
    let said = refused_by_both(&taken);
    assert!(said.starts_with("error: dfget.yaml:1:16: health.path: `/metrics` is taken"), "{said}");
}
