//! Who is measured, and how each is set up.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::{Target, whole};
use crate::origin::{self, Blob, Origin};
use crate::places::{Places, nginx_command};
use crate::process::Server;
use crate::tls::{TlsSettings, Trust};

/// One that is measured.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name in the table.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it listens: the number makes the port or address.
    number: u8,
}

/// What a contender is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No proxy.
    Direct,
    /// dfget, this binary.
    Dfget(PathBuf),
    /// nginx as a caching reverse proxy with TLS on both sides.
    Nginx,
    /// squid, unpacked here, that opens TLS.
    Squid(PathBuf),
    /// Another proxy with CONNECT, started by this command of a shell.
    Peer(String),
}

/// A contender that runs.
#[derive(Debug)]
pub struct Running {
    /// Its name in the table.
    pub name: String,
    /// The way to the origin through it.
    pub target: Target,
    /// The process, if there is one.
    pub server: Option<Server>,
    directory: PathBuf,
}

// === impl Contender ===

impl Contender {
    /// A contender with a place of its own, which `number` makes.
    pub fn new(name: impl Into<String>, kind: Kind, number: u8) -> Self {
        Self { name: name.into(), kind, number }
    }

    /// Starts it with an empty cache.
    ///
    /// # Errors
    /// It cannot be set up, or does not start.
    pub fn start(&self, places: &Places) -> io::Result<Running> {
        let directory = places.directory(&self.name)?;
        self.start_again(places, directory)
    }

    /// Starts it in a directory that holds what it stored before.
    ///
    /// # Errors
    /// It cannot be set up, or does not start.
    pub fn start_again(&self, places: &Places, directory: PathBuf) -> io::Result<Running> {
        let mut address = self.address();
        let mut authority = places.proxy_authority();
        let command = match &self.kind {
            Kind::Direct => {
                address = Origin::address();
                authority = places.origin_authority();
                None
            }
            Kind::Dfget(binary) => Some(dfget(binary, places, &directory, address.port(), "")?),
            Kind::Nginx => {
                authority = places.origin_authority();
                Some(nginx(places, &directory, address)?)
            }
            Kind::Squid(root) => Some(squid(root, places, &directory, address.port())?),
            Kind::Peer(line) => Some(peer(line, places, &directory, address.port())),
        };
        let server = match command {
            Some(command) => Some(Server::start(command, &directory.join("output"), address)?),
            None => None,
        };
        let tls = TlsSettings::new(&fs::read(authority)?)?;
        let target = Target {
            address,
            connect: self.connects(),
            host: origin::NAME.to_owned(),
            port: origin::PORT,
            tls,
            plain: false,
        };
        Ok(Running { name: self.name.clone(), target, server, directory })
    }

    /// Whether it is a proxy that is asked by CONNECT.
    pub fn connects(&self) -> bool {
        !matches!(self.kind, Kind::Direct | Kind::Nginx)
    }

    /// Whether it is dfget, this build or another.
    pub fn is_dfget(&self) -> bool {
        matches!(self.kind, Kind::Dfget(_))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self.kind {
            Kind::Nginx => (Ipv4Addr::new(198, 51, 100, 100 + self.number), origin::PORT).into(),
            _ => (Ipv4Addr::LOCALHOST, 65_000 + u16::from(self.number)).into(),
        }
    }
}

// === impl Running ===

impl Running {
    /// The same way to the origin that holds connections to a rate.
    pub fn capped_target(&self) -> Target {
        let mut target = self.target.clone();
        if !target.connect {
            target.address = Origin::capped_address();
        }
        origin::CAPPED_NAME.clone_into(&mut target.host);
        target
    }

    /// The way to the origin without TLS, by its mirror: of dfget the same port, of nginx another.
    pub fn mirror_target(&self) -> Target {
        let mut target = self.target.clone();
        if !target.connect {
            target.address.set_port(MIRROR_PORT);
        }
        target.plain = true;
        target
    }

