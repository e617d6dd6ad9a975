//! Where things lie: the clients of `tests/real-clients`, the certificates, a directory for the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// The directories of a run.
#[derive(Clone, Debug)]
pub struct Places {
    /// What `tests/real-clients/setup` filled.
    pub clients: PathBuf,
    /// The scripts of `tests/real-clients`.
    pub scripts: PathBuf,
    /// A directory that is the run's alone, and removed with it.
    pub scratch: PathBuf,
    /// Whether uid 0 here is root of the machine.
    pub root: bool,
}

// === impl Places ===

impl Places {
    /// A new, empty directory of the run; one with this name is removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.scratch.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A copy of a directory where every user can reach it, for programs that become another one.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn reachable(&self, name: &str, directory: &Path) -> io::Result<PathBuf> {
        let copy = self.scratch.join(name);
        let output = Command::new("cp").arg("-a").arg(directory).arg(&copy).output()?;
        if output.status.success() {
            Ok(copy)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    }

    /// Starts (`start`) or ends (`stop`) the docker-registry of `tests/real-clients/registries`.
    ///
    /// # Errors
    /// It does not.
    pub fn registry(&self, what: &str) -> io::Result<()> {
        let mut command = Command::new(self.scripts.join("registries"));
        command.arg(&self.clients).args([what, "open"]).stdin(Stdio::null());
        if command.status()?.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the registry does not {what}")))
        }
    }

    /// The certificate of the authority of all origins.
    pub fn origin_authority(&self) -> PathBuf {
        self.clients.join("ca/origins.crt")
    }

    /// The certificate of the authority that proxies sign with.
    pub fn proxy_authority(&self) -> PathBuf {
        self.scratch.join("ca.crt")
    }

    /// Its private key.
    pub fn proxy_key(&self) -> PathBuf {
        self.scratch.join("ca.key")
    }

    /// Makes that authority, as README.md does.
    ///
    /// # Errors
    /// openssl fails.
    pub fn make_authority(&self) -> io::Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split(' '));
        openssl.args(["-subj", "/CN=dfget-bench", "-addext", "keyUsage=critical,keyCertSign"]);
        openssl.arg("-keyout").arg(self.proxy_key()).arg("-out").arg(self.proxy_authority());
        let output = openssl.output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    }

    /// A command for a program that must not be uid 0, or that would then want another uid which there is not.
    pub fn as_ordinary(&self, program: &Path) -> Command {
        if self.root {
            return Command::new(program);
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=65534", "--map-group=65534"]).arg(program);
        command
    }
}

/// The command that runs an nginx with these servers from the directory `run`: one worker for each processor, TLS 1.3
/// only, and an RSA leaf.
///
/// # Errors
/// Its configuration cannot be written.
pub fn nginx_command(places: &Places, run: &Path, servers: &str) -> io::Result<Command> {
    let run_text = run.display();
    let ca = places.clients.join("ca");
    let user = if places.root { "user root;" } else { "" };
    let workers = thread::available_parallelism()?;
    let configuration = format!(
        "{user}
worker_processes {workers};
worker_rlimit_nofile {NGINX_FILES};
pid {run_text}/pid;
daemon off;
events {{ worker_connections {NGINX_FILES}; }}
http {{
    access_log off;
    client_body_temp_path {run_text}/tmp; proxy_temp_path {run_text}/tmp; fastcgi_temp_path {run_text}/tmp;
    uwsgi_temp_path {run_text}/tmp; scgi_temp_path {run_text}/tmp;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    ssl_protocols TLSv1.3;
    ssl_certificate {ca}/server.crt;
    ssl_certificate_key {ca}/server.key;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 1h;
    {servers}
}}
",
        ca = ca.display(),
    );
    let path = run.join("nginx.conf");
    fs::write(&path, configuration)?;
    let mut command = places.as_ordinary(&places.clients.join("root/sbin/nginx"));
    command.arg("-c").arg(&path).arg("-e").arg(run.join("errors"));
    Ok(command)
}

const NGINX_FILES: u32 = 15_000;
