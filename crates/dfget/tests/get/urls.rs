//! Files of web servers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use dfget_testkit::answer::Framing;
use dfget_testkit::{Answer, Blob, Cut, Origin};

use super::support::{Files, WAYS, get, get_json, got, home, names, session};

const LEN: usize = 300_000;

#[test]
fn a_file_comes_under_the_name_in_its_url() {
    for way in WAYS {
        let session = session();
        let (blob, other) = (Blob::random(LEN, 1), Blob::random(10, 2));
        let files = Files::https(&session, &blob);
        let ended = get(&session, way, &[&files.url("a/tool.sif?x=1#y")]).ok();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "quiet where nobody looks");
        assert!(fs::read(home(&session, "tool.sif")).unwrap() == blob.bytes[..]);
        assert_eq!(names(&session), ["tool.sif"]);
        assert_eq!(fs::metadata(home(&session, "tool.sif")).unwrap().mode() & 0o777, 0o644);
        files.change(&other);
        let refused = get(&session, way, &[&files.url("tool.sif")]);
        assert_eq!(refused.code, 1);
        assert_eq!(
            refused.stderr,
            "error: tool.sif exists; name another file by -O, or replace it by --force\n"
        );
        assert!(fs::read(home(&session, "tool.sif")).unwrap() == blob.bytes[..]);
        got(&session, way, &["--force", &files.url("tool.sif")]);
        assert!(fs::read(home(&session, "tool.sif")).unwrap() == other.bytes[..]);
        assert_eq!(names(&session), ["tool.sif"]);
    }
}

#[test]
fn an_output_is_a_file_a_directory_or_a_device() {
    let session = session();
    let blob = Blob::random(LEN, 3);
    let files = Files::https(&session, &blob);
    let url = files.url("x.sif");
    let whole = |name: &str| fs::read(home(&session, name)).is_ok_and(|bytes| bytes == blob.bytes[..]);
    fs::create_dir(home(&session, "there")).unwrap();
    for (output, at) in
        [("y", "y"), ("there", "there/x.sif"), ("new/", "new/x.sif"), ("new/below/z", "new/below/z")]
    {
        got(&session, &["--direct"], &[&url, "-O", output]);
        assert!(whole(at), "{at}");
    }
    got(&session, &["--direct"], &[&url, "-O", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "a device stays what it is");
    let full = get(&session, &["--direct"], &[&url, "-O", "/dev/full"]);
    assert_eq!(full.code, 1);
    assert!(full.stderr.contains("the disk is full; make room, or name another by -O"), "{}", full.stderr);
    let nowhere = get(&session, &["--direct"], &[&url, "-O", "/proc/self/x"]);
    assert!(nowhere.code == 1 && nowhere.stderr.starts_with("error: /proc/self"), "{}", nowhere.stderr);
    let below = get(&session, &["--direct"], &[&url, "-O", "y/x"]);
    assert_eq!(below.code, 1, "{}", below.stderr);
    let unnamed = get(&session, &["--direct"], &[&files.origin.url("/")]);
    assert_eq!(unnamed.code, 2);
    assert!(unnamed.stderr.contains("name one by -O"), "{}", unnamed.stderr);
}

#[test]
fn standard_output_gets_the_bytes_and_nothing_else() {
    for way in WAYS {
        let session = session();
        let blob = Blob::of(*b"just these bytes\n");
        let files = Files::https(&session, &blob);
        let ended = get(&session, way, &[&files.url("x"), "-O", "-"]).ok();
        assert_eq!((ended.stdout.as_bytes(), ended.stderr.as_str()), (&blob.bytes[..], ""));
        let digest = format!("sha256:{}", "0".repeat(64));
        let wrong = get(&session, way, &[&files.url("x"), "-O", "-", "--digest", &digest]);
        assert_eq!(
            (wrong.code, wrong.stdout.as_str()),
            (1, ""),
            "a wrong end does not leave: {}",
            wrong.stderr
        );
        assert!(names(&session).is_empty(), "{:?}", names(&session));
    }
}

#[test]
fn a_digest_is_checked_and_spares_what_is_there() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 4);
        let files = Files::https(&session, &blob);
        let wrong = Blob::random(5, 5).digest;
        let ended = get(&session, way, &[&files.url("x"), "--digest", &wrong]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        let told =
            format!("what came has the digest {} and not {wrong}; nothing of it was kept", blob.digest);
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
        assert!(names(&session).is_empty(), "{:?}", names(&session));
        let object = get_json(&session, way, &[&files.url("x"), "--digest", &blob.digest]);
        assert_eq!((&object["unchanged"], &object["digest"]), (&false.into(), &blob.digest.as_str().into()));
        let asked = files.origin.journal().len();
        let object = get_json(&session, way, &[&files.url("x"), "--digest", &blob.digest]);
        assert_eq!((&object["unchanged"], &object["bytes"]), (&true.into(), &LEN.into()));
        assert_eq!(files.origin.journal().len(), asked, "nobody was asked");
        let other = get(&session, way, &[&files.url("x"), "--digest", &wrong]);
        assert_eq!((other.code, other.stderr.contains("x exists")), (1, true), "{}", other.stderr);
    }
}

#[test]
fn a_blob_is_checked_against_the_digest_in_its_url() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 6);
        let good = session.registry.put("p/image", &blob);
        let object = get_json(&session, way, &[&good, "-O", "good"]);
        assert_eq!(object["digest"], blob.digest);
        let claimed = Blob::random(9, 7).digest;
        let bad = session.registry.put_as("p/image", &claimed, &blob.bytes);
        let ended = get(&session, way, &[&bad, "-O", "bad"]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert_eq!(names(&session), ["good"]);
    }
}

