//! A user's session on a node: directories of its own, a registry that its programs trust, and the commands that are
//! run in it by `dfget run`.
//!
//! Of the machine a session shares `/tmp/dfget-UID` alone, where bundles lie because containers have it; what its
//! commands leave there is removed when it is dropped, and its daemons are killed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::ca::TestCa;
use crate::gate::PATIENCE;
use crate::registry::Registry;

/// How often is looked for what is waited for.
const POLL: Duration = Duration::from_millis(10);

/// The session.
#[derive(Debug)]
pub struct Session {
    /// The authority of the registry's certificate, which the session trusts by `SSL_CERT_FILE`.
    pub ca: TestCa,
    /// The registry.
    pub registry: Registry,
    binary: PathBuf,
    dir: TempDir,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; that of a shell (128 and more) if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

/// A command under way. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    stderr: PathBuf,
    printed: String,
}

// === impl Session ===

impl Session {
    /// A session with the `dfget` of this file, and an empty registry over TLS.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self::with(binary, Registry::https)
    }

    /// The same with another registry.
    ///
    /// # Panics
    /// If the system has no directory for it.
    #[must_use]
    pub fn with(binary: &str, registry: impl FnOnce(&TestCa) -> Registry) -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = registry(&ca);
        let dir = tempfile::tempdir().expect("the system has a directory for temporary files");
        let session = Self { ca, registry, binary: binary.into(), dir };
        for name in ["home", "tmp", "run"] {
            fs::create_dir(session.path(name)).expect("a new directory can be written");
        }
        fs::write(session.path("trusted.pem"), session.ca.certificate_pem())
            .expect("a new directory can be written");
        session
    }

    /// The file or directory of this name in the session: `home`, `tmp` and `run` are there, and are what the
    /// variables say.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where sockets and locks are.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path("run/dragonfly")
    }

    /// A program with the variables of the session and no others, in its home.
    #[must_use]
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("SSL_CERT_FILE", self.path("trusted.pem"))
            .env("DFGET_SYSTEM_SOCKET", self.path("system.sock"))
            .stdin(Stdio::null());
        command
    }

    /// `dfget run` with these arguments.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.binary);
        command.arg("run").args(arguments);
        command
    }

    /// `dfget run` with these flags, of a shell with this script, with the registry's host hijacked.
    #[must_use]
    pub fn script(&self, flags: &[&str], script: &str) -> Command {
        let host = self.registry.origin.authority();
        self.run(&[&["--host", &host], flags, &["--", "sh", "-c", script]].concat())
    }

    /// `dfget run --verbose` of `curl`, which writes what `url` gives to the file of this name in the home.
    #[must_use]
    pub fn curl(&self, url: &str, file: &str) -> Command {
        self.run(&["--verbose", "--", "curl", "--silent", "--show-error", "--fail", "-o", file, url])
    }

    /// Runs `curl` of `url` and returns how it ended, and what came.
    pub fn fetch(&self, url: &str) -> (Ended, Vec<u8>) {
        let _ = fs::remove_file(self.path("home/fetched"));
        let ended = Ended::of(&mut self.curl(url, "fetched"));
        (ended, fs::read(self.path("home/fetched")).unwrap_or_default())
    }

    /// The processes of this session's daemons.
    #[must_use]
    pub fn daemons(&self) -> Vec<u32> {
        let home = format!("HOME={}", self.path("home").display());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = processes.filter(|process| {
            let read = |name| fs::read(process.path().join(name)).unwrap_or_default();
            let has =
                |text: &[u8], word: &str| text.split(|&byte| byte == 0).any(|one| one == word.as_bytes());
            has(&read("cmdline"), "leased-daemon") && has(&read("environ"), &home)
        });
        ours.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
    }

    /// The process of the only daemon.
    ///
    /// # Panics
    /// If there is none, or another.
    pub fn daemon(&self) -> u32 {
        let daemons = self.daemons();
        assert_eq!(daemons.len(), 1, "one daemon serves the session: {daemons:?}");
        daemons[0]
    }

    /// Waits until every daemon of the session has left.
    ///
    /// # Panics
    /// If one does not within [`PATIENCE`].
    pub fn wait_for_no_daemon(&self) {
        until("the daemon to leave", || self.daemons().is_empty().then_some(()));
    }

    /// What the session's daemons have logged.
    #[must_use]
    pub fn log(&self) -> String {
        files_below(self.dir.path())
            .iter()
            .filter(|path| path.ends_with("daemon/core.log"))
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .collect()
    }

    /// Every file and directory of the session.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        files_below(self.dir.path())
    }

    /// Removes the bundles that this session made, known by whose certificates are in them.
    fn remove_bundles(&self) {
        let mut ours = vec![self.ca.certificate_pem()];
        let made = self.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "crt"));
        ours.extend(made.filter_map(|path| fs::read_to_string(path).ok()));
        let dir = PathBuf::from(format!("/tmp/dfget-{}", geteuid().as_raw()));
        for bundle in fs::read_dir(dir).into_iter().flatten().flatten() {
            let text = fs::read_to_string(bundle.path()).unwrap_or_default();
            if ours.iter().any(|pem| text.contains(pem.trim_end())) {
                let _ = fs::remove_file(bundle.path());
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for daemon in self.daemons() {
            send(daemon, Signal::KILL);
        }
        self.remove_bundles();
    }
}

