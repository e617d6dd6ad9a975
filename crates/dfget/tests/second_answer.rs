//! A wrong answer first, a right one after it: whoever asked gets what is right or a body that does not end well, and
//! nothing of the wrong answer outlives it.

use std::sync::Arc;

use dfget_testkit::answer::Framing;
use dfget_testkit::{Answer, Blob, End, Gate, Request, Response, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

/// Longer than what is held whole: its head goes out before its end is known.
const LEN: usize = 200_000;

/// Asserts that `response` is all of `blob`, said so by its head.
fn assert_whole(response: &Response, blob: &Blob, turn: &str) {
    assert_eq!((response.status, response.end), (200, End::Length), "{turn}: {}", response.text());
    assert_eq!(response.header("content-length"), Some(blob.len().to_string().as_str()), "{turn}");
    assert_eq!(response.header("content-type"), Some("application/octet-stream"), "{turn}");
    assert!(response.body == blob.bytes[..], "{turn}");
}

/// Asserts that `response` is the part of `blob` from `first` to `last`, with the right total.
fn assert_part(response: &Response, blob: &Blob, (first, last): (usize, usize)) {
    assert_eq!((response.status, response.end), (206, End::Length), "{}", response.text());
    let told = format!("bytes {first}-{last}/{}", blob.len());
    assert_eq!(response.header("content-range"), Some(told.as_str()));
    assert!(response.body == blob.bytes[first..=last]);
}

#[test]
fn a_short_content_comes_with_the_length_and_the_headers_of_the_right_answer() {
    for framing in [Framing::Length, Framing::Chunked] {
        let stage = Stage::new(DFGET);
        let blob = Blob::random(7000, 1);
        let url = stage.registry.put(IMAGE, &blob);
        stage.registry.next_blob(move |_| {
            let page = Answer::new(200).header("Content-Type", "text/html").header("Content-Language", "en");
            page.body(vec![b'<'; 500]).framing(framing).into()
        });
        for turn in ["from the second answer", "from the store"] {
            let response = stage.get(&url);
            assert_whole(&response, &blob, turn);
            assert_eq!(response.header("content-language"), None, "{turn}: a header of the wrong answer");
        }
        assert_eq!(stage.registry.downloads(&blob.digest), 2, "the wrong answer and the right one");
    }
}

#[test]
fn a_response_that_promised_a_wrong_length_never_ends_well() {
    let blob = Blob::random(LEN, 2);
    let shorter: Arc<[u8]> = blob.bytes[..LEN / 2].into();
    let longer: Arc<[u8]> = [&blob.bytes[..], &Blob::random(LEN / 2, 3).bytes[..]].concat().into();
    for first in [shorter, longer] {
        let stage = Stage::new(DFGET);
        let url = stage.registry.put(IMAGE, &blob);
        let (gate, told) = (Gate::new(), first.len());
        let held = gate.clone();
        stage.registry.next_blob(move |answer| answer.body(first).hold_after(90_000, &held).into());
        let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
        let mut incoming = connection.start(&Request::get(&url)).expect("a head");
        assert_eq!(incoming.head.headers.get("content-length"), Some(told.to_string().as_str()));
        assert!(incoming.read(1000) == blob.bytes[..1000], "what is promised is on its way");
        gate.open();
        let rest = incoming.read_all();
        assert!(!rest.is_complete(), "{told} bytes promised, {:?}", rest.end);
        assert_whole(&stage.get(&url), &blob, "the next client");
        assert_eq!(stage.registry.downloads(&blob.digest), 2, "the wrong answer and the right one");
    }
}

#[test]
fn a_range_cut_from_a_wrong_answer_leaves_the_next_one_right() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 4);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.ignore_ranges();
    let longer: Arc<[u8]> = [&blob.bytes[..], &Blob::random(LEN / 2, 5).bytes[..]].concat().into();
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.body(longer).hold_after(20_000, &held).into());
    let first = stage.fetch(&Request::get(&url).range("bytes=0-9999"));
    assert_eq!(first.status, 206, "{}", first.text());
    assert!(first.is_complete() && first.body == blob.bytes[..10_000]);
    gate.open();
    // It may have come while the wrong length was all that was known.
    let joined = stage.get(&url);
    assert!(joined.status == 502 || !joined.is_complete() || joined.body == blob.bytes[..]);
    assert_part(&stage.fetch(&Request::get(&url).range("bytes=0-9999")), &blob, (0, 9999));
    assert_part(&stage.fetch(&Request::get(&url).range("bytes=-100")), &blob, (LEN - 100, LEN - 1));
    assert_eq!(stage.registry.downloads(&blob.digest), 2, "the wrong answer and the right one");
}

