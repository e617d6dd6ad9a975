//! Whether a client may have stored bytes: its own credential must have been accepted by the
//! origin for that very content.
//!
//! What the origin said is remembered for `access.ttl`; while the origin does not answer, what
//! it said last counts for `access.offlineGrace`. Nothing else opens a stored content: not the
//! digest, not another user's credential, not a right to another repository.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use dfget_core::Authority;
use dfget_origin::headers::text;
use dfget_origin::{Answer, Identity, OriginClient, OriginError};
use dfget_storage::Store;
use dfget_task::{TaskRequest, Tasks};
use dfget_telemetry::{AccessCheck, Metrics};
use http::header::{ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tracing::{debug, info};

use crate::permission::{Permission, Permissions};
use crate::turns::Turns;

/// Remembered permissions are looked through for old ones when there are so many more.
const PRUNE_EVERY: usize = 4096;

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
    options: AccessOptions,
    origin: OriginClient,
    store: Option<Store>,
    metrics: Metrics,
    permissions: Permissions,
    allowed: Mutex<HashMap<Permission, Instant>>,
    /// One question at a time for each permission; the others wait for its answer.
    asking: Turns<Permission>,
}

/// What a status says of a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Yes,
    No,
    /// The method is not known there.
    OtherMethod,
    /// It cannot say now.
    Unreachable,
}

impl Access {
    pub(crate) fn new(options: AccessOptions, tasks: &Tasks, secret: &[u8]) -> Self {
        Self {
            options,
            origin: tasks.origin().clone(),
            store: tasks.store().cloned(),
            metrics: tasks.metrics().clone(),
            permissions: Permissions::new(secret),
            allowed: Mutex::default(),
            asking: Turns::default(),
        }
    }

    pub(crate) const fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Notes that the origin has just given the content to this credential.
    pub(crate) fn grant(&self, permission: Permission, authority: &Authority) {
        let now = Instant::now();
        {
            let mut allowed = self.allowed.lock();
            allowed.insert(permission, now);
            if allowed.len().is_multiple_of(PRUNE_EVERY) {
                allowed.retain(|_, at| now.duration_since(*at) < self.options.ttl);
            }
        }
        if let Some(store) = self.store.as_ref().filter(|_| self.options.offline_grace.is_some()) {
            let now = SystemTime::now();
            store.grant(permission.0, now);
            store.grant(self.permissions.any_at(authority).0, now);
        }
    }

    /// Whether anybody may have anything of this authority while it does not answer.
    pub(crate) fn has_grace(&self, authority: &Authority) -> bool {
        self.is_granted(&self.permissions.any_at(authority))
    }

    /// Asks, for a content named by a digest, whether the client may have it: by a HEAD of its
    /// own request that follows no redirect.
    pub(crate) async fn check_named(&self, permission: Permission, request: &TaskRequest) -> Verdict {
        if self.is_remembered(&permission) {
            self.metrics.access_checked(AccessCheck::Remembered);
            return Verdict::Allowed;
        }
        let _turn = self.asking.take(permission).await;
        // Whoever had the turn before may have brought the answer.
        if self.is_remembered(&permission) {
            self.metrics.access_checked(AccessCheck::Remembered);
            return Verdict::Allowed;
        }
        let mut answer = self.ask(Method::HEAD, request).await;
        if matches!(answer, Ok(Word::OtherMethod)) {
            answer = self.ask(Method::GET, request).await;
        }
        match answer {
            Ok(Word::Yes) => {
                self.metrics.access_checked(AccessCheck::Allowed);
                self.grant(permission, &request.authority);
                Verdict::Allowed
            }
            Ok(Word::No | Word::OtherMethod) => {
                self.revoke(permission);
                Verdict::Ask
            }
            Ok(Word::Unreachable) => self.fall_back(permission, request, || Verdict::Ask),
            Err(error) if error.is_unreachable() => {
                self.fall_back(permission, request, || Verdict::Unreachable(error))
            }
            Err(error) => Verdict::Unreachable(error),
        }
    }

    /// Asks, for a content that only its validators tell, whether it is still what it was, and
    /// the client may have it: by the client's own GET with a condition.
    pub(crate) async fn check_unnamed(
        &self,
        permission: Permission,
        request: &TaskRequest,
        identity: &Identity,
    ) -> Verdict {
        let condition = match (&identity.etag, &identity.last_modified) {
            (Some(etag), _) => (IF_NONE_MATCH, etag),
            (None, Some(modified)) => (IF_MODIFIED_SINCE, modified),
            (None, None) => return Verdict::Ask,
        };
        let Ok(value) = HeaderValue::from_str(condition.1) else { return Verdict::Ask };
        let answer = match self.origin.fetch(&request.fetch, &[(condition.0, value)]).await {
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
            status if word_of(status) == Word::Unreachable => {
                self.fall_back(permission, request, || Verdict::Answer(answer.response))
            }
            _ => {
                self.revoke(permission);
                Verdict::Answer(answer.response)
            }
        }
    }

    async fn ask(&self, method: Method, request: &TaskRequest) -> Result<Word, OriginError> {
        let first_byte: [(HeaderName, HeaderValue); 1] = [(RANGE, HeaderValue::from_static("bytes=0-0"))];
        let extra = if method == Method::GET { &first_byte[..] } else { &[] };
        let answer = self.origin.ask(method, &request.fetch, extra).await?;
        debug!(task = %request.id, status = answer.status().as_u16(), "the origin was asked about a credential");
        Ok(word_of(answer.status()))
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

    fn revoke(&self, permission: Permission) {
        self.metrics.access_checked(AccessCheck::Denied);
        self.allowed.lock().remove(&permission);
        if let Some(store) = &self.store {
            store.revoke(&permission.0);
        }
    }

    fn is_remembered(&self, permission: &Permission) -> bool {
        let allowed = self.allowed.lock();
        allowed.get(permission).is_some_and(|at| at.elapsed() < self.options.ttl)
    }

    fn is_granted(&self, permission: &Permission) -> bool {
        let (Some(store), Some(grace)) = (&self.store, self.options.offline_grace) else { return false };
        // A time in the future means that the clock was set back: nobody knows how old it is.
        let age = |at: SystemTime| SystemTime::now().duration_since(at).ok();
        store.granted(&permission.0).and_then(age).is_some_and(|age| age <= grace)
    }
}

fn word_of(status: StatusCode) -> Word {
    match status.as_u16() {
        // 416: there is such a content, and it is empty.
        200..=399 | 416 => Word::Yes,
        400 | 405 | 501 => Word::OtherMethod,
        408 | 425 | 429 | 500 | 502..=599 => Word::Unreachable,
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

    #[test]
    fn a_status_says_what_the_credential_is_worth() {
        let word = |status: u16| word_of(StatusCode::from_u16(status).expect("a status"));
        for status in [200, 204, 206, 301, 302, 307, 308, 416] {
            assert_eq!(word(status), Word::Yes, "{status}");
        }
        for status in [401, 403, 404, 406, 407, 410, 451] {
            assert_eq!(word(status), Word::No, "{status}");
        }
        for status in [400, 405, 501] {
            assert_eq!(word(status), Word::OtherMethod, "{status}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(word(status), Word::Unreachable, "{status}");
        }
    }
}
