//! Ranges as RFC 9110, section 14, has them: the same answer from the store, from a download that runs, and on a blob
//! nobody has asked for yet.

use dfget_testkit::{Blob, Gate, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const LEN: usize = 9_000_000;

/// What a range is answered with: the status and, of a 206, the bytes' first and last place.
type Case = (&'static str, u16, Option<(usize, usize)>);

const CASES: [Case; 13] = [
    ("bytes=0-0", 206, Some((0, 0))),
    ("bytes=100-199", 206, Some((100, 199))),
    // The first piece ends at 4 MiB.
    ("bytes=4194300-4194310", 206, Some((4_194_300, 4_194_310))),
    ("bytes=8999999-", 206, Some((8_999_999, 8_999_999))),
    ("bytes=5000000-", 206, Some((5_000_000, LEN - 1))),
    ("bytes=-5", 206, Some((LEN - 5, LEN - 1))),
    ("bytes=-99999999", 206, Some((0, LEN - 1))),
    ("bytes=8999990-99999999999999999999", 206, Some((8_999_990, LEN - 1))),
    ("bytes=9000000-", 416, None),
    ("bytes=-0", 416, None),
    // What is no valid range is no range.
    ("bytes=5-2", 200, None),
    ("bytes=one-two", 200, None),
    ("lines=1-2", 200, None),
];

fn check(blob: &Blob, case: Case, response: &Response, where_from: &str) {
    let (range, status, places) = case;
    assert_eq!(response.status, status, "{range} {where_from}: {}", response.reason);
    assert!(response.is_complete(), "{range} {where_from}: {:?}", response.end);
    let expected = match (status, places) {
        (206, Some((first, last))) => {
            let content_range = format!("bytes {first}-{last}/{LEN}");
            assert_eq!(
                response.header("content-range"),
                Some(content_range.as_str()),
                "{range} {where_from}"
            );
            &blob.bytes[first..=last]
        }
        (416, _) => {
            assert_eq!(response.header("content-range"), Some("bytes */9000000"), "{range} {where_from}");
            return;
        }
        _ => {
            assert_eq!(response.header("content-range"), None, "{range} {where_from}");
            &blob.bytes[..]
        }
    };
    assert_eq!(
        response.header("content-length"),
        Some(expected.len().to_string().as_str()),
        "{range} {where_from}"
    );
    assert!(response.body == expected, "{range} {where_from}");
}

#[test]
fn ranges_of_a_stored_blob() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 1);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    for case in CASES {
        check(&blob, case, &stage.fetch(&Request::get(&url).range(case.0)), "from the store");
    }
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn ranges_of_a_blob_that_nobody_has_asked_for() {
    let stage = Stage::new(DFGET);
    for (seed, case) in CASES.into_iter().enumerate() {
        let blob = Blob::random(LEN, 100 + seed as u64);
        let url = stage.registry.put(IMAGE, &blob);
        check(&blob, case, &stage.fetch(&Request::get(&url).range(case.0)), "cold");
        check(&blob, ("none", 200, None), &stage.get(&url), "whole, after a range");
    }
}

#[test]
fn a_range_of_a_running_download_does_not_wait_for_its_end() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 2);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(2_000_000, &held).into());
    let mut first = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = first.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(1000) == blob.bytes[..1000]);
    let there = stage.fetch(&Request::get(&url).range("bytes=5000-5999"));
    assert!(there.status == 206 && there.body == blob.bytes[5000..6000]);
    let mut second = stage.client().open(&url).expect("an answer").expect("granted");
    second.send_head(&Request::get(&url).range("bytes=-1000")).expect("it is taken");
    gate.open();
    let not_there_before = second.receive("GET").expect("a head").read_all();
    assert!(not_there_before.status == 206 && not_there_before.body == blob.bytes[LEN - 1000..]);
    assert!(incoming.read_all().is_complete());
}

#[test]
fn several_ranges_of_what_is_not_stored_are_answered_by_the_whole() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 3);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=0-99,1000-1099"));
    assert!(response.status == 200 && response.body == blob.bytes[..]);
    assert_eq!(response.header("content-range"), None);
}

