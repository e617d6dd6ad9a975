//! Nodes that feed each other: all of them pull, at once and from cold, what the registry has, over links of a rate.
//!
//! What it takes one node without a proxy is measured over the same link, in the same round, by the same client. The
//! processor's time counts all daemons and all clients, and neither the registry nor the shaping.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Target, whole};
use crate::contender::{Contender, Kind, dfget, is_blob};
use crate::course::{Bench, GIB, KIB, MIB};
use crate::network::{Network, Place};
use crate::origin::{self, Blob, Origin};
use crate::places::Places;
use crate::process::{Server, own_cpu_seconds};
use crate::table::{Goal, Row};
use crate::tls::{TlsSettings, Trust};

/// A network and what is asked of it.
#[derive(Clone, Copy, Debug)]
struct Case {
    id: &'static str,
    nodes: usize,
    /// Mbit/s, both ways.
    origin_rate: u32,
    /// Of each node.
    node_rate: u32,
    /// Whether the last node begins when the others have it all, and is what is measured.
    late: bool,
    /// At most so many times a direct pull.
    goal: f64,
}

/// What was measured of a swarm.
struct Measured {
    seconds: f64,
    /// Bytes of bodies that the origin sent, as a multiple of the blob.
    sent: f64,
    cpu_seconds: f64,
    /// The most memory that a daemon had, in bytes.
    peak: u64,
}

/// A daemon on a node.
struct Member<'a> {
    place: &'a Place,
    server: Server,
    directory: PathBuf,
}

/// Every case in turn, each on a network of its own.
pub(super) fn cluster(bench: &mut Bench) -> io::Result<()> {
    // The miniature is to see that it works.
    let cases = if bench.plan.small { &SMALL[..] } else { &ALL[..] };
    let named = bench.plan.cases.clone();
    if let Some(unknown) = named.iter().find(|name| cases.iter().all(|case| case.id != *name)) {
        let known = cases.iter().map(|case| case.id).collect::<Vec<_>>().join(", ");
        return Err(io::Error::other(format!("no network is called {unknown}, but {known}")));
    }
    let chosen = |case: &&Case| named.is_empty() || named.iter().any(|name| name == case.id);
    cases.iter().filter(chosen).try_for_each(|case| measure(bench, case))
}

fn measure(bench: &mut Bench, case: &Case) -> io::Result<()> {
    let size = bench.plan.size(256 * MIB);
    let ids = ["time", "sent", "cpu", "memory"].map(|part| format!("cluster-{}-{part}", case.id));
    for row in rows(case, &ids, size) {
        bench.table.add(row);
    }
    let places = bench.places.clone();
    let network = Network::new(&places, case.nodes, case.origin_rate, case.node_rate)?;
    let mut origin = network.origin.within(|| Origin::start_as(&places, "cluster-origin"))?;
    let contenders: Vec<_> =
        bench.contenders.iter().filter(|contender| contender.is_dfget()).cloned().collect();
    for round in 0..bench.plan.rounds {
        let blob = origin.add(size)?;
        let direct = direct(&places, &network, &blob);
        bench.record(round, "direct", &ids, direct);
        let file = places.directory("cluster-new-file")?;
        let written = write_new(&file.join("file"), size).map(|seconds| vec![seconds]);
        bench.record(round, NEW_FILE, &ids[2..3], written);
        for contender in &contenders {
            rustix::fs::sync();
            let values = swarm(contender, &places, &network, &origin, &blob, case, round == 0);
            let values = values.map(|measured| {
                let pulls = if case.late { 1 } else { case.nodes };
                let gib = pulls as f64 * size as f64 / GIB as f64;
                let peak = measured.peak as f64 / MIB as f64;
                vec![measured.seconds, measured.sent, measured.cpu_seconds / gib, peak]
            });
            bench.record(round, &contender.name, &ids, values);
        }
        fs::remove_dir_all(file)?;
        origin.remove(&blob)?;
    }
    origin.end()
}

