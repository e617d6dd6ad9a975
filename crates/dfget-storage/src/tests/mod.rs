//! Tests of the whole store, through its public calls.

mod access;
mod crash;
mod crc;
mod lifecycle;
mod model;
mod races;
mod rot;
mod safety;
mod send;
mod space;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
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
    opened(&options(dir))
}

pub(crate) fn open_with(options: Options) -> Store {
    opened(&options).0
}

/// A child that another test of this process is just starting holds a copy of the lock for a moment,
/// from its fork to its exec.
fn opened(options: &Options) -> (Store, OpenReport) {
    for _ in 0..1_000 {
        match Store::open_quiet(options.clone(), at(0)) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the store in {} stays locked", options.dir.display())
}

pub(crate) fn refused(options: Options) -> StoreError {
    Store::open_quiet(options, at(0)).unwrap_err()
}

/// Byte `offset` of content `seed`; never constant over a block.
pub(crate) fn byte(seed: u64, offset: u64) -> u8 {
    let mixed = (seed ^ (offset / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (offset % 8 * 8)) as u8 ^ (mixed >> 57) as u8
}

/// `len` bytes of content `seed` from `offset`.
pub(crate) fn content(seed: u64, offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|at| byte(seed, at)).collect()
}

/// A command that runs one ignored test of this binary on the directory `dir`, after `before`: a
/// program that ends by running its arguments.
pub(crate) fn child(before: &[&str], test: &str, dir: &Path) -> Command {
    let own = env::current_exe().unwrap();
    let mut words = before.iter().map(AsRef::as_ref).chain([own.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir);
    command
}

/// In such a child: the directory it was given.
pub(crate) fn child_dir() -> PathBuf {
    env::var_os(DIR).expect("run by another test, with a directory").into()
}

const DIR: &str = "DFGET_STORAGE_TEST_DIR";
