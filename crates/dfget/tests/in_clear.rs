//! Answers without TLS: what was read and found right a moment ago is sent by the kernel, and is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dfget_testkit::{Blob, Registry, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const SENT: &str = "dfget_sendfile_bytes_total";

/// Several blocks, and a part of one.
const LEN: usize = 700_001;

/// A daemon that has the blob of a registry without TLS, read from its store once.
fn stored() -> (Stage, Registry, Blob, String) {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let blob = Blob::random(LEN, 1);
    let url = registry.put("lab/image", &blob);
    assert!(stage.get(&url).body == blob.bytes[..], "fetched");
    // A file that was written a moment ago may be written again without its times telling.
    thread::sleep(Duration::from_millis(1100));
    assert!(stage.get(&url).body == blob.bytes[..], "read");
    stage.daemon.wait_for_metric(SENT, 0);
    (stage, registry, blob, url)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_the_kernel_sends_is_what_is_stored() {
    let (stage, _registry, blob, url) = stored();
    let answer = stage.get(&url);
    assert!(answer.is_complete() && answer.body == blob.bytes[..]);
    assert_eq!(answer.header("content-length"), Some(LEN.to_string().as_str()));
    // The first block is read before the head goes out.
    let first = 128 << 10;
    stage.daemon.wait_for_metric(SENT, LEN - first);
    for (range, part) in [
        ("bytes=1-", 1..LEN),
        ("bytes=131071-131073", 131_071..131_074),
        ("bytes=-5", LEN - 5..LEN),
        ("bytes=0-699999", 0..700_000),
    ] {
        let answer = stage.fetch(&Request::get(&url).range(range));
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.is_complete() && answer.body == blob.bytes[part], "{range}");
    }
}

#[test]
fn requests_one_after_the_other_on_one_connection_are_answered_in_order() {
    let (stage, registry, blob, url) = stored();
    let mut connection = stage.client().open(&url).expect("a connection").expect("no CONNECT is needed");
    for turn in 0..3 {
        let other = connection.fetch(&Request::get(registry.origin.url("/elsewhere"))).expect("an answer");
        assert_eq!(other.status, 404, "{turn}");
        let answer = connection.fetch(&Request::get(&url)).expect("an answer");
        assert!(answer.body == blob.bytes[..], "{turn}");
        let head = connection.fetch(&Request::new("HEAD", &url)).expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{turn}");
    }
}

#[test]
fn what_was_changed_on_disk_since_it_was_read_is_not_sent() {
    let (stage, registry, blob, url) = stored();
    let data = files(&stage.daemon.data_dir().join("tasks"));
    let file = data.iter().find(|file| fs::metadata(file).is_ok_and(|meta| meta.len() == LEN as u64));
    let file = file.expect("the blob's file");
    let mut bytes = fs::read(file).expect("it can be read");
    bytes[400_000] ^= 1;
    // In its place, as a disk would.
    let same = fs::OpenOptions::new().write(true).open(file).expect("it can be written");
    std::os::unix::fs::FileExt::write_all_at(&same, &bytes, 0).expect("it can be written");
    let answer = stage.get(&url);
    assert!(answer.is_complete() && answer.body == blob.bytes[..], "found and mended");
    assert!(registry.downloads(&blob.digest) > 1, "from the registry");
}