fn rows(case: &Case, ids: &[String; 4], size: u64) -> [Row; 4] {
    let Case { nodes, origin_rate, node_rate, .. } = case;
    let what = if case.late {
        format!("node {nodes}, later, {node_rate} Mbit/s, s")
    } else if origin_rate == node_rate {
        format!("{nodes} nodes, {node_rate} Mbit/s, {} MiB, s", size / MIB)
    } else {
        format!("{nodes} at {node_rate}, registry {origin_rate} Mbit/s, s")
    };
    // The last of a cluster that has it all needs no byte of the registry.
    let sent = if case.late { 0.001 } else { 1.02 };
    [
        Row::new(&ids[0], what).against("direct").goal(Goal::RatioAtMost(case.goal)),
        Row::new(&ids[1], "  the registry sent, × the image").goal(Goal::AtMost(sent)),
        Row::new(&ids[2], "  processor, s per GiB pulled").goal(Goal::AtMost(3.5)),
        Row::new(&ids[3], "  peak memory of a daemon, MiB").goal(Goal::AtMost(96.0)),
    ]
}

/// The values of one pull without a proxy, on the first node; it has no daemon.
fn direct(places: &Places, network: &Network, blob: &Blob) -> io::Result<Vec<f64>> {
    let node = network.nodes.first().ok_or(io::ErrorKind::NotFound)?;
    let target = target(&places.origin_authority(), Origin::address(), false)?;
    let cpu = own_cpu_seconds()?;
    let began = Instant::now();
    let answer = node.within(|| target.get(&blob.path, blob.size))?;
    let seconds = (answer.end - began).as_secs_f64();
    let gib = blob.size as f64 / GIB as f64;
    Ok(vec![seconds, 1.0, (own_cpu_seconds()? - cpu) / gib])
}

/// Seconds of processor for each GiB that is written to a new file. Every node has to write what it pulls, and in a
/// virtual machine that may be most of what it does: memory that the host must give first.
fn write_new(path: &Path, size: u64) -> io::Result<f64> {
    let part = vec![1_u8; 512 * KIB as usize];
    let cpu = own_cpu_seconds()?;
    let mut file = fs::File::create(path)?;
    let mut left = size;
    while left > 0 {
        let next = left.min(part.len() as u64);
        file.write_all(&part[..next as usize])?;
        left -= next;
    }
    Ok((own_cpu_seconds()? - cpu) * GIB as f64 / size as f64)
}

/// One swarm from its start to its end.
fn swarm(
    contender: &Contender,
    places: &Places,
    network: &Network,
    origin: &Origin,
    blob: &Blob,
    case: &Case,
    look: bool,
) -> io::Result<Measured> {
    let Kind::Dfget(binary) = &contender.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
    let key = places.directory("cluster-key")?.join("key");
    make_key(binary, &key)?;
    let names = network.nodes.iter().map(|place| place.address.as_str()).collect::<Vec<_>>().join(",");
    let members = network
        .nodes
        .iter()
        .map(|place| member(binary, places, place, &names, &key))
        .collect::<io::Result<Vec<_>>>()?;
    let target = target(&places.proxy_authority(), PROXY, true)?;
    let (others, last) = members.split_at(members.len() - 1);
    let measured = if case.late {
        pull(&target, others, blob)?;
        settled(origin)?;
        last
    } else {
        &members[..]
    };
    let (sent, cpu) = (settled(origin)?, cpu_seconds(&members)?);
    let seconds = pull(&target, measured, blob)?;
    let cpu = cpu_seconds(&members)? - cpu;
    let sent = (settled(origin)? - sent) as f64 / blob.size as f64;
    let peaks = members.iter().map(|member| member.server.peak_bytes()).collect::<io::Result<Vec<_>>>()?;
    if look {
        members.iter().try_for_each(|member| verify(&target, member, blob))?;
    }
    for member in members {
        member.server.end()?;
        fs::remove_dir_all(member.directory)?;
    }
    Ok(Measured { seconds, sent, cpu_seconds: cpu, peak: peaks.into_iter().max().unwrap_or(0) })
}

