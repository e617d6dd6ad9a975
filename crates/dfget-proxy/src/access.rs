//! Whether a client may have stored bytes: its own credential must have been accepted by the
//! origin for that very content.
//!
//! What the origin said is remembered for `access.ttl`; while the origin does not answer, what
//! it said last counts for `access.offlineGrace`. Nothing else opens a stored content: not the
//! digest, not another user's credential, not a right to another repository.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use dfget_core::{Authority, ContentRange, Digest};
use dfget_origin::headers::{content_length, representation, text};
use dfget_origin::{Answer, Identity, OriginClient, OriginError};
use dfget_storage::Store;
use dfget_task::{TaskRequest, Tasks};
use dfget_telemetry::{AccessCheck, Metrics};
use dfget_trace::{Context, Span};
use http::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    RANGE,
};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::permission::{Permission, Permissions};
use crate::spans;
use crate::turns::Turns;

/// The registries' own word on what they would send.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How long an origin that did not answer is taken for silent: whoever asks meanwhile need not
/// wait for it as well.
const SILENT_FOR: Duration = Duration::from_secs(3);

/// How long an origin is waited for where the client could be served without its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Remembered permissions are looked through for old ones when there are so many more.
const PRUNE_EVERY: usize = 4096;

/// An authority, and one credential there or all.
type Silence = (Authority, Option<Arc<str>>);

/// For how long the origin's word counts.
#[derive(Clone, Copy, Debug)]
pub struct AccessOptions {
    /// While the origin answers.
    pub ttl: Duration,
    /// While it does not; `None` = not at all.
    pub offline_grace: Option<Duration>,
}

/// The origin's word on a client's request for a content.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The client may have it.
    Allowed,
    /// The client's own request must go to the origin; its answer is the client's.
    Ask,
    /// The client's own request went to the origin; this is its answer.
    Answer(Response<Incoming>),
    /// The client may have what is at the URL, but that is another content now.
    Changed(Answer),
    /// The origin does not answer, and nothing is remembered.
    Unreachable(OriginError),
}

/// The memory of permissions, and the way to get them.
pub(crate) struct Access {
    options: ArcSwap<AccessOptions>,
    origin: OriginClient,
    store: Option<Store>,
    metrics: Metrics,
    permissions: Permissions,
    allowed: Mutex<HashMap<Permission, Instant>>,
    /// One question at a time for each permission; the others wait for its answer.
    asking: Turns<Permission>,
    /// Questions whose answer nobody waits for any more.
    tracker: TaskTracker,
    /// Who could not be asked a moment ago: an authority, or with one credential only.
    silent: Mutex<HashMap<Silence, Instant>>,
}

/// What a status says of a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    Yes,
    No,
    /// The head says nothing: a redirect may lead to the content or to a login page, and some
    /// registries know no HEAD. A byte of the content will tell.
    Unclear,
    /// It cannot say now.
    Unreachable,
}

/// What an origin said when it was asked.
struct Said {
    word: Word,
    /// The headers by which it describes the content.
    described: HeaderMap,
    /// How long it says that the content is, in bytes.
    total: Option<u64>,
}

// === impl Said ===

impl Said {
    fn nothing() -> Self {
        Self { word: Word::Unreachable, described: HeaderMap::new(), total: None }
    }
}

// === impl Access ===

impl Access {
    pub(crate) fn new(options: AccessOptions, tasks: &Tasks, secret: &[u8], tracker: TaskTracker) -> Self {
        Self {
            options: ArcSwap::from_pointee(options),
            origin: tasks.origin().clone(),
            store: tasks.store().cloned(),
            metrics: tasks.metrics().clone(),
            permissions: Permissions::new(secret),
            allowed: Mutex::default(),
            asking: Turns::default(),
            tracker,
            silent: Mutex::default(),
        }
    }

    pub(crate) fn set_options(&self, options: AccessOptions) {
        self.options.store(Arc::new(options));
    }

    pub(crate) const fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Notes that the origin has begun to give the content to this credential. Whether it is the
    /// right content shows later: [`Self::grant`] or [`Self::withdraw`].
    pub(crate) fn remember(&self, permission: Permission) {
        let now = Instant::now();
        let mut allowed = self.allowed.lock();
        allowed.insert(permission, now);
        if allowed.len().is_multiple_of(PRUNE_EVERY) {
            let ttl = self.options.load().ttl;
            allowed.retain(|_, at| now.duration_since(*at) < ttl);
        }
    }