    /// The same way to docker-registry.
    pub fn registry_target(&self) -> Target {
        let mut target = self.target.clone();
        if self.server.is_none() {
            target.address = Origin::registry_address();
        }
        if target.connect || self.server.is_none() {
            target.port = origin::REGISTRY_PORT;
        }
        origin::REGISTRY_NAME.clone_into(&mut target.host);
        target
    }

    /// Pulls a blob for the first time, with the certificate verified, and looks at every byte.
    ///
    /// # Errors
    /// The certificate is not good, the pull fails, or the bytes are not those of the blob.
    pub fn warm(&self, blob: &Blob) -> io::Result<()> {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let answer = self.target.open(Trust::Verify)?.get(&blob.path, |data| {
            digest.update(data);
            ControlFlow::Continue(())
        })?;
        whole(answer, blob.size)?;
        is_blob(digest, blob)
    }

    /// Seconds of processor it took so far; none for no proxy.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        self.server.as_ref().map_or(Ok(0.0), Server::cpu_seconds)
    }

    /// Bytes of anonymous memory that it has.
    ///
    /// # Errors
    /// It is gone, or there is no process.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        self.server.as_ref().map_or_else(|| Err(io::Error::other("no process")), Server::anonymous_bytes)
    }

    /// Ends it, and leaves what it stored.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(self) -> io::Result<PathBuf> {
        if let Some(server) = self.server {
            server.end()?;
        }
        Ok(self.directory)
    }

    /// Ends it, and removes what it stored.
    ///
    /// # Errors
    /// It had to be killed, or the files cannot be removed.
    pub fn end(self) -> io::Result<()> {
        fs::remove_dir_all(self.stop()?)
    }
}

/// Compares the digest of what came with that of the blob.
///
/// # Errors
/// It is another.
pub(crate) fn is_blob(digest: aws_lc_rs::digest::Context, blob: &Blob) -> io::Result<()> {
    let hex: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if blob.path.ends_with(&hex) { Ok(()) } else { Err(io::Error::other("other bytes than the origin has")) }
}

/// The configuration of README.md, with two origins and their authority, and these lines at its end.
pub(crate) fn dfget(
    binary: &Path,
    places: &Places,
    directory: &Path,
    port: u16,
    lines: &str,
) -> io::Result<Command> {
    let configuration = format!(
        "proxy:
  tcpListen: {{port: {port}}}
  proxies:
    - regx: blobs/sha256.*
    - regx: manifests/sha256.*
registryMirror:
  url: https://{name}:{origin_port}
  certs: [{authority}]
hijackHTTPS:
  cert: {ca}
  key: {key}
  hosts:
    - regx: '^(bench|capped)\\.registry\\.test:{origin_port}$'
      certs: [{authority}]
    - regx: '^registry\\.test:443$'
      certs: [{authority}]
dataDir: {directory}/data
logDir: {directory}/log
{lines}{extra}
",
        name = origin::NAME,
        ca = places.proxy_authority().display(),
        key = places.proxy_key().display(),
        origin_port = origin::PORT,
        authority = places.origin_authority().display(),
        directory = directory.display(),
        extra = std::env::var("DFGET_BENCH_YAML").unwrap_or_default(),
    );
    let path = directory.join("dfget.yaml");
    fs::write(&path, configuration)?;
    let mut command = Command::new(binary);
    command.args(["daemon", "--config"]).arg(path);
    Ok(command)
}

/// A caching reverse proxy, as its documentation sets one up.
fn nginx(places: &Places, directory: &Path, address: SocketAddr) -> io::Result<Command> {
    let authority = places.origin_authority().display().to_string();
    let server = |name: &str, upstream: &str| {
        format!(
            "server {{
        listen {address} ssl backlog=4096;
        server_name {name};
        location / {{
            proxy_pass https://{upstream};
            proxy_ssl_name {name};
            proxy_ssl_server_name on;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_http_version 1.1;
            proxy_set_header Host {name};
            proxy_set_header Connection '';
            proxy_cache blobs;
            proxy_cache_key $uri;
            proxy_cache_valid 200 7d;
            proxy_cache_lock on;
            proxy_cache_lock_age 10m;
            proxy_cache_lock_timeout 10m;
        }}
    }}"
        )
    };
    let plain = server(origin::NAME, "origin")
        .replace(" ssl backlog=4096", "")
        .replace(&address.to_string(), &SocketAddr::new(address.ip(), MIRROR_PORT).to_string());
    let servers = format!(
        "proxy_cache_path {cache} keys_zone=blobs:16m max_size=200g inactive=7d use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 32; }}
    upstream registry {{ server {registry}; keepalive 32; }}
    {plain}
    {}
    {}",
        server(origin::NAME, "origin"),
        server(origin::REGISTRY_NAME, "registry").replace(" backlog=4096", ""),
        cache = directory.join("cache").display(),
        origin = Origin::address(),
        registry = Origin::registry_address(),
    );
    nginx_command(places, directory, &servers)
}

