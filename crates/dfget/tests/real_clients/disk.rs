//! Pulls when the daemon's disk is full, small or of no use: they end well, only less is kept.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace, run, until};

const STORE: &str = "/var/lib/dragonfly";
const OPEN: Reference<'static> = Reference { registry: "open", repository: "public/sif" };

/// Puts a file system of this size, in MiB, where the store will be.
fn mount_store(mib: u32) {
    fs::create_dir_all(STORE).unwrap();
    let options = format!("size={mib}m,mode=0700");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs", STORE])).ok();
}

/// Bytes of all files below `directory`.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_pull_larger_than_the_disk_streams_through_and_a_smaller_one_is_kept() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        mount_store(24);
        let _daemon = Daemon::start();
        let (large, small) = (Image::of_mib(64), Image::of_mib(4));
        for _ in 0..2 {
            Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &large);
            Client::proxied(User::Nobody).pull(Tool::Oras, OPEN, &large);
        }
        Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &small);
        Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &small);
        registries.assert_downloaded_once("open", &small);
    });
}

#[test]
fn the_store_is_kept_within_its_quota_and_later_pulls_are_right() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let _daemon = Daemon::start_with("gcInterval: 200ms\nstorage:\n  diskGCThreshold: 20Mi\n");
        for mib in [16, 4, 16, 4] {
            let image = Image::of_mib(mib);
            Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &image);
            until("the store to be within its quota", || {
                let tasks = bytes_below(&Path::new(STORE).join("tasks"));
                (tasks <= 20 << 20 && tasks > 0).then_some(())
            });
        }
    });
}

#[test]
fn a_store_that_cannot_be_written_leaves_the_pulls_as_they_are() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        mount_store(1);
        // Not a byte is left for the index.
        run(Command::new("sh").args(["-c", "cat /dev/zero > /var/lib/dragonfly/full 2>/dev/null"])).failed();
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        for _ in 0..2 {
            Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &image);
        }
        assert!(registries.downloads("open", &image).len() > 1, "there was no place to keep it");
    });
}
