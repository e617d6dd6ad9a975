//! What becomes of a request, by rules as a site has them.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dfget_core::{Rule, decide};
use regex::Regex;
use url::Url;

fn rule(pattern: &str) -> Rule {
    let regx = Regex::new(pattern).expect("the patterns here are good");
    Rule { regx, use_https: false, direct: false, redirect: None }
}

fn rules(criterion: &mut Criterion) {
    let two = ["blobs/sha256.*", "manifests/sha256.*"].map(rule);
    let twenty: Vec<Rule> =
        (0..20).map(|number| rule(&format!(r"^https://mirror{number}\.example\.com/"))).collect();
    let blob = Url::parse(&format!(
        "https://registry.example.com/v2/project/image/blobs/sha256:{}",
        "5a".repeat(32)
    ))
    .expect("the URLs here are good");
    let tag = Url::parse("https://registry.example.com/v2/project/image/manifests/latest")
        .expect("the URLs here are good");
    criterion.bench_function("rules: a blob and the first of two", |bencher| {
        bencher.iter(|| decide(black_box(&two), true, black_box(&blob)));
    });
    criterion.bench_function("rules: a tag and none of two", |bencher| {
        bencher.iter(|| decide(black_box(&two), true, black_box(&tag)));
    });
    criterion.bench_function("rules: a blob and none of twenty", |bencher| {
        bencher.iter(|| decide(black_box(&twenty), true, black_box(&blob)));
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);
