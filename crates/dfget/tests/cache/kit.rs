//! What these tests share.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dfget_testkit::{Blob, Daemon, Ended, Stage};
use serde_json::Value;

pub(crate) const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
pub(crate) const IMAGE: &str = "lab/image";
pub(crate) const MIB: usize = 1 << 20;

/// `dfget cache` as somebody runs it who meets no other daemon than this one.
pub(crate) fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = daemon.beside(DFGET);
    command.arg("cache").args(arguments);
    command
}

pub(crate) fn cache(daemon: &Daemon, arguments: &[&str]) -> Ended {
    Ended::of(&mut command(daemon, arguments))
}

/// What it prints as one JSON object.
pub(crate) fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let ended = cache(daemon, &[arguments, &["--output", "json"]].concat()).ok();
    serde_json::from_str(&ended.stdout).expect(&ended.stdout)
}

/// The digests that `ls` shows, in its order.
pub(crate) fn digests(daemon: &Daemon, arguments: &[&str]) -> Vec<String> {
    let seen = json(daemon, &[&["ls"], arguments].concat());
    let contents = seen["contents"].as_array().expect("a list");
    contents.iter().map(|content| content["digest"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Puts a blob and pulls it.
pub(crate) fn pulled(stage: &Stage, repository: &str, blob: &Blob) -> String {
    let url = stage.registry.put(repository, blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    url
}

/// The first digits, as the table has them.
pub(crate) fn short(blob: &Blob) -> &str {
    &blob.digest[7..19]
}

/// Changes the byte of a stored blob on disk.
pub(crate) fn rot(store: &Path, blob: &Blob, place: usize) {
    let start = place.saturating_sub(32);
    let around = &blob.bytes[start..blob.len().min(start + 64)];
    let mut flipped = 0;
    for file in files_below(store) {
        let mut bytes = fs::read(&file).expect("a file of the store can be read");
        if let Some(at) = bytes.windows(around.len()).position(|window| window == around) {
            bytes[at + place - start] ^= 1;
            let handle = fs::OpenOptions::new().write(true).open(&file).expect("and be written");
            handle.write_all_at(&bytes[at..at + around.len()], at as u64).expect("in place");
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "the byte at {place} stands in one file");
}

pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the store can be read") {
        let path = entry.expect("an entry has a name").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
