//! What outlives the process: finished downloads, whole pieces of unfinished ones, and nothing that is wrong.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dfget_testkit::{Blob, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;

#[test]
fn a_finished_download_outlives_restarts() {
    let mut stage = Stage::new(DFGET);
    let blob = Blob::random(5 * MIB, 6);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert!(stage.daemon.stop().success());
    stage.daemon.start_again();
    let response = stage.get(&url);
    assert!(response.is_complete() && response.body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn a_download_that_a_restart_broke_off_is_resumed_from_the_store() {
    let mut stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 10m}"));
    let blob = Blob::random(12 * MIB, 7);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.stall_after(9 * MIB as u64).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    assert_eq!(connection.start(&Request::get(&url)).expect("a head").read(9 * MIB).len(), 9 * MIB);
    connection.leave().expect("a client may leave");
    stage.daemon.stop();
    stage.daemon.start_again();
    let response = stage.get(&url);
    assert!(response.is_complete() && response.body == blob.bytes[..]);
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    assert_eq!(asked.len(), 2);
    let resumed_at = format!("bytes={}-", 9 * MIB);
    let range = asked[1].range().unwrap_or_default();
    assert!(range.starts_with(&resumed_at), "all that had come was kept: {range}");
}

#[test]
fn a_killed_daemon_never_serves_a_wrong_byte_afterwards() {
    let mut stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 10m}"));
    for seed in 0..5 {
        let blob = Blob::random(9 * MIB, 80 + seed);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.next_blob(move |answer| answer.stall_after((2 * seed + 1) * MIB as u64 - 7).into());
        let read = ((2 * seed + 1) * MIB as u64 - 20_000) as usize;
        let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
        assert_eq!(connection.start(&Request::get(&url)).expect("a head").read(read).len(), read);
        stage.daemon.kill();
        stage.daemon.start_again();
        let response = stage.get(&url);
        assert!(response.is_complete() && response.body == blob.bytes[..], "round {seed}");
    }
}

#[test]
fn a_byte_that_rotted_on_disk_is_not_served_and_is_fetched_again() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(9 * MIB, 8);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    for place in [0, 4 * MIB, 9 * MIB - 1] {
        flip_stored_byte(&stage.daemon.data_dir(), &blob, place);
        let before = stage.registry.downloads(&blob.digest);
        let response = stage.get(&url);
        assert!(
            response.is_complete() && response.body == blob.bytes[..],
            "place {place}: {:?}",
            response.end
        );
        assert!(stage.registry.downloads(&blob.digest) > before, "place {place} was fetched again");
        let ranged = stage.fetch(&Request::get(&url).range(&format!("bytes={place}-{place}")));
        assert_eq!(ranged.body, [blob.bytes[place]], "place {place}");
    }
}

#[test]
fn many_rotten_places_at_once_cost_no_pull() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(9 * MIB, 11);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    for place in [0, 4 * MIB, 8 * MIB + 5] {
        flip_stored_byte(&stage.daemon.data_dir(), &blob, place);
    }
    for turn in ["rotten", "and again"] {
        let response = stage.get(&url);
        assert!(response.is_complete() && response.body == blob.bytes[..], "{turn}: {:?}", response.end);
    }
}

#[test]
fn rotten_places_in_several_ranges_are_fetched_again() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(9 * MIB, 12);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    for place in [10, 8 * MIB] {
        flip_stored_byte(&stage.daemon.data_dir(), &blob, place);
    }
    let before = stage.registry.downloads(&blob.digest);
    let response = stage.fetch(&Request::get(&url).range("bytes=0-999,4000000-4000999,8388600-8389599"));
    assert_eq!(response.status, 206);
    assert!(response.is_complete(), "{:?}", response.end);
    for start in [0, 4_000_000, 8_388_600] {
        let part = &blob.bytes[start..start + 1000];
        assert!(response.body.windows(1000).any(|window| window == part), "the part at {start}");
    }
    assert!(stage.registry.downloads(&blob.digest) > before);
}

#[test]
fn the_store_is_for_its_owner_only() {
    let stage = Stage::new(DFGET);
    let url = stage.registry.put(IMAGE, &Blob::random(MIB, 9));
    assert_eq!(stage.get(&url).status, 200);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let files = files_below(&stage.daemon.data_dir());
    assert!(!files.is_empty());
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().expect("a file is in a directory")), 0o700, "{}", file.display());
    }
    assert_eq!(mode(&stage.daemon.home().join("log/daemon/core.log")), 0o600);
}

/// Flips a bit of the blob's byte at `place` in the file of `store` that holds it.
fn flip_stored_byte(store: &Path, blob: &Blob, place: usize) {
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

fn files_below(directory: &Path) -> Vec<PathBuf> {
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
