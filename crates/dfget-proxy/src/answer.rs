//! What a client is answered: from the store or a task, or what its own request brought.

use std::sync::Arc;

use dfget_core::{ByteRange, ContentRange, Parts, RangeError, RangeHeader, RangeSet};
use dfget_origin::headers::{representation, strip_dragonfly, strip_hop_by_hop, text};
use dfget_origin::{ContentStream, FetchError};
use dfget_task::{ContentError, Direct, Reader, Stored};
use dfget_telemetry::Source;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_RANGE, RANGE,
};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use tracing::{error, info};

use crate::accelerated::Accelerated;
use crate::body::{Content, OfRegistry, Report, ResponseBody, empty, serving};
use crate::condition::{Judgement, not_modified_headers};
use crate::entrance::Spared;
use crate::forward::pass_on;
use crate::handler::Proxy;
use crate::multipart::Multipart;
use crate::respond;

const TASK: HeaderName = HeaderName::from_static("x-dragonfly-task");
const PEER: HeaderName = HeaderName::from_static("x-dragonfly-peer");
/// The same as [`TASK`], as the Rust client calls it.
const TASK_ID: HeaderName = HeaderName::from_static("x-dragonfly-task-id");
const FINISHED: HeaderName = HeaderName::from_static("x-dragonfly-task-download-finished");
const STORED_RANGE: HeaderName = HeaderName::from_static("x-dragonfly-range");
const SERVER_IP: HeaderName = HeaderName::from_static("x-dragonfly-server-ip");

impl Proxy {
    /// Sends the client's own request to the origin; its answer is for this client alone.
    pub(crate) async fn own_request(&self, request: &Accelerated) -> Response<ResponseBody> {
        let mut extra = request.conditions.to_headers();
        if let Some(RangeHeader::One(spec)) = request.range.as_ref().map(RangeSet::single)
            && let Ok(range) = spec.to_string().try_into()
        {
            extra.push((RANGE, range));
            extra.extend(request.if_range.clone().map(|value| (IF_RANGE, value)));
        }
        match self.origin().fetch_patiently(&request.task.fetch, &extra).await {
            Ok(answer) if request.stored_only && answer.response.status().is_success() => not_stored(request),
            Ok(answer) => self.own_answer(request, answer.response).await,
            Err(error) => failed(request, &error.into()),
        }
    }

