//! Requests that become a task: found in the store, joined while running, or begun.

use std::sync::Arc;
use std::time::Instant;

use dfget_core::{
    Authority, ByteRange, ContentRange, ContentReference, RangeError, RangeHeader, TaskId, TaskParts,
    UrlFilter,
};
use dfget_origin::headers::{for_content, is_strong, strip_hop_by_hop, text};
use dfget_origin::{ContentStream, FetchRequest, Identity};
use dfget_task::{Begun, ContentError, Direct, Found, Reader, Seat, Stored, TaskRequest};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use tracing::{error, warn};
use url::Url;
use uuid::Uuid;

use crate::access::Verdict;
use crate::body::{Content, Report, ResponseBody, empty, serving};
use crate::forward::pass_on;
use crate::handler::Proxy;
use crate::permission::{self, Permission};
use crate::respond;

const TASK: HeaderName = HeaderName::from_static("x-dragonfly-task");
const PEER: HeaderName = HeaderName::from_static("x-dragonfly-peer");

/// One request that becomes a task.
struct Accelerated {
    task: TaskRequest,
    /// The path's own word on the content, if it names one by digest.
    reference: Option<ContentReference>,
    filter: UrlFilter,
    /// The client's `Range` and `If-Range`.
    range: RangeHeader,
    if_range: Option<HeaderValue>,
    started: Instant,
}

/// What a look at a stored or running content led to.
enum Step {
    Respond(Response<ResponseBody>),
    /// The content is gone or another by now: look again.
    Again,
}

impl Proxy {
    pub(crate) async fn accelerate(&self, url: Url, headers: &HeaderMap) -> Response<ResponseBody> {
        let Some(request) = self.accelerated(url, headers) else {
            return respond::text(StatusCode::BAD_REQUEST, "the request's URL names no origin");
        };
        loop {
            let step = match self.inner.tasks.find(&request.task).await {
                Found::Stored(stored) => self.from_store(&request, &stored).await,
                Found::Running(task) => self.from_running(&request, &task).await,
                Found::Absent(lead) => {
                    let accepted = |identity: &Identity| self.accepted(&request, identity);
                    let begun = lead.begin(&request.task, accepted).await;
                    Step::Respond(self.from_origin(&request, begun).await)
                }
            };
            if let Step::Respond(response) = step {
                return response;
            }
        }
    }

    fn accelerated(&self, url: Url, headers: &HeaderMap) -> Option<Accelerated> {
        let options = &self.inner.options;
        let ours = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let filter = ours("x-dragonfly-filter").map_or_else(|| options.filter.clone(), UrlFilter::parse);
        let parts = TaskParts {
            tag: ours("x-dragonfly-tag").unwrap_or(&options.tag),
            application: ours("x-dragonfly-application").unwrap_or(&options.application),
            ..TaskParts::default()
        };
        let reference = ContentReference::of_path(url.path());
        let range = text(headers, &RANGE).map_or(RangeHeader::Whole, RangeHeader::parse);
        let if_range = headers.get(IF_RANGE).cloned();
        let task = TaskRequest {
            id: TaskId::of(url.as_str(), &filter, parts, reference.as_ref()),
            digest: reference.as_ref().map(|reference| reference.digest),
            authority: Authority::of_url(&url)?,
            // Whether a conditional range counts shows only when the content's validators are known.
            range: if if_range.is_some() { RangeHeader::Whole } else { range },
            fetch: FetchRequest { url, headers: for_content(headers) },
            peer: format!("{}-{}", options.peer_prefix, Uuid::new_v4()).into(),
        };
        Some(Accelerated { task, reference, filter, range, if_range, started: Instant::now() })
    }

    fn permission(&self, request: &Accelerated, content: &permission::Content) -> Permission {
        let fetch = &request.task.fetch;
        let permissions = self.inner.access.permissions();
        permissions.of(&request.task.authority, content, &fetch.headers, &fetch.url, &request.filter)
    }

    /// The origin has given this content to this client.
    fn accepted(&self, request: &Accelerated, identity: &Identity) {
        let permission = self.permission(request, &request.content(identity));
        self.inner.access.grant(permission, &request.task.authority);
    }

    async fn verdict(&self, request: &Accelerated, identity: &Identity) -> Verdict {
        let content = request.content(identity);
        let permission = self.permission(request, &content);
        match content {
            permission::Content::Named { .. } => {
                self.inner.access.check_named(permission, &request.task).await
            }
            permission::Content::Unnamed { .. } => {
                self.inner.access.check_unnamed(permission, &request.task, identity).await
            }
        }
    }

