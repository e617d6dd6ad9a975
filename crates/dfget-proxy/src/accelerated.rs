//! What a request that becomes a task asks for.

use std::time::Instant;

use dfget_core::{
    Authority, ByteRange, ContentKey, ContentReference, RangeError, RangeHeader, TaskId, TaskParts, UrlFilter,
};
use dfget_origin::headers::{for_content, is_strong, text};
use dfget_origin::{FetchRequest, Identity};
use dfget_task::TaskRequest;
use http::Version;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use url::Url;
use uuid::Uuid;

use crate::handler::ProxyOptions;
use crate::mirror::Mirrored;
use crate::permission::{self, Permissions};

/// One request that becomes a task.
pub(crate) struct Accelerated {
    pub(crate) task: TaskRequest,
    /// The path's own word on the content, if it names one by digest.
    pub(crate) reference: Option<ContentReference>,
    /// The client's `Range` and `If-Range`.
    pub(crate) range: RangeHeader,
    pub(crate) if_range: Option<HeaderValue>,
    /// The client speaks HTTP/1.0, which has no way to break a body off but by its length.
    pub(crate) http_1_0: bool,
    pub(crate) started: Instant,
}

/// A name for one attempt. It has to differ from others and is no secret, so no call of the kernel is made for it.
fn attempt() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

impl Accelerated {
    /// Reads a request for `url`; `None` if that names no origin.
    pub(crate) fn read(
        options: &ProxyOptions,
        permissions: &Permissions,
        url: Url,
        headers: &HeaderMap,
        version: Version,
        mirrored: Option<&Mirrored>,
    ) -> Option<Self> {
        let http_1_0 = version == Version::HTTP_10;
        let ours = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let own_filter = ours("x-dragonfly-filter").map(UrlFilter::parse);
        let filter = own_filter.as_ref().unwrap_or(&options.filter);
        let parts = TaskParts {
            tag: ours("x-dragonfly-tag").unwrap_or(&options.tag),
            application: ours("x-dragonfly-application").unwrap_or(&options.application),
            ..TaskParts::default()
        };
        let reference = match mirrored {
            Some(mirrored) => mirrored.reference(&url),
            None => ContentReference::of_path(url.path()),
        };
        let range = text(headers, &RANGE).map_or(RangeHeader::Whole, RangeHeader::parse);
        let if_range = headers.get(IF_RANGE).cloned();
        let key = match &reference {
            Some(reference) => ContentKey::named(reference.kind, &reference.digest),
            None => ContentKey::unnamed(url.as_str(), filter, parts),
        };
        let clients_choice = mirrored.is_some_and(|mirrored| mirrored.clients_choice);
        let fetch = FetchRequest { url, headers: for_content(headers), clients_choice };
        let task = TaskRequest {
            id: TaskId::of(fetch.url.as_str(), filter, parts, reference.as_ref()),
            key,
            digest: reference.as_ref().map(|reference| reference.digest),
            authority: Authority::of_url(&fetch.url)?,
            credential: permissions.credential(&fetch.headers, &fetch.url).to_hex().into(),
            // Whether a conditional range counts shows only when the content's validators are known.
            range: if if_range.is_some() { RangeHeader::Whole } else { range },
            fetch,
            peer: format!("{}-{}", options.peer_prefix, attempt()).into(),
        };
        Some(Self { task, reference, range, if_range, http_1_0, started: Instant::now() })
    }

    pub(crate) fn content(&self, identity: &Identity) -> permission::Content {
        match &self.reference {
            Some(reference) => permission::Content::Named {
                repository: reference.repository.clone(),
                key: self.task.key.clone(),
                total: identity.total,
            },
            None => permission::Content::unnamed(self.task.key.clone(), identity),
        }
    }

    /// The range that counts for a content described by `headers` (RFC 9110, section 13.1.5).
    pub(crate) fn wanted(&self, headers: &HeaderMap) -> RangeHeader {
        let holds = |condition: &HeaderValue| {
            let condition = condition.to_str().unwrap_or_default();
            let validator = if condition.starts_with('"') { ETAG } else { LAST_MODIFIED };
            let strong = validator == LAST_MODIFIED || is_strong(condition);
            strong && text(headers, &validator) == Some(condition)
        };
        if self.if_range.as_ref().is_none_or(holds) { self.range } else { RangeHeader::Whole }
    }

    pub(crate) fn resolve(
        &self,
        headers: &HeaderMap,
        total: u64,
    ) -> Result<Option<(ByteRange, u64)>, RangeError> {
        match self.wanted(headers) {
            RangeHeader::Whole => Ok(None),
            RangeHeader::One(spec) => spec.resolve(total).map(|range| Some((range, total))),
        }
    }
}
