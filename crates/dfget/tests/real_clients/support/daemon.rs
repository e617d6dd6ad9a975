//! `dfget daemon` on the documented port, with the documented configuration.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::namespace::{clients_dir, dfget_binary};
use super::process::{run, until};

/// The documentation's `dfget.yaml`, with its placeholder.
pub(crate) const PAGE_CONFIG: &str = include_str!("../../../../../tests/real-clients/page/dfget.yaml");
/// The documentation's `openssl.conf`.
pub(crate) const PAGE_OPENSSL_CONF: &str =
    include_str!("../../../../../tests/real-clients/page/openssl.conf");
/// Where the documentation looks for the log.
pub(crate) const CORE_LOG: &str = "/var/log/dragonfly/daemon/core.log";

const CONFIG_DIR: &str = "/etc/dragonfly";
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 65001);

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    output: PathBuf,
}

impl Daemon {
    /// A daemon with the documented configuration for the test registries, and an authority of its own
    /// (`Daemon::ca`) beside it.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with some more lines in the configuration.
    #[track_caller]
    pub(crate) fn start_with(more: &str) -> Self {
        configure(more);
        Self::start_in(Path::new("/"))
    }

    /// The same with one more rule, by its pattern.
    #[track_caller]
    pub(crate) fn start_with_rule(regx: &str) -> Self {
        configure("");
        let (file, last) = (Path::new(CONFIG_DIR).join("dfget.yaml"), "    - regx: manifests/sha256.*\n");
        let text = fs::read_to_string(&file).expect("it was written");
        fs::write(&file, text.replace(last, &format!("{last}    - regx: '{regx}'\n"))).expect("/etc is ours");
        Self::start_in(Path::new("/"))
    }

    /// A daemon with this configuration and no other.
    #[track_caller]
    pub(crate) fn start_as(configuration: &str) -> Self {
        fs::create_dir_all(CONFIG_DIR).expect("/etc is ours");
        fs::write(Path::new(CONFIG_DIR).join("dfget.yaml"), configuration).expect("/etc is ours");
        Self::start_in(Path::new("/"))
    }

    /// The same with these variables in its environment.
    #[track_caller]
    pub(crate) fn start_with_variables(variables: &[(&str, &str)]) -> Self {
        configure("");
        Self::launch(Path::new("/"), variables)
    }

    /// The daemon as `/etc/dragonfly` stands, started in this directory. It answers when this returns.
    #[track_caller]
    pub(crate) fn start_in(directory: &Path) -> Self {
        Self::launch(directory, &[])
    }

    #[track_caller]
    fn launch(directory: &Path, variables: &[(&str, &str)]) -> Self {
        let output = PathBuf::from("/tmp/daemon.output");
        let file = File::options().create(true).append(true).open(&output).expect("/tmp is ours");
        let errors = file.try_clone().expect("a file can be cloned");
        let child = Command::new(dfget_binary())
            .arg("daemon")
            .current_dir(directory)
            .env("SSL_CERT_FILE", clients_dir().join("ca/origins.crt"))
            .envs(variables.iter().copied())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .expect("the binary under test can be started");
        let mut daemon = Self { child, output };
        until("the daemon to listen", || {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                panic!("dfget daemon ended with {status}:\n{}", daemon.said());
            }
            TcpStream::connect(PROXY).ok()
        });
        daemon
    }

    /// The certificate that clients of the proxy must trust.
    pub(crate) fn ca() -> PathBuf {
        Path::new(CONFIG_DIR).join("ca.crt")
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the daemon is our child");
        self.child.wait().expect("the daemon is our child");
    }

    /// SIGTERM, and gone when this returns.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        run(Command::new("sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()])).ok();
        let status = until("the daemon to end after SIGTERM", || {
            self.child.try_wait().expect("the daemon is our child")
        });
        assert!(status.success(), "after SIGTERM the daemon ended with {status}:\n{}", self.said());
    }

    /// The lines of the log that the documentation's `grep` finds.
    pub(crate) fn tasks_done() -> Vec<String> {
        let text = fs::read_to_string(CORE_LOG).unwrap_or_default();
        text.lines().filter(|line| line.contains("peer task done")).map(str::to_owned).collect()
    }

    /// Everything it printed and logged, for messages.
    fn said(&self) -> String {
        [self.output.as_path(), Path::new(CORE_LOG)]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .join("")
    }
}

// === impl Drop ===

impl Drop for Daemon {
    fn drop(&mut self) {
        // Either may fail when the daemon ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
    }
}

/// Writes the documented configuration for the test registries, and `more` below it, unless it is there.
fn configure(more: &str) {
    let directory = Path::new(CONFIG_DIR);
    if directory.exists() {
        return;
    }
    fs::create_dir(directory).expect("/etc is ours");
    let text = PAGE_CONFIG.replace("<your.private.registry>", "registry.test") + more;
    fs::write(directory.join("dfget.yaml"), text).expect("/etc is ours");
    run(Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "30"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", "/CN=dfget test", "-keyout", "ca.key", "-out", "ca.crt"])
        .current_dir(directory))
    .ok();
}