/// The parts of a `multipart/byteranges` body: the `Content-Range` and the bytes of each.
fn parts_of(response: &Response) -> Vec<(String, Vec<u8>)> {
    let kind = response.header("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect(kind);
    let delimiter = format!("--{boundary}");
    let mut rest = response.body.strip_prefix(delimiter.as_bytes()).expect("a first delimiter");
    let mut parts = Vec::new();
    while rest != b"--\r\n" {
        let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|window| window == needle);
        let end_of_head = find(rest, b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(rest[..end_of_head].to_vec()).expect("text");
        let (kind, range) = head.trim_start().split_once("\r\n").expect("two fields");
        assert_eq!(kind, "Content-Type: application/octet-stream");
        let range = range.strip_prefix("Content-Range: ").expect(range).to_owned();
        rest = &rest[end_of_head + 4..];
        let end = find(rest, format!("\r\n{delimiter}").as_bytes()).expect("a next delimiter");
        parts.push((range, rest[..end].to_vec()));
        rest = &rest[end + 2 + delimiter.len()..];
    }
    parts
}

#[test]
fn several_ranges_of_a_stored_blob_come_as_parts_in_the_order_asked_for() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 3);
    let url = stage.registry.put(IMAGE, &blob);
    assert_eq!(stage.get(&url).status, 200);
    let ask = |range: &str| stage.fetch(&Request::get(&url).range(range));
    let cases: [(&str, &[(usize, usize)]); 4] = [
        ("bytes=0-99,1000-1099", &[(0, 99), (1000, 1099)]),
        ("bytes=-5, ,131070-131080 ,0-0", &[(LEN - 5, LEN - 1), (131_070, 131_080), (0, 0)]),
        ("bytes=5-9,0-9,9000000-,7-7", &[(5, 9), (0, 9), (7, 7)]),
        ("bytes=8999990-9999999,4194300-4194310", &[(8_999_990, LEN - 1), (4_194_300, 4_194_310)]),
    ];
    for (range, places) in cases {
        let response = ask(range);
        assert_eq!(response.status, 206, "{range}");
        assert!(response.is_complete(), "{range}: {:?}", response.end);
        assert_eq!(response.header("content-range"), None, "{range}: that is the parts' own");
        assert_eq!(
            response.header("content-length"),
            Some(response.body.len().to_string().as_str()),
            "{range}"
        );
        let expected: Vec<_> = places
            .iter()
            .map(|&(first, last)| (format!("bytes {first}-{last}/{LEN}"), blob.bytes[first..=last].to_vec()))
            .collect();
        assert!(parts_of(&response) == expected, "{range}");
    }
    let boundary = |response: &Response| response.header("content-type").map(str::to_owned);
    assert_ne!(boundary(&ask("bytes=0-0,2-2")), boundary(&ask("bytes=0-0,2-2")), "nobody can guess it");
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn of_several_ranges_the_one_that_is_there_is_answered_alone() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 3);
    let url = stage.registry.put(IMAGE, &blob);
    assert_eq!(stage.get(&url).status, 200);
    let case = ("bytes=9000000-,3-5,-0", 206, Some((3, 5)));
    check(&blob, case, &stage.fetch(&Request::get(&url).range(case.0)), "from the store");
    let case = ("bytes=9000000-,-0", 416, None);
    check(&blob, case, &stage.fetch(&Request::get(&url).range(case.0)), "from the store");
}

#[test]
fn a_set_of_ranges_that_is_wrong_or_too_much_is_answered_by_the_whole() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 3);
    let url = stage.registry.put(IMAGE, &blob);
    assert_eq!(stage.get(&url).status, 200);
    let many = format!("bytes={}", vec!["1-1"; 101].join(","));
    for range in ["bytes=0-1,3-2", "bytes=0-1,x", "bytes=0-,1-", "lines=0-1,2-3", &many] {
        let response = stage.fetch(&Request::get(&url).range(range));
        assert_eq!(response.header("content-length"), Some("9000000"), "{range}");
        assert!(response.status == 200 && response.body == blob.bytes[..], "{range}");
    }
    let twice = stage.fetch(&Request::get(&url).range("bytes=0-1").range("bytes=2-3"));
    assert!(twice.status == 200 && twice.body == blob.bytes[..], "two lines are no list");
}

#[test]
fn a_range_under_if_range_holds_for_the_same_content_only() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 4);
    let url = stage.registry.put(IMAGE, &blob);
    let cold = stage.get(&url);
    let etag = cold.header("etag").expect("the registry sends one").to_owned();
    let request = Request::get(&url).range("bytes=0-9");
    let same = stage.fetch(&request.clone().header("If-Range", &etag));
    assert_eq!((same.status, same.body.len()), (206, 10));
    for other in ["\"another\"", &format!("W/{etag}"), "Mon, 01 Jan 2001 00:00:00 GMT"] {
        let whole = stage.fetch(&request.clone().header("If-Range", other));
        assert_eq!((whole.status, whole.body.len()), (200, LEN), "{other}");
    }
}

#[test]
fn a_client_that_has_the_content_is_told_so() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 5);
    let url = stage.registry.put(IMAGE, &blob);
    let etag = stage.get(&url).header("etag").expect("the registry sends one").to_owned();
    let response = stage.fetch(&Request::get(&url).header("If-None-Match", &etag));
    assert_eq!((response.status, response.body.len()), (304, 0));
    let response = stage.fetch(&Request::get(&url).header("If-None-Match", "\"another\""));
    assert_eq!((response.status, response.body.len()), (200, 100_000));
}

#[test]
fn many_ranges_at_once_are_one_task() {
    const PART: usize = 1 << 20;
    let stage = Stage::new(DFGET);
    let blob = Blob::random(12 * PART, 6);
    let url = stage.registry.put(IMAGE, &blob);
    let client = stage.client();
    let lanes: Vec<_> = (0..3)
        .map(|lane| {
            let (client, url, blob) = (client.clone(), url.clone(), blob.clone());
            std::thread::spawn(move || {
                for part in (lane..12).step_by(3) {
                    let (first, end) = (part * PART, (part + 1) * PART);
                    let request = Request::get(&url).range(&format!("bytes={first}-{}", end - 1));
                    let response = client.fetch(&request).expect("an answer");
                    assert!(response.status == 206 && response.body == blob.bytes[first..end], "part {part}");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.join().expect("every part is right");
    }
    assert!(stage.get(&url).body == blob.bytes[..]);
    let sent: u64 = stage.registry.origin.asked("GET", &blob.digest).iter().map(|entry| entry.sent).sum();
    assert!(sent <= 2 * blob.len() as u64, "{sent} bytes for a blob of {}", blob.len());
    let before = stage.registry.downloads(&blob.digest);
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.downloads(&blob.digest), before, "by now it is stored");
}
