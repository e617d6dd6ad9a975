//! The real binary: set up in a directory of its own, started, watched, drained, killed, started again.
//!
//! Ports come from ranges of which the daemon takes the first free one, so that tests run side by side; which one it
//! took is read from its log. The environment is emptied: what a daemon does in a test follows from the test alone.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::ca::TestCa;
use crate::client::Client;
use crate::gate::PATIENCE;
use crate::network::{Place, at};

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    binary: PathBuf,
    rules: String,
    hosts: String,
    hijack: String,
    proxy: String,
    listen: Option<String>,
    extra: String,
    environment: Vec<(String, String)>,
    trusted: String,
    data_dir: Option<PathBuf>,
    place: Option<Place>,
}

/// A daemon with its directory. It is killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    options: DaemonOptions,
    home: TempDir,
    authority: TestCa,
    child: Option<Child>,
    address: SocketAddr,
}

/// A start that was refused.
#[derive(Debug)]
pub struct Refusal {
    /// The exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// What it printed, on both channels.
    pub printed: String,
}

// === impl DaemonOptions ===

impl DaemonOptions {
    /// The daemon in `binary`, with rules for blobs and manifests by digest and for `/files/`, and with a hijack of
    /// every address of this machine.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            rules: "[{regx: 'blobs/sha256.*'}, {regx: 'manifests/sha256.*'}, {regx: '/files/'}]".to_owned(),
            hosts: "[{regx: '^127\\.'}]".to_owned(),
            hijack: "ca.crt, key: ca.key".to_owned(),
            proxy: String::new(),
            listen: None,
            extra: String::new(),
            environment: Vec::new(),
            trusted: String::new(),
            data_dir: None,
            place: None,
        }
    }

    /// Lets the daemon trust `ca`, and no other authority but those told here, when it talks to origins.
    #[must_use]
    pub fn trust(mut self, ca: &TestCa) -> Self {
        self.trusted.push_str(&ca.certificate_pem());
        self
    }

    /// Sets `proxy.proxies`, a YAML list in one line.
    #[must_use]
    pub fn rules(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.rules);
        self
    }

    /// Sets `proxy.hijackHTTPS.hosts`, a YAML list in one line.
    #[must_use]
    pub fn hosts(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.hosts);
        self
    }

    /// Names other files for the authority of the hijack than the good ones that are written for it.
    #[must_use]
    pub fn hijack_files(mut self, cert: &str, key: &str) -> Self {
        self.hijack = format!("{cert}, key: {key}");
        self
    }

    /// Sets `proxy.tcpListen.port` to this one instead of a range.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.listen = Some(format!("{{listen: 127.0.0.1, port: {port}}}"));
        self
    }

    /// Sets `proxy.tcpListen`, a YAML mapping in one line.
    #[must_use]
    pub fn listen(mut self, yaml: &str) -> Self {
        self.listen = Some(yaml.to_owned());
        self
    }

    /// Adds lines to the section `proxy`, indented by two.
    #[must_use]
    pub fn proxy(mut self, yaml: &str) -> Self {
        self.proxy.extend(yaml.lines().map(|line| format!("  {line}\n")));
        self
    }

    /// Adds top-level YAML lines.
    #[must_use]
    pub fn extra(mut self, yaml: &str) -> Self {
        self.extra.push_str(yaml);
        self.extra.push('\n');
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses another daemon's store.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Starts it at a place of a network. Its clients must be there too.
    #[must_use]
    pub fn place(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Starts the daemon and waits until it listens.
    ///
    /// # Panics
    /// If it does not; the message shows what it printed.
    #[must_use]
    pub fn start(self) -> Daemon {
        self.try_start(|_| {}).expect("the daemon starts")
    }

    /// Writes the configuration, lets `prepare` change the directory it stands in, starts the daemon and waits until
    /// it listens.
    ///
    /// # Errors
    /// If the daemon ends instead.
    pub fn try_start(self, prepare: impl FnOnce(&Path)) -> Result<Daemon, Refusal> {
        let home = tempfile::tempdir().expect("the system has a directory for temporary files");
        let authority = TestCa::new("hijack authority of a test");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon = Daemon { options: self, home, authority, child: None, address };
        daemon.write_files().expect("a new directory can be written");
        prepare(daemon.home.path());
        daemon.launch()?;
        Ok(daemon)
    }
}

// === impl Daemon ===

impl Daemon {
    /// A client of this daemon that trusts its hijack, and nobody else, and offers no ALPN.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_offering(&[])
    }

    /// The same, offering these protocols.
    #[must_use]
    pub fn client_offering(&self, alpn: &[&str]) -> Client {
        Client::new(self.address, self.authority.client_config(alpn))
    }

    /// TLS settings of a client that trusts the hijack, and nobody else.
    #[must_use]
    pub fn client_tls(&self) -> Arc<ClientConfig> {
        self.client_tls_offering(&[])
    }

    /// The same, offering these protocols.
    #[must_use]
    pub fn client_tls_offering(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        self.authority.client_config(alpn)
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that holds everything of this daemon.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The directory of the store.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.home().join("data"))
    }

    /// The file with the certificate that clients must trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.home().join("ca.crt")
    }

    /// All that was logged, over all starts.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    /// All that was logged and printed, over all starts.
    #[must_use]
    pub fn everything_said(&self) -> String {
        self.log() + &self.printed()
    }

    /// `binary` in the daemon's home, as somebody runs it who meets no other daemon than this one.
    pub fn beside(&self, binary: impl AsRef<OsStr>) -> Command {
        let home = self.home();
        let mut command = Command::new(binary);
        command
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"))
            .env("DFGET_CONFIG", home.join("dfget.yaml"))
            .stdin(Stdio::null());
        command
    }

    /// Where the API's socket is: beside that of leases, or an ordinary user's, in the directory of his runtime.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        let [beside, own] = ["admin.sock", "run/dragonfly/daemon.admin"].map(|name| self.home().join(name));
        if own.exists() { own } else { beside }
    }

    /// The lines of the log that say that a task is done.
    #[must_use]
    pub fn done_lines(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains("peer task done, cost: ")).map(str::to_owned).collect()
    }

    /// Waits until the log has a line that contains `text`.
    ///
    /// # Panics
    /// If it has none within [`PATIENCE`].
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no line with {text:?} in the log:\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// Waits until the sample `name` (with its labels) of the admin port's `/metrics` is `value`.
    ///
    /// # Panics
    /// If it is not within [`PATIENCE`].
    pub fn wait_for_metric(&self, name: &str, value: usize) {
        let deadline = Instant::now() + PATIENCE;
        let wanted = format!("{name} {value}");
        loop {
            let metrics = self.metrics().expect("the admin port answers");
            if metrics.lines().any(|line| line == wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted} never came to be:\n{metrics}");
            thread::sleep(POLL);
        }
    }

    /// What the admin port shows at `/metrics`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> io::Result<String> {
        let log = self.log();
        let address =
            address_after(&log, "serve health and metrics at tcp://").ok_or(io::ErrorKind::NotFound)?;
        let mut stream = at(self.options.place.as_ref(), || TcpStream::connect(address))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Asks the daemon to end (SIGTERM) and does not wait.
    pub fn terminate(&self) {
        self.send(Signal::TERM);
    }

    /// Sends a signal and does not wait.
    pub fn send(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Waits until the daemon has ended.
    ///
    /// # Panics
    /// If it has not within [`PATIENCE`], or was not running.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            let patient = Instant::now() < deadline;
            if !patient {
                let _ = child.kill();
                let _ = child.wait();
            }
            assert!(patient, "the daemon did not end; its log:\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// SIGKILL: no farewell, nothing flushed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Removes all that a daemon which does not run has stored.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "a running daemon's store is its own");
        // A store may be a mount.
        for entry in fs::read_dir(self.data_dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("what a daemon stored can be removed");
        }
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the daemon again on the same store; its port may be another one.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_again(&mut self) {
        self.launch().expect("the daemon starts again");
    }

    fn write_files(&self) -> io::Result<()> {
        let home = self.home();
        fs::write(self.ca_file(), self.authority.certificate_pem())?;
        write_private(&home.join("ca.key"), &self.authority.key_pem())?;
        fs::write(home.join("trusted.pem"), &self.options.trusted)?;
        fs::write(home.join("dfget.yaml"), self.yaml())
    }

    fn yaml(&self) -> String {
        let home = self.home().display();
        let DaemonOptions { rules, hosts, hijack, proxy, listen, extra, .. } = &self.options;
        let listen = listen.clone().unwrap_or_else(|| port_range(20_000));
        format!(
            "logDir: {home}/log\ndataDir: {data}\n\
             health:\n  tcpListen: {health}\n{extra}\
             proxy:\n  tcpListen: {listen}\n  proxies: {rules}\n\
             \x20 hijackHTTPS: {{cert: {hijack}, hosts: {hosts}}}\n{proxy}",
            data = self.data_dir().display(),
            health = port_range(26_000),
        )
    }

    fn launch(&mut self) -> Result<(), Refusal> {
        let home = self.home();
        let logged_before = self.log().len();
        // An ordinary user's daemons would all be found at one place else.
        let runtime = home.join("run");
        DirBuilder::new().recursive(true).mode(0o700).create(&runtime).expect("a directory in it");
        let output = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(home.join(name))
                .expect("a file in the daemon's home")
        };
        let mut command = Command::new(&self.options.binary);
        command
            .args(["daemon", "--config"])
            .arg(home.join("dfget.yaml"))
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/bin:/bin")
            .env("SSL_CERT_FILE", home.join("trusted.pem"))
            .env("XDG_RUNTIME_DIR", runtime)
            .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"))
            .envs(self.options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output("stdout.log"))
            .stderr(output("stderr.log"));
        let mut child = at(self.options.place.as_ref(), || command.spawn()).expect("the binary is there");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(address) = log.get(logged_before..).and_then(listening_address) {
                self.address = address;
                self.child = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return Err(Refusal { code: status.code(), printed: self.printed() });
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Refusal { code: None, printed: self.printed() + &log });
            }
            thread::sleep(POLL);
        }
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("log/daemon/core.log")
    }

    fn printed(&self) -> String {
        read(&self.home().join("stdout.log")) + &read(&self.home().join("stderr.log"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in the newest `serve proxy at tcp://IP:PORT` of `log`.
fn listening_address(log: &str) -> Option<SocketAddr> {
    // Who listens everywhere is reached here too.
    address_after(log, "serve proxy at tcp://").map(|address| match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        _ => address,
    })
}

/// The address behind the last `marker` in `log`.
fn address_after(log: &str, marker: &str) -> Option<SocketAddr> {
    let (_, rest) = log.rsplit_once(marker)?;
    let end = rest.find('"')?;
    rest.get(..end)?.trim().parse().ok()
}

/// A thousand ports from which the daemon takes the first free one; neighbours start at other places.
fn port_range(base: u16) -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 100).unwrap_or_default();
    let start = base + (NEXT.fetch_add(7, Ordering::SeqCst) + process * 50) % 5000;
    format!("{{listen: 127.0.0.1, port: {{start: {start}, end: {}}}}}", start + 999)
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_newest_line_only_when_it_is_whole() {
        let log =
            "{\"msg\":\"serve proxy at tcp://127.0.0.1:1\"}\n{\"msg\":\"serve proxy at tcp://127.0.0.1:22";
        assert_eq!(listening_address(log), None);
        let log = format!("{log}33\"}}\n");
        assert_eq!(listening_address(&log), Some(SocketAddr::from(([127, 0, 0, 1], 2233))));
    }
}