    /// Notes that this credential may have the content, for times when the origin does not answer too.
    pub(crate) fn grant(&self, permission: Permission, authority: &Authority) {
        self.remember(permission);
        self.silent.lock().remove(&(authority.clone(), None));
        if let Some(store) = self.store.as_ref().filter(|_| self.options.load().offline_grace.is_some()) {
            let now = SystemTime::now();
            store.grant(permission.0, now);
            store.grant(self.permissions.any_at(authority).0, now);
        }
    }

    /// Notes that what was given to this credential at `accepted` was the right content, unless
    /// the origin has withdrawn the right since.
    pub(crate) fn confirm(&self, permission: Permission, authority: &Authority, accepted: SystemTime) {
        let stands = self.allowed.lock().contains_key(&permission);
        if let Some(store) =
            self.store.as_ref().filter(|_| stands && self.options.load().offline_grace.is_some())
        {
            store.grant(permission.0, accepted);
            store.grant(self.permissions.any_at(authority).0, accepted);
        }
    }

    /// Forgets a permission: what the origin gave was not the content.
    pub(crate) fn withdraw(&self, permission: Permission) {
        self.allowed.lock().remove(&permission);
        if let Some(store) = &self.store {
            store.revoke(&permission.0);
        }
    }

    /// Whether anybody may have anything of this authority while it does not answer.
    pub(crate) fn has_grace(&self, authority: &Authority) -> bool {
        self.is_granted(&self.permissions.any_at(authority))
    }

    /// Asks, for a content named by a digest, of which `total` bytes are here if that is known,
    /// whether the client may have it: by its own request, for the head or a byte.
    pub(crate) async fn check_named(
        self: &Arc<Self>,
        permission: Permission,
        request: &TaskRequest,
        total: Option<u64>,
    ) -> Verdict {
        self.check_described(permission, request, total).await.0
    }

    /// As [`Self::check_named`], and the headers by which the origin describes the content, if it was
    /// asked just now.
    pub(crate) async fn check_described(
        self: &Arc<Self>,
        permission: Permission,
        request: &TaskRequest,
        total: Option<u64>,
    ) -> (Verdict, Option<HeaderMap>) {
        let mut span = spans::access_check(self.origin.tracer(), request);
        let described = self.described(permission, request, total, span.context()).await;
        spans::judged(&mut span, &described.0);
        described
    }

    async fn described(
        self: &Arc<Self>,
        permission: Permission,
        request: &TaskRequest,
        total: Option<u64>,
        within: Option<Context>,
    ) -> (Verdict, Option<HeaderMap>) {
        let silent = || self.is_silent(&request.authority, &request.credential);
        let known = || self.is_remembered(&permission) || silent();
        let _turn = if known() { None } else { Some(self.asking.take(permission).await) };
        // Whoever had the turn before may have brought the answer, or have waited in vain.
        if self.is_remembered(&permission) {
            self.metrics.access_checked(AccessCheck::Remembered);
            return (Verdict::Allowed, None);
        }
        if silent() {
            return (self.fall_back(permission, request, || Verdict::Ask), None);
        }
        let answer = Box::pin(self.ask_on(permission, request, total, within)).await;
        let verdict = match answer {
            Ok(Said { word: Word::Yes, described, .. }) => {
                self.metrics.access_checked(AccessCheck::Allowed);
                return (Verdict::Allowed, Some(described));
            }
            Ok(Said { word: Word::No | Word::Unclear, .. }) => {
                self.metrics.access_checked(AccessCheck::Denied);
                Verdict::Ask
            }
            Ok(Said { word: Word::Unreachable, .. }) => self.fall_back(permission, request, || Verdict::Ask),
            Err(error) if error.is_unreachable() => {
                self.fall_back(permission, request, || Verdict::Unreachable(error))
            }
            Err(error) => Verdict::Unreachable(error),
        };
        (verdict, None)
    }

