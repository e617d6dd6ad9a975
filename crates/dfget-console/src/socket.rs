//! The API on a unix socket: for the daemon's own user and root, as the kernel tells who connects.

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tower_service::Service as _;

use crate::accept::accept_until;
use crate::api::{Api, Failed};

/// Answers on `listener` until `shutdown` is over, then finishes the requests that are there, which
/// takes ten seconds at most.
///
/// # Cancel safety
/// Dropping the future closes the listener and every connection.
pub async fn serve_socket(listener: UnixListener, api: Api, shutdown: impl Future<Output = ()>) {
    let router = api.router();
    let refusing = Router::new().fallback(async || {
        let reason = "this socket is for root and for the daemon's own user only";
        Failed::new(403, reason).into_response()
    });
    let ending = watch::Sender::new(());
    let accept = |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
    let answer = |stream| {
        let router = if is_admitted(&stream) { &router } else { &refusing };
        answer(stream, router.clone(), ending.subscribe())
    };
    let mut connections = accept_until("admin socket", accept, shutdown, answer).await;
    drop(listener);
    ending.send_replace(());
    // What runs on is cut when `connections` goes.
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// Answers on one connection, whose other end is known, until that closes it.
pub async fn serve_stream(stream: UnixStream, api: Api) {
    let (_never, ending) = watch::channel(());
    answer(stream, api.router(), ending).await;
}

/// Requests one after another; nobody may take long to say what they want.
async fn answer(stream: UnixStream, router: Router, mut ending: watch::Receiver<()>) {
    let service = service_fn(move |request| router.clone().call(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = ending.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin socket broke");
    }
}

/// Whether the process at the other end is the daemon's own user's or root's.
fn is_admitted(stream: &impl AsFd) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

/// From accepting, or the last answer, to the end of a head.
const LONGEST_HEAD: Duration = Duration::from_secs(10);
/// For the rest of what was begun.
const FAREWELL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;
    use crate::api::{Content, Node, TaskSeen, View};

    struct Fixed;

    impl View for Fixed {
        fn node(&self) -> Node {
            Node { version: "1.2.3".to_owned(), ..Node::default() }
        }

        fn contents(&self, look: &mut dyn FnMut(&[&Content])) {
            let content = |key: &str, uses| Content { key: key.to_owned(), uses, ..Content::default() };
            look(&[&content("blob:a", 1), &content("blob:b", 2)]);
        }

        fn tasks(&self) -> Vec<TaskSeen> {
            vec![TaskSeen { pieces: vec![[0, 3]], ..TaskSeen::default() }]
        }
    }

    async fn with_server(client: impl AsyncFnOnce(&Path)) {
        let home = std::env::temp_dir().join(format!("dfget-console-{}-{}", std::process::id(), fastrand()));
        let listener = UnixListener::bind(&home).expect("a new socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let run = async {
            client(&home).await;
            drop(stop);
        };
        tokio::join!(serve_socket(listener, Api::new(Arc::new(Fixed)), shutdown), run);
        std::fs::remove_file(&home).expect("the socket's file");
    }

    /// Another number each time.
    fn fastrand() -> u128 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
    }

    async fn ask(socket: &Path, method: &str, path: &str) -> String {
        let mut stream = UnixStream::connect(socket).await.expect("a connection");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("a response");
        response
    }

    #[tokio::test]
    async fn every_path_answers_get_and_head_and_nothing_else() {
        with_server(async |socket| {
            for path in ["/api/v1/node", "/api/v1/tasks", "/api/v1/contents", "/api/v1/stat"] {
                let answer = ask(socket, "GET", path).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
                assert!(answer.contains("content-type: application/json\r\n"), "{path}: {answer}");
                assert!(answer.contains("cache-control: no-store\r\n"), "{path}: {answer}");
                assert!(ask(socket, "HEAD", path).await.ends_with("\r\n\r\n"), "{path}");
                for method in ["POST", "PUT", "DELETE", "PATCH"] {
                    assert!(ask(socket, method, path).await.starts_with("HTTP/1.1 405 "), "{method} {path}");
                }
            }
            for path in ["/", "/api", "/api/v1", "/api/v1/", "/api/v1/node/", "/api/v2/node", "/metrics"] {
                let answer = ask(socket, "GET", path).await;
                assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
                assert!(
                    answer.ends_with("{\"error\":\"there is no such path; see docs/cache.md\"}"),
                    "{answer}"
                );
            }
        })
        .await;
    }

    #[tokio::test]
    async fn contents_are_told_as_they_are_asked_for() {
        with_server(async |socket| {
            let answer = ask(socket, "GET", "/api/v1/contents?order=uses&limit=1").await;
            assert!(answer.contains("\"matched\":2,") && answer.contains("\"key\":\"blob:b\""), "{answer}");
            assert!(!answer.contains("blob:a"), "{answer}");
            let answer = ask(socket, "GET", "/api/v1/contents?page=1").await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.ends_with("{\"error\":\"page is no parameter of this call\"}"), "{answer}");
            let answer = ask(socket, "GET", "/api/v1/tasks").await;
            assert!(answer.contains("\"pieces\":[[0,3]]"), "{answer}");
            let answer = ask(socket, "GET", "/api/v1/node").await;
            assert!(answer.contains("\"version\":\"1.2.3\""), "{answer}");
        })
        .await;
    }

    #[tokio::test]
    async fn one_connection_takes_several_requests_and_does_not_hold_up_the_end() {
        let mut kept = None;
        with_server(async |socket| {
            let mut stream = UnixStream::connect(socket).await.expect("a connection");
            let mut buffer = vec![0; 4096];
            for _ in 0..3 {
                stream.write_all(b"GET /api/v1/node HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
                let read = stream.read(&mut buffer).await.expect("an answer");
                assert!(buffer[..read].starts_with(b"HTTP/1.1 200 "));
            }
            kept = Some(stream);
        })
        .await;
        assert_eq!(kept.expect("it was kept").read(&mut [0]).await.expect("the end"), 0);
    }
}
