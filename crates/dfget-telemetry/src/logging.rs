//! The daemon's log, in the form that Dragonfly's `core.log` has.
//!
//! One JSON object a line: `level`, `ts` (local time, milliseconds), `caller`, `msg`, then the
//! event's own fields in the order given. Lines of the file are written whole and at once, by the
//! thread that logs: a `grep` after a pull finds what the pull logged. Those for the standard output
//! go through a queue, so that a reader that stops does not stop the daemon. Events of dfget's own
//! crates are taken from `info` up (`debug` when verbose), those of libraries from `warn` up.
//!
//! A line that cannot be written is dropped and counted ([`write_failures`]), nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use jiff::Zoned;
use parking_lot::Mutex;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::console::Console;
use crate::log_file::{Limits, LogFile};
use crate::log_line::LogLine;
use crate::remarks::{Remark, Remarks};

/// Where the log goes and how much of it there is.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// The directory of `core.log`, `<logDir>/daemon`. Made with mode 0700 if missing. Without one
    /// the log goes to the standard output, in human form.
    pub dir: Option<PathBuf>,
    /// Also the `debug` events of dfget's own crates.
    pub verbose: bool,
    /// When a file is full, and how long old ones stay.
    pub rotation: Rotation,
}

/// Bounds of the files of a log.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// A file does not grow beyond this, in bytes.
    pub file_bytes: u64,
    /// So many old files are kept; `None` = all.
    pub kept_files: Option<usize>,
    /// None is kept that is older than this; `None` = however old.
    pub kept_for: Option<Duration>,
}

