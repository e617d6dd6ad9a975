//! What a request that becomes a task asks for.

use std::net::IpAddr;
use std::time::Instant;

use dfget_core::{
    Authority, ByteRange, ContentKey, ContentReference, RangeError, RangeHeader, TaskId, TaskParts,
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
use crate::wishes::Wishes;

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
    /// Nothing is to be fetched for this client.
    pub(crate) stored_only: bool,
    pub(crate) server_ip: IpAddr,
    pub(crate) started: Instant,
}

/// A name for one attempt. It has to differ from others and is no secret, so no call of the kernel is made for it.
fn attempt() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}

/// The key of a content that only its URL names, apart for clients that say different things of it:
/// none of them can make another's request mean what its own does.
fn claimed(key: &ContentKey, wishes: &Wishes) -> ContentKey {
    let digest = wishes.digest.map(|digest| digest.to_string());
    let claims = [("digest", digest.as_deref()), ("content", wishes.content.as_deref())];
    key.claimed(claims.into_iter().filter_map(|(kind, text)| Some((kind, text?))))
}

impl Accelerated {
    /// Reads a request for `url`.
    ///
    /// # Errors
    /// What is wrong with it, to be told to the client.
    pub(crate) fn read(
        options: &ProxyOptions,
        permissions: &Permissions,
        url: Url,
        wishes: Wishes,
        headers: &HeaderMap,
        version: Version,
        mirrored: Option<&Mirrored>,
    ) -> Result<Self, &'static str> {
        let http_1_0 = version == Version::HTTP_10;
        let filter = wishes.filter.as_ref().unwrap_or(&options.filter);
        let parts = TaskParts {
            tag: wishes.tag.as_ref().unwrap_or(&options.tag),
            application: wishes.application.as_ref().unwrap_or(&options.application),
            piece_length: wishes.piece_length,
            ..TaskParts::default()
        };
        let reference = match mirrored {
            Some(mirrored) => mirrored.reference(&url),
            None => ContentReference::of_path(url.path()),
        };
        let range = text(headers, &RANGE).map_or(RangeHeader::Whole, RangeHeader::parse);
        let if_range = headers.get(IF_RANGE).cloned();
        let named = reference.as_ref().map(|reference| reference.digest);
        if let (Some(named), Some(claimed)) = (named, wishes.digest)
            && named != claimed
        {
            return Err("X-Dragonfly-Digest names another digest than the URL; leave the header out");
        }
        let key = match &reference {
            Some(reference) => ContentKey::named(reference.kind, &reference.digest),
            None => claimed(&ContentKey::unnamed(url.as_str(), filter, parts), &wishes),
        };
        let by_digest = reference.as_ref().filter(|_| wishes.blob_digest != Some(false));
        let id = match &wishes.content {
            Some(content) => TaskId::of_content(content),
            None => TaskId::of(url.as_str(), filter, parts, by_digest),
        };
        let clients_choice = mirrored.is_some_and(|mirrored| mirrored.clients_choice);
        let fetch = FetchRequest { url, headers: for_content(headers), clients_choice };
        let task = TaskRequest {
            id,
            key,
            digest: named.or(wishes.digest),
            named: named.is_some(),
            authority: Authority::of_url(&fetch.url).ok_or("the request's URL names no origin")?,
            credential: permissions.credential(&fetch.headers, &fetch.url).to_hex().into(),
            // Whether a conditional range counts shows only when the content's validators are known.
            range: if if_range.is_some() { RangeHeader::Whole } else { range },
            prefetch: wishes.prefetch,
            priority: wishes.priority.unwrap_or(options.priority),
            fetch,
            peer: format!("{}-{}", options.peer_prefix, attempt()).into(),
        };
        let (stored_only, server_ip) = (wishes.stored_only, options.address);
        let started = Instant::now();
        Ok(Self { task, reference, range, if_range, http_1_0, stored_only, server_ip, started })
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