// === impl Ended ===

impl Ended {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: code(output.status), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Itself if the command ended well.
    ///
    /// # Panics
    /// If not, with what it said.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

// === impl Running ===

impl Running {
    /// Starts a command in a process group of its own, as a shell at a terminal does.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        let stderr = tempfile::NamedTempFile::new().expect("the system has room for a file");
        let (file, path) = stderr.keep().expect("a file can be kept");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(file)
            .process_group(0)
            .spawn()
            .expect("the program is there");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child: Some(child), stdout, stderr: path, printed: String::new() }
    }

    /// Its process.
    ///
    /// # Panics
    /// After its end.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Reads on until a line contains `text`, and returns the line.
    ///
    /// # Panics
    /// If the output ends before.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap_or(0);
            self.printed.push_str(&line);
            assert!(read > 0, "no line with {text:?} came:\n{}{}", self.printed, self.said());
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// What it has said on standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Writes to its standard input, which must be piped.
    ///
    /// # Panics
    /// If it is not, or does not take it.
    pub fn type_in(&mut self, bytes: &[u8]) {
        use std::io::Write as _;
        let input = self.child.as_mut().and_then(|child| child.stdin.as_mut()).expect("its input is piped");
        input.write_all(bytes).and_then(|()| input.flush()).expect("it takes input");
    }

    /// Sends a signal to it alone.
    pub fn send(&self, signal: Signal) {
        send(self.id(), signal);
    }

    /// Waits for its end, and returns its code; not for what others may still print to the same output.
    ///
    /// # Panics
    /// As [`Running::wait`].
    #[must_use]
    pub fn wait_for_end(mut self) -> i32 {
        code(self.end())
    }

    /// Waits for its end, and for all that is printed.
    ///
    /// # Panics
    /// If it does not come within [`PATIENCE`].
    pub fn wait(mut self) -> Ended {
        let status = self.end();
        let _ = self.stdout.read_to_string(&mut self.printed);
        Ended { code: code(status), stdout: std::mem::take(&mut self.printed), stderr: self.said() }
    }

    fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            let patient = Instant::now() < end;
            if !patient {
                let _ = child.kill();
                let _ = child.wait();
            }
            assert!(patient, "the command did not end:\n{}{}", self.printed, self.said());
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_file(&self.stderr);
    }
}

/// Sends a signal to one process.
pub fn send(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// Kills a process and waits until it has let go of its connections. Until then its threads may still take new ones,
/// which end with it.
///
/// # Panics
/// If it does not end within [`PATIENCE`].
pub fn kill(process: u32) {
    send(process, Signal::KILL);
    let of = PathBuf::from(format!("/proc/{process}"));
    until("a killed process to end", || {
        // A thread is gone, or a zombie if it is the first, after it has closed what was open.
        let threads = fs::read_dir(of.join("task")).map_or(0, Iterator::count);
        let status = fs::read_to_string(of.join("status")).unwrap_or_default();
        (threads == 0 || threads == 1 && status.contains("State:\tZ")).then_some(())
    });
}

/// Looks until `found` has something.
///
/// # Panics
/// If it has not within [`PATIENCE`]; the message says what was waited for.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(POLL);
    }
}

/// The proxy's address and its `user:password` by the text of `HTTPS_PROXY`
/// (`http://user:password@ip:port`).
///
/// # Panics
/// If it is none of ours.
#[must_use]
pub fn proxy_of(value: &str) -> (SocketAddr, String) {
    let rest = value.strip_prefix("http://").expect("a URL");
    let (login, address) = rest.split_once('@').expect("with a password");
    (address.trim_end_matches('/').parse().expect("an address"), login.to_owned())
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found
}
