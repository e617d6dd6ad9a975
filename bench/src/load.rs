//! Load: many clients at once, each a thread of its own that waits for its bytes.
//!
//! All start together; a client that fails ends the measurement with its error.

use std::io;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Connection, Target, whole};
use crate::contender::Running;
use crate::origin::Blob;
use crate::tls::Trust;

/// What came within a time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Bytes that the clients got.
    pub bytes: u64,
    /// How long it was.
    pub seconds: f64,
    /// Seconds of processor that the contender took.
    pub cpu_seconds: f64,
}

/// Requests over connections that stay open.
#[derive(Clone, Debug)]
pub struct Requests {
    /// A second.
    pub rate: f64,
    /// Seconds of each, sorted.
    pub latencies: Vec<f64>,
}

/// `clients` pull these blobs by `target`, a way through `running`, again and again, each on a new connection, until
/// the time is over.
///
/// # Errors
/// A pull fails.
pub fn window(
    running: &Running,
    target: &Target,
    blobs: &[Blob],
    clients: usize,
    time: Duration,
) -> io::Result<Window> {
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|client| {
                let (start, blob) = (&start, &blobs[client % blobs.len()]);
                scope.spawn(move || {
                    start.wait();
                    pull_until(target, blob, Instant::now() + time)
                })
            })
            .collect();
        let before = running.cpu_seconds();
        start.wait();
        thread::sleep(time);
        let after = running.cpu_seconds();
        let mut bytes = 0;
        for worker in workers {
            bytes += joined(worker)?;
        }
        Ok(Window { bytes, seconds: time.as_secs_f64(), cpu_seconds: after? - before? })
    })
}

/// Bytes that came before `end`.
fn pull_until(target: &Target, blob: &Blob, end: Instant) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let mut over = false;
        let answer = target.open(Trust::Accept)?.get(&blob.path, |data| {
            if Instant::now() >= end {
                over = true;
                return ControlFlow::Break(());
            }
            bytes += data.len() as u64;
            ControlFlow::Continue(())
        })?;
        if over {
            return Ok(bytes);
        }
        whole(answer, blob.size)?;
    }
}

/// `clients` pull a blob once, all at once; when they began, and what each got.
///
/// # Errors
/// A pull fails.
pub fn crowd(target: &Target, blob: &Blob, clients: usize) -> io::Result<(Instant, Vec<Answer>)> {
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    target.get(&blob.path, blob.size)
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        let answers = workers.into_iter().map(joined).collect::<io::Result<_>>()?;
        Ok((began, answers))
    })
}

/// `clients` ask for a blob again and again, each on one connection, until the time is over.
///
/// # Errors
/// A request fails.
pub fn requests(target: &Target, blob: &Blob, clients: usize, time: Duration) -> io::Result<Requests> {
    let start = Barrier::new(clients);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let connection = target.open(Trust::Accept);
                    start.wait();
                    ask_until(&mut connection?, blob, Instant::now() + time)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.append(&mut joined(worker)?);
        }
        latencies.sort_by(f64::total_cmp);
        Ok(Requests { rate: latencies.len() as f64 / time.as_secs_f64(), latencies })
    })
}

fn ask_until(connection: &mut Connection, blob: &Blob, end: Instant) -> io::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        let answer = connection.get(&blob.path, |_| ControlFlow::Continue(()))?;
        whole(answer, blob.size)?;
        if answer.end > end {
            return Ok(latencies);
        }
        latencies.push((answer.end - began).as_secs_f64());
    }
}

/// Opens `count` connections, `clients` at a time, and keeps them if told so; the seconds it took.
///
/// # Errors
/// A connection cannot be opened.
pub fn connections(
    target: &Target,
    count: usize,
    clients: usize,
    keep: bool,
) -> io::Result<(f64, Vec<Connection>)> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let kept = thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Vec::new();
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        let connection = target.open(Trust::Accept)?;
                        if keep {
                            kept.push(connection);
                        }
                    }
                    Ok(kept)
                })
            })
            .collect();
        let mut kept = Vec::new();
        for worker in workers {
            kept.append(&mut joined(worker)?);
        }
        Ok::<_, io::Error>(kept)
    })?;
    Ok((began.elapsed().as_secs_f64(), kept))
}

fn joined<T>(worker: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    worker.join().map_err(|_| io::Error::other("a client failed"))?
}
