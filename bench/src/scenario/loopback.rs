//! From a parent to a child: the transfer of pieces alone, beside nginx.
//!
//! Both ends of dfget are the program `loopback` of the crate `dfget-peer`: a parent's port of pieces, as a daemon
//! opens it, and a child's client, as a daemon asks with it. The same program reads nginx's file, by the same TLS,
//! over as many connections, and computes the same checksums. Nobody stores what comes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::course::{Bench, GIB, MIB};
use crate::places::nginx_command;
use crate::process::Server;
use crate::table::{DFGET, Goal, Row};

/// A server, and what reads from it.
struct Side<'a> {
    name: &'static str,
    server: Server,
    role: &'static str,
    program: &'a Path,
    certificate: Option<&'a Path>,
}

/// In clear and through TLS, in turn.
pub(super) fn loopback(bench: &mut Bench) -> io::Result<()> {
    let size = bench.plan.size(4 * GIB);
    let text = bench.plan.size_text(4 * GIB);
    let ids = WAYS.map(|way| ["rate", "cpu"].map(|part| format!("loopback-{}-{part}", way.id)));
    for (way, ids) in WAYS.iter().zip(&ids) {
        let what = format!("parent-child {text}, {}, MB/s", way.argument);
        let row = Row::new(&ids[0], what).against("nginx").goal(Goal::RatioAtLeast(way.least));
        bench.table.add(row);
        bench.table.add(Row::new(&ids[1], "  CPU of both ends, s/GiB").against("nginx"));
    }
    let program = bench.loopback.clone();
    let directory = bench.places.directory("loopback")?;
    let certificate = certificate(&directory)?;
    let sides = [
        Side {
            name: DFGET,
            server: parent(&program, &directory, size)?,
            role: "child",
            program: &program,
            certificate: None,
        },
        Side {
            name: "nginx",
            server: nginx(bench, &directory, size)?,
            role: "reader",
            program: &program,
            certificate: Some(&certificate),
        },
    ];
    for (way, ids) in WAYS.iter().zip(&ids) {
        for side in &sides {
            side.transfer(way, size)?;
        }
        for round in 0..bench.plan.rounds {
            for turn in 0..sides.len() {
                let side = &sides[(turn + round) % sides.len()];
                rustix::fs::sync();
                bench.record(round, side.name, ids, side.transfer(way, size));
            }
        }
    }
    sides.into_iter().try_for_each(|side| side.server.end())?;
    fs::remove_dir_all(directory)
}

/// How it is spoken.
struct Way {
    id: &'static str,
    /// For the program.
    argument: &'static str,
    /// At least so many times what nginx does.
    least: f64,
    port: u16,
}

// === impl Side ===

impl Side<'_> {
    /// One transfer of everything: bytes a second, in millions, and seconds of processor for a GiB.
    fn transfer(&self, way: &Way, size: u64) -> io::Result<Vec<f64>> {
        let before = self.server.cpu_seconds()?;
        let mut reader = Command::new(self.program);
        reader.args([self.role, way.argument, &self.address(way).to_string()]);
        reader.args([(size / MIB).to_string(), AT_ONCE.to_string()]).args(self.certificate);
        let output = reader.stdin(Stdio::null()).output()?;
        let said =
            String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        let mut numbers = said.split_whitespace().map(str::parse::<f64>);
        let (Some(Ok(seconds)), Some(Ok(cpu))) = (numbers.next(), numbers.next()) else {
            return Err(io::Error::other(said.trim().to_owned()));
        };
        let cpu = self.server.cpu_seconds()? - before + cpu;
        Ok(vec![size as f64 / seconds / 1e6, cpu / (size as f64 / GIB as f64)])
    }

    fn address(&self, way: &Way) -> SocketAddr {
        at(if self.name == DFGET { way.port } else { way.port + 1 })
    }
}

/// A parent that has a content of this size.
fn parent(program: &Path, directory: &Path, size: u64) -> io::Result<Server> {
    let mut command = Command::new(program);
    command.arg("parent").arg(directory.join("parent")).arg((size / MIB).to_string());
    command.args(WAYS.map(|way| at(way.port).to_string()));
    Server::start(command, &directory.join("parent.log"), at(WAYS[1].port))
}

/// An nginx that has a file of this size.
fn nginx(bench: &Bench, directory: &Path, size: u64) -> io::Result<Server> {
    let mut file = File::create(directory.join("file"))?;
    for at in (0..size).step_by(1 << 20) {
        file.write_all(&at.to_le_bytes().repeat(1 << 17))?;
    }
    file.sync_all()?;
    let [clear, tls] = WAYS.map(|way| at(way.port + 1));
    let root = directory.display();
    let servers = format!(
        "server {{
        listen {clear};
        listen {tls} ssl;
        root {root};
        ssl_certificate {root}/certificate;
        ssl_certificate_key {root}/key;
    }}"
    );
    let command = nginx_command(&bench.places, directory, &servers)?;
    Server::start(command, &directory.join("nginx.log"), tls)
}

/// A certificate for this address, for nginx.
fn certificate(directory: &Path) -> io::Result<std::path::PathBuf> {
    let file = directory.join("certificate");
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split(' '));
    openssl.args(["-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = openssl.arg("-keyout").arg(directory.join("key")).arg("-out").arg(&file).output()?;
    if output.status.success() {
        Ok(file)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const WAYS: [Way; 2] = [
    Way { id: "clear", argument: "clear", least: 0.9, port: 65_200 },
    Way { id: "tls", argument: "TLS", least: 1.0, port: 65_202 },
];
/// Units that a daemon asks of one parent at once, and connections to nginx.
const AT_ONCE: usize = 4;