    /// Asks on behalf of a client and learns from the answer. Where the client can be served
    /// without it, it waits for a moment only; the answer is heard all the same, and a right that
    /// was revoked is gone then, however slow the origin is.
    async fn ask_on(
        self: &Arc<Self>,
        permission: Permission,
        request: &TaskRequest,
        total: Option<u64>,
        within: Option<Context>,
    ) -> Result<Said, OriginError> {
        let (access, mut request) = (Arc::clone(self), request.clone());
        within.inspect(|span| span.write(&mut request.fetch.headers));
        let (authority, credential) = (request.authority.clone(), Arc::clone(&request.credential));
        let asked = async move {
            let answer = access.ask(&request, total).await;
            access.learn(permission, &request, &answer);
            answer
        };
        if !self.is_granted(&permission) {
            return asked.await;
        }
        match timeout(PATIENCE, self.tracker.spawn(asked)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Ok(Said::nothing()),
            Err(_) => {
                self.note_silent(&authority, Some(&credential));
                Ok(Said::nothing())
            }
        }
    }

    fn learn(&self, permission: Permission, request: &TaskRequest, answer: &Result<Said, OriginError>) {
        let authority = &request.authority;
        match answer.as_ref().map(|said| said.word) {
            Ok(Word::Yes) => self.grant(permission, authority),
            Ok(Word::No | Word::Unclear) => self.withdraw(permission),
            // That it refuses one user, or fails for one request, says nothing of others.
            Ok(Word::Unreachable) => self.note_silent(authority, Some(&request.credential)),
            Err(error) => self.note_failure(authority, &request.credential, error),
        }
    }

    /// Notes that an authority could not be asked: with this credential, if that is why.
    pub(crate) fn note_failure(&self, authority: &Authority, credential: &Arc<str>, error: &OriginError) {
        match error {
            OriginError::Resting { .. } => self.note_silent(authority, Some(credential)),
            error if error.is_unreachable() => self.note_silent(authority, None),
            _ => {}
        }
    }

    /// Notes that an authority did not answer a moment ago; with `credential`: that one's request alone.
    pub(crate) fn note_silent(&self, authority: &Authority, credential: Option<&Arc<str>>) {
        let mut silent = self.silent.lock();
        silent.retain(|_, at| at.elapsed() < SILENT_FOR);
        silent.insert((authority.clone(), credential.map(Arc::clone)), Instant::now());
    }

    /// Asks, for a content that only its validators tell, whether it is still what it was, and
    /// the client may have it: by the client's own GET with a condition.
    pub(crate) async fn check_unnamed(
        &self,
        permission: Permission,
        request: &TaskRequest,
        identity: &Identity,
    ) -> Verdict {
        let mut span = spans::access_check(self.origin.tracer(), request);
        let verdict = Box::pin(self.still_is(permission, request, identity, &span)).await;
        spans::judged(&mut span, &verdict);
        verdict
    }

    async fn still_is(
        &self,
        permission: Permission,
        request: &TaskRequest,
        identity: &Identity,
        span: &Span,
    ) -> Verdict {
        let condition = match (&identity.etag, &identity.last_modified) {
            (Some(etag), _) => (IF_NONE_MATCH, etag),
            (None, Some(modified)) => (IF_MODIFIED_SINCE, modified),
            (None, None) => return Verdict::Ask,
        };
        let Ok(value) = HeaderValue::from_str(condition.1) else { return Verdict::Ask };
        let extra: Vec<_> = span.header().into_iter().chain([(condition.0, value)]).collect();
        let answer = match self.origin.fetch(&request.fetch, &extra).await {
            Ok(answer) => answer,
            Err(error) if error.is_unreachable() => {
                return self.fall_back(permission, request, || Verdict::Unreachable(error));
            }
            Err(error) => return Verdict::Unreachable(error),
        };
        match answer.response.status() {
            // An origin that takes no notice of the condition may still say that nothing changed.
            status
                if status == StatusCode::NOT_MODIFIED
                    || (status == StatusCode::OK && is_same(&answer.response, identity)) =>
            {
                self.metrics.access_checked(AccessCheck::Allowed);
                self.grant(permission, &request.authority);
                Verdict::Allowed
            }
            StatusCode::OK => Verdict::Changed(answer),
            status if word_of(status.as_u16()) == Word::Unreachable => {
                self.fall_back(permission, request, || Verdict::Answer(answer.response))
            }
            _ => {
                self.metrics.access_checked(AccessCheck::Denied);
                self.withdraw(permission);
                Verdict::Answer(answer.response)
            }
        }
    }

