//! The headers of a request for a blob, and of its answer, as real clients and registries send them.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dfget_origin::headers;
use http::{HeaderMap, HeaderName, HeaderValue};

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn request_and_answer(criterion: &mut Criterion) {
    let request = map(&[
        ("host", "registry.example.com"),
        ("user-agent", "oras-go"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"),
        ("connection", "keep-alive"),
    ]);
    let answer = map(&[
        ("accept-ranges", "bytes"),
        ("cache-control", "max-age=31536000"),
        ("content-length", "1073741824"),
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", "sha256:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"),
        ("docker-distribution-api-version", "registry/2.0"),
        ("etag", "\"sha256:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\""),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("set-cookie", "session=secret; Path=/"),
    ]);
    criterion.bench_function("headers: those of a fetch", |bencher| {
        bencher.iter(|| headers::for_content(black_box(&request)));
    });
    criterion.bench_function("headers: those that describe a content", |bencher| {
        bencher.iter(|| headers::representation(black_box(&answer)));
    });
    criterion.bench_function("headers: without those of a connection", |bencher| {
        bencher.iter(|| {
            let mut headers = request.clone();
            headers::strip_hop_by_hop(&mut headers);
            headers
        });
    });
}

criterion_group!(benches, request_and_answer);
criterion_main!(benches);
