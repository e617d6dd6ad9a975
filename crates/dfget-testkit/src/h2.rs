//! A client of HTTP/2 inside the tunnel.
//!
//! Frames are hyper's business; of a stream that the proxy resets a test learns the same as of a broken HTTP/1.1 body:
//! what came, and that it did not end well.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::{Client, Request, split};
use crate::gate::PATIENCE;
use crate::incoming::{End, Response};
use crate::message::Headers;
use crate::wire::Wire;

/// Sends all `requests` to one host over one HTTP/2 connection at once and reads their answers, in the same order. An
/// inner error is a stream that was reset before its head.
///
/// # Errors
/// If the CONNECT or the TLS handshake fails, or if the proxy does not choose `h2`.
pub fn fetch_all(client: &Client, requests: &[Request]) -> io::Result<Vec<io::Result<Response>>> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let (_, url, _, _) = first.parts();
    let (_, authority, _) = split(url)?;
    let Ok(Wire::Plain(tcp)) = client.connect(authority)? else {
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let exchange = exchange(client, authority, tcp, requests);
        timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
    })
}

async fn exchange(
    client: &Client,
    authority: &str,
    tcp: std::net::TcpStream,
    requests: &[Request],
) -> io::Result<Vec<io::Result<Response>>> {
    tcp.set_nonblocking(true)?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let connector = TlsConnector::from(Arc::clone(&client.tls_offering(&["h2"])));
    let tls = connector.connect(name, TcpStream::from_std(tcp)?).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the proxy did not choose h2"));
    }
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let answers = async {
        let mut sent = Vec::new();
        for request in requests {
            sender.ready().await.map_err(io::Error::other)?;
            sent.push(sender.send_request(to_hyper(request)?));
        }
        let mut responses = Vec::new();
        for answer in sent {
            responses.push(match answer.await {
                Ok(answer) => Ok(collect(answer).await),
                Err(error) => Err(io::Error::other(error)),
            });
        }
        Ok(responses)
    };
    tokio::pin!(answers, connection);
    tokio::select! {
        answers = &mut answers => answers,
        // The connection ends by itself only when it is broken; the answers then say how.
        _ = &mut connection => answers.await,
    }
}

fn to_hyper(request: &Request) -> io::Result<hyper::Request<Full<Bytes>>> {
    let (method, url, headers, body) = request.parts();
    let mut builder = hyper::Request::builder().method(method).uri(url);
    for (name, value) in headers.iter() {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body))).map_err(io::Error::other)
}

async fn collect(response: hyper::Response<Incoming>) -> Response {
    let (head, mut incoming) = response.into_parts();
    let mut headers = Headers::default();
    for (name, value) in &head.headers {
        headers.push(name.as_str(), String::from_utf8_lossy(value.as_bytes()));
    }
    let mut body = Vec::new();
    let mut end = End::Close;
    while let Some(frame) = incoming.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) => body.extend_from_slice(&bytes),
            // Trailer fields stand behind the header fields.
            Ok(Err(frame)) => {
                for (name, value) in frame.trailers_ref().into_iter().flatten() {
                    headers.push(name.as_str(), String::from_utf8_lossy(value.as_bytes()));
                }
            }
            Err(_) => {
                end = End::Reset;
                break;
            }
        }
    }
    Response { status: head.status.as_u16(), reason: String::new(), headers, body, end }
}
