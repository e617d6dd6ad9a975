//! What every pull asks a registry before its first blob, asked once for all who ask alike.
//!
//! `/v2/`, manifests, and tokens: an `apptainer pull` sends up to six such requests, and a job array sends them a
//! hundred times in the same second. Those that are alike in URL, `Accept` and credential wait for one of them;
//! what it brings is theirs too, and holds for a while: a tag for `manifests.freshness`, after which the registry
//! is asked by HEAD or `If-None-Match` whether it changed; a token until shortly before its end. While the
//! registry does not answer, what it said last to this credential counts, within `access.offlineGrace`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dfget_core::{Authority, Digest, RegistryPath};
use dfget_origin::headers::{for_content, is_strong, representation, strip_hop_by_hop, text};
use dfget_origin::{BoxError, FetchRequest, OriginError};
use dfget_telemetry::Source;
use futures_util::{StreamExt as _, TryStreamExt, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PRAGMA, RANGE, RETRY_AFTER,
    TRANSFER_ENCODING, VARY, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use url::Url;

use crate::access::{Word, word_of};
use crate::answers::{Kept, Place, Since};
use crate::body::{OfRegistry, ResponseBody, empty};
use crate::handler::Proxy;
use crate::mirror::is_clients_choice;
use crate::permission::Permission;
use crate::respond;
use crate::token;

/// Bytes of an answer that is kept: as long as a manifest may be (OCI distribution specification).
const LONGEST: usize = 4 << 20;

/// How long a registry is waited for where there is an answer of its own from before.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the answer to `/v2/` holds: it tells how a registry asks for a login, and nothing that changes.
const PING_HOLDS: Duration = Duration::from_secs(60);

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    Ping,
    Manifest { repository: String, digest: Option<Digest> },
    Token,
}

/// A request that is asked once for all who ask alike.
#[derive(Clone)]
struct Question {
    asked: Asked,
    authority: Authority,
    head: bool,
    fetch: FetchRequest,
    /// Under which its answer is kept.
    name: Permission,
    /// The same for what a GET and a HEAD bring.
    names: [Permission; 2],
    credential: Arc<str>,
    /// The registry is one that somebody has chosen: its word on where tokens are from counts.
    chosen: bool,
}

/// What the origin said.
enum Told {
    /// An answer for the client who asked; others may know it by now as well.
    Own(Response<ResponseBody>),
    /// What it said before holds.
    Same(Arc<Kept>),
    /// Nothing that could be relied on: no answer, or that it cannot answer now. What is `kept` is for those who wait.
    Sick { why: String, answer: Response<ResponseBody>, kept: Box<Kept> },
}

impl Proxy {
    /// What a request asks that is asked once for all; `None` for every other request.
    pub(crate) fn collapsible<B>(&self, url: &Url, request: &Request<B>) -> Option<Asked>
    where
        B: hyper::body::Body,
    {
        let plain = request.body().is_end_stream() && !is_particular(request.headers());
        if !plain || !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match RegistryPath::of_path(url.path()) {
            Some(RegistryPath::Ping) => Some(Asked::Ping),
            Some(RegistryPath::Manifest { repository, digest }) => {
                Some(Asked::Manifest { repository, digest })
            }
            None if request.method() == Method::GET && self.inner.realms.is_realm(url) => Some(Asked::Token),
            None => None,
        }
    }

    /// Answers such a request.
    pub(crate) async fn collapse(
        &self,
        asked: Asked,
        url: Url,
        request: &Request<Incoming>,
        chosen: bool,
    ) -> Response<ResponseBody> {
        let Some(authority) = Authority::of_url(&url) else {
            return respond::text(StatusCode::BAD_REQUEST, "the request's URL names no origin");
        };
        self.metrics().not_via_dragonfly();
        let head = request.method() == Method::HEAD;
        let clients_choice = is_clients_choice(request.extensions());
        let fetch = FetchRequest { url, headers: for_content(request.headers()), clients_choice };
        let permissions = self.inner.access.permissions();
        let name = |head| permissions.question(&authority, &fetch.headers, &fetch.url, head);
        let names @ [with_body, without] = [name(false), name(true)];
        let (arrived, answers) = (Instant::now(), &self.inner.answers);
        // The answer to a GET answers a HEAD too.
        let usable = |waiting| {
            let now = Instant::now();
            let found = answers.usable(with_body, waiting, now);
            found.or_else(|| answers.usable(without, waiting, now).filter(|_| head))
        };
        if let Some(kept) = usable(None) {
            return kept.respond(head);
        }
        let name = if head { without } else { with_body };
        let _turn = self.inner.collapsing.take(name).await;
        if let Some(kept) = usable(Some(arrived)) {
            return kept.respond(head);
        }
        let credential = permissions.credential(&fetch.headers, &fetch.url).to_hex().into();
        let authority = authority.clone();
        let question = Question { asked, authority, head, fetch, name, names, credential, chosen };
        Box::pin(self.lead_question(question)).await
    }

