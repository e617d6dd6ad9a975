//! What a parent hands out, to whom, and what it does with those who misbehave.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dfget_cluster::Door;
use dfget_peer::{ErrorKind as Kind, Patience, Refusal, UploadEvent, listen};
use dfget_proto::vortex::{Answered, Code, Content, Request, Step};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::stage::{LEN, MIB, Stage, content, range, slice, task, ways};

/// The request of Dragonfly's own child, byte for byte.
fn golden(letter: u8, number: u32) -> Vec<u8> {
    let mut frame = vec![0x2a, 0, 0, 0, 0, 0x44];
    frame.extend([letter; 64]);
    frame.extend(number.to_be_bytes());
    frame
}

/// Reads one frame by hand.
async fn answer(stream: &mut TcpStream) -> Answered {
    let mut bytes = vec![0; 6];
    stream.read_exact(&mut bytes).await.unwrap();
    let len = u32::from_be_bytes(bytes[2..].try_into().unwrap()) as usize;
    bytes.resize(6 + len, 0);
    stream.read_exact(&mut bytes[6..]).await.unwrap();
    let Ok(Step::Frame(answered, _)) = Answered::decode(&bytes) else { panic!("no frame: {bytes:?}") };
    answered
}

async fn piece(stream: &mut TcpStream) -> (Content, Vec<u8>) {
    let Answered::Piece(content) = answer(stream).await else { panic!("no piece") };
    let mut body = vec![0; content.length as usize];
    stream.read_exact(&mut body).await.unwrap();
    (content, body)
}

