//! The certificate for a host: made for a new one, found for a known one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use dfget_tls::{CertificateAuthority, LeafCache, NewAuthority, Scope};

fn leaves(criterion: &mut Criterion) {
    let now = SystemTime::now();
    let pair = NewAuthority::new(Scope::any_host(), "bench").make(now).expect("an authority can be made");
    let authority =
        CertificateAuthority::load(pair.cert_pem.as_bytes(), pair.key_pem.expose().as_bytes(), now)
            .expect("the authority is good");
    let leaves = LeafCache::new(Arc::new(authority)).expect("a key can be made");
    let mut number = 0_u64;
    criterion.bench_function("leaves: a new host", |bencher| {
        bencher.iter(|| {
            number += 1;
            leaves.server_config(&format!("registry{number}.example.com"), now).expect("the host is good")
        });
    });
    criterion.bench_function("leaves: a known host", |bencher| {
        bencher
            .iter(|| leaves.server_config(black_box("registry.example.com"), now).expect("the host is good"));
    });
}

criterion_group!(benches, leaves);
criterion_main!(benches);