    /// Hands on an answer that only this client may have. If it is a whole content with a
    /// digest, it passes the integrity gate like any other.
    pub(crate) async fn own_answer(
        &self,
        request: &Accelerated,
        answer: Response<Incoming>,
    ) -> Response<ResponseBody> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let part = match status {
            StatusCode::OK => None,
            StatusCode::PARTIAL_CONTENT => {
                match text(&headers, &CONTENT_RANGE).and_then(ContentRange::parse) {
                    Some(part) => Some(part),
                    None => return refuse_or_pass_on(request, answer),
                }
            }
            _ => return refuse_or_pass_on(request, answer),
        };
        let (origin, fetch) = (self.origin().clone(), request.task.fetch.clone());
        let range = part.map(|part| part.range);
        let stream = ContentStream::new(origin, fetch, answer, range, request.task.named);
        let stream = match stream {
            Ok(stream) => stream,
            Err(source) => {
                let origin = request.task.authority.to_string();
                return failed(request, &ContentError::Fetch { origin, source });
            }
        };
        let whole = |part: ContentRange| part.range.start == 0 && part.total == Some(part.range.end);
        let digest = request.task.digest.filter(|_| part.is_none_or(whole));
        let mut body = Direct::new(stream, request.task.authority.to_string(), digest);
        if digest.is_some() {
            let (tasks, task) = (self.inner.tasks.clone(), request.task.clone());
            let described = representation(&headers);
            let total = part.map_or_else(|| body.total(), |part| part.total);
            body = body.when_verified(move || {
                tasks.note_origin(&task.key, &task.authority, &described);
                tasks.contradict(&task, total);
            });
        }
        self.respond_direct(request, body, status, headers).await
    }

    pub(crate) async fn respond_direct(
        &self,
        request: &Accelerated,
        mut body: Direct,
        status: StatusCode,
        headers: HeaderMap,
    ) -> Response<ResponseBody> {
        if let Err(error) = body.prime().await {
            return failed(request, &error);
        }
        let part = text(&headers, &CONTENT_RANGE).and_then(ContentRange::parse);
        let length = match (status, part) {
            (StatusCode::PARTIAL_CONTENT, Some(part)) => Some(part.range.len()),
            _ => body.total(),
        };
        let mut headers = own(headers);
        if let (StatusCode::PARTIAL_CONTENT, Some(part)) = (status, part) {
            insert(&mut headers, CONTENT_RANGE, &part.to_string());
        }
        head(request, status, headers, length, Content::Direct(Box::new(body)))
    }

    /// Answers from the store whoever may have the content.
    pub(crate) async fn respond_stored(
        &self,
        request: &Accelerated,
        stored: Stored,
    ) -> Response<ResponseBody> {
        let (headers, total) = (stored.headers(&request.task.authority), stored.total());
        match request.conditions.judge(&headers) {
            Judgement::NotModified => return not_modified(&headers),
            Judgement::Failed => return precondition_failed(&headers),
            Judgement::Proceed if request.head => return head_only(request, headers, total),
            Judgement::Proceed => {}
        }
        let range = match request.parts(&headers, total) {
            Parts::Nothing => return unsatisfiable(RangeError { total }),
            Parts::Several(parts) => {
                let parts = Multipart::new(stored, request.task.clone(), &headers, parts);
                return respond_parts(request, headers, parts).await;
            }
            Parts::One(range) => Some(range),
            Parts::Whole => None,
        };
        let reader = stored.reader(&request.task, range);
        self.respond(request, reader, headers, range.map(|range| (range, total))).await
    }

    pub(crate) async fn respond(
        &self,
        request: &Accelerated,
        mut reader: Reader,
        mut headers: HeaderMap,
        range: Option<(ByteRange, u64)>,
    ) -> Response<ResponseBody> {
        if let Err(error) = reader.prime().await {
            return failed(request, &error);
        }
        if let Some(right) = reader.take_headers() {
            headers = right;
        }
        headers.entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
        let (status, length) = match range {
            Some((range, total)) => {
                let part = ContentRange { range, total: Some(total) };
                insert(&mut headers, CONTENT_RANGE, &part.to_string());
                (StatusCode::PARTIAL_CONTENT, Some(range.len()))
            }
            None => (StatusCode::OK, reader.total()),
        };
        head(request, status, headers, length, Content::Reader(Box::new(reader)))
    }
}

/// An answer's headers for the client whose own answer it was, without its framing and coding:
/// these are set anew.
pub(crate) fn own(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING] {
        headers.remove(name);
    }
    headers
}

pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Several parts as one 206.
async fn respond_parts(
    request: &Accelerated,
    mut headers: HeaderMap,
    mut parts: Multipart,
) -> Response<ResponseBody> {
    if let Err(error) = parts.prime().await {
        return failed(request, &error);
    }
    insert(&mut headers, CONTENT_TYPE, &parts.content_type());
    headers.entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
    let length = Some(parts.length());
    head(request, StatusCode::PARTIAL_CONTENT, headers, length, Content::Parts(Box::new(parts)))
}

/// The head of the answer that a GET would get.
fn head_only(request: &Accelerated, mut headers: HeaderMap, total: u64) -> Response<ResponseBody> {
    headers.entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
    insert(&mut headers, CONTENT_LENGTH, &total.to_string());
    describe(request, StatusCode::OK, &mut headers, Source::Cache);
    let mut response = Response::new(empty());
    *response.headers_mut() = headers;
    response
}

/// 304 (RFC 9110, section 15.4.5).
fn not_modified(content: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = not_modified_headers(content);
    response
}

/// 412 (RFC 9110, section 15.5.13), with the tag that the content really has.
fn precondition_failed(content: &HeaderMap) -> Response<ResponseBody> {
    let message =
        "the content is another than If-Match or If-Unmodified-Since names; ask again without the condition";
    let mut response = respond::text(StatusCode::PRECONDITION_FAILED, message);
    if let Some(etag) = content.get(ETAG) {
        response.headers_mut().insert(ETAG, etag.clone());
    }
    response
}

