//! Which entries leave the store: pure functions of sizes, times and limits.
//!
//! [`sweep_plan`] answers three pressures, in this order:
//! 1. *Expiry*: what nobody used for the expiry time leaves, whatever the space. Age is all that
//!    counts here, so a cache nobody used for that long may become empty.
//! 2. *Quota*: least recently used entries leave until the rest fits.
//! 3. *Disk*: the same while the whole disk is fuller than its percentage, down to a quarter of
//!    what was here lately ([`Peak`]). The line is for a disk that others fill: their file may be
//!    gone a minute later, the cache would be cold for hours. If it stays, the cache yields three
//!    quarters again an hour or two later.
//!
//! [`room_plan`] answers a writer that found no space: for one writer, however often it asks, no
//! more than three quarters leave of what was here. So a content that never fits cannot cost all
//! others, and [`room`] tells beforehand how large one may be.
//!
//! In both, the entry that crosses the line still goes: otherwise one large image could not be
//! replaced by another. Running downloads (pinned ones) never leave, are no part of what a line is
//! drawn through, and count as used now.
//!
//! The image used last never leaves for space, lest one about as large as the quota be thrown away
//! right after each pull and pulled again by the next job. A client asks for small things after its
//! image (the 2 bytes `{}` of a SIF's config), so "the image used last" is the last entry that is
//! not small, and the small ones used since stay with it, up to 1 MiB together. Where all are
//! small, the last one stays.

use std::{cmp::Reverse, time::Duration};

/// An entry as the policy sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Candidate {
    /// Bytes it takes on disk.
    pub(crate) bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub(crate) accessed: u64,
    /// Whether it must stay.
    pub(crate) pinned: bool,
    /// Whether it is smaller than [`SMALL_BYTES`] and will stay so.
    pub(crate) small: bool,
}

/// What the store may take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Bytes of all entries together.
    pub(crate) quota_bytes: Option<u64>,
    /// How full the disk may be, by whomever, in percent.
    pub(crate) disk_percent: Option<u8>,
    /// How long an entry stays without being used.
    pub(crate) expire: Option<Duration>,
}

/// The disk of the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Disk {
    /// Bytes that we and others may use in all.
    pub(crate) total: u64,
    /// Bytes that are still free for us.
    pub(crate) free: u64,
}

/// The most bytes that could have left, at any sweep of this hour and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    /// Hours since 1970.
    hour: u64,
    this_hour: u64,
    last_hour: u64,
}

/// Why an entry left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody used it for the expiry time.
    Expired,
    /// Space was needed, and it was the least recently used.
    Space,
}

/// The candidates that leave at a sweep, as indices, in the order in which they leave.
///
/// `now` is in seconds since 1970. A last use in the future (the clock was set back) counts as now.
pub(crate) fn sweep_plan(
    candidates: &[Candidate],
    limits: Limits,
    disk: Option<Disk>,
    peak: &mut Peak,
    now: u64,
) -> Vec<(usize, Reason)> {
    let expire = limits.expire.filter(|age| !age.is_zero());
    let is_expired = |i: usize| {
        let Candidate { pinned, accessed, .. } = candidates[i];
        expire.is_some_and(|age| !pinned && now - accessed.min(now) >= age.as_secs().max(1))
    };
    let (expired, rest): (Vec<usize>, Vec<usize>) =
        by_last_use(candidates, now).into_iter().partition(|&i| is_expired(i));
    let bytes_of = |of: &[usize]| of.iter().map(|&i| candidates[i].bytes).sum::<u64>();
    let movable: u64 = rest.iter().filter(|&&i| !candidates[i].pinned).map(|&i| candidates[i].bytes).sum();
    let floor = peak.note(movable, now) / 4;

    let over_quota = limits.quota_bytes.map_or(0, |quota| bytes_of(&rest).saturating_sub(quota));
    let over_disk = excess_on_disk(limits, disk).saturating_sub(bytes_of(&expired));
    let excess = over_quota.max(over_disk.min(movable.saturating_sub(floor)));

    let for_space = first_of(candidates, evictable(candidates, rest), excess);
    let expired = expired.into_iter().map(|i| (i, Reason::Expired));
    expired.chain(for_space.into_iter().map(|i| (i, Reason::Space))).collect()
}

