//! What the run happened on.

use std::fs;
use std::thread;

use serde_json::{Value, json};

/// The machine's load now: the averages over 1, 5 and 15 minutes, as `/proc/loadavg` has them.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How many threads can run at once.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// All of it, with the load at the begin and now.
pub fn json(load_before: &str) -> Value {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processors": processors(),
        "processor": model.map(|(_, name)| name),
        "kernel": kernel.trim(),
        "loadBefore": load_before,
        "loadAfter": load(),
    })
}