pub(crate) fn unsatisfiable(error: RangeError) -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{}", error.total));
    response
}

/// A response with its head; the reader of `content` is its body.
fn head(
    request: &Accelerated,
    status: StatusCode,
    mut headers: HeaderMap,
    length: Option<u64>,
    content: Content,
) -> Response<ResponseBody> {
    match length {
        Some(length) => insert(&mut headers, CONTENT_LENGTH, &length.to_string()),
        // Such a body would end by the connection's end, whether it is whole or broken off.
        None if request.http_1_0 => {
            let message =
                "the origin tells no length, and an HTTP/1.0 client could not tell the end of the content";
            return respond::text(StatusCode::BAD_GATEWAY, message);
        }
        None => {}
    }
    describe(request, status, &mut headers, content.source());
    let (task, peer) = (request.task.id.clone(), Arc::clone(&request.task.peer));
    let (source, spared, peers) = (content.source(), content.is_spared(), content.peers());
    let (files, trace) = (request.files.clone(), request.trace);
    let report = Report { task, peer, started: request.started, length, files, trace };
    let mut response = Response::new(serving(content, report));
    response.extensions_mut().insert(source);
    if let Some(peers) = peers {
        response.extensions_mut().insert(peers);
    }
    response.extensions_mut().insert(OfRegistry {
        host_port: request.task.authority.host_port(),
        credential: Some(Arc::clone(&request.task.credential)),
    });
    if spared {
        response.extensions_mut().insert(Spared);
    }
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Says of which task the answer is, and whether it came from the store. What the origin says by
/// such headers is of a daemon behind it, and does not count here.
fn describe(request: &Accelerated, status: StatusCode, headers: &mut HeaderMap, source: Source) {
    strip_dragonfly(headers);
    insert(headers, TASK, request.task.id.as_str());
    insert(headers, TASK_ID, request.task.id.as_str());
    insert(headers, PEER, &request.task.peer);
    insert(headers, SERVER_IP, &request.server_ip.to_string());
    if source == Source::Cache {
        headers.insert(FINISHED, HeaderValue::from_static("true"));
        let part = text(headers, &CONTENT_RANGE).and_then(ContentRange::parse);
        if let (StatusCode::PARTIAL_CONTENT, Some(ContentRange { range, .. })) = (status, part) {
            insert(headers, STORED_RANGE, &format!("{}-{}", range.start, range.end.saturating_sub(1)));
        }
    }
}

/// The answer to a client that wants only what is stored (as RFC 9111, section 5.2.1.7, has it).
pub(crate) fn not_stored(request: &Accelerated) -> Response<ResponseBody> {
    let (peer, task) = (&*request.task.peer, request.task.id.as_str());
    info!(peer, task, "not stored, and the client wants nothing to be fetched");
    let message = "the content is not stored here, and nothing may be fetched; ask again without \
                   X-Dragonfly-Disable-Back-To-Source (--disable-back-source)";
    respond::text(StatusCode::GATEWAY_TIMEOUT, message)
}

/// Hands on an answer that is not the content. For a content with a digest no such answer may
/// look like one: of a success without the content's own status nothing could be verified.
pub(crate) fn refuse_or_pass_on(request: &Accelerated, answer: Response<Incoming>) -> Response<ResponseBody> {
    if request.task.digest.is_none() || !answer.status().is_success() {
        return pass_on(answer);
    }
    let reason = format!("the origin answered {} to a request for the content", answer.status());
    let (origin, source) = (request.task.authority.to_string(), FetchError::Unusable(reason));
    failed(request, &ContentError::Fetch { origin, source })
}

/// The answer to a request whose content cannot be had, and the line in the log.
pub(crate) fn failed(request: &Accelerated, failed: &ContentError) -> Response<ResponseBody> {
    let (peer, task) = (&*request.task.peer, request.task.id.as_str());
    error!(peer, task, component = "PeerTask", "peer task failed, code: 4008, reason: {failed}");
    respond::content_failed(failed)
}