impl Default for Rotation {
    /// As Dragonfly 2.0.9: 1024 MiB, 20 files, 7 days.
    fn default() -> Self {
        Self {
            file_bytes: 1024 << 20,
            kept_files: Some(20),
            kept_for: Some(Duration::from_secs(7 * 24 * 60 * 60)),
        }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log file or its directory cannot be made or opened.
    #[error(
        "cannot log to {}: {source}; make the directory writable for this user, name another with \
         `logDir`, or start with --console",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The thread that writes to the standard output cannot be started.
    #[error("cannot log to the standard output: {source}; raise the limit of processes (`ulimit -u`)")]
    Console {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This process logs already.
    #[error("logging was set up twice in this process")]
    AlreadyStarted,
}

/// Logging that goes on, to be asked for its end.
#[derive(Debug)]
pub struct Logging {
    console: Option<Console>,
}

/// Starts logging for the whole process.
///
/// # Errors
/// [`LogError::Open`] with the path; [`LogError::Console`] without a thread;
/// [`LogError::AlreadyStarted`] at the second call.
pub fn init(options: &LogOptions) -> Result<Logging, LogError> {
    let output = Output::of(options)?;
    let console = match &output {
        Output::Console(console) => Some(console.clone()),
        Output::File(_) => None,
    };
    let verbose = Arc::new(AtomicBool::new(options.verbose));
    let remarks = Arc::<Remarks>::default();
    let subscriber = subscriber(output, Arc::clone(&verbose), Arc::clone(&remarks));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    let _ = VERBOSE.set(verbose);
    let _ = REMARKS.set(remarks);
    Ok(Logging { console })
}

// === impl Logging ===

impl Logging {
    /// Waits until everything logged so far was written, for at most `limit`; returns whether it
    /// was. Only the standard output can make it wait: lines of a file are written at once.
    pub fn flush(&self, limit: Duration) -> bool {
        self.console.as_ref().is_none_or(|console| console.flush(limit))
    }
}

/// Whether `debug` events are logged, from now on; without [`init`] nothing is.
pub fn set_verbose(verbose: bool) {
    if let Some(level) = VERBOSE.get() {
        level.store(verbose, Ordering::Relaxed);
        // Each place in the code that logs remembers whether anybody listens.
        tracing_core::callsite::rebuild_interest_cache();
    }
}

/// Whether `debug` events are logged.
#[must_use]
pub fn is_verbose() -> bool {
    VERBOSE.get().is_some_and(|level| level.load(Ordering::Relaxed))
}

/// How many lines could not be written since the process began.
pub fn write_failures() -> u64 {
    WRITE_FAILURES.load(Ordering::Relaxed)
}

/// The last warnings and errors that were logged, the newest first. Their number is bounded.
#[must_use]
pub fn remarks() -> Vec<Remark> {
    REMARKS.get().map(|remarks| remarks.newest_first()).unwrap_or_default()
}

/// What [`init`] installs, for a test to use in one thread.
fn subscriber(
    output: Output,
    verbose: Arc<AtomicBool>,
    remarks: Arc<Remarks>,
) -> impl Subscriber + Send + Sync + use<> {
    Registry::default().with(LogLayer { verbose, output: Mutex::new(output), remarks })
}

fn open(directory: &Path, rotation: &Rotation) -> Result<LogFile, LogError> {
    LogFile::open(directory, Limits::of(rotation), SystemTime::now())
        .map_err(|source| LogError::Open { path: directory.join("core.log"), source })
}

enum Output {
    File(LogFile),
    Console(Console),
}

// === impl Output ===

impl Output {
    fn of(options: &LogOptions) -> Result<Self, LogError> {
        match &options.dir {
            Some(directory) => open(directory, &options.rotation).map(Self::File),
            None => Console::start(io::stdout(), count_failure)
                .map(Self::Console)
                .map_err(|source| LogError::Console { source }),
        }
    }
}

/// Turns events into lines.
struct LogLayer {
    /// Also the `debug` events of dfget's own crates.
    verbose: Arc<AtomicBool>,
    output: Mutex<Output>,
    remarks: Arc<Remarks>,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        let own = metadata.target().starts_with("dfget");
        let own_level = if self.verbose.load(Ordering::Relaxed) { Level::DEBUG } else { Level::INFO };
        *metadata.level() <= if own { own_level } else { Level::WARN }
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let line = LogLine::of(event);
        if *event.metadata().level() <= Level::WARN {
            let is_error = *event.metadata().level() == Level::ERROR;
            self.remarks.note(is_error, line.to_words(), SystemTime::now());
        }
        let mut output = self.output.lock();
        // Taken under the lock, so that times never go back within the file.
        let now = Zoned::now();
        let timestamp = now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        let written = match &mut *output {
            Output::File(file) => file.write_line(&line.to_json(&timestamp), &now),
            Output::Console(console) => console.print(line.to_text(&timestamp)),
        };
        if written.is_err() {
            count_failure();
        }
    }
}

fn count_failure() {
    WRITE_FAILURES.fetch_add(1, Ordering::Relaxed);
}

/// The level of the process's log.
static VERBOSE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What the process's log has warned of last.
static REMARKS: OnceLock<Arc<Remarks>> = OnceLock::new();

static WRITE_FAILURES: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;
    use tempfile::TempDir;
    use tracing::{debug, error, info, warn};

    use super::*;

    /// Runs `log` with logging into a new directory; returns the lines of `core.log`.
    fn logged(verbose: bool, log: impl FnOnce()) -> Vec<String> {
        let directory = TempDir::new().expect("a directory");
        let options =
            LogOptions { dir: Some(directory.path().join("daemon")), verbose, ..LogOptions::default() };
        let subscriber = subscriber(
            Output::of(&options).expect("an output"),
            Arc::new(AtomicBool::new(options.verbose)),
            Arc::default(),
        );
        tracing::subscriber::with_default(subscriber, || {
            log();
            // Read before logging ends: a line must be there when the event is over.
            fs::read_to_string(directory.path().join("daemon/core.log"))
                .expect("core.log")
                .lines()
                .map(str::to_owned)
                .collect()
        })
    }

    fn parsed(line: &str) -> Value {
        serde_json::from_str(line).expect(line)
    }

