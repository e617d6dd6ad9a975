//! Golden frames, round trips, and frames of liars.

use proptest::prelude::*;

use super::*;

fn golden_request() -> Vec<u8> {
    let mut frame = vec![0x2a, 0, 0, 0, 0, 0x44];
    frame.extend([0x61; 64]);
    frame.extend([1, 2, 3, 4]);
    frame
}

fn golden_content() -> (Content, Vec<u8>) {
    let content = Content {
        number: 42,
        offset: 1024,
        length: 2048,
        digest: "crc32:864bbb04".into(),
        parent_id: "127.0.0.1-foo".into(),
        traffic_type: 1,
        cost_seconds: 30,
        created_at: 1_700_000_000,
    };
    let mut frame = vec![0x2a, 1, 0, 0, 0, 76, 0, 0, 0, 72, 0, 0, 0, 42];
    frame.extend([0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    frame.extend(b"\0\0\0\x0ecrc32:864bbb04\0\0\0\x0d127.0.0.1-foo\x01");
    frame.extend([0, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0x65, 0x53, 0xf1, 0]);
    (content, frame)
}

#[test]
fn frames_are_the_golden_ones() {
    let request = Request { task: "a".repeat(64), number: 0x0102_0304 };
    assert_eq!(request.encode(0x2a).unwrap().to_vec(), golden_request());
    assert_eq!(Asked::decode(&golden_request()), Ok(Step::Frame(Asked::Piece(request), REQUEST_LEN)));
    let (content, frame) = golden_content();
    assert_eq!(content.encode(0x2a), frame);
    assert_eq!(Answered::decode(&frame), Ok(Step::Frame(Answered::Piece(content), 82)));
    let failure = Failure { code: Code::NotFound, text: "no".into() };
    let frame = [7, 255, 0, 0, 0, 3, 2, b'n', b'o'];
    assert_eq!(failure.encode(7), frame);
    assert_eq!(Answered::decode(&frame), Ok(Step::Frame(Answered::Failed(failure), 9)));
    assert_eq!(Asked::decode(&[0, 254, 0, 0, 0, 0]), Ok(Step::Frame(Asked::Close, 6)));
}

#[test]
fn a_frame_in_parts_is_waited_for() {
    let (_, frame) = golden_content();
    for end in 0..frame.len() {
        let wanted = if end < HEADER_LEN { HEADER_LEN } else { frame.len() };
        assert_eq!(Answered::decode(&frame[..end]), Ok(Step::More(wanted)));
    }
}

#[test]
fn no_length_makes_anybody_wait_for_more_than_a_frame() {
    for tag in [0, 1, 8, 100, 253, 254, 255] {
        for length in [u32::MAX, 1 << 31, (MOST_FRAME - HEADER_LEN) as u32 + 1] {
            let mut frame = vec![0, tag];
            frame.extend(length.to_be_bytes());
            assert_eq!(Asked::decode(&frame), Err(FrameError::TooLong { tag, length }));
            assert_eq!(Answered::decode(&frame), Err(FrameError::TooLong { tag, length }));
        }
    }
}

#[test]
fn lengths_inside_of_a_frame_must_fit_it() {
    let (_, frame) = golden_content();
    let malformed = Err(FrameError::Malformed { tag: CONTENT });
    // That of the metadata, of the digest, of the parent's name.
    for at in [6, 30, 48] {
        for wrong in [0x0fff_u32, u32::MAX] {
            let mut frame = frame.clone();
            frame[at..at + 4].copy_from_slice(&wrong.to_be_bytes());
            assert_eq!(Answered::decode(&frame), malformed, "{at}");
        }
    }
    let long = Content { digest: "x".repeat(MOST_DIGEST), ..Content::default() };
    let mut frame = long.encode(0);
    assert!(matches!(Answered::decode(&frame), Ok(Step::Frame(..))), "as long as sha512 is taken");
    frame[33] += 1;
    assert_eq!(Answered::decode(&frame), malformed);
}

#[test]
fn metadata_of_a_later_version_may_be_longer() {
    let (content, mut frame) = golden_content();
    frame[5] += 3;
    frame[9] += 3;
    frame.extend([1, 2, 3]);
    assert_eq!(Answered::decode(&frame), Ok(Step::Frame(Answered::Piece(content), 85)));
}

#[test]
fn tags_of_a_later_version_are_skipped_and_other_kinds_of_requests_are_not() {
    for tag in 8..=253 {
        let frame = [0, tag, 0, 0, 0, 2, 9, 9, 77];
        assert_eq!(Asked::decode(&frame), Ok(Step::Frame(Asked::Unknown, 8)));
        assert_eq!(Answered::decode(&frame), Ok(Step::Frame(Answered::Unknown, 8)));
    }
    for tag in 1..8 {
        assert_eq!(Asked::decode(&[0, tag, 0, 0, 0, 0]), Err(FrameError::Malformed { tag }));
    }
    let mut frame = golden_request();
    frame[9] = b'\n';
    assert_eq!(Asked::decode(&frame), Err(FrameError::Malformed { tag: 0 }), "no id of a task");
    let short = Request { task: "a".repeat(63), number: 0 };
    assert_eq!(short.encode(0), None);
}

#[test]
fn the_text_of_an_error_forges_no_line_of_a_log() {
    let frame = Failure { code: Code::Internal, text: "a\nb\u{1b}[31m".into() }.encode(0);
    let Ok(Step::Frame(Answered::Failed(failure), _)) = Answered::decode(&frame) else { panic!("an error") };
    assert_eq!(failure.text, "a b [31m");
    let frame = Failure { code: Code::Internal, text: "é".repeat(400) }.encode(0);
    assert_eq!(frame.len(), HEADER_LEN + 1 + MOST_TEXT);
}

proptest! {
    #[test]
    fn what_is_said_is_understood(
        number in any::<u32>(), offset in any::<u64>(), length in any::<u64>(), digest in "[ -~]{0,135}",
        parent_id in "\\PC{0,128}", traffic_type in any::<u8>(), cost_seconds in any::<u64>(),
        created_at in any::<i64>(), id in any::<u8>(), behind in any::<[u8; 3]>(), task in "[!-~]{64}",
    ) {
        let content =
            Content { number, offset, length, digest, parent_id, traffic_type, cost_seconds, created_at };
        let mut frame = content.encode(id);
        let len = frame.len();
        frame.extend(behind);
        prop_assert_eq!(Answered::decode(&frame), Ok(Step::Frame(Answered::Piece(content), len)));
        let request = Request { task, number };
        let frame = request.encode(id).unwrap();
        prop_assert_eq!(Asked::decode(&frame), Ok(Step::Frame(Asked::Piece(request), REQUEST_LEN)));
    }

    #[test]
    fn nothing_that_comes_is_a_reason_to_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), tag in any::<u8>(), length in 0..300_u32,
    ) {
        let mut framed = vec![0, tag];
        framed.extend(length.to_be_bytes());
        framed.extend(&bytes);
        for bytes in [&bytes, &framed] {
            if let Ok(Step::More(wanted)) = Asked::decode(bytes) {
                prop_assert!(wanted > bytes.len() && wanted <= MOST_FRAME);
            }
            match Answered::decode(bytes) {
                Ok(Step::More(wanted)) => prop_assert!(wanted > bytes.len() && wanted <= MOST_FRAME),
                Ok(Step::Frame(_, len)) => prop_assert!(len >= HEADER_LEN && len <= bytes.len()),
                Err(_) => {}
            }
        }
    }
}
