//! Log lines for whoever looks at the standard output.
//!
//! A reader may stop (a pager, a terminal after Ctrl-S), and then a write to it waits for ever. So
//! those that log never write: they put the line into a bounded queue, and one thread writes. A
//! line that finds the queue full is lost, which its caller is told.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The queue's end for those that log.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    lines: SyncSender<String>,
    waiting: Arc<Waiting>,
}

/// How many lines are in the queue or being written.
#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<usize>,
    none_left: Condvar,
}

// === impl Console ===

impl Console {
    /// Starts the thread that writes to `output`; of lines that it cannot write, `failed` hears.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        output: impl Write + Send + 'static,
        failed: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, queue) = sync_channel(CAPACITY);
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        thread::Builder::new()
            .name("console-log".to_owned())
            .spawn(move || write_all(output, &queue, &shared, failed))?;
        Ok(Self { lines, waiting })
    }

    /// Puts a line into the queue and never waits.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: the queue is full, the line is lost.
    pub(crate) fn print(&self, line: String) -> io::Result<()> {
        *self.waiting.lines.lock() += 1;
        self.lines.try_send(line).map_err(|_| {
            self.waiting.one_less();
            io::ErrorKind::WouldBlock.into()
        })
    }

    /// Waits until every line so far was written, for at most `limit`; returns whether all were.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let mut lines = self.waiting.lines.lock();
        !self.waiting.none_left.wait_while_for(&mut lines, |lines| *lines > 0, limit).timed_out()
    }
}

// === impl Waiting ===

impl Waiting {
    fn one_less(&self) {
        let mut lines = self.lines.lock();
        *lines = lines.saturating_sub(1);
        if *lines == 0 {
            self.none_left.notify_all();
        }
    }
}

/// Writes until nobody is left who could log.
fn write_all(mut output: impl Write, queue: &Receiver<String>, waiting: &Waiting, failed: impl Fn()) {
    for line in queue {
        if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err() {
            failed();
        }
        waiting.one_less();
    }
}

/// Lines in the queue: minutes of a busy daemon, a MiB at most of usual ones.
const CAPACITY: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// An output that is held up until it is let go, and keeps what was written.
    #[derive(Clone, Default)]
    struct Pager {
        text: Arc<Mutex<String>>,
        stopped: Arc<Mutex<()>>,
    }

    impl Write for Pager {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _goes_on = self.stopped.lock();
            self.text.lock().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_holds_nobody_up_and_loses_only_what_does_not_fit() {
        let pager = Pager::default();
        let stopped = pager.stopped.lock();
        let console = Console::start(pager.clone(), || {}).expect("a thread");
        let lost = (0..CAPACITY + 100).filter(|number| console.print(format!("{number}\n")).is_err()).count();
        // The writer may have taken one line out of the queue already.
        assert!((99..=100).contains(&lost), "{lost} lines were lost");
        assert!(!console.flush(Duration::ZERO), "nothing can be written yet");
        drop(stopped);
        assert!(console.flush(PATIENCE));
        let text = pager.text.lock();
        assert_eq!(text.lines().count(), CAPACITY + 100 - lost);
        assert!(text.starts_with("0\n1\n2\n"), "the oldest stay, in their order");
    }

    #[test]
    fn a_flush_of_nothing_does_not_wait() {
        let console = Console::start(io::sink(), || {}).expect("a thread");
        assert!(console.flush(Duration::ZERO));
    }

    #[test]
    fn lines_that_cannot_be_written_are_told() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let failures = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&failures);
        let count = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let console = Console::start(Closed, count).expect("a thread");
        for _ in 0..3 {
            console.print("line\n".to_owned()).expect("it fits");
        }
        assert!(console.flush(PATIENCE));
        assert_eq!(failures.load(Ordering::SeqCst), 3);
    }

    const PATIENCE: Duration = Duration::from_secs(60);
}
