//! Large blobs: from the cache, for the first time, and from an origin that holds every connection to a rate.

use std::io;
use std::time::Instant;

use crate::client::Target;
use crate::contender::{Kind, Running};
use crate::course::{Bench, GIB, MIB};
use crate::load;
use crate::origin::{Blob, CAPPED_MIB};
use crate::table::{Goal, Row};

/// A stored blob for 1, 8 and 32 clients, and what the proxy needs for it.
pub(super) fn cached(bench: &mut Bench) -> io::Result<()> {
    let running = bench.start(|kind| *kind != Kind::Direct);
    let clients = [(1, 1.25), (8, 1.15), (32, 1.15)];
    again_and_again(bench, "cached", running, &clients, |contender| contender.target.clone())
}

/// The same without TLS: the port of the proxy as a mirror, beside an nginx that need not encrypt either.
pub(super) fn mirror(bench: &mut Bench) -> io::Result<()> {
    let running = bench.start(|kind| matches!(kind, Kind::Dfget(_) | Kind::Nginx));
    again_and_again(bench, "mirror", running, &[(1, 0.9), (8, 0.9), (32, 0.9)], Running::mirror_target)
}

/// Pulls of one stored blob by a way through each contender; `clients` are how many, and what is to be reached with
/// so many.
fn again_and_again(
    bench: &mut Bench,
    name: &str,
    running: Vec<Running>,
    clients: &[(usize, f64)],
    way: impl Fn(&Running) -> Target,
) -> io::Result<()> {
    let blobs = bench.blobs(1, bench.plan.size(GIB))?;
    let size = bench.plan.size_text(GIB);
    let running = bench.warm(running, &blobs);
    for &(clients, least) in clients {
        let ids = [format!("{name}-{clients}-rate"), format!("{name}-{clients}-cpu")];
        let what = format!("{name} {size}, {clients} clients, MB/s");
        let what = if clients == 1 { what.replace("clients", "client") } else { what };
        bench.table.add(Row::new(&ids[0], what).against("nginx").goal(Goal::RatioAtLeast(least)));
        let row = Row::new(&ids[1], "  CPU of the proxy, s/GiB").against("nginx");
        bench.table.add(if name == "cached" { row.goal(Goal::RatioAtMost(0.6)) } else { row });
        let mut fetched = Vec::new();
        let time = bench.plan.window();
        let sent = bench.origin.sent()?;
        bench.rounds(&running, &ids, |_, contender| {
            let window = load::window(contender, &way(contender), &blobs, clients, time)?;
            fetched.push(window.bytes);
            let bytes = window.bytes as f64;
            Ok(vec![bytes / window.seconds / 1e6, window.cpu_seconds / (bytes / GIB as f64)])
        });
        let sent = bench.origin.sent()? - sent;
        if sent > fetched.iter().sum::<u64>() / 100 {
            bench
                .table
                .note(format!("{}: {sent} bytes came from the origin: not everything was cached", ids[0]));
        }
    }
    bench.clear(running, &blobs)
}

/// A blob that was never asked for.
pub(super) fn cold(bench: &mut Bench) -> io::Result<()> {
    let blobs = bench.blobs(bench.plan.rounds, bench.plan.size(256 * MIB))?;
    let warming = bench.blobs(1, MIB)?;
    let ids = ["cold-time".to_owned(), "cold-first-byte".to_owned()];
    let what = format!("cold {}, s", bench.plan.size_text(256 * MIB));
    bench.table.add(Row::new(&ids[0], what).against("direct").goal(Goal::RatioAtMost(0.97)));
    let row = Row::new(&ids[1], "  first byte, ms");
    bench.table.add(row.against("direct").goal(Goal::DifferenceAtMost(3.0)));
    let running = bench.start(|_| true);
    let running = bench.warm(running, &warming);
    bench.rounds(&running, &ids, |round, contender| {
        let (seconds, first_byte) = timed(&contender.target, &blobs[round])?;
        Ok(vec![seconds, first_byte * 1e3])
    });
    bench.clear(running, &blobs)
}

/// The same from a docker-registry, which most sites have.
pub(super) fn registry(bench: &mut Bench) -> io::Result<()> {
    let mut blobs = bench.blobs(bench.plan.rounds, bench.plan.size(256 * MIB))?;
    let warming = bench.blobs(1, MIB)?;
    blobs.extend_from_slice(&warming);
    let ids = ["registry-time".to_owned(), "registry-first-byte".to_owned()];
    let what = format!("cold {}, docker-registry, s", bench.plan.size_text(256 * MIB));
    bench.table.add(Row::new(&ids[0], what).against("direct").goal(Goal::RatioAtMost(0.97)));
    let row = Row::new(&ids[1], "  first byte, ms");
    bench.table.add(row.against("direct").goal(Goal::DifferenceAtMost(3.0)));
    bench.places.registry("start")?;
    for blob in &blobs {
        bench.origin.add_to_registry(blob)?;
    }
    let running = bench.start(|_| true);
    for contender in &running {
        // Who cannot do this is told of in each round.
        let _ = timed(&contender.registry_target(), &warming[0]);
    }
    bench.rounds(&running, &ids, |round, contender| {
        let (seconds, first_byte) = timed(&contender.registry_target(), &blobs[round])?;
        Ok(vec![seconds, first_byte * 1e3])
    });
    bench.places.registry("stop")?;
    for blob in &blobs {
        bench.origin.remove_from_registry(blob)?;
    }
    bench.clear(running, &blobs)
}

/// The same from an origin that sends no more than a rate on each connection.
pub(super) fn capped(bench: &mut Bench) -> io::Result<()> {
    let blobs = bench.blobs(bench.plan.rounds, bench.plan.size(128 * MIB))?;
    let ids = ["capped-rate".to_owned()];
    let what = format!("cold, origin sends {CAPPED_MIB} MiB/s, MB/s");
    bench.table.add(Row::new(&ids[0], what).against("direct").goal(Goal::RatioAtLeast(3.0)));
    let running = bench.start(|kind| matches!(kind, Kind::Direct | Kind::Dfget(_) | Kind::Peer(_)));
    bench.rounds(&running, &ids, |round, contender| {
        let blob = &blobs[round];
        let began = Instant::now();
        let answer = contender.capped_target().get(&blob.path, blob.size)?;
        Ok(vec![blob.size as f64 / (answer.end - began).as_secs_f64() / 1e6])
    });
    bench.clear(running, &blobs)
}

/// Seconds of a pull over a new connection: to the end, and to the first byte.
fn timed(target: &Target, blob: &Blob) -> io::Result<(f64, f64)> {
    let began = Instant::now();
    let answer = target.get(&blob.path, blob.size)?;
    Ok(((answer.end - began).as_secs_f64(), (answer.first_byte - began).as_secs_f64()))
}