    /// Asks for all who wait.
    async fn lead_question(&self, question: Question) -> Response<ResponseBody> {
        debug!("{}{} is asked for all who wait", question.authority, question.fetch.url.path());
        let Some(good) = self.fallback_of(&question) else {
            return match self.ask(&question, None).await {
                Told::Own(response) => response,
                Told::Same(kept) => kept.respond(question.head),
                Told::Sick { answer, kept, .. } => {
                    self.inner.answers.tell(question.name, *kept, false);
                    answer
                }
            };
        };
        if self.inner.access.is_silent(&question.authority, &question.credential) {
            return self.fall_back(&question, &good, "did not answer a moment ago");
        }
        // Heard to its end even if nobody waits any more, so that a slow registry is no silent one.
        let (proxy, head) = (self.clone(), question.head);
        let (again, before) = (question.clone(), Arc::clone(&good));
        let asked = self.inner.tracker.spawn(async move { proxy.ask(&again, Some(&before)).await });
        match timeout(PATIENCE, asked).await {
            Ok(Ok(Told::Own(response))) => response,
            Ok(Ok(Told::Same(kept))) => kept.respond(head),
            Ok(Ok(Told::Sick { why, .. })) => self.fall_back(&question, &good, &why),
            Ok(Err(_)) => self.fall_back(&question, &good, "could not be asked"),
            Err(_) => {
                self.inner.access.note_silent(&question.authority, Some(&question.credential));
                self.fall_back(&question, &good, "does not answer")
            }
        }
    }

    /// What the client is answered if the origin cannot be asked.
    fn fallback_of(&self, question: &Question) -> Option<Arc<Kept>> {
        let (grace, now) = (self.inner.options.load().access.offline_grace?, Instant::now());
        let good = self.inner.answers.good(question.name).filter(|kept| kept.age(now) <= grace)?;
        // An old token is of use only where the registry itself could not refuse it.
        let of_use = || {
            let registries = self.inner.realms.registries_at(&question.fetch.url);
            registries.iter().any(|registry| self.inner.access.is_gone(registry))
        };
        (question.asked != Asked::Token || of_use()).then_some(good)
    }

    fn fall_back(&self, question: &Question, good: &Kept, why: &str) -> Response<ResponseBody> {
        let age = good.age(Instant::now()).as_secs();
        let what = question.fetch.url.path();
        info!("{} {why}; {what} is answered as it was {age} s ago", question.authority);
        good.respond(question.head)
    }

    /// Asks the origin, by the client's own request or, where an answer of before is `good` still, for that alone.
    async fn ask(&self, question: &Question, good: Option<&Arc<Kept>>) -> Told {
        let since = self.inner.answers.since();
        let mut extra = Vec::new();
        if let Some(kept) = good {
            if let (Some(digest), false) = (kept.digest, question.head) {
                match self.origin().ask(Method::HEAD, &question.fetch, &[]).await {
                    Ok(answer) if names(&answer, digest) => return self.renewed(question, kept, since),
                    Ok(answer) if word_of(answer.status().as_u16()) == Word::Unreachable => {
                        return self.judge(question, answer, since).await;
                    }
                    Err(error) if error.is_unreachable() => return self.sick(question, &error),
                    // Another content, a no, or no HEAD at all: the client's own request shows.
                    Ok(_) | Err(_) => {}
                }
            } else if let Some(etag) =
                kept.headers.get(ETAG).filter(|etag| etag.to_str().is_ok_and(is_strong))
            {
                extra.push((IF_NONE_MATCH, etag.clone()));
            }
        }
        let method = if question.head { Method::HEAD } else { Method::GET };
        let answer = match good {
            Some(_) => self.origin().ask(method, &question.fetch, &extra).await,
            None => self.origin().ask_patiently(method, &question.fetch, &extra).await,
        };
        match (answer, good) {
            (Ok(answer), Some(kept)) if answer.status() == StatusCode::NOT_MODIFIED => {
                self.renewed(question, kept, since)
            }
            (Ok(answer), _) => self.judge(question, answer, since).await,
            (Err(error), _) if error.is_unreachable() => self.sick(question, &error),
            (Err(error), _) => {
                let (status, text) = (respond::gateway_status(error.verdict()), error.to_string());
                let kept = refusal(question, status, &text, None);
                self.inner.answers.tell(question.name, kept, false);
                Told::Own(respond::origin_failed(&error))
            }
        }
    }

