//! Response bodies: what is forwarded, and what comes from a task or past the store.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use dfget_core::TaskId;
use dfget_origin::BoxError;
use dfget_task::{ContentError, Direct, Part, Reader};
use dfget_telemetry::{Book, Metrics, RunningRequest, Source};
use dfget_trace::TraceId;
use futures_util::stream;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tracing::field::display;
use tracing::{error, info};

use crate::entrance::{Entrance, FromPeers, Spared};
use crate::in_clear::{FilesToSend, LONGEST};
use crate::multipart::Multipart;
use crate::slots::Slot;
use crate::spans::Served;

/// The body of every response of the proxy.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Where a response's bytes come from.
#[derive(Debug)]
pub(crate) enum Content {
    Reader(Box<Reader>),
    Direct(Box<Direct>),
    Parts(Box<Multipart>),
}

/// What is noted when a response has ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) task: TaskId,
    pub(crate) peer: Arc<str>,
    pub(crate) started: Instant,
    /// Bytes that the response will have, if known.
    pub(crate) length: Option<u64>,
    /// Where parts of files are put for the kernel to send, if it can.
    pub(crate) files: Option<FilesToSend>,
    /// The trace that the request belongs to, if that is recorded.
    pub(crate) trace: Option<TraceId>,
}

/// After so many bytes in one go a response lets the others of its thread go on. The kernel takes
/// megabytes for one client before it makes it wait; a hundred clients would begin one after another.
const TURN: u64 = 256 << 10;

struct Serving {
    content: Content,
    report: Report,
    sent: u64,
    /// Of these, when the others had their turn.
    yielded: u64,
    told: bool,
}

/// A response whose body is the origin's.
pub(crate) fn forwarded(response: Response<Incoming>) -> Response<ResponseBody> {
    let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
    response.extensions_mut().insert(Source::Forwarded);
    response
}

/// The same response, its bytes counted as they leave; the request counts as running until then.
/// Where the bytes come from stands in the response's extensions.
pub(crate) fn counted(
    mut response: Response<ResponseBody>,
    request: RunningRequest,
    metrics: &Metrics,
    entrance: &Arc<Entrance>,
) -> Response<ResponseBody> {
    let source = response.extensions_mut().remove::<Source>();
    let spared = response.extensions_mut().remove::<Spared>().is_some();
    let peers = response.extensions_mut().remove::<FromPeers>().map(Peered::of);
    let slot = response.extensions_mut().remove::<Slot>();
    let span = response.extensions_mut().remove::<dfget_trace::SharedSpan>();
    let span = span.map(|span| Served::new(span, source));
    if let Some(source) = source {
        metrics.served(source);
        if is_task(source) {
            entrance.tally.count_task(spared);
        }
    }
    let book = response.extensions_mut().remove::<OfRegistry>().map(|of| of.book(metrics));
    let saved = book.filter(|_| spared || source == Some(Source::Shared));
    if let Some(book) = &saved {
        book.saved_request();
    }
    let (metrics, entrance) = (metrics.clone(), Arc::clone(entrance));
    response.map(|body| {
        Counted { body, request, metrics, source, spared, peers, saved, entrance, span, _slot: slot }
            .boxed_unsync()
    })
}

/// Marks a response that is of a registry's content, from wherever it comes.
#[derive(Clone, Debug)]
pub(crate) struct OfRegistry {
    pub(crate) host_port: String,
    /// Stands for the client's credential, where that was looked at.
    pub(crate) credential: Option<Arc<str>>,
}

impl OfRegistry {
    /// Where it is counted.
    fn book(self, metrics: &Metrics) -> Arc<Book> {
        let book = metrics.ledger().registry(&self.host_port);
        if let Some(credential) = &self.credential {
            book.seen(credential);
        }
        book
    }
}

const fn is_task(source: Source) -> bool {
    matches!(source, Source::Cache | Source::Origin)
}

struct Counted {
    body: ResponseBody,
    request: RunningRequest,
    metrics: Metrics,
    source: Option<Source>,
    spared: bool,
    /// What of it other nodes have sent.
    peers: Option<Peered>,
    /// Where its bytes count as saved, if they are.
    saved: Option<Arc<Book>>,
    entrance: Arc<Entrance>,
    /// The span of the request, until the last byte has left.
    span: Option<Served>,
    /// Until the last byte has left.
    _slot: Option<Slot>,
}

/// The part of a response that other nodes have sent.
struct Peered {
    sent: Arc<AtomicU64>,
    /// Bytes of the response so far.
    handed_out: u64,
    /// Bytes counted as theirs so far.
    counted: u64,
}

/// A body without a byte.
pub(crate) fn empty() -> ResponseBody {
    dfget_origin::empty_body()
}

/// The body that hands out `content` and reports how that ended.
pub(crate) fn serving(content: Content, report: Report) -> ResponseBody {
    let state = Serving { content, report, sent: 0, yielded: 0, told: false };
    let steps = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(BoxError::from(error)), None)),
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(steps))
}

