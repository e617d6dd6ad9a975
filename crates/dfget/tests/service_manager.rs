//! The daemon as a service manager starts it: with sockets that are open already, and a socket to tell how it is.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use dfget_testkit::daemon::Signal;
use dfget_testkit::{Blob, Client, Registry, Request, TestCa};
use tempfile::TempDir;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

/// Stands for systemd: keeps the sockets, starts the daemon, hears what it says.
struct Manager {
    home: TempDir,
    authority: TestCa,
    registry: Registry,
    port: TcpListener,
    leases: UnixListener,
    told: UnixDatagram,
}

/// A daemon, killed when dropped.
struct Service(Child);

// === impl Manager ===

impl Manager {
    /// `hijack` is a line of the file.
    fn new(hijack: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let (authority, roots) = (TestCa::new("hijack authority"), TestCa::new("authority of the registry"));
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let number = port.local_addr().expect("it is bound").port();
        let leases = UnixListener::bind(home.path().join("lease.sock")).expect("a new directory");
        let told = UnixDatagram::bind(home.path().join("notify.sock")).expect("a new directory");
        told.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let manager = Self { registry: Registry::https(&roots), home, authority, port, leases, told };
        manager.write("ca.crt", &manager.authority.certificate_pem());
        manager.write("ca.key", &manager.authority.key_pem());
        manager.write("roots.pem", &roots.certificate_pem());
        let yaml = format!(
            "dataDir: data\nlogDir: log\nhealth: {{tcpListen: {{port: 0}}}}\ntcpListen: {{port: {number}}}\n\
             proxies: [{{regx: 'blobs/sha256.*'}}]\n{hijack}\n"
        );
        manager.write("dfget.yaml", &yaml);
        manager
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file for its owner alone.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it can be written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("and closed");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.home.path())
            .env_clear()
            .env("SSL_CERT_FILE", self.path("roots.pem"))
            .env("DFGET_SYSTEM_SOCKET", self.path("lease.sock"));
        command
    }

    /// Starts the daemon with both sockets, and `variables` beside those that go with them.
    fn start(&self, variables: &[(&str, &str)]) -> Service {
        // Descriptors 3 and 4 are as a service manager leaves them; 0 and 1 bring them here.
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"";
        let mut command = self.command("bash");
        command
            .args(["-c", script, "bash", DFGET, "daemon", "--config", "dfget.yaml"])
            .env("NOTIFY_SOCKET", self.path("notify.sock"))
            .envs(variables.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(self.port.try_clone().expect("a descriptor"))))
            .stdout(Stdio::from(OwnedFd::from(self.leases.try_clone().expect("a descriptor"))))
            .stderr(Stdio::piped());
        Service(command.spawn().expect("bash is there"))
    }

    /// The next that is told, without what is told over and over.
    fn hear(&self) -> String {
        loop {
            let message = self.hear_any();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn hear_any(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.told.recv(&mut bytes).expect("something is told");
        String::from_utf8(bytes[..length].to_vec()).expect("text")
    }

    fn client(&self) -> Client {
        let address = self.port.local_addr().expect("it is bound");
        Client::new(address, self.authority.client_config(&[]))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log/daemon/core.log")).expect("a log")
    }
}

// === impl Service ===

impl Service {
    fn signal(&self, signal: Signal) {
        let pid = rustix_pid(self.0.id());
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    fn ended(mut self) -> ExitStatus {
        self.0.wait().expect("a child")
    }

    /// What it printed up to the line with the addresses.
    fn said(&mut self) -> String {
        let mut said = String::new();
        for line in BufReader::new(self.0.stderr.take().expect("it is piped")).lines() {
            said.push_str(&line.expect("text"));
            said.push('\n');
            if said.contains("dfget daemon: proxy on ") {
                break;
            }
        }
        said
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rustix_pid(id: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(id.try_into().expect("a small number")).expect("no 0")
}

const HIJACK: &str = "hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^127\\.'}]}";

#[test]
fn a_client_that_comes_while_the_daemon_restarts_waits_and_is_served() {
    let manager = Manager::new(HIJACK);
    let blob = Blob::random(300_000, 1);
    let url = manager.registry.put(IMAGE, &blob);
    let first = manager.start(&[]);
    let address: SocketAddr = manager.port.local_addr().expect("it is bound");
    assert_eq!(manager.hear(), format!("READY=1\nSTATUS=proxy on {address}\n"));
    let response = manager.client().fetch(&Request::get(url.clone())).expect("an answer");
    assert!(response.is_complete() && response.body == blob.bytes[..], "{}", response.status);
    first.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=ending: what is under way goes on\n");
    assert!(first.ended().success());

    // Nobody runs; nobody is refused.
    let (client, wanted) = (manager.client(), url.clone());
    let waiting = thread::spawn(move || client.fetch(&Request::get(wanted)).expect("an answer"));
    let second = manager.start(&[]);
    assert!(manager.hear().starts_with("READY=1\n"));
    let response = waiting.join().expect("no panic");
    assert!(response.is_complete() && response.body == blob.bytes[..], "{}", response.status);
    assert_eq!(manager.registry.downloads(&blob.digest), 1, "the second time from the store");
    assert!(manager.log().contains(&format!("the socket of the service manager at {address} is used")));

    // The socket for leases has stayed as well, and leads to the second.
    let mut explain = manager.command(DFGET);
    let output = explain.args(["explain", "--config", "dfget.yaml", "--output", "json", &url]).output();
    let explained = String::from_utf8(output.expect("the binary is there").stdout).expect("text");
    assert!(explained.contains("\"state\":\"whole\""), "{explained}");
    drop(second);
    assert!(Path::new(&manager.path("lease.sock")).exists());
}

#[test]
fn a_client_that_was_let_in_just_before_the_end_is_served_to_its_first_request() {
    let manager = Manager::new(HIJACK);
    let blob = Blob::random(300_000, 2);
    let url = manager.registry.put(IMAGE, &blob);
    let service = manager.start(&[]);
    assert!(manager.hear().starts_with("READY=1\n"));
    let address: SocketAddr = manager.port.local_addr().expect("it is bound");
    // It has connected, and says nothing yet.
    let silent = TcpStream::connect(address).expect("somebody listens");
    // Who comes later is served, so it was let in before the end.
    let response = manager.client().fetch(&Request::get(url.clone())).expect("an answer");
    assert!(response.is_complete(), "{}", response.status);
    service.signal(Signal::TERM);
    assert!(manager.hear().starts_with("STOPPING=1\n"));

    let target = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).expect("a URL");
    let mut line = String::new();
    write!(&silent, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").expect("it is still open");
    BufReader::new(&silent).read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    drop(silent);
    assert!(service.ended().success());
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end() {
    let manager = Manager::new(HIJACK);
    let service = manager.start(&[]);
    assert!(manager.hear().starts_with("READY=1\n"));
    for broken in [false, true] {
        if broken {
            manager.write("dfget.yaml", "proxies: [");
        }
        service.signal(Signal::HUP);
        let reloading = manager.hear();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload");
        assert!(time.trim_end().parse::<u64>().is_ok_and(|time| time > 0), "{reloading}");
        assert_eq!(manager.hear(), "READY=1\n", "whatever became of the file");
    }
    assert!(manager.log().contains("the old configuration stays in effect"));
}

#[test]
fn life_is_told_as_often_as_the_service_manager_wants_to_hear_of_it_and_until_the_end() {
    let manager = Manager::new(HIJACK);
    let service = manager.start(&[("WATCHDOG_USEC", "200000")]);
    assert!(manager.hear_any().starts_with("READY=1\n"), "nothing before");
    for _ in 0..5 {
        assert_eq!(manager.hear_any(), "WATCHDOG=1\n");
    }
    service.signal(Signal::TERM);
    assert!(manager.hear().starts_with("STOPPING=1\n"));
    assert!(service.ended().success());

    // A time that is meant for another process is none for this one.
    let other = manager.start(&[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]);
    assert!(manager.hear().starts_with("READY=1\n"));
    other.signal(Signal::HUP);
    assert!(manager.hear_any().starts_with("RELOADING=1\n"), "no word of life between");
}

#[test]
fn a_socket_that_the_file_knows_nothing_of_is_told_of() {
    let manager = Manager::new(HIJACK);
    let address = manager.port.local_addr().expect("it is bound");
    let yaml = fs::read_to_string(manager.path("dfget.yaml")).expect("text");
    // Not even where the admin port takes the first free one of many, and this is among them.
    let many = format!("health: {{tcpListen: {{port: {{start: {}, end: 65535}}}}}}", address.port());
    let yaml = yaml.replace(&format!("port: {}", address.port()), "port: 0");
    manager.write("dfget.yaml", &yaml.replace("health: {tcpListen: {port: 0}}", &many));
    let mut service = manager.start(&[]);
    let said = service.said();
    let warning = format!(
        "warning: the service manager hands over a socket at {address}, where dfget.yaml lets nobody listen: make \
         `ListenStream=` of dfget.socket (`systemctl edit dfget.socket`) and dfget.yaml agree\n"
    );
    assert!(said.contains(&warning), "{said}");
    assert!(manager.hear().starts_with("READY=1\n"), "it serves all the same");
}

#[test]
fn who_asks_for_a_lease_where_there_is_none_need_not_wait_to_learn_it() {
    let manager = Manager::new("");
    let _service = manager.start(&[]);
    assert!(manager.hear().starts_with("READY=1\n"));
    let stream = UnixStream::connect(manager.path("lease.sock")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let mut line = String::new();
    assert_eq!(BufReader::new(stream).read_line(&mut line).expect("it is ended"), 0, "{line}");
}

#[test]
fn sockets_of_another_process_are_left_alone() {
    let manager = Manager::new(HIJACK);
    let mut command = manager.command(DFGET);
    command.args(["daemon", "--config", "dfget.yaml"]).env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let output = command.stdin(Stdio::null()).output().expect("the binary is there");
    // The port is taken, by this test; it would have been handed over otherwise.
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen on 127.0.0.1:"));
}