/// Seconds from the start of all until the last has it.
fn pull(target: &Target, members: &[Member<'_>], blob: &Blob) -> io::Result<f64> {
    let start = Barrier::new(members.len() + 1);
    let one = |member: &Member<'_>| {
        member.place.within(|| {
            start.wait();
            target.get(&blob.path, blob.size)
        })
    };
    thread::scope(|scope| {
        let clients: Vec<_> = members.iter().map(|member| scope.spawn(|| one(member))).collect();
        start.wait();
        let began = Instant::now();
        let answers = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| io::Error::other("a client failed"))?);
        let answers = answers.collect::<io::Result<Vec<Answer>>>()?;
        let last = answers.iter().map(|answer| answer.end).max().unwrap_or(began);
        Ok((last - began).as_secs_f64())
    })
}

/// Looks at every byte that a node has.
fn verify(target: &Target, member: &Member<'_>, blob: &Blob) -> io::Result<()> {
    member.place.within(|| {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let answer = target.open(Trust::Verify)?.get(&blob.path, |data| {
            digest.update(data);
            ControlFlow::Continue(())
        })?;
        whole(answer, blob.size)?;
        is_blob(digest, blob)
    })
}

/// Starts a daemon with an empty store on a node.
fn member<'a>(
    binary: &Path,
    places: &Places,
    place: &'a Place,
    members: &str,
    key: &Path,
) -> io::Result<Member<'a>> {
    let directory = places.directory(&format!("cluster-{}", place.name))?;
    let section = format!(
        "host: {{hostname: {}, advertiseIP: {}}}
cluster: {{members: '{members}', keyFile: {}}}
",
        place.name,
        place.address,
        key.display(),
    );
    let mut command = dfget(binary, places, &directory, PROXY.port(), &section)?;
    command.env("DFGET_SYSTEM_SOCKET", directory.join("lease.sock"));
    let server = place.within(|| Server::start(command, &directory.join("output"), PROXY))?;
    Ok(Member { place, server, directory })
}

fn make_key(binary: &Path, file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let output = Command::new(binary).args(["cluster", "key"]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    fs::write(file, output.stdout)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
}

/// Seconds of processor of all daemons and of the clients.
fn cpu_seconds(members: &[Member<'_>]) -> io::Result<f64> {
    let daemons: f64 = members.iter().map(|member| member.server.cpu_seconds()).sum::<io::Result<f64>>()?;
    Ok(daemons + own_cpu_seconds()?)
}

/// Bytes that the origin has sent, when its log has come to rest.
fn settled(origin: &Origin) -> io::Result<u64> {
    let mut last = origin.sent()?;
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = origin.sent()?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

fn target(authority: &Path, address: SocketAddr, connect: bool) -> io::Result<Target> {
    Ok(Target {
        address,
        connect,
        host: origin::NAME.to_owned(),
        port: origin::PORT,
        tls: TlsSettings::new(&fs::read(authority)?)?,
        plain: false,
    })
}

const fn case(id: &'static str, nodes: usize, origin_rate: u32, node_rate: u32, goal: f64) -> Case {
    Case { id, nodes, origin_rate, node_rate, late: false, goal }
}

const ALL: [Case; 6] = [
    case("4-400", 4, 400, 400, 1.1),
    case("8-400", 8, 400, 400, 1.3),
    case("16-400", 16, 400, 400, 2.2),
    case("16-100", 16, 100, 100, 1.2),
    case("16-100-1000", 16, 100, 1000, 1.08),
    // At least 0.9 × its link.
    Case { late: true, ..case("late", 16, 100, 100, 1.11) },
];
const SMALL: [Case; 2] =
    [case("4-400", 4, 400, 400, 1.1), Case { late: true, ..case("late", 4, 100, 100, 1.11) }];
/// What a file costs that is only written.
const NEW_FILE: &str = "new file";
/// Where a node's clients find its daemon.
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 65_001);
