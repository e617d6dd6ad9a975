//! Which entries leave the store: a pure function of sizes, times and limits.
//!
//! Three pressures, in this order:
//! 1. *Expiry*: what nobody read for the expiry time leaves, whatever the space. Age is all that
//!    counts here, so a cache nobody used for that long may become empty.
//! 2. *Quota*: least recently used entries leave until the rest fits.
//! 3. *Disk*: the same while the whole disk is fuller than its percentage, and when a write found
//!    no space. Only the excess leaves, and one sweep takes no more than about three quarters of
//!    what is here (the entry that crosses that line still goes).
//!
//! A pinned entry (a running download) never leaves. The entry used last never leaves for space:
//! an image larger than the quota would otherwise be thrown away right after each pull, and pulled
//! again by the next node of the same job. The three-quarter line is for a disk that others fill:
//! their file may be gone a minute later, the cache would be cold for hours. If it stays, the next
//! sweeps go on.

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
    /// Bytes that are wanted at once, because a write found no space; 0 otherwise.
    pub(crate) wanted_bytes: u64,
}

/// The disk of the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Disk {
    /// Bytes that we and others may use in all.
    pub(crate) total: u64,
    /// Bytes that are still free for us.
    pub(crate) free: u64,
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

/// The candidates that leave, as indices, in the order in which they leave.
///
/// `now` is in seconds since 1970. A last use in the future (the clock was set back) counts as now.
pub(crate) fn plan(
    candidates: &[Candidate],
    limits: Limits,
    disk: Option<Disk>,
    now: u64,
) -> Vec<(usize, Reason)> {
    let used_at = |i: usize| candidates[i].accessed.min(now);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| (used_at(i), Reverse(candidates[i].bytes)));

    let expire = limits.expire.filter(|age| !age.is_zero());
    let is_expired = |i: usize| {
        expire.is_some_and(|age| !candidates[i].pinned && now - used_at(i) >= age.as_secs().max(1))
    };
    let (expired, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&i| is_expired(i));
    let freed: u64 = expired.iter().map(|&i| candidates[i].bytes).sum();
    let held: u64 = rest.iter().map(|&i| candidates[i].bytes).sum();
    let excess = excess(held, freed, limits, disk);

    let mut leaving: Vec<_> = expired.into_iter().map(|i| (i, Reason::Expired)).collect();
    let mut gone = 0;
    let all_but_last = rest.len().saturating_sub(1);
    for &i in &rest[..all_but_last] {
        if gone >= excess {
            break;
        }
        if !candidates[i].pinned {
            gone += candidates[i].bytes;
            leaving.push((i, Reason::Space));
        }
    }
    leaving
}

/// Bytes to free of the `held` ones, after `freed` bytes of expired entries are gone.
fn excess(held: u64, freed: u64, limits: Limits, disk: Option<Disk>) -> u64 {
    let over_quota = limits.quota_bytes.map_or(0, |quota| held.saturating_sub(quota));
    let over_disk = disk.zip(limits.disk_percent).map_or(0, |(disk, percent)| {
        let allowed = u128::from(disk.total) * u128::from(percent.min(100)) / 100;
        let used = disk.total.saturating_sub(disk.free);
        used.saturating_sub(allowed as u64).saturating_sub(freed)
    });
    let wanted = limits.wanted_bytes.saturating_sub(freed);
    over_quota.max(over_disk.max(wanted).min(held / 4 * 3))
}

#[cfg(test)]
#[path = "tests/evict.rs"]
mod tests;