    /// The origin could not be asked.
    fn sick(&self, question: &Question, error: &OriginError) -> Told {
        self.inner.access.note_failure(&question.authority, &question.credential, error);
        let retry_after = error.retry_after();
        let status = match retry_after {
            Some(_) => StatusCode::TOO_MANY_REQUESTS,
            None => respond::gateway_status(error.verdict()),
        };
        let kept = Box::new(refusal(question, status, &error.to_string(), retry_after));
        Told::Sick { why: format!("cannot be asked: {error}"), answer: respond::origin_failed(error), kept }
    }

    fn renewed(&self, question: &Question, kept: &Arc<Kept>, since: Since) -> Told {
        self.inner.answers.renew(question.name, Instant::now(), since);
        Told::Same(Arc::clone(kept))
    }

    /// Takes an answer in: keeps it, tells it to those who wait, or only hands it on.
    async fn judge(&self, question: &Question, mut answer: Response<Incoming>, since: Since) -> Told {
        // A body that ends with its connection may have been cut.
        let framed =
            [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| answer.headers().contains_key(name));
        strip_hop_by_hop(answer.headers_mut());
        if answer.status() == StatusCode::UNAUTHORIZED && question.chosen && question.asked != Asked::Token {
            self.inner.realms.learn(&question.authority, answer.headers());
        }
        let whole = match self.collect(question, answer).await {
            Ok(whole) => whole,
            Err(told) => return *told,
        };
        let (status, headers) = (whole.status(), whole.headers());
        if let Some(error) = contradiction(question, &whole) {
            warn!("{error}");
            self.inner.answers.tell(
                question.name,
                refusal(question, StatusCode::BAD_GATEWAY, &error, None),
                true,
            );
            return Told::Own(respond::text(StatusCode::BAD_GATEWAY, &error));
        }
        let kept = self.kept(question, &whole);
        if let (Asked::Manifest { repository, digest: None }, false) = (&question.asked, question.head) {
            self.keep_tagged(&question.authority, repository, &question.fetch, kept.digest, &whole);
        }
        let response = {
            let body = whole.body().clone();
            let mut response = Response::new(full(body));
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            response.extensions_mut().insert(Source::Forwarded);
            response
        };
        if word_of(status.as_u16()) == Word::Unreachable {
            self.inner.access.note_silent(&question.authority, Some(&question.credential));
            let why = format!("answers {status}");
            return Told::Sick { why, answer: response, kept: Box::new(kept) };
        }
        let sharable = varies_by_what_counts(headers)
            && !status.is_redirection()
            && (framed || question.head || kept.digest.is_some());
        if sharable && is_good(&question.asked, &kept) {
            self.inner.answers.keep(question.name, kept, since);
        } else {
            // A no takes back what was given before, whoever may be told of it.
            self.inner.answers.forget(&question.names, Instant::now());
            if sharable {
                self.inner.answers.tell(question.name, kept, true);
            }
        }
        Told::Own(response)
    }

    /// The answer with its whole body.
    ///
    /// # Errors
    /// What the client is answered where that cannot be had, or should not: it is too long, or breaks off.
    async fn collect(
        &self,
        question: &Question,
        answer: Response<Incoming>,
    ) -> Result<Response<Bytes>, Box<Told>> {
        let stall = self.origin().timeouts().stall;
        let (parts, mut body) = answer.into_parts();
        let mut bytes = BytesMut::new();
        loop {
            let frame = match timeout(stall, body.frame()).await {
                Ok(None) => return Ok(Response::from_parts(parts, bytes.freeze())),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err(Box::new(broken(question, "the connection broke"))),
                Err(_) => return Err(Box::new(broken(question, "it stopped sending"))),
            };
            let Ok(data) = frame.into_data() else { continue };
            bytes.extend_from_slice(&data);
            if bytes.len() > LONGEST {
                let first = stream::iter([Ok(Frame::data(bytes.freeze()))]);
                let rest = TryStreamExt::map_err(BodyStream::new(body), BoxError::from);
                let whole = BodyExt::boxed_unsync(StreamBody::new(first.chain(rest)));
                let mut response = Response::from_parts(parts, whole);
                response.extensions_mut().insert(Source::Forwarded);
                return Err(Box::new(Told::Own(response)));
            }
        }
    }

