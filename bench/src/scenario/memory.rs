//! Anonymous memory: with nothing to do, and while 8 clients pull 8 different blobs for the first time.

use std::io;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::whole;
use crate::contender::{Kind, Running};
use crate::course::{Bench, GIB, MIB};
use crate::origin::Blob;
use crate::table::{Goal, Row};
use crate::tls::Trust;

/// Each contender is started anew in every round, alone, so that only one cache is on the disk at a time.
pub(super) fn memory(bench: &mut Bench) -> io::Result<()> {
    let blobs = bench.blobs(CLIENTS, bench.plan.size(GIB))?;
    let ids = ["memory-idle".to_owned(), "memory-busy".to_owned()];
    bench.table.add(Row::new(&ids[0], "memory idle, MiB").against("nginx").goal(Goal::AtMost(20.0)));
    let what = format!("  {CLIENTS} clients, {CLIENTS} cold {}, MiB", bench.plan.size_text(GIB));
    bench.table.add(Row::new(&ids[1], what).against("nginx").goal(Goal::AtMost(64.0)));
    let contenders = bench.contenders.clone();
    for round in 0..bench.plan.rounds {
        for contender in contenders.iter().filter(|contender| contender.kind != Kind::Direct) {
            let running = match contender.start(&bench.places) {
                Ok(running) => running,
                Err(error) => {
                    bench.record(round, &contender.name, &ids, Err(error));
                    continue;
                }
            };
            let values = idle_and_busy(&running, &blobs);
            bench.record(round, &contender.name, &ids, values);
            running.end()?;
        }
    }
    bench.clear(Vec::new(), &blobs)
}

fn idle_and_busy(running: &Running, blobs: &[Blob]) -> io::Result<Vec<f64>> {
    thread::sleep(SETTLE);
    let idle = running.anonymous_bytes()?;
    let busy = thread::scope(|scope| {
        let end = Instant::now() + LONGEST;
        let pulls: Vec<_> =
            blobs.iter().map(|blob| scope.spawn(move || pull_until(running, blob, end))).collect();
        let mut most = idle;
        while pulls.iter().any(|pull| !pull.is_finished()) {
            most = most.max(running.anonymous_bytes()?);
            thread::sleep(SAMPLE);
        }
        for pull in pulls {
            pull.join().map_err(|_| io::Error::other("a client failed"))??;
        }
        Ok::<_, io::Error>(most)
    })?;
    Ok([idle, busy].map(|bytes| bytes as f64 / MIB as f64).to_vec())
}

/// Pulls a blob, or what comes of it before `end`.
fn pull_until(running: &Running, blob: &Blob, end: Instant) -> io::Result<()> {
    let mut over = false;
    let answer = running.target.open(Trust::Accept)?.get(&blob.path, |_| {
        over = Instant::now() >= end;
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if over { Ok(()) } else { whole(answer, blob.size).map(drop) }
}

const CLIENTS: usize = 8;
/// A slow contender shows what it needs before it has everything.
const LONGEST: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_millis(500);
const SAMPLE: Duration = Duration::from_millis(20);
