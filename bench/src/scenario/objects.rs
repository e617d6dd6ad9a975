//! Small things: objects of 10 KB, and connections.

use std::io;
use std::time::Instant;

use crate::contender::Kind;
use crate::course::Bench;
use crate::load;
use crate::table::{Goal, Row, Spread, quantile};

/// Objects that were never asked for, one after the other, each over a new connection.
pub(super) fn tiny(bench: &mut Bench) -> io::Result<()> {
    let each = bench.plan.count(50 * 64) / 64;
    let each = if bench.plan.small { 5 } else { each };
    let blobs = bench.blobs(bench.plan.rounds * each, OBJECT)?;
    let warming = bench.blobs(1, OBJECT)?;
    let ids = ["tiny-time".to_owned()];
    bench.table.add(Row::new(&ids[0], "cold 10 KB, ms").against("direct").goal(Goal::RatioAtMost(1.5)));
    let running = bench.start(|_| true);
    let running = bench.warm(running, &warming);
    bench.rounds(&running, &ids, |round, contender| {
        let mut times = Vec::new();
        for blob in &blobs[round * each..(round + 1) * each] {
            let began = Instant::now();
            let answer = contender.target.get(&blob.path, blob.size)?;
            times.push((answer.end - began).as_secs_f64() * 1e3);
        }
        Ok(Spread::of(times).map(|times| times.median).into_iter().collect())
    });
    bench.clear(running, &blobs)
}

/// A stored object over connections that stay open.
pub(super) fn hot(bench: &mut Bench) -> io::Result<()> {
    let blobs = bench.blobs(1, OBJECT)?;
    let ids = ["hot-rate".to_owned(), "hot-p50".to_owned(), "hot-p99".to_owned()];
    let row = Row::new(&ids[0], "cached 10 KB, 32 clients, 1/s");
    bench.table.add(row.against("nginx").goal(Goal::RatioAtLeast(1.0)));
    bench.table.add(Row::new(&ids[1], "  half of them within, ms").against("nginx"));
    bench.table.add(Row::new(&ids[2], "  99 % of them within, ms").against("nginx").goal(Goal::AtMost(25.0)));
    let running = bench.start(|kind| *kind != Kind::Direct);
    let running = bench.warm(running, &blobs);
    let time = bench.plan.window();
    bench.rounds(&running, &ids, |_, contender| {
        let requests = load::requests(&contender.target, &blobs[0], 32, time)?;
        let within = |part| quantile(&requests.latencies, part).unwrap_or(f64::NAN) * 1e3;
        Ok(vec![requests.rate, within(0.5), within(0.99)])
    });
    bench.clear(running, &blobs)
}

/// New connections, 8 at a time: CONNECT and a full handshake. nginx has no CONNECT: it makes the handshake only.
pub(super) fn connect(bench: &mut Bench) -> io::Result<()> {
    let warming = bench.blobs(1, OBJECT)?;
    let ids = ["connect-rate".to_owned()];
    let row = Row::new(&ids[0], "new connections/s, 8 at a time");
    bench.table.add(row.against("nginx").goal(Goal::RatioAtLeast(1.3)));
    let running = bench.start(|kind| *kind != Kind::Direct);
    let running = bench.warm(running, &warming);
    let count = bench.plan.count(2000);
    bench.rounds(&running, &ids, |_, contender| {
        let (seconds, _) = load::connections(&contender.target, count, 8, false)?;
        Ok(vec![count as f64 / seconds])
    });
    bench.clear(running, &warming)
}

/// Bytes of a small object, as manifests and configurations are.
pub(super) const OBJECT: u64 = 10_000;
