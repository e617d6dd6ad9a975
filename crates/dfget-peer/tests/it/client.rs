//! Parents that lie, break and dawdle, and what a child makes of them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dfget_cluster::Dialer;
use dfget_core::ByteRange;
use dfget_peer::{ErrorKind, Patience, PeerClient, PeerError};
use dfget_proto::vortex::{Code, Content, Failure, REQUEST_LEN};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::stage::{content, impatient, join, task};

const RANGE: ByteRange = ByteRange { start: 4 << 20, end: (4 << 20) + 300_000 };

fn honest() -> Content {
    let crc = crc32fast::hash(&body());
    let digest = format!("crc32:{crc}");
    Content { number: 1, offset: RANGE.start, length: RANGE.len(), digest, ..Content::default() }
}

fn body() -> Vec<u8> {
    content(RANGE.len())
}

fn whole(content: &Content) -> Vec<u8> {
    let mut all = content.encode(3);
    all.extend(body());
    all
}

/// A parent made by hand: `answer` has the connection after each accept.
struct Parent {
    at: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn parent<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> Parent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let count = Arc::clone(&accepted);
    tasks.spawn(async move {
        let mut answers = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answers.spawn(answer(stream, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    Parent { at, accepted, _tasks: tasks }
}

/// Answers every request on every connection with these bytes.
async fn saying(bytes: Vec<u8>) -> Parent {
    parent(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            let mut request = [0; REQUEST_LEN];
            while stream.read_exact(&mut request).await.is_ok() {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn client() -> PeerClient {
    PeerClient::new(Dialer { tls: None }, "127.0.0.1-child".to_owned())
}

async fn fetch(client: &PeerClient, at: SocketAddr) -> Result<Vec<u8>, PeerError> {
    let patience = impatient();
    client.fetch(at, &task('a'), 1, RANGE, &patience).await.map(|parts| join(&parts))
}

/// What becomes of a fetch from a parent that answers so.
async fn becomes(bytes: Vec<u8>) -> Result<(), ErrorKind> {
    let parent = saying(bytes).await;
    let got = fetch(&client(), parent.at).await.map_err(|error| error.kind())?;
    assert!(got == body());
    Ok(())
}

#[tokio::test]
async fn an_honest_parent_is_asked_again_on_the_same_connection() {
    let parent = saying(whole(&honest())).await;
    let client = client();
    for _ in 0..5 {
        assert!(fetch(&client, parent.at).await.unwrap() == body());
    }
    assert_eq!(parent.accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_cannot_be_the_piece_is_wrong() {
    let wrong = Err(ErrorKind::Wrong);
    assert_eq!(becomes(whole(&honest())).await, Ok(()));
    assert_eq!(becomes(whole(&Content { digest: String::new(), ..honest() })).await, Ok(()));
    let hex = format!("crc32:{:08x}", crc32fast::hash(&body()));
    for lie in [
        Content { number: 2, ..honest() },
        Content { offset: 0, ..honest() },
        Content { length: RANGE.len() - 1, ..honest() },
        Content { length: RANGE.len() + 1, ..honest() },
        Content { length: 4 << 30, ..honest() },
        Content { length: u64::MAX, ..honest() },
        Content { digest: "crc32:1".into(), ..honest() },
        Content { digest: format!("{hex}x"), ..honest() },
        Content { digest: "x".repeat(4000), ..honest() },
    ] {
        assert_eq!(becomes(whole(&lie)).await, wrong, "{lie:?}");
    }
    let mut changed = whole(&honest());
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(becomes(changed).await, wrong);
}

#[tokio::test]
async fn frames_of_liars_are_wrong() {
    let wrong = Err(ErrorKind::Wrong);
    assert_eq!(becomes(vec![0, 1, 0xff, 0xff, 0xff, 0xff]).await, wrong, "endless metadata");
    assert_eq!(becomes(vec![0, 100, 0xff, 0xff, 0xff, 0xff]).await, wrong, "an endless unknown frame");
    assert_eq!(becomes([0, 100, 0, 0, 0, 0].repeat(10_000)).await, wrong, "unknown frames without end");
    let mut digest = whole(&honest());
    digest[30..34].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(becomes(digest).await, wrong, "a digest of 4 GiB");
    assert_eq!(becomes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await, wrong);
    let mut later = vec![0, 100, 0, 0, 0, 2, 1, 2];
    later.extend(whole(&honest()));
    assert_eq!(becomes(later).await, Ok(()), "a frame of a later version is skipped");
}

#[tokio::test]
async fn an_error_is_what_it_says() {
    let says = |code| Failure { code, text: "no".into() }.encode(1);
    assert_eq!(becomes(says(Code::NotFound)).await, Err(ErrorKind::Missing));
    for code in [Code::Unknown, Code::InvalidArgument, Code::Internal] {
        assert_eq!(becomes(says(code)).await, Err(ErrorKind::Broken));
    }
    let parent = saying(says(Code::NotFound)).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(fetch(&client, parent.at).await.unwrap_err().to_string(), "it says: no");
    }
    assert_eq!(parent.accepted.load(Ordering::SeqCst), 1, "the connection is as good as before");
}

#[tokio::test]
async fn silence_and_less_than_all_is_broken() {
    let broken = Err(ErrorKind::Broken);
    assert_eq!(becomes(Vec::new()).await, broken, "silence");
    assert_eq!(becomes(honest().encode(0)).await, broken, "no body");
    assert_eq!(becomes(whole(&honest())[..20].to_vec()).await, broken, "half a frame");
    let cut = whole(&honest())[..100_000].to_vec();
    assert_eq!(becomes(cut.clone()).await, broken, "half a body, then silence");
    let parent = parent(move |mut stream, _| {
        let cut = cut.clone();
        async move {
            stream.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
            stream.write_all(&cut).await.unwrap();
        }
    })
    .await;
    assert_eq!(
        fetch(&client(), parent.at).await.unwrap_err().kind(),
        ErrorKind::Broken,
        "half a body, then the end"
    );
}

#[tokio::test]
async fn who_sends_drop_by_drop_is_broken() {
    let parent = parent(|mut stream, _| async move {
        stream.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
        stream.write_all(&honest().encode(0)).await.unwrap();
        while stream.write_all(&[0; 10]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(fetch(&client(), parent.at).await.unwrap_err().to_string(), "it sends too slowly");
    let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(fetch(&client(), at).await.unwrap_err().kind(), ErrorKind::Broken, "nobody listens");
}

#[tokio::test]
async fn a_connection_that_died_idle_is_replaced_once_and_nobody_blamed() {
    // One piece for each connection, as peers before 1.5.2 do.
    let one_each = parent(|mut stream, _| async move {
        stream.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
        stream.write_all(&whole(&honest())).await.unwrap();
    })
    .await;
    let client = client();
    for _ in 0..4 {
        assert!(fetch(&client, one_each.at).await.unwrap() == body());
    }
    assert_eq!(one_each.accepted.load(Ordering::SeqCst), 4);
    // Dies only when it is asked the second time; the next one does not answer at all.
    let second = parent(|mut stream, count| async move {
        stream.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
        if count == 0 {
            stream.write_all(&whole(&honest())).await.unwrap();
            stream.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
        }
    })
    .await;
    fetch(&client, second.at).await.unwrap();
    assert_eq!(fetch(&client, second.at).await.unwrap_err().kind(), ErrorKind::Broken);
    assert_eq!(second.accepted.load(Ordering::SeqCst), 2, "not tried for ever");
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_no_answer_to_the_next_question() {
    let mut more = whole(&honest());
    more.extend(Failure { code: Code::NotFound, text: "stale".into() }.encode(0));
    let parent = saying(more).await;
    let client = client();
    for asked in 1..4 {
        assert!(fetch(&client, parent.at).await.unwrap() == body());
        // Until they have come, at the latest.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(parent.accepted.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn what_no_parent_can_have_is_not_asked_for() {
    let (client, patience) = (client(), Patience::default());
    let at = "127.0.0.1:1".parse().unwrap();
    for (id, range) in [
        ("short".to_owned(), RANGE),
        (task('a'), ByteRange { start: 5, end: 5 }),
        (task('a'), ByteRange { start: 0, end: 65 << 20 }),
    ] {
        let got = client.fetch(at, &id, 1, range, &patience).await;
        assert_eq!(got.unwrap_err().kind(), ErrorKind::Missing);
    }
}