// === impl Content ===

impl Content {
    /// Whether the bytes were not fetched for this response.
    pub(crate) const fn is_spared(&self) -> bool {
        match self {
            Self::Reader(reader) => reader.is_spared(),
            Self::Direct(_) => false,
            Self::Parts(_) => true,
        }
    }

    /// The count of bytes that other nodes have sent for the content, where they may.
    pub(crate) fn peers(&self) -> Option<FromPeers> {
        match self {
            Self::Reader(reader) => reader.sent_by_peers().map(FromPeers),
            Self::Direct(_) | Self::Parts(_) => None,
        }
    }

    /// Where the bytes come from, for the log and the counters.
    pub(crate) const fn source(&self) -> Source {
        match self {
            Self::Reader(reader) if reader.is_from_store() => Source::Cache,
            Self::Reader(_) | Self::Direct(_) => Source::Origin,
            Self::Parts(_) => Source::Cache,
        }
    }
}

// === impl Peered ===

impl Peered {
    fn of(FromPeers(sent): FromPeers) -> Self {
        Self { sent, handed_out: 0, counted: 0 }
    }

    /// How many of the `bytes` handed out next are to be counted as other nodes': never more than they
    /// have sent, or than was handed out.
    fn share_of_next(&mut self, bytes: u64) -> u64 {
        self.handed_out += bytes;
        let theirs = self.sent.load(Ordering::Relaxed).min(self.handed_out);
        let more = theirs.saturating_sub(self.counted);
        self.counted += more;
        more
    }
}

// === impl Serving ===

impl Serving {
    async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        if self.sent - self.yielded >= TURN {
            self.yielded = self.sent;
            tokio::task::yield_now().await;
        }
        let next = match &mut self.content {
            Content::Reader(reader) => match &self.report.files {
                Some(files) => reader.next_part(LONGEST as u64).await.map(|part| {
                    Some(match part? {
                        Part::Bytes(bytes) => bytes,
                        Part::File(part) => files.push(part),
                    })
                }),
                None => reader.next().await,
            },
            Content::Direct(direct) => direct.next().await,
            Content::Parts(parts) => parts.next().await,
        };
        match &next {
            Ok(Some(bytes)) => {
                self.sent += bytes.len() as u64;
                // Told before the last byte leaves: whoever has the content finds the line in the log.
                if self.report.length == Some(self.sent) {
                    self.done();
                }
            }
            Ok(None) => self.done(),
            Err(failed) => self.failed(failed),
        }
        next
    }

    fn done(&mut self) {
        // The download itself tells its end, for the request that it was begun with.
        let told = matches!(&self.content, Content::Reader(reader) if reader.is_told());
        if !told && !std::mem::replace(&mut self.told, true) {
            let (peer, task) = (&*self.report.peer, self.report.task.as_str());
            let (source, cost) = (self.content.source().as_str(), self.report.started.elapsed().as_millis());
            let trace_id = self.report.trace.map(display);
            info!(peer, task, component = "PeerTask", source, trace_id, "peer task done, cost: {cost}ms");
        }
    }

    fn failed(&mut self, failed: &ContentError) {
        let (peer, task) = (&*self.report.peer, self.report.task.as_str());
        let (sent, trace_id) = (self.sent, self.report.trace.map(display));
        error!(peer, task, component = "PeerTask", sent, trace_id, "response broken off: {failed}");
    }
}

// === impl Counted ===

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            let bytes = bytes.len() as u64;
            self.request.add_bytes(bytes);
            if let Some(span) = &mut self.span {
                span.count(bytes);
            }
            if let Some(book) = &self.saved {
                book.saved_bytes(bytes);
            }
            if let Some(source) = self.source {
                self.metrics.served_bytes(source, bytes);
                if is_task(source) {
                    self.entrance.tally.count_bytes(bytes, self.spared);
                    if source == Source::Cache {
                        self.entrance.tally.count_from_cache(bytes);
                    }
                    let theirs = self.peers.as_mut().map_or(0, |peers| peers.share_of_next(bytes));
                    self.entrance.tally.count_from_peers(theirs);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_nodes_are_credited_with_what_they_sent_and_no_more() {
        let sent = Arc::<AtomicU64>::default();
        let mut peers = Peered::of(FromPeers(Arc::clone(&sent)));
        assert_eq!(peers.share_of_next(10), 0);
        sent.store(15, Ordering::Relaxed);
        assert_eq!(peers.share_of_next(2), 12, "no more than was handed out");
        sent.store(3, Ordering::Relaxed);
        assert_eq!(peers.share_of_next(2), 0, "what was taken back is not counted back");
        sent.store(100, Ordering::Relaxed);
        assert_eq!(peers.share_of_next(6), 8);
    }
}
