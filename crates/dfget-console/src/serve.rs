//! Accepting and answering connections of one admin listener.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_service::Service as _;

use crate::accept::accept_until;
use crate::page::CameTo;
use crate::routes::Console;

/// Answers on `listener` until `shutdown` is over, then finishes the requests that are there, which
/// takes ten seconds at most.
///
/// # Cancel safety
/// Dropping the future closes the listener and every connection.
pub async fn serve(listener: TcpListener, console: Console, shutdown: impl Future<Output = ()>) {
    let router = console.router();
    let accept = |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
    let answer = |stream| answer(stream, router.clone());
    let mut connections = accept_until("admin port", accept, shutdown, answer).await;
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One request, one answer.
async fn answer(stream: TcpStream, router: Router) {
    let came_to = stream.local_addr().ok().map(CameTo);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(came_to) = came_to {
            request.extensions_mut().insert(came_to);
        }
        router.clone().call(request)
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(LONGEST_CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin port broke"),
        Err(_) => tracing::debug!("a connection to the admin port took too long"),
    }
}

/// From accepting to closing.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dfget_core::PingPath;
    use dfget_telemetry::{BuildInfo, Metrics};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;
    use crate::accept::MAX_CONNECTIONS;

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo { version: "0.1.0", commit: "" })
    }

    fn console() -> Console {
        Console::new(metrics(), PingPath::default())
    }

    /// Serves `console` while `client` runs with its address, then shuts it down.
    async fn with_server<T>(console: Console, client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let run = async {
            let result = client(address).await;
            drop(stop);
            result
        };
        tokio::join!(serve(listener, console, shutdown), run).1
    }

    /// Sends `request` as it is and reads until the server closes.
    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("a response");
        response
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        exchange(address, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    async fn status(address: SocketAddr, method: &str, path: &str) -> String {
        let response = ask(address, method, path).await;
        response.get(9..12).expect(&response).to_owned()
    }

    #[tokio::test]
    async fn every_route_answers_get_and_head_and_nothing_else() {
        with_server(console(), async |address| {
            for path in ["/server/ping", "/metrics", "/metrics?x=1"] {
                assert_eq!(status(address, "GET", path).await, "200", "{path}");
                assert_eq!(status(address, "HEAD", path).await, "200", "{path}");
                for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
                    assert_eq!(status(address, method, path).await, "405", "{method} {path}");
                }
            }
            for path in [
                "/",
                "/server",
                "/server/ping/",
                "/Server/Ping",
                "/metrics/",
                "//metrics",
                "/debug/pprof",
                "/api/v1",
            ] {
                assert_eq!(status(address, "GET", path).await, "404", "{path}");
                assert_eq!(status(address, "POST", path).await, "404", "{path}");
            }
            assert_eq!(status(address, "CONNECT", "registry.example:443").await, "404");
        })
        .await;
    }

    #[tokio::test]
    async fn ping_answers_what_dragonfly_answers() {
        with_server(console(), async |address| {
            let response = ask(address, "GET", "/server/ping").await;
            assert!(response.ends_with("\r\n\r\n\"OK\""), "{response}");
            assert!(response.contains("content-type: application/json; charset=utf-8\r\n"), "{response}");
            let head = ask(address, "HEAD", "/server/ping").await;
            assert!(head.contains("content-length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        })
        .await;
    }

    #[tokio::test]
    async fn the_path_of_ping_can_be_another() {
        let console = Console::new(metrics(), PingPath::parse("/healthz").expect("a path"));
        with_server(console, async |address| {
            assert_eq!(status(address, "GET", "/healthz").await, "200");
            assert_eq!(status(address, "GET", "/server/ping").await, "404");
        })
        .await;
    }

    #[tokio::test]
    async fn every_path_that_can_be_parsed_can_be_a_route() {
        for path in ["/", "/-", "/a//b", "/.", "/..", "/~a_b/", "/metrics/"] {
            let console = Console::new(metrics(), PingPath::parse(path).expect(path));
            with_server(console, async |address| {
                assert_eq!(status(address, "GET", path).await, "200", "{path}");
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_listener_for_metrics_shows_metrics_alone_and_as_they_are() {
        let metrics = metrics();
        with_server(Console::metrics_only(metrics.clone()), async |address| {
            metrics.rotten_block();
            let response = ask(address, "GET", "/metrics").await;
            assert!(response.contains("\ndfget_rotten_blocks_total 1\n"), "{response}");
            assert!(response.contains(&format!("content-type: {}\r\n", Metrics::PLAIN_TYPE)), "{response}");
            let accept = "Accept: text/html, application/openmetrics-text;version=1.0.0;q=0.5";
            let asked = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n\r\n");
            let response = exchange(address, &asked).await;
            assert!(response.contains(&format!("content-type: {}\r\n", Metrics::CONTENT_TYPE)), "{response}");
            assert!(response.ends_with("# EOF\n"), "{response}");
            assert_eq!(status(address, "GET", "/server/ping").await, "404");
        })
        .await;
    }

    #[tokio::test]
    async fn garbage_is_refused_and_others_are_served() {
        with_server(console(), async |address| {
            let refused = exchange(address, "\u{0}\u{1}nonsense\r\n\r\n").await;
            assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
            assert_eq!(status(address, "GET", "/server/ping").await, "200");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_end_and_do_not_hold_up_shutdown() {
        let idle = with_server(console(), async |address| {
            let mut idle = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                idle.push(TcpStream::connect(address).await.expect("a connection"));
            }
            assert_eq!(status(address, "GET", "/server/ping").await, "200", "the 65th waits its turn");
            idle.push(TcpStream::connect(address).await.expect("a connection"));
            idle
        })
        .await;
        for mut stream in idle {
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest).await;
            assert!(ended.is_err() || rest.is_empty());
        }
    }
}