    async fn ask(&self, request: &TaskRequest, total: Option<u64>) -> Result<Said, OriginError> {
        let answer = self.origin.ask(Method::HEAD, &request.fetch, &[]).await?;
        let word = word_of_head(answer.status(), answer.headers(), request.digest, total);
        debug!(task = %request.id, status = answer.status().as_u16(), "the origin was asked about a credential: {word:?}");
        if word != Word::Unclear {
            let total = content_length(answer.headers()).filter(|_| answer.status() == StatusCode::OK);
            return Ok(Said { word, described: representation(answer.headers()), total });
        }
        let first_byte: [(HeaderName, HeaderValue); 1] = [(RANGE, HeaderValue::from_static("bytes=0-0"))];
        let answer = self.origin.fetch(&request.fetch, &first_byte).await?.response;
        let word = word_of_byte(answer.status(), answer.headers(), total);
        debug!(task = %request.id, status = answer.status().as_u16(), "the origin was asked for a byte: {word:?}");
        let part = text(answer.headers(), &CONTENT_RANGE).and_then(ContentRange::parse);
        let total = part.and_then(|part| part.total);
        Ok(Said { word, described: representation(answer.headers()), total })
    }

    /// How long the origin says that a content named by a digest is, and the headers by which it describes it, if
    /// the client may have it; asked by the client's own request, and remembered under the permission that `named`
    /// gives for that length. `None` if it does not say so within `patience`.
    pub(crate) async fn measure(
        &self,
        request: &TaskRequest,
        patience: Duration,
        named: impl FnOnce(u64) -> Permission,
    ) -> Option<(u64, HeaderMap)> {
        let said = timeout(patience, self.ask(request, None)).await.ok()?.ok()?;
        let total = said.total.filter(|_| said.word == Word::Yes)?;
        self.metrics.access_checked(AccessCheck::Allowed);
        self.grant(named(total), &request.authority);
        Some((total, said.described))
    }

    /// Whether the origin says at once that the content has another length than `total`.
    pub(crate) async fn is_contradicted(&self, request: &TaskRequest, total: u64) -> bool {
        let head = self.origin.ask(Method::HEAD, &request.fetch, &[]);
        let answer = timeout(PATIENCE, head).await;
        answer.ok().and_then(Result::ok).is_some_and(|answer| {
            answer.status().is_success()
                && content_length(answer.headers()).is_some_and(|length| length != total)
        })
    }

    fn fall_back(
        &self,
        permission: Permission,
        request: &TaskRequest,
        otherwise: impl FnOnce() -> Verdict,
    ) -> Verdict {
        if self.is_granted(&permission) {
            self.metrics.access_checked(AccessCheck::Grace);
            info!(
                task = %request.id,
                peer = &*request.peer,
                "{} cannot be asked now; serving what this credential was allowed before",
                request.authority
            );
            return Verdict::Allowed;
        }
        self.metrics.access_checked(AccessCheck::Unreachable);
        otherwise()
    }

    /// Whether a request with this credential need not be waited for.
    pub(crate) fn is_silent(&self, authority: &Authority, credential: &Arc<str>) -> bool {
        let silent = self.silent.lock();
        let is = |credential| {
            silent.get(&(authority.clone(), credential)).is_some_and(|at| at.elapsed() < SILENT_FOR)
        };
        !silent.is_empty() && (is(None) || is(Some(Arc::clone(credential))))
    }

    /// Whether nobody could be reached there a moment ago, whoever asked.
    pub(crate) fn is_gone(&self, authority: &Authority) -> bool {
        let silent = self.silent.lock();
        silent.get(&(authority.clone(), None)).is_some_and(|at| at.elapsed() < SILENT_FOR)
    }

    fn is_remembered(&self, permission: &Permission) -> bool {
        let allowed = self.allowed.lock();
        allowed.get(permission).is_some_and(|at| at.elapsed() < self.options.load().ttl)
    }

    fn is_granted(&self, permission: &Permission) -> bool {
        let (Some(store), Some(grace)) = (&self.store, self.options.load().offline_grace) else {
            return false;
        };
        // A time in the future means that the clock was set back: nobody knows how old it is.
        let age = |at: SystemTime| SystemTime::now().duration_since(at).ok();
        store.granted(&permission.0).and_then(age).is_some_and(|age| age <= grace)
    }
}

