//! Hashing a content while it is written to the store, as a task does, and hashing alone.

use std::hint::black_box;
use std::time::SystemTime;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dfget_core::Hasher;
use dfget_storage::{EntryKey, Options, Store};

fn hashing(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let options =
        Options { dir: dir.path().join("store"), quota_bytes: None, disk_percent: None, expire: None };
    let (store, _) = Store::open(options, SystemTime::now()).expect("the store opens");
    let data = vec![0x5a; CHUNK];
    let mut group = criterion.benchmark_group("hashing");
    group.throughput(Throughput::Bytes(CONTENT));
    group.bench_function("sha256 alone", |bencher| {
        bencher.iter(|| {
            let mut hasher = Hasher::sha256();
            for _ in (0..CONTENT).step_by(CHUNK) {
                hasher.update(black_box(&data));
            }
            hasher.finish()
        });
    });
    group.bench_function("sha256 while writing", |bencher| {
        bencher.iter(|| {
            let entry = store
                .create(EntryKey::new("content"), Vec::new(), Some(CONTENT), SystemTime::now())
                .expect("there is room for an entry");
            let mut hasher = Hasher::sha256();
            for offset in (0..CONTENT).step_by(CHUNK) {
                entry.append(offset, black_box(&data)).expect("the disk has room");
                hasher.update(black_box(&data));
            }
            hasher.finish()
        });
    });
    group.finish();
}

const CHUNK: usize = 128 * 1024;
const CONTENT: u64 = 8 * 1024 * 1024;

criterion_group!(benches, hashing);
criterion_main!(benches);
