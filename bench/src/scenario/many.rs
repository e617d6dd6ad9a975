//! Many clients at once: on one blob that is not there yet, and doing nothing.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::objects::OBJECT;
use crate::contender::{Kind, Running};
use crate::course::{Bench, KIB, MIB};
use crate::load;
use crate::origin::Blob;
use crate::table::{Goal, Row};

/// A hundred clients on one cold blob.
///
/// What the slower of origin and TLS can do is measured behind it, in the same round: a pull by one client without a
/// proxy, and the same hundred clients at the same proxy with the blob stored.
pub(super) fn crowd(bench: &mut Bench) -> io::Result<()> {
    let clients = if bench.plan.small { 16 } else { 100 };
    let size = bench.plan.size(256 * MIB);
    let blobs = bench.blobs(bench.plan.rounds, size)?;
    let warming = bench.blobs(1, MIB)?;
    let ids = ["crowd-time".to_owned(), "crowd-limit".to_owned(), "crowd-followers".to_owned()];
    let what = format!("{clients} clients, one cold {}, s", bench.plan.size_text(256 * MIB));
    bench.table.add(Row::new(&ids[0], what).against("nginx"));
    bench.table.add(Row::new(&ids[1], "  ÷ what origin and TLS can do").goal(Goal::AtMost(1.15)));
    bench.table.add(Row::new(&ids[2], "  first bytes apart, ms").goal(Goal::AtMost(100.0)));
    // squid would take minutes.
    let running = bench.start(|kind| !matches!(kind, Kind::Direct | Kind::Squid(_)));
    let running = bench.warm(running, &warming);
    let direct = bench.start(|kind| *kind == Kind::Direct);
    let window = bench.plan.window();
    bench.rounds(&running, &ids, |round, contender| {
        crowded(contender, direct.first(), &blobs[round], clients, window)
    });
    bench.clear(running, &blobs)
}

fn crowded(
    contender: &Running,
    direct: Option<&Running>,
    blob: &Blob,
    clients: usize,
    window: Duration,
) -> io::Result<Vec<f64>> {
    let (began, answers) = load::crowd(&contender.target, blob, clients)?;
    let since = |instant: Instant| instant.saturating_duration_since(began).as_secs_f64();
    let done = answers.iter().map(|answer| since(answer.end)).fold(0.0, f64::max);
    let first = answers.iter().map(|answer| since(answer.first_byte));
    let spread = first.clone().fold(0.0, f64::max) - first.fold(f64::INFINITY, f64::min);
    let began = Instant::now();
    let origin = match direct {
        Some(direct) => (direct.target.get(&blob.path, blob.size)?.end - began).as_secs_f64(),
        None => 0.0,
    };
    let stored = load::window(contender, &contender.target, std::slice::from_ref(blob), clients, window)?;
    let tls = blob.size as f64 * clients as f64 / (stored.bytes as f64 / stored.seconds);
    Ok(vec![done, done / origin.max(tls), spread * 1e3])
}

/// Ten thousand hijacked connections that do nothing.
pub(super) fn idle(bench: &mut Bench) -> io::Result<()> {
    let warming = bench.blobs(1, OBJECT)?;
    let wanted = bench.plan.count(10_000);
    let allowed = open_files().saturating_sub(SPARE);
    let count = wanted.min(allowed);
    if count < wanted {
        bench
            .table
            .note(format!("idle: {count} connections instead of {wanted}, for no more files can be open"));
    }
    let ids = ["idle-memory".to_owned()];
    let row = Row::new(&ids[0], format!("{count} idle connections, KiB each"));
    bench.table.add(row.against("nginx").goal(Goal::AtMost(32.0)));
    let contenders = bench.contenders.clone();
    for round in 0..bench.plan.rounds {
        for contender in &contenders {
            if matches!(contender.kind, Kind::Direct | Kind::Squid(_)) {
                continue;
            }
            // Memory that was used before is not given back: everyone starts anew.
            let values = contender.start(&bench.places).and_then(|running| {
                let values = idling(&running, &warming[0], count);
                running.end()?;
                values
            });
            bench.record(round, &contender.name, &ids, values);
        }
    }
    bench.clear(Vec::new(), &warming)
}

fn idling(running: &Running, blob: &Blob, count: usize) -> io::Result<Vec<f64>> {
    running.warm(blob)?;
    let before = running.anonymous_bytes()?;
    let (_, kept) = load::connections(&running.target, count, 8, true)?;
    thread::sleep(SETTLE);
    let after = running.anonymous_bytes()?;
    drop(kept);
    Ok(vec![(after as f64 - before as f64) / KIB as f64 / count as f64])
}

/// Raises the limit of open files as far as it goes, for this process and those it starts; what it is then.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Root may raise even the hard one.
    let wished = Rlimit { current: Some(WISHED), maximum: Some(WISHED) };
    if limit.maximum.is_some_and(|maximum| maximum < WISHED) && setrlimit(Resource::Nofile, wished).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

const SETTLE: Duration = Duration::from_millis(500);
/// For all that a process opens besides.
const SPARE: usize = 500;
const WISHED: u64 = 32_768;
