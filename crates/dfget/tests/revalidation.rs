//! Content that no digest names: it is asked for again, with the client's own credential, before each reuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dfget_testkit::{Answer, Blob, Origin, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// An origin of one file that Alice may read, and whose content and validator follow `version`.
fn versioned_origin(stage: &Stage, validator: Option<&'static str>, version: Arc<AtomicU64>) -> Origin {
    Origin::https(&stage.ca, move |request| {
        if request.headers.get("authorization") != Some("Bearer alice") {
            return Answer::new(401).body(b"who are you?".to_vec()).into();
        }
        let version = version.load(Ordering::SeqCst);
        let value = match validator {
            Some("Last-Modified") => format!("Mon, 0{version} Jan 2024 00:00:00 GMT"),
            _ => format!("\"v{version}\""),
        };
        let condition = if validator == Some("ETag") { "if-none-match" } else { "if-modified-since" };
        let answer = match validator {
            Some(_) if request.headers.get(condition) == Some(&value) => Answer::new(304),
            _ => Answer::new(200).body(Blob::random(300_000, version).bytes),
        };
        match validator {
            Some(name) => answer.header(name, value).into(),
            None => answer.into(),
        }
    })
}

#[test]
fn a_file_without_a_digest_is_asked_for_again_with_the_clients_own_credential() {
    for validator in ["ETag", "Last-Modified"] {
        let stage = Stage::new(DFGET);
        let version = Arc::new(AtomicU64::new(1));
        let origin = versioned_origin(&stage, Some(validator), Arc::clone(&version));
        let request = Request::get(origin.url("/files/4.sif")).authorization("Bearer alice");
        let pulled = |version: u64| stage.fetch(&request).body == Blob::random(300_000, version).bytes[..];
        let downloads =
            || origin.asked("GET", "/files/4.sif").iter().filter(|entry| entry.status == 200).count();
        assert!(pulled(1), "{validator}: cold");
        assert!(pulled(1), "{validator}: warm");
        assert_eq!(downloads(), 1, "{validator}: the second was a 304");
        let refused = stage.get(&origin.url("/files/4.sif"));
        assert_eq!((refused.status, refused.text().as_str()), (401, "who are you?"), "{validator}");
        version.store(2, Ordering::SeqCst);
        assert!(pulled(2), "{validator}: changed");
    }
}

#[test]
fn a_file_without_digest_and_validator_is_not_reused() {
    let stage = Stage::new(DFGET);
    let origin = versioned_origin(&stage, None, Arc::new(AtomicU64::new(1)));
    let request = Request::get(origin.url("/files/4.sif")).authorization("Bearer alice");
    for _ in 0..2 {
        assert!(stage.fetch(&request).body == Blob::random(300_000, 1).bytes[..]);
    }
    let whole = origin.asked("GET", "/files/").iter().filter(|entry| entry.sent == 300_000).count();
    assert_eq!(whole, 2);
}