    /// What of an answer is for others too.
    fn kept(&self, question: &Question, whole: &Response<Bytes>) -> Kept {
        let (headers, told) = (whole.headers(), Instant::now());
        let mut shared = representation(headers);
        for name in [WWW_AUTHENTICATE, RETRY_AFTER, CONTENT_ENCODING] {
            for value in headers.get_all(&name) {
                shared.append(name.clone(), value.clone());
            }
        }
        match (question.head, headers.get(CONTENT_LENGTH)) {
            (true, Some(length)) => shared.insert(CONTENT_LENGTH, length.clone()),
            (true, None) => None,
            (false, _) => shared.insert(CONTENT_LENGTH, HeaderValue::from(whole.body().len())),
        };
        let (freshness, ttl) = {
            let options = self.inner.options.load();
            (options.freshness, options.access.ttl)
        };
        let token = token::read(whole.body()).filter(|_| question.asked == Asked::Token);
        let (repository, digest, fresh) = match &question.asked {
            // That a login is good holds as long as any such word.
            Asked::Ping if whole.status() == StatusCode::OK => (String::new(), None, PING_HOLDS.min(ttl)),
            Asked::Ping => (String::new(), None, PING_HOLDS),
            Asked::Manifest { repository, .. } => (repository.clone(), digest_of(headers), freshness),
            Asked::Token => (String::new(), None, token.as_ref().map_or(Duration::ZERO, |(_, holds)| *holds)),
        };
        Kept {
            status: whole.status(),
            headers: shared,
            body: (!question.head).then(|| whole.body().clone()),
            digest,
            token: token.map(|(token, _)| token),
            place: Place { authority: question.authority.clone(), repository },
            told,
            fresh,
        }
    }

    /// Notes that a request changes a repository: what is known of its tags may be wrong from now on.
    pub(crate) fn note_push(&self, url: &Url, method: &Method) {
        if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
            && let Some(RegistryPath::Manifest { repository, .. }) = RegistryPath::of_path(url.path())
            && let Some(authority) = Authority::of_url(url)
        {
            self.inner.answers.pushed(&Place { authority, repository });
        }
    }
}

// === impl Kept ===

impl Kept {
    fn respond(&self, head: bool) -> Response<ResponseBody> {
        let body = self.body.as_ref().filter(|_| !head);
        let mut response = Response::new(body.map_or_else(empty, |body| full(body.clone())));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response.extensions_mut().insert(Source::Shared);
        let host_port = self.place.authority.host_port();
        response.extensions_mut().insert(OfRegistry { host_port, credential: None });
        response
    }
}

fn full(body: Bytes) -> ResponseBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn broken(question: &Question, how: &str) -> Told {
    let message = format!("{}: {how} in the middle of its answer", question.authority.host_port());
    let kept = refusal(question, StatusCode::BAD_GATEWAY, &message, None);
    let answer = respond::text(StatusCode::BAD_GATEWAY, &message);
    Told::Sick { why: format!("answers in part only: {how}"), answer, kept: Box::new(kept) }
}

