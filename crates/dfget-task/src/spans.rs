//! What the spans of a download say: the whole of it, its way to a scheduler, each piece of a peer.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use dfget_origin::FetchRequest;
use dfget_swarm::Failure;
use dfget_trace::{Kind, SharedSpan, Span, Tracer};

use crate::request::TaskRequest;
use crate::swarm::Orders;
use crate::task::{Outcome, Task};

/// Pieces of one download that have a span of their own: those of the first GiB, where each is a unit.
const MOST_PIECES: u32 = 1024;

/// The span of a download that a request begins.
pub(crate) fn download(tracer: &Tracer, request: &TaskRequest) -> Option<SharedSpan> {
    let mut span = tracer.child(&request.fetch.headers, Kind::Internal, "download");
    span.set("dfget.task.id", || request.id.as_str().to_owned());
    span.set("dfget.peer.id", || request.peer.to_string());
    span.share()
}

/// The request as one that is made within `span`.
pub(crate) fn within<'a>(span: Option<&SharedSpan>, request: &'a TaskRequest) -> Cow<'a, TaskRequest> {
    match span {
        None => Cow::Borrowed(request),
        Some(span) => {
            let fetch = asked_within(Some(span), request.fetch.clone());
            Cow::Owned(TaskRequest { fetch, ..request.clone() })
        }
    }
}

/// The same for what the origin is asked with, by whichever client's right.
pub(crate) fn asked_within(span: Option<&SharedSpan>, mut request: FetchRequest) -> FetchRequest {
    if let Some(span) = span {
        span.context().write(&mut request.headers);
    }
    request
}

/// The span of asking the cluster who has a content.
pub(crate) fn join(tracer: &Tracer, download: Option<&SharedSpan>) -> Span {
    tracer.below(download.map(SharedSpan::context), Kind::Client, "scheduler join")
}

/// What the scheduler said first; `None` if none took the download.
pub(crate) fn joined(span: &mut Span, orders: Option<&Orders>) {
    span.set("dfget.scheduler.joined", || orders.is_some());
    if let Some(orders) = orders {
        span.set("dfget.scheduler.parents", || orders.parents.len() as u64);
    }
}

/// The download has come to its end.
pub(crate) fn ended(task: &Task) {
    let Some(span) = &task.span else { return };
    let (outcome, total) = {
        let state = task.state.lock();
        (state.outcome.clone(), state.entry.total())
    };
    span.with(|span| {
        span.set("dfget.outcome", || match outcome {
            Some(Outcome::Verified) => "verified",
            Some(Outcome::Failed(_)) => "failed",
            Some(Outcome::Unstored) => "unstored",
            Some(Outcome::Retired) | None => "retired",
        });
        if let Some(total) = total {
            span.set("dfget.size", || total);
        }
        span.set("dfget.bytes.origin", || task.from_origin.load(Ordering::Relaxed));
        span.set("dfget.bytes.peers", || task.from_peers.load(Ordering::Relaxed));
        if matches!(outcome, Some(Outcome::Failed(_))) {
            span.fail(|| "content");
        }
    });
    span.end();
}

/// How many pieces of a download have had a span.
#[derive(Debug, Default)]
pub(crate) struct PieceSpans {
    begun: u32,
}

// === impl PieceSpans ===

impl PieceSpans {
    /// The span of asking a peer for a piece.
    pub(crate) fn begin(&mut self, task: &Task, number: u32, len: u64, place: SocketAddr) -> Span {
        if task.span.is_none() || self.begun >= MOST_PIECES {
            return Span::none();
        }
        self.begun += 1;
        let within = task.span.as_ref().map(SharedSpan::context);
        let mut span = task.tasks.origin().tracer().below(within, Kind::Client, "piece");
        span.set("dfget.piece.number", || number);
        span.set("dfget.piece.size", || len);
        span.set("server.address", || place.ip().to_string());
        span.set("server.port", || place.port());
        span
    }
}

/// A peer has sent the piece that it was asked for, or has not.
pub(crate) fn came(mut span: Span, failure: Option<&Failure>) {
    if let Some(failure) = failure {
        span.fail(|| match failure {
            Failure::Broken => "broken",
            Failure::Missing => "missing",
            Failure::Wrong => "wrong",
        });
    }
}