#[test]
fn a_wrong_total_told_with_a_range_is_not_believed_for_long() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 6);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.replace_header("Content-Range", "bytes 0-131071/300000").into());
    // Of whole blocks, so that nothing more is asked for to make them whole.
    let first = stage.fetch(&Request::get(&url).range("bytes=0-131071"));
    assert!(first.is_complete() && first.body == blob.bytes[..131_072]);
    let second = stage.fetch(&Request::get(&url).range("bytes=150000-159999"));
    if second.status == 502 {
        assert!(second.text().contains("300000"), "the cause is told: {}", second.text());
    } else {
        assert_part(&second, &blob, (150_000, 159_999));
    }
    assert_part(&stage.fetch(&Request::get(&url).range("bytes=150000-159999")), &blob, (150_000, 159_999));
    assert_whole(&stage.get(&url), &blob, "all of it");
}

#[test]
fn a_length_that_was_wrong_once_is_forgotten_with_its_answer() {
    for len in [7000, LEN] {
        for declared in [len - 100, len + 100] {
            let stage = Stage::new(DFGET);
            let blob = Blob::random(len, 8);
            let url = stage.registry.put(IMAGE, &blob);
            let framing = Framing::Declared(declared as u64);
            stage.registry.next_blob(move |answer| answer.framing(framing).into());
            let first = stage.get(&url);
            let turn = format!("{declared} bytes declared for {len}");
            assert!(
                first.status == 502 || !first.is_complete() || first.body == blob.bytes[..],
                "{turn}: {:?}",
                first.end
            );
            let another = Request::get(&url).authorization("Bearer another");
            assert_whole(&stage.fetch(&another), &blob, &turn);
            let downloads = stage.registry.downloads(&blob.digest);
            assert_whole(&stage.fetch(&another), &blob, &turn);
            assert_eq!(stage.registry.downloads(&blob.digest), downloads, "{turn}: from the store by now");
        }
    }
}

#[test]
fn who_comes_just_as_the_only_reader_leaves_is_served_whole() {
    let stage = Stage::with(DFGET, |options| options.extra("download: {finishAbandoned: false}"));
    for round in 0..20 {
        let blob = Blob::random(2 << 20, 100 + round);
        let url = stage.registry.put(IMAGE, &blob);
        let gate = Gate::new();
        let held = gate.clone();
        stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
        let mut leaver = stage.client().open(&url).expect("an answer").expect("granted");
        assert_eq!(leaver.start(&Request::get(&url)).expect("a head").read(1000).len(), 1000);
        let mut comer = stage.client().open(&url).expect("an answer").expect("granted");
        leaver.leave().expect("a client may leave");
        let incoming = comer.start(&Request::get(&url)).expect("a head");
        // For the case that it came in time to go on with the same download.
        gate.open();
        assert_whole(&incoming.read_all(), &blob, &format!("round {round}"));
        stage.registry.heal();
    }
}

#[test]
fn a_wrong_total_told_to_one_client_does_not_keep_another_from_the_store() {
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 0s}"));
    let blob = Blob::random(LEN, 7);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|answer| answer.replace_header("Content-Range", "bytes 0-131071/300000").into());
    let first = stage.fetch(&Request::get(&url).range("bytes=0-131071"));
    assert!(first.body == blob.bytes[..131_072]);
    let bob = Request::get(&url).authorization("Bearer bob");
    // The first of these proves which length is right, the second is kept.
    for _ in 0..2 {
        assert_whole(&stage.fetch(&bob), &blob, "from the registry");
    }
    let downloads = stage.registry.downloads(&blob.digest);
    assert_whole(&stage.fetch(&bob), &blob, "again");
    assert_eq!(stage.registry.downloads(&blob.digest), downloads, "from the store by now");
}

#[test]
fn a_range_that_ends_in_mid_block_is_one_request() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 8);
    let url = stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&Request::get(&url).range("bytes=0-9999"));
    assert!(response.status == 206 && response.body == blob.bytes[..10_000]);
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1);
}

#[test]
fn a_first_answer_without_a_length_that_ends_early_never_ends_well() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(LEN, 9);
    let url = stage.registry.put(IMAGE, &blob);
    let first: Arc<[u8]> = blob.bytes[..LEN / 2].into();
    stage.registry.next_blob(move |answer| answer.body(first).framing(Framing::Chunked).into());
    let response = stage.get(&url);
    // An error in words where the end came before the head was sent.
    let in_words = response.status == 502;
    assert!(in_words || !response.is_complete() || response.body == blob.bytes[..], "{}", response.text());
    assert!(stage.get(&url).body == blob.bytes[..]);
}

#[test]
fn a_range_of_everything_is_not_answered_with_the_length_of_a_wrong_answer() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(7000, 10);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.next_blob(|_| Answer::new(200).body(vec![b'<'; 500]).into());
    let everything = Request::get(&url).range("bytes=0-");
    let response = stage.fetch(&everything);
    assert!(response.status >= 500 || response.body == blob.bytes[..], "{} bytes", response.body.len());
    assert_part(&stage.fetch(&everything), &blob, (0, 6999));
}
