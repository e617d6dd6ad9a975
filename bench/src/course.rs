//! The course of a run: who takes part, round by round, contenders in turn.

use std::io;
use std::time::Duration;

use crate::contender::{Contender, Kind, Running};
use crate::origin::{Blob, Origin};
use crate::output::note;
use crate::places::Places;
use crate::table::Table;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Whether sizes are a 64th, and times short: to see that it works.
    pub small: bool,
    /// The networks of `cluster` to measure; all, if none is named.
    pub cases: Vec<String>,
}

/// A run.
#[derive(Debug)]
pub struct Bench {
    /// How much is measured.
    pub plan: Plan,
    /// Where things lie.
    pub places: Places,
    /// Who is measured.
    pub contenders: Vec<Contender>,
    /// Where everything comes from.
    pub origin: Origin,
    /// What was measured.
    pub table: Table,
}

// === impl Plan ===

impl Plan {
    /// This size, or its miniature.
    pub fn size(&self, size: u64) -> u64 {
        if self.small { (size / SHRINK).max(1) } else { size }
    }

    /// This number, or its miniature.
    pub fn count(&self, count: usize) -> usize {
        if self.small { (count / 64).max(1) } else { count }
    }

    /// How long a load goes on.
    pub fn window(&self) -> Duration {
        Duration::from_millis(if self.small { 250 } else { 4000 })
    }

    /// The number and unit of a size, for the table.
    pub fn size_text(&self, size: u64) -> String {
        match self.size(size) {
            size if size >= 1 << 30 => format!("{} GiB", size >> 30),
            size => format!("{} MiB", size >> 20),
        }
    }
}

// === impl Bench ===

impl Bench {
    /// Starts those that take part, with empty caches; one that does not start is left out, aloud.
    pub fn start(&mut self, takes_part: impl Fn(&Kind) -> bool) -> Vec<Running> {
        let mut running = Vec::new();
        for contender in self.contenders.iter().filter(|contender| takes_part(&contender.kind)) {
            match contender.start(&self.places) {
                Ok(started) => running.push(started),
                Err(error) => {
                    let text = format!("{} is left out: {error}", contender.name);
                    note(&text);
                    self.table.note(text);
                }
            }
        }
        running
    }

    /// Lets every contender pull these blobs, and leaves out, aloud, who cannot.
    pub fn warm(&mut self, running: Vec<Running>, blobs: &[Blob]) -> Vec<Running> {
        let mut warmed = Vec::new();
        for contender in running {
            match blobs.iter().try_for_each(|blob| contender.warm(blob)) {
                Ok(()) => warmed.push(contender),
                Err(error) => {
                    let text =
                        format!("{} is left out: it does not serve the first pull: {error}", contender.name);
                    note(&text);
                    self.table.note(text);
                }
            }
        }
        warmed
    }

    /// Measures everyone in every round. What `measure` returns are the values of the rows `ids`.
    pub fn rounds(
        &mut self,
        running: &[Running],
        ids: &[String],
        mut measure: impl FnMut(usize, &Running) -> io::Result<Vec<f64>>,
    ) {
        for round in 0..self.plan.rounds {
            for turn in 0..running.len() {
                // Nobody is always the first, or always behind the same.
                let index = if round % 2 == 0 { turn } else { running.len() - 1 - turn };
                let contender = &running[(index + round / 2) % running.len()];
                // What others left to be written back is not the next one's.
                rustix::fs::sync();
                let values = measure(round, contender);
                self.record(round, &contender.name, ids, values);
            }
        }
    }

    /// Takes the values of one contender in one round.
    pub fn record(&mut self, round: usize, name: &str, ids: &[String], values: io::Result<Vec<f64>>) {
        let first = ids.first().map(String::as_str).unwrap_or_default();
        match values {
            Ok(values) => {
                for (id, value) in ids.iter().zip(values) {
                    self.table.record(id, name, Some(value));
                }
            }
            Err(error) => {
                for id in ids {
                    self.table.record(id, name, None);
                }
                let text = format!("{first}, round {}: {name} failed: {error}", round + 1);
                note(&text);
                self.table.note(text);
            }
        }
    }

    /// Makes as many blobs as are asked for.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn blobs(&mut self, count: usize, size: u64) -> io::Result<Vec<Blob>> {
        (0..count).map(|_| self.origin.add(size)).collect()
    }

    /// Ends everyone, and removes what they and the origin stored for a scenario.
    ///
    /// # Errors
    /// Something cannot be removed, or had to be killed.
    pub fn clear(&self, running: Vec<Running>, blobs: &[Blob]) -> io::Result<()> {
        running.into_iter().try_for_each(Running::end)?;
        blobs.iter().try_for_each(|blob| self.origin.remove(blob))
    }
}

const SHRINK: u64 = 64;
/// Bytes.
pub const KIB: u64 = 1024;
/// Bytes.
pub const MIB: u64 = 1024 * KIB;
/// Bytes.
pub const GIB: u64 = 1024 * MIB;
