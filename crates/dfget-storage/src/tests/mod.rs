//! Tests of the whole store, through its public calls.

mod access;
mod crash;
mod lifecycle;
mod model;
mod rot;
mod safety;

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{OpenReport, Options, Store, StoreError};

/// The time of a test: so many seconds into it.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

pub(crate) fn options(dir: &Path) -> Options {
    Options { dir: dir.join("store"), quota_bytes: None, disk_percent: None, expire: None }
}

/// A store that commits only when told to; dropping it is a crash.
pub(crate) fn open(dir: &Path) -> (Store, OpenReport) {
    Store::open_quiet(options(dir), at(0)).unwrap()
}

pub(crate) fn open_with(options: Options) -> Store {
    Store::open_quiet(options, at(0)).unwrap().0
}

pub(crate) fn refused(options: Options) -> StoreError {
    Store::open_quiet(options, at(0)).unwrap_err()
}

/// Byte `offset` of content `seed`; never constant over a block.
pub(crate) fn byte(seed: u64, offset: u64) -> u8 {
    let mixed = (seed ^ offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (offset % 8 * 8)) as u8 ^ (mixed >> 57) as u8
}

/// `len` bytes of content `seed` from `offset`.
pub(crate) fn content(seed: u64, offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|at| byte(seed, at)).collect()
}
