//! A registry with one blob, at a link of a certain speed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfget_testkit::Blob;
use futures_util::stream;
use http::header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What its clients must show.
pub(super) const CREDENTIAL: &str = "Bearer of-the-simulation";

/// Bytes of a body at once.
const CHUNK: u64 = 64 << 10;

pub(super) struct Origin {
    pub(super) blob: Blob,
    /// Bytes a second, to all together.
    rate: u64,
    /// When the link is free.
    free: Mutex<Option<Instant>>,
    /// Bytes of bodies to each host.
    sent: Mutex<BTreeMap<IpAddr, u64>>,
}

type Body = BoxBody<Bytes, Infallible>;

// === impl Origin ===

impl Origin {
    pub(super) fn new(blob: Blob, rate: u64) -> Self {
        Self { blob, rate, free: Mutex::default(), sent: Mutex::default() }
    }

    pub(super) fn path(&self) -> String {
        format!("/v2/some/image/blobs/{}", self.blob.digest)
    }

    /// How many bytes of bodies it has sent, as a share of the blob.
    pub(super) fn share(&self) -> f64 {
        self.sent.lock().values().sum::<u64>() as f64 / self.blob.len() as f64
    }

    /// Whether it has sent something to a host.
    pub(super) fn has_fed(&self, host: IpAddr) -> bool {
        self.sent.lock().contains_key(&host)
    }

    pub(super) async fn serve(self: Arc<Self>) -> turmoil::Result {
        *self.free.lock() = None;
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:80").await?;
        let mut connections = JoinSet::new();
        loop {
            let (socket, from) = listener.accept().await?;
            let origin = Arc::clone(&self);
            let answer = service_fn(move |request| {
                let answer = Arc::clone(&origin).answer(&request, from.ip());
                async move { Ok::<_, Infallible>(answer) }
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
        }
    }

    fn answer(self: Arc<Self>, request: &Request<Incoming>, client: IpAddr) -> Response<Body> {
        let refused = |status| {
            let mut response = Response::new(Empty::new().boxed());
            *response.status_mut() = status;
            response
        };
        if request.headers().get(AUTHORIZATION).is_none_or(|shown| shown != CREDENTIAL) {
            return refused(StatusCode::UNAUTHORIZED);
        }
        if request.uri().path() != self.path() {
            return refused(StatusCode::NOT_FOUND);
        }
        let total = self.blob.len() as u64;
        let asked = request.headers().get(RANGE).and_then(|range| parse(range.to_str().ok()?, total));
        let range = asked.clone().unwrap_or(0..total);
        let mut response = Response::builder()
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_LENGTH, range.end - range.start)
            .status(if asked.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
        if asked.is_some() {
            let place = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            response = response.header(CONTENT_RANGE, place);
        }
        let body =
            if request.method() == Method::HEAD { Empty::new().boxed() } else { self.body(range, client) };
        response.body(body).unwrap()
    }

    fn body(self: Arc<Self>, range: Range<u64>, client: IpAddr) -> Body {
        let all = Bytes::from_owner(Arc::clone(&self.blob.bytes));
        let chunks = stream::unfold((self, all, range), move |(origin, all, left)| async move {
            if left.is_empty() {
                return None;
            }
            let end = left.end.min(left.start + CHUNK);
            origin.wait_for(end - left.start).await;
            *origin.sent.lock().entry(client).or_default() += end - left.start;
            let index = |at: u64| usize::try_from(at).unwrap();
            let chunk = all.slice(index(left.start)..index(end));
            Some((Ok(Frame::data(chunk)), (origin, all, end..left.end)))
        });
        StreamBody::new(chunks).boxed()
    }

    /// Waits until the link has sent so many bytes.
    async fn wait_for(&self, bytes: u64) {
        let until = {
            let (now, mut free) = (Instant::now(), self.free.lock());
            let begin = free.map_or(now, |free| free.max(now));
            let until = begin + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            *free = Some(until);
            until
        };
        sleep_until(until).await;
    }
}

/// `bytes=a-b` or `bytes=a-`.
fn parse(range: &str, total: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let end = if last.is_empty() { total } else { last.parse::<u64>().ok()? + 1 };
    (first < end.min(total)).then_some(first..end.min(total))
}
