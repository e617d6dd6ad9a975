//! From the start of the program until it has answered by a stored blob, with many of them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::objects::OBJECT;
use crate::contender::{Contender, Running};
use crate::course::Bench;
use crate::origin::Blob;
use crate::table::{Goal, Row};
use crate::tls::Trust;

/// Each dfget stores as many blobs, and is then started in every round. That its port is open is not enough: one blob
/// is pulled, and must not come from the origin.
pub(super) fn start(bench: &mut Bench) -> io::Result<()> {
    let count = bench.plan.count(10_000);
    let blobs = bench.blobs(count, OBJECT)?;
    let ids = ["start-time".to_owned()];
    bench.table.add(Row::new(&ids[0], format!("start to ready, {count} blobs, s")).goal(Goal::AtMost(0.5)));
    let contenders = bench.contenders.clone();
    for contender in contenders.iter().filter(|contender| contender.is_dfget()) {
        let mut directory = filled(bench, contender, &blobs)?.stop()?;
        for round in 0..bench.plan.rounds {
            let sent = bench.origin.sent()?;
            let began = Instant::now();
            let running = contender.start_again(&bench.places, directory)?;
            let pulled = running.warm(&blobs[round % count]);
            let seconds = began.elapsed().as_secs_f64();
            let again = bench.origin.sent()? - sent;
            let values = match pulled {
                Ok(()) if again >= OBJECT => {
                    Err(io::Error::other("a stored blob came from the origin again"))
                }
                Ok(()) => Ok(vec![seconds]),
                Err(error) => Err(error),
            };
            bench.record(round, &contender.name, &ids, values);
            directory = running.stop()?;
        }
        std::fs::remove_dir_all(directory)?;
    }
    bench.clear(Vec::new(), &blobs)
}

/// Starts a dfget and pulls all these blobs through it, so that it has them.
///
/// # Errors
/// It does not start, or a pull fails.
pub(super) fn filled(bench: &Bench, contender: &Contender, blobs: &[Blob]) -> io::Result<Running> {
    let running = contender.start(&bench.places)?;
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = running.target.open(Trust::Accept)?;
                    while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        connection.get(&blob.path, |_| std::ops::ControlFlow::Continue(()))?;
                    }
                    Ok::<_, io::Error>(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| io::Error::other("a client failed"))?)
    })?;
    Ok(running)
}

const CLIENTS: usize = 8;
