//! Writing to the store, and reading from it what the page cache has.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dfget_storage::{BLOCK, Entry, EntryKey, Options, Store};

fn open(dir: &Path) -> Store {
    let options = Options { dir: dir.join("store"), quota_bytes: None, disk_percent: None, expire: None };
    Store::open(options, SystemTime::now()).expect("the store opens").0
}

fn entry(store: &Store, total: u64) -> Arc<Entry> {
    store
        .create(EntryKey::new("content"), Vec::new(), Some(total), SystemTime::now())
        .expect("there is room for an entry")
}

fn write(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let store = open(dir.path());
    let mut group = criterion.benchmark_group("store: append");
    for chunk in [16 * 1024, 128 * 1024] {
        let data = vec![0x5a; chunk];
        group.throughput(Throughput::Bytes(CONTENT));
        group.bench_function(format!("{CONTENT} bytes by {chunk}"), |bencher| {
            bencher.iter(|| {
                let entry = entry(&store, CONTENT);
                for offset in (0..CONTENT).step_by(chunk) {
                    entry.append(offset, black_box(&data)).expect("the disk has room");
                }
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let store = open(dir.path());
    let key = EntryKey::new("content");
    let partial = entry(&store, CONTENT);
    partial.append(0, &vec![0x5a; CONTENT as usize]).expect("the disk has room");
    let entry = store.publish(&partial, key, Vec::new()).expect("the content is whole");
    let mut group = criterion.benchmark_group("store: read");
    group.throughput(Throughput::Bytes(CONTENT));
    group.bench_function(format!("{CONTENT} bytes by {BLOCK}"), |bencher| {
        bencher.iter(|| {
            let mut offset = 0;
            while offset < CONTENT {
                let bytes = entry.read(black_box(offset), false).expect("the content is there");
                offset += bytes.len() as u64;
            }
        });
    });
    group.finish();
}

const CONTENT: u64 = 8 * 1024 * 1024;

criterion_group!(benches, write, read);
criterion_main!(benches);