#[test]
fn a_broken_connection_is_not_noticed() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 8);
        let files = Files::https(&session, &blob);
        files.fault(|answer| answer.cut_after(100_000, Cut::Reset).into());
        files.fault(|_| Answer::new(503).into());
        got(&session, way, &[&files.url("x")]);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
        let asked = files.origin.asked("GET", "/x");
        assert!(
            asked.iter().any(|entry| entry.range().is_some_and(|range| range != "bytes=0-0")),
            "{asked:?}"
        );
    }
}

#[test]
fn a_content_without_a_validator_is_got_too() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 9);
        let files = Files::https(&session, &blob);
        files.without_tag();
        got(&session, way, &[&files.url("x")]);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
        files.fault(|answer| answer.cut_after(100_000, Cut::Reset).into());
        // It begins anew once, and then no more.
        got(&session, way, &[&files.url("y")]);
        assert!(fs::read(home(&session, "y")).unwrap() == blob.bytes[..]);
        for _ in 0..9 {
            files.fault(|answer| answer.cut_after(100_000, Cut::Reset).into());
        }
        let broken = get(&session, way, &[&files.url("z")]);
        assert_eq!(broken.code, 75, "{}", broken.stderr);
        assert_eq!(names(&session), ["x", "y"], "what cannot be gone on with is not kept");
    }
}

#[test]
fn a_part_is_what_was_asked_for() {
    for way in WAYS {
        for ranges in [true, false] {
            let session = session();
            let blob = Blob::of(*b"0123456789abcdef");
            let files = Files::https(&session, &blob);
            if !ranges {
                files.without_ranges();
            }
            for (range, part) in
                [("0-9", "0123456789"), ("10-", "abcdef"), ("-3", "def"), ("5-5", "5"), ("12-99", "cdef")]
            {
                let ended = get(&session, way, &[&files.url("x"), "--range", range, "-O", "-"]).ok();
                assert_eq!(ended.stdout, part, "{range}, ranges {ranges}");
            }
            let header = ["-H", "Range: bytes=1-2"];
            let ended = get(
                &session,
                way,
                &[&[files.url("x").as_str(), "-O", "-", "--range", "5-6"][..], &header].concat(),
            )
            .ok();
            assert_eq!(ended.stdout, "12", "the header counts before the flag");
        }
    }
}

#[test]
fn a_redirect_is_followed_without_the_login() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(LEN, 10);
        let files = Files::https(&session, &blob);
        let target = files.url("there.sif");
        let from =
            Origin::https(&session.ca, move |_| Answer::new(302).header("Location", target.clone()).into());
        let url = from.url("/here.sif").replace("https://", "https://user:canary@");
        let ended = get(&session, way, &[&url, "-v"]).ok();
        assert!(fs::read(home(&session, "here.sif")).unwrap() == blob.bytes[..]);
        let shown = from.asked("GET", "/here.sif");
        assert!(
            shown.iter().any(|entry| entry.headers.get("authorization") == Some("Basic dXNlcjpjYW5hcnk="))
        );
        for entry in files.origin.journal() {
            assert!(entry.headers.get("authorization").is_none(), "{entry:?}");
        }
        assert!(!ended.stderr.contains("canary") && !session.log().contains("canary"), "{}", ended.stderr);
    }
}

#[test]
fn headers_go_to_the_origin_and_those_for_a_daemon_do_not() {
    for way in WAYS {
        let session = session();
        let files = Files::https(&session, &Blob::random(1000, 11));
        let flags = [
            "-H",
            "X-Site: here",
            "-H",
            "X-Dragonfly-Tag: a",
            "--application",
            "b",
            "--filter",
            "sig",
            "-P",
            "2",
        ];
        got(&session, way, &[&[files.url("x?sig=1").as_str()][..], &flags].concat());
        let asked = files.origin.asked("GET", "/x");
        assert!(asked.iter().all(|entry| entry.headers.get("x-site") == Some("here")), "{asked:?}");
        for name in
            ["x-dragonfly-tag", "x-dragonfly-application", "x-dragonfly-filter", "x-dragonfly-priority"]
        {
            assert!(asked.iter().all(|entry| entry.headers.get(name).is_none()), "{asked:?}");
        }
    }
}

#[test]
fn a_rate_is_kept_to_and_the_bytes_are_right() {
    let session = session();
    let blob = Blob::random(3 << 20, 12);
    let files = Files::https(&session, &blob);
    got(&session, &["--direct"], &[&files.url("x"), "--ratelimit", "20MB"]);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
}

#[test]
fn an_empty_file_and_one_without_a_length_come_whole() {
    for way in WAYS {
        let session = session();
        let files = Files::https(&session, &Blob::of(*b""));
        got(&session, way, &[&files.url("empty")]);
        assert_eq!(fs::read(home(&session, "empty")).unwrap(), b"");
        let blob = Blob::random(LEN, 13);
        files.change(&blob);
        for framing in [Framing::Chunked, Framing::Close] {
            files.fault(move |answer| answer.framing(framing).into());
            got(&session, way, &["--force", &files.url("x")]);
            assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..], "{framing:?}");
        }
        assert_eq!(names(&session), ["empty", "x"]);
    }
}