    #[test]
    fn a_line_has_the_keys_of_dragonfly_in_their_order() {
        let cost = 3;
        let lines = logged(false, || {
            info!(
                peer = "10.0.0.1-5184-1",
                task = %"b423",
                component = "PeerTask",
                bytes = 7_u64,
                hit = true,
                "peer task done, cost: {cost}ms"
            );
        });
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        let ts = parsed(line)["ts"].as_str().expect("text").to_owned();
        let caller = parsed(line)["caller"].as_str().expect("text").to_owned();
        assert_eq!(
            *line,
            format!(
                "{{\"level\":\"info\",\"ts\":\"{ts}\",\"caller\":\"{caller}\",\
                 \"msg\":\"peer task done, cost: 3ms\",\"peer\":\"10.0.0.1-5184-1\",\"task\":\"b423\",\
                 \"component\":\"PeerTask\",\"bytes\":7,\"hit\":true}}"
            )
        );
        let shape: String = ts.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000");
        assert!(caller.starts_with("dfget-telemetry/logging.rs:"), "{caller}");
    }

    #[test]
    #[ignore = "run by the test below in a process of its own, for its time zone"]
    fn a_line_of_a_process() {
        println!("{}", logged(false, || info!("now")).concat());
    }

    #[test]
    fn times_are_local() {
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["logging::tests::a_line_of_a_process", "--exact", "--ignored", "--nocapture"])
            .env("TZ", "NPT-05:45")
            .output()
            .expect("this test runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with('{')).expect(&text);
        let ts = parsed(line)["ts"].as_str().expect("text").to_owned();
        let local: jiff::civil::DateTime = ts.parse().expect(&ts);
        let utc = Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).datetime();
        let ahead = local.duration_since(utc).as_mins();
        assert!((345 - 30..=345).contains(&ahead), "{ts} is {ahead} minutes ahead of UTC");
    }

    #[test]
    fn values_cannot_break_a_line_nor_reach_a_terminal() {
        let hostile = "a\"b\\c\nd\re\tf\u{1b}[2Jg\u{9b}h\u{0}i\u{7f}j\u{2028}k\u{202e}l\u{e4}";
        let lines = logged(false, || info!(url = hostile, "{hostile}"));
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert_eq!(parsed(line)["msg"], hostile);
        assert_eq!(parsed(line)["url"], hostile);
        assert!(line.contains("\\u001b[2J") && line.contains("\\u202e") && line.contains('\u{e4}'), "{line}");
    }

    #[test]
    fn a_value_without_end_is_cut_at_a_character() {
        let endless = "\u{e4}".repeat(3000);
        let lines = logged(false, || info!(header = endless, "short"));
        let header = parsed(&lines[0])["header"].as_str().expect("text").to_owned();
        assert_eq!(header, format!("{}… (1904 bytes more)", "\u{e4}".repeat(2048)));
    }

    #[test]
    fn errors_come_with_their_causes() {
        let cause = io::Error::other("disk on fire");
        let failure = LogError::Open { path: "/var/log/core.log".into(), source: cause };
        let lines = logged(false, || {
            error!(error = &failure as &(dyn std::error::Error + 'static), "no log");
        });
        let text = parsed(&lines[0])["error"].as_str().expect("text").to_owned();
        assert!(text.starts_with("cannot log to /var/log/core.log: disk on fire;"), "{text}");
        assert!(text.ends_with(": disk on fire"), "{text}");
    }

    #[test]
    fn own_events_are_taken_from_info_and_others_from_warn() {
        let everything = || {
            debug!("own debug");
            info!("own info");
            info!(target: "hyper::proto", "other info");
            warn!(target: "hyper::proto", "other warn");
            debug!(target: "h2", "other debug");
        };
        let messages = |verbose| -> Vec<String> {
            let lines = logged(verbose, everything);
            lines.iter().map(|line| parsed(line)["msg"].as_str().expect("text").to_owned()).collect()
        };
        assert_eq!(messages(false), ["own info", "other warn"]);
        assert_eq!(messages(true), ["own debug", "own info", "other warn"]);
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let directory = TempDir::new().expect("a directory");
        let options = LogOptions { dir: Some(directory.path().to_owned()), ..LogOptions::default() };
        let dispatch = tracing::Dispatch::new(subscriber(
            Output::of(&options).expect("an output"),
            Arc::new(AtomicBool::new(options.verbose)),
            Arc::default(),
        ));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let dispatch = dispatch.clone();
                scope.spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        for number in 0..200 {
                            info!(thread, number, padding = "x".repeat(300), "line");
                        }
                    });
                });
            }
        });
        let text = fs::read_to_string(directory.path().join("core.log")).expect("core.log");
        assert_eq!(text.lines().map(parsed).filter(|line| line["msg"] == "line").count(), 1600);
    }

    #[test]
    fn a_line_lost_to_a_full_disk_is_counted() {
        let directory = TempDir::new().expect("a directory");
        std::os::unix::fs::symlink("/dev/full", directory.path().join("core.log")).expect("a link");
        let options = LogOptions { dir: Some(directory.path().to_owned()), ..LogOptions::default() };
        let subscriber = subscriber(
            Output::of(&options).expect("an output"),
            Arc::new(AtomicBool::new(options.verbose)),
            Arc::default(),
        );
        let before = write_failures();
        tracing::subscriber::with_default(subscriber, || info!("lost"));
        assert_eq!(write_failures(), before + 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = TempDir::new().expect("a directory");
        let blocked = directory.path().join("file");
        fs::write(&blocked, "").expect("written");
        let options = LogOptions { dir: Some(blocked.join("daemon")), ..LogOptions::default() };
        let error = Output::of(&options).err().expect("no directory in a file").to_string();
        assert!(error.contains("file/daemon/core.log: Not a directory (os error 20); make"), "{error}");
    }

    #[test]
    fn warnings_and_errors_are_kept_in_plain_words() {
        let directory = TempDir::new().expect("a directory");
        let options = LogOptions { dir: Some(directory.path().to_owned()), ..LogOptions::default() };
        let remarks = Arc::<Remarks>::default();
        let output = Output::of(&options).expect("an output");
        let subscriber = subscriber(output, Arc::default(), Arc::clone(&remarks));
        tracing::subscriber::with_default(subscriber, || {
            info!("nothing to warn of");
            warn!(task = "b423", "streaming on without the store: disk full");
            warn!(error = "no\nroute", from = "10.0.0.1:7", "turned away");
            let (peer, task) = ("p", "b423");
            error!(
                peer,
                task,
                component = "PeerTask",
                "peer task failed, code: 4008, reason: r.test sent 404"
            );
        });
        let texts: Vec<_> =
            remarks.newest_first().into_iter().map(|remark| (remark.is_error, remark.text)).collect();
        let expected = [
            (true, "a download failed: r.test sent 404"),
            (false, "turned away: no\\nroute (from 10.0.0.1:7)"),
            (false, "streaming on without the store: disk full"),
        ];
        assert_eq!(texts, expected.map(|(is_error, text)| (is_error, text.to_owned())));
    }

    #[test]
    fn a_line_for_a_terminal_quotes_what_is_no_word() {
        struct Texts(Mutex<Vec<String>>);
        impl<S: Subscriber> Layer<S> for &'static Texts {
            fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
                self.0.lock().push(LogLine::of(event).to_text("TIME"));
            }
        }
        static TEXTS: Texts = Texts(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Registry::default().with(&TEXTS), || {
            warn!(
                host = "registry.example",
                reason = "no\nroute",
                empty = "",
                count = -2,
                "cannot \u{1b}[0m"
            );
        });
        assert_eq!(
            TEXTS.0.lock().concat(),
            "TIME WARN  cannot \\u001b[0m host=registry.example reason=\"no\\nroute\" empty=\"\" count=-2\n"
        );
    }
}