/// What an answer to HEAD says of the credential.
fn word_of_head(status: StatusCode, headers: &HeaderMap, digest: Option<Digest>, total: Option<u64>) -> Word {
    let named: Option<Digest> = text(headers, &DOCKER_CONTENT_DIGEST).and_then(|value| value.parse().ok());
    let another = match (digest, named) {
        (Some(digest), Some(other)) if digest.algorithm() == other.algorithm() => digest != other,
        _ => false,
    };
    match status.as_u16() {
        200 | 206 => {
            let length = content_length(headers).filter(|_| status == StatusCode::OK);
            match (total, length) {
                _ if another => Word::No,
                (Some(total), Some(length)) if total != length => Word::No,
                _ => Word::Yes,
            }
        }
        201..=399 | 400 | 405 | 501 => Word::Unclear,
        status => word_of(status),
    }
}

/// What an answer to a GET of the first byte says, redirects followed: the content must be there
/// and have the length of the one that is stored.
fn word_of_byte(status: StatusCode, headers: &HeaderMap, total: Option<u64>) -> Word {
    let agrees = |length: Option<u64>| length.is_some() && total.is_none_or(|total| length == Some(total));
    let yes = |yes: bool| if yes { Word::Yes } else { Word::No };
    match status.as_u16() {
        206 => {
            let part = text(headers, &CONTENT_RANGE).and_then(ContentRange::parse);
            match part.filter(|part| part.range.start == 0).and_then(|part| part.total) {
                Some(there) if total.is_some_and(|total| total != there) => Word::No,
                there => yes(there.is_some()),
            }
        }
        200 => yes(total.is_some() && agrees(content_length(headers))),
        // There is such a content, and it is empty.
        416 => yes(total == Some(0)),
        status => word_of(status),
    }
}

pub(crate) const fn word_of(status: u16) -> Word {
    match status {
        408 | 425 | 429 | 500..=599 => Word::Unreachable,
        _ => Word::No,
    }
}

fn is_same(answer: &Response<Incoming>, identity: &Identity) -> bool {
    let headers = answer.headers();
    match (&identity.etag, &identity.last_modified) {
        (Some(etag), _) => text(headers, &ETAG) == Some(etag),
        (None, Some(modified)) => text(headers, &LAST_MODIFIED) == Some(modified),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn status(status: u16) -> StatusCode {
        StatusCode::from_u16(status).expect("a status")
    }

    #[test]
    fn a_head_says_what_the_credential_is_worth() {
        let word = |number| word_of_head(status(number), &HeaderMap::new(), None, Some(5));
        assert_eq!(word(200), Word::Yes);
        for number in [204, 301, 302, 304, 307, 308, 400, 405, 501] {
            assert_eq!(word(number), Word::Unclear, "{number}");
        }
        for number in [401, 403, 404, 406, 407, 410, 451] {
            assert_eq!(word(number), Word::No, "{number}");
        }
        for number in [429, 500, 502, 503, 504] {
            assert_eq!(word(number), Word::Unreachable, "{number}");
        }
    }

    #[test]
    fn a_head_of_another_content_is_a_no() {
        let word = |pairs: &[(&'static str, &'static str)]| {
            word_of_head(status(200), &headers(pairs), Some(Digest::sha256(b"{}")), Some(2))
        };
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(word(&[("content-length", "2"), ("docker-content-digest", digest)]), Word::Yes);
        assert_eq!(word(&[("content-length", "3")]), Word::No);
        let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        assert_eq!(word(&[("docker-content-digest", other)]), Word::No);
    }

    #[test]
    fn a_byte_must_be_of_the_stored_content() {
        let word = |number, pairs: &[(&'static str, &'static str)], total| {
            word_of_byte(status(number), &headers(pairs), total)
        };
        assert_eq!(word(206, &[("content-range", "bytes 0-0/5")], Some(5)), Word::Yes);
        assert_eq!(word(206, &[("content-range", "bytes 0-0/6")], Some(5)), Word::No);
        assert_eq!(word(206, &[("content-range", "bytes 0-0/*")], Some(5)), Word::No);
        assert_eq!(word(206, &[("content-range", "bytes 0-0/6")], None), Word::Yes);
        assert_eq!(word(200, &[("content-length", "5")], Some(5)), Word::Yes);
        assert_eq!(word(200, &[("content-length", "900")], Some(5)), Word::No, "a login page");
        assert_eq!(word(200, &[("content-length", "900")], None), Word::No);
        assert_eq!(word(416, &[], Some(0)), Word::Yes);
        assert_eq!(word(403, &[], Some(5)), Word::No);
        assert_eq!(word(503, &[], Some(5)), Word::Unreachable);
    }
}