    async fn from_store(&self, request: &Accelerated, stored: &Stored) -> Step {
        let verdict = self.verdict(request, &stored.identity()).await;
        if matches!(verdict, Verdict::Changed(_)) {
            stored.forget();
            return Step::Again;
        }
        if let Some(response) = self.refused(request, verdict).await {
            return Step::Respond(response);
        }
        let authority = &request.task.authority;
        if !stored.is_known_to(authority) {
            let proved = stored.prove(&request.task).await.unwrap_or_else(|error| {
                warn!(task = %request.task.id, "{authority} could not prove to have the content: {error}");
                false
            });
            if !proved {
                return Step::Respond(self.own_request(request).await);
            }
        }
        self.metrics().cache_hit();
        let headers = stored.headers(authority);
        let response = match request.resolve(&headers, stored.total()) {
            Err(error) => unsatisfiable(error),
            Ok(range) => {
                let reader = stored.reader(&request.task, range.map(|(range, _)| range));
                self.respond(request, reader, headers, range).await
            }
        };
        Step::Respond(response)
    }

    async fn from_running(&self, request: &Accelerated, task: &Seat) -> Step {
        let verdict = self.verdict(request, &task.identity()).await;
        if let Some(response) = self.refused(request, verdict).await {
            return Step::Respond(response);
        }
        match self.join(request, task, task.headers(), false).await {
            Some(response) => {
                self.metrics().cache_hit();
                Step::Respond(response)
            }
            None => {
                task.ended().await;
                Step::Again
            }
        }
    }

    async fn from_origin(
        &self,
        request: &Accelerated,
        begun: Result<Begun, ContentError>,
    ) -> Response<ResponseBody> {
        match begun {
            Ok(Begun::Task { task, own_headers }) => {
                let headers = own_headers.map_or_else(|| task.headers(), own);
                let joined = self.join(request, &task, headers, true).await;
                joined.unwrap_or_else(|| request.failed(&ContentError::Closing))
            }
            Ok(Begun::Direct { body, status, headers }) => {
                self.respond_direct(request, body, status, headers).await
            }
            Ok(Begun::Unstored) => self.own_request(request).await,
            Ok(Begun::Answer(answer)) => pass_on(answer),
            Err(error) => request.failed(&error),
        }
    }

    /// Makes the client a reader of a running task; `None` if that has ended meanwhile.
    async fn join(
        &self,
        request: &Accelerated,
        task: &Seat,
        headers: HeaderMap,
        leads: bool,
    ) -> Option<Response<ResponseBody>> {
        let range = match task.resolve(request.wanted(&task.headers())).await {
            Ok(range) => range,
            Err(error) => return Some(unsatisfiable(error)),
        };
        let reader = task.join(&request.task, range.map(|(range, _)| range), leads)?;
        Some(self.respond(request, reader, headers, range).await)
    }

    /// The answer for a client that must not have what is here; `None` if it may.
    async fn refused(&self, request: &Accelerated, verdict: Verdict) -> Option<Response<ResponseBody>> {
        match verdict {
            Verdict::Allowed => None,
            Verdict::Ask => Some(self.own_request(request).await),
            Verdict::Answer(answer) => Some(pass_on(answer)),
            Verdict::Changed(answer) => Some(self.own_answer(request, answer).await),
            Verdict::Unreachable(error) => Some(request.failed(&error.into())),
        }
    }

    /// Sends the client's own request to the origin; its answer is for this client alone.
    async fn own_request(&self, request: &Accelerated) -> Response<ResponseBody> {
        let mut extra = Vec::new();
        if let RangeHeader::One(_) = request.range
            && let Some(range) = &request.raw_range()
        {
            extra.push((RANGE, range.clone()));
            extra.extend(request.if_range.clone().map(|value| (IF_RANGE, value)));
        }
        match self.origin().fetch(&request.task.fetch, &extra).await {
            Ok(answer) => self.own_answer(request, answer.response).await,
            Err(error) => request.failed(&error.into()),
        }
    }