fn data_file(dir: &Path) -> std::path::PathBuf {
    let below = |dir: &Path| fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect::<Vec<_>>();
    below(&dir.join("store/tasks")).iter().flat_map(|dir| below(dir)).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_content_comes_piece_by_piece() {
    for (way, keyed) in ways().into_iter().zip([false, true]) {
        let stage = Stage::new(way);
        let bytes = content(LEN);
        stage.stored('a', &bytes);
        for number in [0, 2, 1, 0] {
            let got = stage.fetch('a', number, LEN).await;
            assert!(got == slice(&bytes, range(number, LEN)), "piece {number}");
        }
        assert!(stage.shelf.askers.lock().iter().all(|asker| asker.keyed == keyed));
        let pieces =
            || stage.shelf.events.lock().iter().filter(|event| **event == UploadEvent::Piece).count();
        // The child may have the last byte before the parent counts it.
        while pieces() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let events = stage.shelf.events.lock().clone();
        let sent: u64 = events
            .iter()
            .map(|event| if let UploadEvent::Bytes { sent, .. } = event { *sent } else { 0 })
            .sum();
        assert_eq!(sent, LEN + 4 * MIB);
        assert_eq!(pieces(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compared_lately_is_sent_by_the_kernel_and_is_the_same() {
    let [plain, _] = ways();
    let stage = Stage::new(plain);
    let bytes = content(LEN);
    let entry = stage.stored('a', &bytes);
    // Until the times of the file are old enough to tell a later change.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    stage.fetch('a', 1, LEN).await;
    let piece = range(1, LEN);
    assert!(
        entry
            .sendable(piece.start, piece.len(), Instant::now())
            .is_some_and(|part| part.len() == piece.len())
    );
    assert!(stage.fetch('a', 1, LEN).await == slice(&bytes, piece));
    // Written since: what cannot be vouched for does not leave.
    let file = OpenOptions::new().write(true).open(data_file(stage.dir.path())).unwrap();
    file.write_all_at(b"rot", piece.start + 200_000).unwrap();
    let fetched = stage.client.fetch(stage.pieces, &task('a'), 1, piece, &Patience::default()).await;
    assert_eq!(fetched.unwrap_err().kind(), Kind::Broken);
    let block = piece.start + 131_072..piece.start + 262_144;
    assert_eq!(*stage.shelf.rotten.lock(), [block]);
    assert!(stage.fetch('a', 0, LEN).await == slice(&bytes, range(0, LEN)), "all else is still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_dragonfly_gets_a_piece_for_each_connection() {
    let [plain, _] = ways();
    let stage = Stage::new(plain);
    let bytes = content(LEN);
    stage.stored('a', &bytes);
    for number in [0, 1, 2] {
        let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
        stream.write_all(&golden(b'a', number)).await.unwrap();
        let (content, body) = piece(&mut stream).await;
        let expected = range(number, LEN);
        assert_eq!(
            (content.number, content.offset, content.length),
            (number, expected.start, expected.len())
        );
        assert_eq!(content.digest, format!("crc32:{}", crc32fast::hash(slice(&bytes, expected))));
        assert!(body == slice(&bytes, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_ahead_are_answered_in_order_and_a_missing_piece_ends_nothing() {
    let [plain, _] = ways();
    let stage = Stage::new(plain);
    let bytes = content(LEN);
    stage.stored('a', &bytes);
    let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
    let asked = [(b'a', 2), (b'b', 0), (b'a', 3), (b'a', 0), (b'a', u32::MAX), (b'a', 2)];
    let mut requests: Vec<u8> = asked.iter().flat_map(|(letter, number)| golden(*letter, *number)).collect();
    requests.splice(74..74, [9, 200, 0, 0, 0, 3, 1, 2, 3]);
    requests.extend((0..50).flat_map(|_| golden(b'a', 2)));
    stream.write_all(&requests).await.unwrap();
    for (letter, number) in asked {
        if letter == b'a' && number < 3 {
            let (content, body) = piece(&mut stream).await;
            assert_eq!(content.number, number);
            assert!(body == slice(&bytes, range(number, LEN)));
        } else {
            let Answered::Failed(failure) = answer(&mut stream).await else { panic!("no such piece") };
            assert_eq!(failure.code, Code::NotFound);
        }
    }
    for _ in 0..50 {
        assert_eq!(piece(&mut stream).await.0.number, 2);
    }
    assert!(stage.shelf.events.lock().contains(&UploadEvent::Refused(Refusal::NotHere)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_connection_and_no_other() {
    let [plain, _] = ways();
    let stage = Stage::new(plain);
    let bytes = content(LEN);
    stage.stored('a', &bytes);
    let mut newline = golden(b'a', 0);
    newline[8] = b'\n';
    let chatter: Vec<u8> = [1, 100, 0, 0, 0, 0].repeat(1000);
    let kinds = [
        vec![0, 0, 0xff, 0xff, 0xff, 0xff],
        vec![0, 0, 0, 0, 0, 0x84],
        vec![0, 6, 0, 0, 0, 0x44],
        vec![0, 1, 0, 0, 0, 0],
        newline,
        chatter,
        b"\x05hello, this is no request at all, but quite long".to_vec(),
    ];
    for nonsense in kinds {
        let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
        stream.write_all(&nonsense).await.unwrap();
        if nonsense.len() == 6 && nonsense[5] == 0x84 {
            stream.write_all(&[b'a'; 0x84]).await.unwrap();
        } else if nonsense[1] == 6 {
            stream.write_all(&[b'a'; 0x44]).await.unwrap();
        }
        match stream.read(&mut [0; 10]).await {
            Ok(got) => assert_eq!(got, 0, "{nonsense:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let events = stage.shelf.events.lock().clone();
    assert_eq!(events, vec![UploadEvent::Refused(Refusal::Malformed); 7]);
    stage.fetch('a', 0, LEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_says_it_goes_or_is_silent_is_let_go() {
    let [plain, _] = ways();
    let stage = Stage::with(plain, |options| options.idle = Duration::from_millis(100));
    let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
    stream.write_all(&[0, 254, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
    stream.write_all(&golden(b'a', 0)[..20]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "half a request is silence, too");
    assert_eq!(*stage.shelf.events.lock(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_takes_nothing_is_let_go() {
    for way in ways() {
        let plain = way.1.tls.is_none();
        let stage = Stage::with(way, |options| options.stall = Duration::from_millis(200));
        stage.stored('a', &content(LEN));
        if plain {
            let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
            // More than all buffers in between hold.
            stream.write_all(&golden(b'a', 0).repeat(20)).await.unwrap();
            stage.happened(UploadEvent::Refused(Refusal::Stalled)).await;
        } else {
            let [_, (_, dialer)] = ways();
            let mut stream = dialer.dial(stage.pieces, Duration::from_secs(5)).await.unwrap();
            stream.write_all(&golden(b'a', 0).repeat(20)).await.unwrap();
            stage.happened(UploadEvent::Refused(Refusal::Stalled)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_evicted_meanwhile_is_sent_to_its_end() {
    for way in ways() {
        let dialer = way.1.clone();
        let stage = Stage::new(way);
        let bytes = content(LEN);
        let entry = stage.stored('a', &bytes);
        let mut stream = dialer.dial(stage.pieces, Duration::from_secs(5)).await.unwrap();
        let request = Request { task: task('a'), number: 1 }.encode(0).unwrap();
        stream.write_all(&request).await.unwrap();
        let mut head = vec![0; 100];
        stream.read_exact(&mut head).await.unwrap();
        stage.shelf.holdings.lock().clear();
        stage.store.remove(&entry);
        drop(entry);
        let Ok(Step::Frame(Answered::Piece(_), len)) = Answered::decode(&head) else { panic!("a piece") };
        let mut body = head.split_off(len);
        let already = body.len();
        body.resize(range(1, LEN).len() as usize, 0);
        stream.read_exact(&mut body[already..]).await.unwrap();
        assert!(body == slice(&bytes, range(1, LEN)));
        stream.write_all(&request).await.unwrap();
        let mut refusal = [0; 7];
        stream.read_exact(&mut refusal).await.unwrap();
        assert_eq!((refusal[1], refusal[6]), (255, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_only_so_many_connections() {
    let [plain, _] = ways();
    let stage = Stage::with(plain, |options| options.connections_of_one = 2);
    let bytes = content(1000);
    stage.stored('a', &bytes);
    let mut one = TcpStream::connect(stage.pieces).await.unwrap();
    let mut two = TcpStream::connect(stage.pieces).await.unwrap();
    for stream in [&mut one, &mut two] {
        stream.write_all(&golden(b'a', 0)).await.unwrap();
        piece(stream).await;
    }
    let mut three = TcpStream::connect(stage.pieces).await.unwrap();
    match three.read(&mut [0; 1]).await {
        Ok(got) => assert_eq!(got, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(stage.shelf.events.lock().contains(&UploadEvent::Refused(Refusal::TooMany)));
    drop(one);
    loop {
        let mut again = TcpStream::connect(stage.pieces).await.unwrap();
        let asked = again.write_all(&golden(b'a', 0)).await;
        let mut first = [0; 1];
        if asked.is_ok() && matches!(again.read(&mut first).await, Ok(1)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_shared_in_turns() {
    let [plain, _] = ways();
    let stage = Stage::with(plain, |options| options.rate = 16 * MIB);
    stage.stored('a', &content(4 * MIB));
    let mut children = JoinSet::new();
    let got = std::sync::Arc::new(parking_lot::Mutex::new([0_u64; 4]));
    for child in 0..4 {
        let (pieces, got) = (stage.pieces, std::sync::Arc::clone(&got));
        children.spawn(async move {
            let mut stream = TcpStream::connect(pieces).await.unwrap();
            stream.write_all(&golden(b'a', 0)).await.unwrap();
            let mut buffer = vec![0; 64 << 10];
            while got.lock()[child] < 4 * MIB {
                let read = stream.read(&mut buffer).await.unwrap() as u64;
                assert!(read > 0);
                got.lock()[child] += read;
            }
            *got.lock()
        });
    }
    let at_the_first_end = children.join_next().await.unwrap().unwrap();
    assert!(at_the_first_end.iter().all(|got| *got > 2 * MIB), "{at_the_first_end:?}");
    while children.join_next().await.is_some() {}
    stage.uploads.set_rate(0);
    stage.fetch('a', 0, 4 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_children_at_once_are_all_served() {
    for way in ways() {
        let stage = Stage::with(way, |options| options.at_once = 3);
        let bytes = content(LEN);
        stage.stored('a', &bytes);
        let mut children = JoinSet::new();
        for number in (0..60).map(|n| n % 3) {
            let (client, pieces) = (stage.client.clone(), stage.pieces);
            children.spawn(async move {
                let patience = Patience { answer: Duration::from_secs(60), ..Patience::default() };
                let got = client.fetch(pieces, &task('a'), number, range(number, LEN), &patience).await;
                (number, got.unwrap().concat())
            });
        }
        while let Some(got) = children.join_next().await {
            let (number, got) = got.unwrap();
            assert!(got == slice(&bytes, range(number, LEN)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_the_port_is_free_at_once() {
    let [plain, _] = ways();
    let mut stage = Stage::new(plain);
    let bytes = content(LEN);
    stage.stored('a', &bytes);
    let mut idle = TcpStream::connect(stage.pieces).await.unwrap();
    idle.write_all(&golden(b'a', 2)).await.unwrap();
    piece(&mut idle).await;
    let mut busy = TcpStream::connect(stage.pieces).await.unwrap();
    busy.write_all(&golden(b'a', 0)).await.unwrap();
    let Answered::Piece(_) = answer(&mut busy).await else { panic!("a piece") };
    stage.shutdown.cancel();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    let mut body = vec![0; 4 * MIB as usize];
    busy.read_exact(&mut body).await.unwrap();
    assert!(body == slice(&bytes, range(0, LEN)), "what was begun is ended");
    stage.tasks.join_next().await.unwrap().unwrap();
    let listener = listen(stage.pieces).unwrap();
    let (uploads, shutdown) = (stage.uploads.clone(), tokio_util::sync::CancellationToken::new());
    let door = Door { tls: None, plain: true };
    stage.tasks.spawn(async move { uploads.serve(listener, door, shutdown).await });
    assert!(stage.fetch('a', 1, LEN).await == slice(&bytes, range(1, LEN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_key_gets_nothing_where_one_is_wanted() {
    let [_, keyed] = ways();
    let stage = Stage::new(keyed);
    stage.stored('a', &content(1000));
    let mut stream = TcpStream::connect(stage.pieces).await.unwrap();
    stream.write_all(&golden(b'a', 0)).await.unwrap();
    match stream.read(&mut [0; 1]).await {
        Ok(got) => assert_eq!(got, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(stage.shelf.askers.lock().is_empty());
    stage.happened(UploadEvent::Refused(Refusal::Door)).await;
}
