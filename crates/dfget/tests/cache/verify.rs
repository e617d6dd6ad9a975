//! `verify`.

use dfget_testkit::{Blob, Request, Stage};

use crate::kit::{DFGET, IMAGE, MIB, cache, digests, pulled, rot};

#[test]
fn a_sound_store_is_said_to_be_sound() {
    let stage = Stage::new(DFGET);
    pulled(&stage, IMAGE, &Blob::random(3 * MIB, 1));
    pulled(&stage, IMAGE, &Blob::empty_config());
    let ended = cache(&stage.daemon, &["verify"]).ok();
    assert_eq!(ended.stdout, "checked 2 contents, 3.0 MiB: all is right\n");
    assert_eq!(ended.stderr, "", "no progress where there is no terminal");
    let empty = cache(&stage.daemon, &["verify", "elsewhere.test"]);
    assert_eq!(empty.code, 1, "{}", empty.stdout);
}

#[test]
fn what_rotted_is_found_dropped_and_fetched_again() {
    let stage = Stage::new(DFGET);
    let (good, bad) = (Blob::random(2 * MIB, 2), Blob::random(5 * MIB, 3));
    pulled(&stage, IMAGE, &good);
    let url = pulled(&stage, IMAGE, &bad);
    rot(&stage.daemon.data_dir(), &bad, 4 * MIB + 7);
    let host = stage.registry.origin.authority();
    let line = |then: &str| {
        format!(
            "rotten: {} ({host}/{IMAGE}): bytes {} to {} changed on disk; {then}\n",
            bad.digest,
            4 * MIB,
            4 * MIB + (128 << 10)
        )
    };
    let kept = cache(&stage.daemon, &["verify", "--keep", &bad.digest]);
    assert_eq!(kept.code, 1, "{}", kept.stderr);
    assert_eq!(kept.stdout, line("left as it is") + "checked 1 content, 4.0 MiB: 1 rotten\n");
    assert_eq!(digests(&stage.daemon, &[]).len(), 2);
    let ended = cache(&stage.daemon, &["verify"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let dropped = line("dropped, and fetched again for the next client");
    assert_eq!(ended.stdout, dropped + "checked 2 contents, 6.0 MiB: 1 rotten\n");
    assert_eq!(digests(&stage.daemon, &[]), std::slice::from_ref(&good.digest));
    assert!(stage.get(&url).body == bad.bytes[..]);
    assert_eq!(stage.registry.downloads(&bad.digest), 2);
    let sound = cache(&stage.daemon, &["verify"]).ok();
    assert_eq!(sound.stdout, "checked 2 contents, 7.0 MiB: all is right\n");
}

#[test]
fn rot_is_found_without_a_daemon_too_and_told_as_json() {
    let mut stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 4);
    let url = pulled(&stage, IMAGE, &blob);
    stage.daemon.stop();
    rot(&stage.daemon.data_dir(), &blob, 9);
    let ended = cache(&stage.daemon, &["verify", "--output", "json"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let lines: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["dropped"]), (&"rotten".into(), &true.into()));
    assert_eq!(lines[0]["content"]["digest"], blob.digest.as_str());
    let done = serde_json::json!({"type": "done", "contents": 1, "bytes": 0, "rotten": 1, "unreadable": 0, "gone": 0});
    assert_eq!(lines[1..], [done]);
    stage.daemon.start_again();
    assert!(stage.get(&url).body == blob.bytes[..]);
}

#[test]
fn whoever_reads_a_content_that_is_dropped_reads_on() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(24 * MIB, 5);
    let url = pulled(&stage, IMAGE, &blob);
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    let mut body = incoming.read(MIB);
    rot(&stage.daemon.data_dir(), &blob, 20 * MIB);
    assert_eq!(cache(&stage.daemon, &["verify"]).code, 1);
    assert_eq!(digests(&stage.daemon, &[]).len(), 0);
    body.extend(incoming.read(24 * MIB));
    assert!(body == blob.bytes[..], "not a byte is wrong or missing: {}", body.len());
}
