//! Whether what is stored still is what it was.
//!
//! Each content is read once, as a reader would, by a thread of low priority that owns nothing: no
//! reader and no download waits for it, and what leaves meanwhile is passed over. A rotten content
//! is taken out of the store; whoever reads it reads on (a rotten block is never handed out), and
//! the next client has it fetched again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dfget_console::{Verified, Verify};
use dfget_core::{Digest, Hasher};
use dfget_storage::{Entry, EntryKey, ReadError, Store};
use dfget_task::TaskMeta;
use dfget_telemetry::Metrics;
use tracing::{info, warn};

use super::facts::described;

/// Between two words on how far it has come.
const TELL: Duration = Duration::from_millis(250);

/// What was found.
enum Found {
    /// It is what it was.
    Right,
    /// It is not, and why.
    Rotten(String),
    /// It could not be read.
    Unreadable(String),
    /// Nobody wants to know any more.
    Stopped,
}

/// How far it has come.
struct Way<'a> {
    contents: u64,
    of_contents: u64,
    bytes: u64,
    of_bytes: u64,
    told: Instant,
    tell: &'a mut dyn FnMut(Verified) -> bool,
}

// === impl Way ===

impl Way<'_> {
    /// Whether to go on.
    fn step(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        if self.told.elapsed() < TELL {
            return true;
        }
        self.say()
    }

    fn say(&mut self) -> bool {
        self.told = Instant::now();
        let &mut Self { contents, of_contents, bytes, of_bytes, .. } = self;
        (self.tell)(Verified::Progress { contents, of_contents, bytes, of_bytes: of_bytes.max(bytes) })
    }
}

/// Checks the contents that are wanted.
pub(super) fn verify(
    store: &Store,
    metrics: &Metrics,
    wanted: &Verify,
    tell: &mut dyn FnMut(Verified) -> bool,
) {
    let names = |keys: &Vec<String>| keys.iter().map(|key| store.get(&EntryKey::new(key.as_str()))).collect();
    let mut entries: Vec<Option<Arc<Entry>>> =
        wanted.keys.as_ref().map_or_else(|| store.entries().into_iter().map(Some).collect(), names);
    entries.sort_by_key(|entry| entry.as_ref().map(|entry| entry.key()));
    let of_bytes = entries.iter().flatten().map(|entry| entry.allocated_bytes()).sum();
    let of_contents = entries.len() as u64;
    let mut way = Way { contents: 0, of_contents, bytes: 0, of_bytes, told: Instant::now(), tell };
    if !way.say() {
        return;
    }
    let (mut checked, mut rotten, mut unreadable, mut gone) = (0, 0, 0, 0);
    for entry in entries {
        match entry.filter(|entry| !entry.is_removed()) {
            None => gone += 1,
            Some(entry) => match check(&entry, &mut way) {
                Found::Right => checked += 1,
                Found::Stopped => return,
                Found::Unreadable(reason) => {
                    unreadable += 1;
                    warn!(task = entry.key().as_str(), "cannot be verified: {reason}");
                }
                Found::Rotten(reason) => {
                    checked += 1;
                    rotten += 1;
                    metrics.rotten_block();
                    warn!(task = entry.key().as_str(), "found rotten: {reason}");
                    let content = Box::new(described(&entry));
                    let dropped = !wanted.keep && dropped(store, &entry);
                    if !(way.tell)(Verified::Rotten { content, reason, dropped }) {
                        return;
                    }
                }
            },
        }
        way.contents += 1;
    }
    if let Err(error) = store.flush() {
        warn!("what was dropped may be back after a crash: {error}");
    }
    let bytes = way.bytes;
    info!("verified {checked} contents, {bytes} bytes: {rotten} rotten, {unreadable} not readable");
    (way.tell)(Verified::Done { contents: checked, bytes, rotten, unreadable, gone });
}

/// Takes a rotten content out of the store. A download that runs just now is left alone: it finds
/// the block by itself before it hands it out, and knows what it has hashed of it.
fn dropped(store: &Store, entry: &Arc<Entry>) -> bool {
    if entry.is_complete() {
        store.remove(entry);
        return true;
    }
    store.remove_idle(entry)
}

/// Where the blocks begin that are here.
fn blocks(entry: &Entry) -> Vec<u64> {
    let end = entry.total().unwrap_or_else(|| entry.contiguous_from(0));
    let gaps = entry.gaps(0..end);
    let is_here = |start: &u64| !gaps.iter().any(|gap| gap.contains(start));
    (0..end).step_by(usize::try_from(dfget_storage::BLOCK).unwrap_or(usize::MAX)).filter(is_here).collect()
}

/// Reads all that is here of an entry, and hashes it if it is whole and named by a digest.
fn check(entry: &Arc<Entry>, way: &mut Way<'_>) -> Found {
    let meta = TaskMeta::from_bytes(&entry.meta());
    let digest: Option<Digest> =
        meta.and_then(|meta| meta.digest?.parse().ok()).filter(|_| entry.is_complete());
    let mut hasher = digest.as_ref().map(Hasher::like);
    for start in blocks(entry) {
        let bytes = match entry.read(start, false) {
            Ok(bytes) => bytes,
            Err(ReadError::Rotten { block }) => {
                return Found::Rotten(format!("bytes {} to {} changed on disk", block.start, block.end));
            }
            // A block of a download that was dropped just now.
            Err(ReadError::Absent) if !entry.is_complete() => continue,
            Err(error) => return Found::Unreadable(error.to_string()),
        };
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        if !way.step(bytes.len() as u64) {
            return Found::Stopped;
        }
    }
    match hasher.map(Hasher::finish).zip(digest) {
        Some((actual, expected)) if actual != expected => Found::Rotten(format!("its digest is {actual}")),
        _ => Found::Right,
    }
}