/// squid with ssl-bump: it looks at the origin's certificate before it answers with its own.
fn squid(root: &Path, places: &Places, directory: &Path, port: u16) -> io::Result<Command> {
    let root_text = root.display();
    let run = directory.display();
    fs::copy(places.proxy_authority(), directory.join("ca.crt"))?;
    fs::copy(places.proxy_key(), directory.join("ca.key"))?;
    let configuration = format!(
        "http_port 127.0.0.1:{port} ssl-bump tls-cert={run}/ca.crt tls-key={run}/ca.key generate-host-certificates=on \
dynamic_cert_mem_cache_size=4MB
sslcrtd_program {root_text}/usr/lib/squid/security_file_certgen -s {run}/certificates -M 4MB
tls_outgoing_options cafile={run}/origins.crt
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
http_access allow all
cache_dir aufs {run}/cache 200000 16 256
maximum_object_size 100 GB
maximum_object_size_in_memory 512 KB
cache_mem 64 MB
collapsed_forwarding on
refresh_pattern . 10080 100% 10080
hosts_file /etc/hosts
cache_effective_user nobody
cache_effective_group nogroup
pid_filename none
access_log none
cache_store_log none
cache_log {run}/log
coredump_dir {run}
mime_table {root_text}/usr/share/squid/mime.conf
icon_directory {root_text}/usr/share/squid/icons
error_directory {root_text}/usr/share/squid-langpack/templates
unlinkd_program {root_text}/usr/lib/squid/unlinkd
logfile_daemon {root_text}/usr/lib/squid/log_file_daemon
pinger_enable off
shutdown_lifetime 0 seconds
max_filedescriptors 16384
"
    );
    fs::copy(places.origin_authority(), directory.join("origins.crt"))?;
    let path = directory.join("squid.conf");
    fs::write(&path, configuration)?;
    let run_command = |program: &str| {
        let mut command = places.as_ordinary(&root.join(program));
        command.env("LD_LIBRARY_PATH", root.join("lib"));
        command
    };
    let mut certificates = run_command("usr/lib/squid/security_file_certgen");
    certificates.arg("-c").arg("-s").arg(directory.join("certificates")).args(["-M", "4MB"]);
    finished(certificates)?;
    if places.root {
        let mut owner = Command::new("chown");
        owner.args(["-R", "nobody"]).arg(directory);
        finished(owner)?;
    }
    let mut cache = run_command("usr/sbin/squid");
    cache.args(["-N", "-z", "-f"]).arg(&path);
    finished(cache)?;
    let mut command = run_command("usr/sbin/squid");
    command.args(["-N", "-f"]).arg(path);
    Ok(command)
}

fn finished(mut command: Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{}: {}", command.get_program().to_string_lossy(), said.trim())))
}

/// A command of the caller's, told everything by variables.
fn peer(line: &str, places: &Places, directory: &Path, port: u16) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(directory);
    command.env("PEER_PORT", port.to_string());
    command.env("PEER_CA_CERT", places.proxy_authority());
    command.env("PEER_CA_KEY", places.proxy_key());
    command.env("PEER_ORIGIN", format!("{}:{}", origin::NAME, origin::PORT));
    command.env("PEER_ORIGIN_CA", places.origin_authority());
    command.env("PEER_DIR", directory);
    command
}

/// Where nginx listens without TLS.
const MIRROR_PORT: u16 = 5080;
