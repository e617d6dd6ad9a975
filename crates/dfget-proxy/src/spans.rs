//! What the spans of a client's request and of an access check say.

use dfget_task::TaskRequest;
use dfget_telemetry::Source;
use dfget_trace::{Kind, RequestFacts, SharedSpan, Span, Tracer, span_name};
use http::{Request, Response};
use url::Url;

use crate::access::Verdict;
use crate::body::ResponseBody;

/// The span of a request that a client has sent for `url`. From here on the request's own headers
/// name it as the parent of all that is done for it.
pub(crate) fn enter<B>(tracer: &Tracer, url: &Url, request: &mut Request<B>) -> Span {
    let method = request.method().clone();
    let mut span = tracer.enter(request.headers_mut(), span_name(&method));
    span.describe(&RequestFacts {
        method: &method,
        scheme: if url.scheme() == "http" { "http" } else { "https" },
        host: url.host_str().unwrap_or_default(),
        port: url.port_or_known_default().unwrap_or_default(),
        path: url.path(),
    });
    span
}

/// The head of the answer is there; the span goes on until its last byte has left.
pub(crate) fn answered(mut span: Span, response: &mut Response<ResponseBody>) {
    span.answered(response.status());
    if let Some(span) = span.share() {
        response.extensions_mut().insert(span);
    }
}

/// The span of a client's request while its answer leaves.
#[derive(Debug)]
pub(crate) struct Served {
    span: SharedSpan,
    bytes: u64,
}

// === impl Served ===

impl Served {
    /// `source`: where the bytes come from, for the answers that tell.
    pub(crate) fn new(span: SharedSpan, source: Option<Source>) -> Self {
        if let Some(source) = source {
            span.with(|span| span.set("dfget.source", || source.as_str()));
        }
        Self { span, bytes: 0 }
    }

    /// So many bytes more have left.
    pub(crate) const fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.span.with(|span| span.set("http.response.body.size", || bytes));
        self.span.end();
    }
}

/// The span of finding out whether a client may have what is stored.
pub(crate) fn access_check(tracer: &Tracer, request: &TaskRequest) -> Span {
    tracer.child(&request.fetch.headers, Kind::Internal, "access check")
}

/// How that ended.
pub(crate) fn judged(span: &mut Span, verdict: &Verdict) {
    span.set("dfget.access.verdict", || match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Ask => "ask",
        Verdict::Answer(_) => "answer",
        Verdict::Changed(_) => "changed",
        Verdict::Unreachable(_) => "unreachable",
    });
}
