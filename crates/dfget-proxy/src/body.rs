//! Response bodies: what is forwarded, and what comes from a task or past the store.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dfget_core::TaskId;
use dfget_origin::BoxError;
use dfget_task::{ContentError, Direct, Reader};
use futures_util::stream;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tracing::{error, info};

/// The body of every response of the proxy.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Where a response's bytes come from.
#[derive(Debug)]
pub(crate) enum Content {
    Reader(Box<Reader>),
    Direct(Box<Direct>),
}

/// What is noted when a response has ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) task: TaskId,
    pub(crate) peer: Arc<str>,
    pub(crate) started: Instant,
    /// Bytes that the response will have, if known.
    pub(crate) length: Option<u64>,
}

struct Serving {
    content: Content,
    report: Report,
    sent: u64,
    told: bool,
}

/// A response whose body is the origin's.
pub(crate) fn forwarded(response: Response<Incoming>) -> Response<ResponseBody> {
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// A body without a byte.
pub(crate) fn empty() -> ResponseBody {
    dfget_origin::empty_body()
}

/// The body that hands out `content` and reports how that ended.
pub(crate) fn serving(content: Content, report: Report) -> ResponseBody {
    let state = Serving { content, report, sent: 0, told: false };
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

// === impl Serving ===

impl Serving {
    async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        let next = match &mut self.content {
            Content::Reader(reader) => reader.next().await,
            Content::Direct(direct) => direct.next().await,
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
        let source = match &self.content {
            // The download itself tells its end.
            Content::Reader(reader) if reader.leads() => return,
            Content::Reader(reader) if reader.is_from_store() => "cache",
            Content::Reader(_) | Content::Direct(_) => "origin",
        };
        if !std::mem::replace(&mut self.told, true) {
            let (peer, task) = (&*self.report.peer, self.report.task.as_str());
            let cost = self.report.started.elapsed().as_millis();
            info!(peer, task, component = "PeerTask", source, "peer task done, cost: {cost}ms");
        }
    }

    fn failed(&mut self, failed: &ContentError) {
        let (peer, task) = (&*self.report.peer, self.report.task.as_str());
        error!(peer, task, component = "PeerTask", sent = self.sent, "response broken off: {failed}");
    }
}