    /// Hands on an answer that only this client may have. If it is a whole content with a
    /// digest, it passes the integrity gate like any other.
    async fn own_answer(&self, request: &Accelerated, answer: Response<Incoming>) -> Response<ResponseBody> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let part = match status {
            StatusCode::OK => None,
            StatusCode::PARTIAL_CONTENT => {
                match text(&headers, &CONTENT_RANGE).and_then(ContentRange::parse) {
                    Some(part) => Some(part.range),
                    None => return pass_on(answer),
                }
            }
            _ => return pass_on(answer),
        };
        let (origin, fetch) = (self.origin().clone(), request.task.fetch.clone());
        let stream = ContentStream::new(origin, fetch, answer, part, request.task.digest.is_some());
        let stream = match stream {
            Ok(stream) => stream,
            Err(source) => {
                let origin = request.task.authority.to_string();
                return request.failed(&ContentError::Fetch { origin, source });
            }
        };
        let digest = request.task.digest.filter(|_| part.is_none());
        let mut body = Direct::new(stream, request.task.authority.to_string(), digest);
        if digest.is_some() {
            let (tasks, task) = (self.inner.tasks.clone(), request.task.clone());
            let described = dfget_origin::headers::representation(&headers);
            body = body.when_verified(move || tasks.note_origin(&task.id, &task.authority, &described));
        }
        self.respond_direct(request, body, status, headers).await
    }

    async fn respond_direct(
        &self,
        request: &Accelerated,
        mut body: Direct,
        status: StatusCode,
        headers: HeaderMap,
    ) -> Response<ResponseBody> {
        if let Err(error) = body.prime().await {
            return request.failed(&error);
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
        request.head(status, headers, length, Content::Direct(Box::new(body)))
    }

    async fn respond(
        &self,
        request: &Accelerated,
        mut reader: Reader,
        mut headers: HeaderMap,
        range: Option<(ByteRange, u64)>,
    ) -> Response<ResponseBody> {
        if let Err(error) = reader.prime().await {
            return request.failed(&error);
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
        request.head(status, headers, length, Content::Reader(Box::new(reader)))
    }
}

// === impl Accelerated ===

impl Accelerated {
    fn content(&self, identity: &Identity) -> permission::Content {
        match &self.reference {
            Some(reference) => permission::Content::Named {
                repository: reference.repository.clone(),
                digest: reference.digest,
            },
            None => permission::Content::unnamed(&self.task.id, identity),
        }
    }

    /// The range that counts for a content described by `headers` (RFC 9110, section 13.1.5).
    fn wanted(&self, headers: &HeaderMap) -> RangeHeader {
        let holds = |condition: &HeaderValue| {
            let condition = condition.to_str().unwrap_or_default();
            let validator = if condition.starts_with('"') { ETAG } else { LAST_MODIFIED };
            let strong = validator == LAST_MODIFIED || is_strong(condition);
            strong && text(headers, &validator) == Some(condition)
        };
        if self.if_range.as_ref().is_none_or(holds) { self.range } else { RangeHeader::Whole }
    }

    fn resolve(&self, headers: &HeaderMap, total: u64) -> Result<Option<(ByteRange, u64)>, RangeError> {
        match self.wanted(headers) {
            RangeHeader::Whole => Ok(None),
            RangeHeader::One(spec) => spec.resolve(total).map(|range| Some((range, total))),
        }
    }

    /// The client's range in its canonical form.
    fn raw_range(&self) -> Option<HeaderValue> {
        use dfget_core::RangeSpec;
        let RangeHeader::One(spec) = self.range else { return None };
        let value = match spec {
            RangeSpec::FromTo(first, last) => format!("bytes={first}-{last}"),
            RangeSpec::From(first) => format!("bytes={first}-"),
            RangeSpec::Suffix(length) => format!("bytes=-{length}"),
        };
        value.try_into().ok()
    }

    fn head(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        length: Option<u64>,
        content: Content,
    ) -> Response<ResponseBody> {
        if let Some(length) = length {
            insert(&mut headers, CONTENT_LENGTH, &length.to_string());
        }
        insert(&mut headers, TASK, self.task.id.as_str());
        insert(&mut headers, PEER, &self.task.peer);
        let (task, peer) = (self.task.id.clone(), Arc::clone(&self.task.peer));
        let source = content.source();
        let report = Report { task, peer, started: self.started, length };
        let mut response = Response::new(serving(content, report));
        response.extensions_mut().insert(source);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn failed(&self, failed: &ContentError) -> Response<ResponseBody> {
        let (peer, task) = (&*self.task.peer, self.task.id.as_str());
        error!(peer, task, component = "PeerTask", "peer task failed, code: 4008, reason: {failed}");
        respond::content_failed(failed)
    }
}

/// An answer's headers for the client whose own answer it was, without its framing and coding:
/// these are set anew.
fn own(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING] {
        headers.remove(name);
    }
    headers
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn unsatisfiable(error: RangeError) -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{}", error.total));
    response
}