/// The candidates that leave because a writer found no space and wants `bytes`, in order. `taken`
/// is what left for the same writer before.
pub(crate) fn room_plan(candidates: &[Candidate], bytes: u64, taken: u64) -> Vec<usize> {
    let movable: u64 = candidates.iter().filter(|one| !one.pinned).map(|one| one.bytes).sum();
    let share = (movable.saturating_add(taken) / 4 * 3).saturating_sub(taken);
    let order = evictable(candidates, by_last_use(candidates, u64::MAX));
    first_of(candidates, order, bytes.min(share))
}

/// The most bytes that a writer may still bring, if it is the only one: those that are `free`, and
/// those of all that [`room_plan`] would let go. The writer's own entry is among the candidates.
pub(crate) fn room(candidates: &[Candidate], free: u64, taken: u64) -> u64 {
    let leaving = room_plan(candidates, u64::MAX, taken);
    leaving.into_iter().fold(free, |room, i| room.saturating_add(candidates[i].bytes))
}

/// All candidates, the least recently used first; of equals the largest first, for it helps most.
fn by_last_use(candidates: &[Candidate], now: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| {
        let Candidate { bytes, accessed, pinned, .. } = candidates[i];
        (pinned, accessed.min(now), Reverse(bytes))
    });
    order
}

/// Leaves of `order`, the least recently used first, those that may leave for space.
fn evictable(candidates: &[Candidate], mut order: Vec<usize>) -> Vec<usize> {
    match order.iter().rposition(|&i| !candidates[i].small) {
        Some(image) => {
            let mut together = 0_u64;
            let since = order[image + 1..].iter().rev().take_while(|&&i| {
                together = together.saturating_add(candidates[i].bytes);
                together <= SMALL_BYTES
            });
            order.truncate(order.len() - since.count());
            order.remove(image);
        }
        None => {
            order.pop();
        }
    }
    order.retain(|&i| !candidates[i].pinned);
    order
}

/// The first of `order`, as many as it takes to free `bytes`.
fn first_of(candidates: &[Candidate], order: Vec<usize>, bytes: u64) -> Vec<usize> {
    let mut gone = 0_u64;
    let leaving = order.into_iter().take_while(|&i| {
        let goes = gone < bytes;
        gone = gone.saturating_add(candidates[i].bytes);
        goes
    });
    leaving.collect()
}

/// Bytes on the disk, of whomever, above its percentage.
fn excess_on_disk(limits: Limits, disk: Option<Disk>) -> u64 {
    disk.zip(limits.disk_percent).map_or(0, |(disk, percent)| {
        let allowed = u128::from(disk.total) * u128::from(percent.min(100)) / 100;
        let used = disk.total.saturating_sub(disk.free);
        used.saturating_sub(allowed as u64)
    })
}

// === impl Peak ===

impl Peak {
    /// Notes what could leave at `now`, in seconds since 1970; tells the most there was lately.
    fn note(&mut self, bytes: u64, now: u64) -> u64 {
        let hour = now / 3_600;
        if hour != self.hour {
            let follows = self.hour.checked_add(1) == Some(hour);
            self.last_hour = if follows { self.this_hour } else { 0 };
            self.this_hour = 0;
            self.hour = hour;
        }
        self.this_hour = self.this_hour.max(bytes);
        self.this_hour.max(self.last_hour)
    }
}

/// An entry below this is no image: a config, a manifest, a signature.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

#[cfg(test)]
#[path = "tests/evict.rs"]
mod tests;
