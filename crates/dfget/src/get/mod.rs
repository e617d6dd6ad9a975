//! `dfget URL`, which is `dfget get URL`.

mod arguments;
pub(crate) mod bar;
pub(crate) mod report;
mod scalar;

pub(crate) use arguments::{GetArguments, with_command};

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dfget_get::{GetError, Observer, Order, Report};
use dfget_run::{Feeding, Variables};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};

use self::arguments::Form;
use self::bar::Bar;
use crate::message;

/// What ends may take after Ctrl-C; a second one does not wait for it.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What comes of the work: and in a cluster, the daemon that may still feed others.
type Got = Result<(Report, Option<Feeding>), GetError>;

/// What to say of a part that is kept.
const KEPT: &str = "what has come is kept, and the same command goes on from there";

/// Gets what is asked for, and says how that went.
pub(crate) fn run(arguments: &GetArguments) -> ExitCode {
    let form = arguments.form();
    let (order, warnings) = match arguments.order() {
        Ok(parsed) => parsed,
        Err(wrong) => return end(form, &Err(GetError::Usage(wrong)), Duration::ZERO, None),
    };
    warnings.iter().for_each(|line| message::warning(format_args!("dfget get: {line}")));
    let bar = Arc::new(Bar::new(arguments.quiet, arguments.verbose));
    let variables = crate::variables::variables::<Variables>();
    let (runtime, mut signals) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return end(form, &Err(error), Duration::ZERO, None),
    };
    let began = Instant::now();
    let timeout = arguments.timeout.filter(|limit| !limit.is_zero());
    let (outcome, feeding) = match runtime.block_on(carry_out(order, variables, timeout, &bar, &mut signals))
    {
        Ok((report, feeding)) => (Ok(report), feeding),
        Err(GetError::TryAgain { place, reason }) if bar.has_kept() => {
            (Err(GetError::TryAgain { place, reason: format!("{reason}; {KEPT}") }), None)
        }
        Err(error) => (Err(error), None),
    };
    match &outcome {
        Err(GetError::Interrupted { .. }) => bar.leave(),
        _ => bar.clear(),
    }
    let tells = (bar.is_seen() || arguments.verbose) && !arguments.quiet;
    let line = outcome.as_ref().ok().filter(|_| tells).map(|report| report::line(report, began.elapsed()));
    let code = end(form, &outcome, began.elapsed(), line);
    if let Some(feeding) = feeding {
        runtime.block_on(stay(feeding, &mut signals));
    }
    // A thread may wait for the disk, or for a daemon; nobody waits for it any more.
    runtime.shutdown_background();
    code
}

/// Tells the end.
fn end(form: Form, outcome: &Result<Report, GetError>, took: Duration, line: Option<String>) -> ExitCode {
    if let Err(error) = outcome {
        message::error(error);
    }
    if let Some(line) = line {
        message::note(line);
    }
    if form == Form::Json
        && let Err(error) = message::output(report::object(outcome, took))
    {
        message::error(message::not_written(&error));
        return ExitCode::FAILURE;
    }
    outcome.as_ref().map_or_else(|error| ExitCode::from(error.exit_code()), |_| ExitCode::SUCCESS)
}

/// What the work is done with. Signals are taken from now on.
fn prepared() -> Result<(Runtime, Signals), GetError> {
    let system = |error: std::io::Error| GetError::Configuration(format!("the system refuses: {error}"));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(system)?;
    let signals = runtime.block_on(async { Signals::new() }).map_err(system)?;
    Ok((runtime, signals))
}

async fn carry_out(
    order: Order,
    variables: Variables,
    timeout: Option<Duration>,
    bar: &Arc<Bar>,
    signals: &mut Signals,
) -> Got {
    let observer = Arc::clone(bar) as Arc<dyn Observer>;
    let mut work = JoinSet::new();
    work.spawn(dfget_get::get(order, variables, observer));
    let stopped = tokio::select! {
        done = work.join_next() => return ended(done),
        () = signals.next() => None,
        after = time_out(timeout) => Some(after),
    };
    work.abort_all();
    // What is being written is put down; whoever cannot wait calls again.
    tokio::select! {
        done = tokio::time::timeout(AFTERWARDS, work.join_next()) => {
            if let Ok(Some(Ok(Ok(got)))) = done {
                return Ok(got);
            }
        }
        () = signals.next() => {}
    }
    let kept = bar.has_kept();
    Err(stopped.map_or(GetError::Interrupted { kept }, |after| GetError::TimedOut { after, kept }))
}

/// Lets the daemon of a cluster feed others, until it is done or somebody has enough.
async fn stay(feeding: Feeding, signals: &mut Signals) {
    let called = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&called);
    let mut fed = tokio::task::spawn_blocking(move || feeding.stay(&mut || heard.load(Ordering::Relaxed)));
    tokio::select! {
        _ = &mut fed => {}
        () = signals.next() => called.store(true, Ordering::Relaxed),
    }
}

/// What came of the work.
fn ended(done: Option<Result<Got, JoinError>>) -> Got {
    let fault = || GetError::Configuration("dfget has a fault; please report it".to_owned());
    done.and_then(Result::ok).unwrap_or_else(|| Err(fault()))
}

async fn time_out(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// What ends a program that does not hear it. What the caller has let be ignored (`nohup`) stays so.
struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let heard = |kind: SignalKind| (!is_ignored(&status, kind)).then(|| signal(kind)).transpose();
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
            hangup: heard(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            () = come(&mut self.interrupt) => {}
            () = come(&mut self.terminate) => {}
            () = come(&mut self.hangup) => {}
        }
    }
}

async fn come(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// Whether a signal is ignored, by the text of `/proc/self/status`.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    set >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_read_from_the_kernels_word() {
        let status = "SigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(!is_ignored(status, SignalKind::interrupt()) && !is_ignored("", SignalKind::hangup()));
    }
}