/// An answer of our own, for those who wait.
fn refusal(question: &Question, status: StatusCode, message: &str, retry_after: Option<u64>) -> Kept {
    let body = Bytes::from(format!("dfget: {message}\n"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.extend(retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
    Kept {
        status,
        headers,
        body: Some(body),
        digest: None,
        token: None,
        place: Place { authority: question.authority.clone(), repository: String::new() },
        told: Instant::now(),
        fresh: Duration::ZERO,
    }
}

/// Whether a request asks for something of its own: a part, a condition, or an answer that nobody has kept.
fn is_particular(headers: &HeaderMap) -> bool {
    const NAMES: [HeaderName; 6] =
        [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];
    let says = |name: &HeaderName| text(headers, name).is_some_and(|value| value.contains("no-"));
    NAMES.iter().any(|name| headers.contains_key(name)) || says(&CACHE_CONTROL) || says(&PRAGMA)
}

/// Whether an answer may be given again. Anything may lie at `/v2/`, so a registry must say that it is one.
fn is_good(asked: &Asked, kept: &Kept) -> bool {
    match (asked, kept.status) {
        (Asked::Ping, StatusCode::OK) => kept.headers.contains_key(&API_VERSION),
        (Asked::Ping, StatusCode::UNAUTHORIZED) => kept.headers.contains_key(WWW_AUTHENTICATE),
        (Asked::Manifest { .. }, StatusCode::OK) => true,
        (Asked::Token, StatusCode::OK) => kept.token.is_some(),
        _ => false,
    }
}

/// Whether an answer depends on nothing but what a question is told by.
fn varies_by_what_counts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    names.all(|name| {
        matches!(
            name.as_str(),
            "" | "accept" | "accept-encoding" | "accept-language" | "authorization" | "cookie" | "origin"
        )
    })
}

fn digest_of(headers: &HeaderMap) -> Option<Digest> {
    text(headers, &DOCKER_CONTENT_DIGEST)?.parse().ok()
}

/// Whether the answer to a HEAD says that the content is still this one.
fn names(answer: &Response<Incoming>, digest: Digest) -> bool {
    answer.status() == StatusCode::OK && digest_of(answer.headers()) == Some(digest)
}

/// What is wrong with a manifest that is not what its name, or the registry's own word, says.
fn contradiction(question: &Question, whole: &Response<Bytes>) -> Option<String> {
    let Asked::Manifest { digest, .. } = &question.asked else { return None };
    if question.head || whole.status() != StatusCode::OK || whole.headers().contains_key(CONTENT_ENCODING) {
        return None;
    }
    let expected = digest.or_else(|| digest_of(whole.headers()))?;
    let actual = expected.of_same_kind(whole.body());
    (actual != expected).then(|| {
        let host = question.authority.host_port();
        format!("{host} delivered a manifest with digest {actual} for {expected}; nothing of it was kept")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn requests_for_something_of_their_own_are_not_shared() {
        for (name, value) in [
            ("range", "bytes=0-1"),
            ("if-none-match", "\"x\""),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0, no-store"),
            ("pragma", "no-cache"),
        ] {
            assert!(is_particular(&headers(&[(name, value)])), "{name}: {value}");
        }
        assert!(!is_particular(&headers(&[("accept", "*/*"), ("cache-control", "max-age=60")])));
    }

    #[test]
    fn answers_that_depend_on_anything_else_are_not_shared() {
        assert!(varies_by_what_counts(&headers(&[("vary", "Accept-Encoding, Authorization,Cookie")])));
        assert!(varies_by_what_counts(&headers(&[])));
        assert!(!varies_by_what_counts(&headers(&[("vary", "User-Agent")])));
        assert!(!varies_by_what_counts(&headers(&[("vary", "*")])));
    }

    #[test]
    fn only_what_a_registry_says_of_itself_is_good_for_later() {
        let authority = Authority::parse(dfget_core::Scheme::Https, "r.test").expect("an authority");
        let good =
            |asked: &Asked, status: u16, pairs: &[(&'static str, &'static str)], token: Option<&str>| {
                let kept = Kept {
                    status: StatusCode::from_u16(status).expect("a status"),
                    headers: headers(pairs),
                    body: None,
                    digest: None,
                    token: token.map(str::to_owned),
                    place: Place { authority: authority.clone(), repository: String::new() },
                    told: Instant::now(),
                    fresh: Duration::ZERO,
                };
                is_good(asked, &kept)
            };
        let manifest = Asked::Manifest { repository: "a".to_owned(), digest: None };
        let version = [("docker-distribution-api-version", "registry/2.0")];
        assert!(good(&Asked::Ping, 200, &version, None) && !good(&Asked::Ping, 200, &[], None));
        assert!(good(&Asked::Ping, 401, &[("www-authenticate", "Basic realm=\"r\"")], None));
        assert!(!good(&Asked::Ping, 404, &version, None));
        assert!(good(&manifest, 200, &[], None) && !good(&manifest, 401, &[], None));
        assert!(good(&Asked::Token, 200, &[], Some("x")) && !good(&Asked::Token, 200, &[], None));
    }
}
