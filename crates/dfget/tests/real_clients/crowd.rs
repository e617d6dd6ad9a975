//! A job array: a hundred pulls of one image in the same second, on a node that has nothing of it.

use std::thread;

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace};

/// Requests that a registry and its token host see of it, at most: one for `/v2/`, one for a token, the manifest and
/// what asks whether it changed while the pulls go on, the config, and the blob in four parts.
const MOST_REQUESTS: usize = 12;

/// Parts that the blob may come in.
const MOST_PARTS: usize = 4;

const PULLS: usize = 100;

fn hundred_at_once(registry: &str, repository: &str, user: User) {
    let registries = Registries::start(&[registry]);
    let hosts: &[&str] = if registry == "token" { &["token", "auth"] } else { &[registry] };
    let before: Vec<_> = hosts.iter().map(|host| registries.requests(host).len()).collect();
    let _daemon = Daemon::start();
    let image = Image::of_mib(4);
    let from = Reference { registry, repository };
    thread::scope(|scope| {
        for _ in 0..PULLS {
            scope.spawn(|| Client::proxied(user).pull(Tool::Apptainer, from, &image));
        }
    });
    let asked: Vec<_> = hosts
        .iter()
        .zip(before)
        .flat_map(|(host, before)| registries.requests(host).split_off(before))
        .collect();
    assert!(asked.len() <= MOST_REQUESTS, "{} requests: {asked:#?}", asked.len());
    let downloads = registries.downloads(registry, &image);
    assert!((1..=MOST_PARTS).contains(&downloads.len()), "{downloads:#?}");
    let sent: u64 = downloads.iter().map(|request| request.body_bytes).sum();
    assert_eq!(sent, image.len_bytes, "one copy of the bytes: {downloads:#?}");
}

#[test]
fn a_hundred_pulls_from_the_open_registry_are_a_dozen_requests_and_one_blob() {
    in_namespace(|| hundred_at_once("open", "public/sif", User::Nobody));
}

#[test]
fn a_hundred_pulls_from_the_basic_registry_are_a_dozen_requests_and_one_blob() {
    in_namespace(|| hundred_at_once("basic", "private/sif", User::Dev));
}

#[test]
fn a_hundred_pulls_from_the_token_registry_are_a_dozen_requests_and_one_blob() {
    in_namespace(|| hundred_at_once("token", "private/sif", User::Dev));
}
