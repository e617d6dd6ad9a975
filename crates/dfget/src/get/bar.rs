//! The progress bar, on a terminal.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dfget_get::{Event, Observer};
use dfget_run::Sources;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report;
use crate::message;

/// How often the bar is drawn, in a second.
const HERTZ: u8 = 10;

/// Names longer than this are cut.
const LONGEST_NAME: usize = 24;

const KNOWN: &str =
    "{prefix} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left{msg}";
const UNKNOWN: &str = "{prefix} {spinner} {decimal_bytes} {decimal_bytes_per_sec}{msg}";

/// Shows on the terminal what happens.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    draws: bool,
    verbose: bool,
    /// A try that is broken off can be gone on with.
    keeps: AtomicBool,
    bytes: AtomicU64,
}

/// Whether standard error is a terminal that a bar can be drawn on.
pub(crate) fn can_draw() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !dumb && std::io::stderr().is_terminal()
}

// === impl Bar ===

impl Bar {
    /// A bar where standard error is a terminal, unless it is to be quiet.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        let draws = !quiet && can_draw();
        let target =
            if draws { ProgressDrawTarget::stderr_with_hz(HERTZ) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        Self { bar, draws, verbose, keeps: AtomicBool::new(false), bytes: AtomicU64::new(0) }
    }

    /// Whether somebody looks at it.
    pub(crate) const fn is_seen(&self) -> bool {
        self.draws
    }

    /// Whether something is kept that the next try goes on with.
    pub(crate) fn has_kept(&self) -> bool {
        self.keeps.load(Ordering::Relaxed) && self.bytes.load(Ordering::Relaxed) > 0
    }

    /// Takes it from the terminal.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Leaves it on the terminal, which has written a `^C` behind it: the cursor is not where it was.
    pub(crate) fn leave(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        self.bar.finish();
        if self.draws {
            message::note("");
        }
    }

    fn begin(&self, name: &str, total: Option<u64>) {
        self.bar.set_prefix(short(name));
        self.size(total);
        self.bar.reset_eta();
        if self.draws {
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn size(&self, total: Option<u64>) {
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
    }
}

impl Observer for Bar {
    fn hear(&self, event: Event<'_>) {
        match event {
            Event::Warning(line) => self.bar.suspend(|| message::warning(format_args!("dfget get: {line}"))),
            Event::Note(line) if self.verbose => {
                self.bar.suspend(|| message::note(format_args!("dfget get: {line}")));
            }
            Event::Begun { name, total, keeps } => {
                self.keeps.store(keeps, Ordering::Relaxed);
                self.begin(name, total);
            }
            Event::Sized(total) => self.size(Some(total)),
            Event::Present(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.bar.inc(bytes);
                // What was here tells nothing of the rate.
                self.bar.reset_eta();
            }
            Event::Grown(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.bar.inc(bytes);
            }
            Event::Lost(bytes) => {
                let now = self.bar.position().saturating_sub(bytes);
                self.bar.set_position(now);
            }
            Event::From(sources) => self.bar.set_message(source_line(sources)),
            Event::Settling => self.bar.set_message("\n  writing it to the disk"),
            _ => {}
        }
    }
}

fn source_line(sources: Sources) -> String {
    report::shares(sources).map_or_else(String::new, |shares| format!("\n  from {shares}"))
}

/// A name that leaves room for the rest.
fn short(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !c.is_control()).collect();
    if plain.chars().count() <= LONGEST_NAME {
        return plain;
    }
    let end: String = plain.chars().skip(plain.chars().count() - LONGEST_NAME / 2).collect();
    let begin: String = plain.chars().take(LONGEST_NAME - LONGEST_NAME / 2 - 1).collect();
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_in_the_middle() {
        assert_eq!(short("tool_1.sif"), "tool_1.sif");
        let cut = short("a-very-long-name-of-an-image_1.2.3.sif");
        assert_eq!((cut.as_str(), cut.chars().count()), ("a-very-long…ge_1.2.3.sif", LONGEST_NAME));
        assert_eq!(short("a\u{1b}[31mb"), "a[31mb");
    }

    #[test]
    fn what_is_kept_is_known() {
        let bar = Bar::new(true, false);
        bar.hear(Event::Begun { name: "x", total: Some(9), keeps: true });
        assert!(!bar.has_kept());
        bar.hear(Event::Grown(1));
        assert!(bar.has_kept());
        bar.hear(Event::Begun { name: "x", total: None, keeps: false });
        assert!(!bar.has_kept());
    }

    #[test]
    fn the_templates_are_good() {
        for template in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
