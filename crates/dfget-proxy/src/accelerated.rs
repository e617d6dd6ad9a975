//! What a request that becomes a task asks for.

use std::net::IpAddr;
use std::time::Instant;

use dfget_core::{
    Authority, ContentKey, ContentReference, Parts, RangeHeader, RangeSet, ReferenceKind, TaskId, TaskParts,
};
use dfget_origin::headers::{for_content, text};
use dfget_origin::{FetchRequest, Identity};
use dfget_task::TaskRequest;
use dfget_trace::TraceId;
use http::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use http::{Method, Request, Version};
use url::Url;
use uuid::Uuid;

use crate::condition::{Conditions, range_counts};
use crate::handler::ProxyOptions;
use crate::in_clear::FilesToSend;
use crate::mirror::Mirrored;
use crate::permission::{self, Permissions};
use crate::wishes::Wishes;

/// One request that becomes a task.
pub(crate) struct Accelerated {
    pub(crate) task: TaskRequest,
    /// The path's own word on the content, if it names one by digest.
    pub(crate) reference: Option<ContentReference>,
    /// The client's `Range` and `If-Range`; only a GET has them.
    pub(crate) range: Option<RangeSet>,
    pub(crate) if_range: Option<HeaderValue>,
    /// Its other conditions, which the task's headers are without.
    pub(crate) conditions: Conditions,
    /// Only the head of the answer is wanted.
    pub(crate) head: bool,
    /// The client speaks HTTP/1.0, which has no way to break a body off but by its length.
    pub(crate) http_1_0: bool,
    /// Nothing is to be fetched for this client.
    pub(crate) stored_only: bool,
    pub(crate) server_ip: IpAddr,
    /// What the kernel is to send on the client's connection, where that is without TLS.
    pub(crate) files: Option<FilesToSend>,
    pub(crate) started: Instant,
    /// The trace that the request belongs to, if that is recorded.
    pub(crate) trace: Option<TraceId>,
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
    pub(crate) fn read<B>(
        options: &ProxyOptions,
        permissions: &Permissions,
        url: Url,
        wishes: Wishes,
        request: &Request<B>,
    ) -> Result<Self, &'static str> {
        let headers = request.headers();
        let mirrored = request.extensions().get::<Mirrored>();
        let http_1_0 = request.version() == Version::HTTP_10;
        let head = request.method() == Method::HEAD;
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
        // Two lines of it are no list, but a mistake; of a HEAD it means nothing (RFC 9110, section 14.2).
        let once = !head && headers.get_all(RANGE).iter().count() == 1;
        let range = text(headers, &RANGE).filter(|_| once).and_then(RangeSet::parse);
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
        let mut asked_with = for_content(headers);
        let conditions = Conditions::take(&mut asked_with);
        let fetch = FetchRequest { url, headers: asked_with, clients_choice };
        let task = TaskRequest {
            id,
            key,
            digest: named.or(wishes.digest),
            named: named.is_some(),
            authority: Authority::of_url(&fetch.url).ok_or("the request's URL names no origin")?,
            credential: permissions.credential(&fetch.headers, &fetch.url).to_hex().into(),
            // Whether a conditional range counts shows only when the content's validators are known.
            range: range.as_ref().filter(|_| if_range.is_none()).map_or(RangeHeader::Whole, RangeSet::single),
            prefetch: wishes.prefetch,
            priority: wishes.priority.unwrap_or(options.priority),
            fetch,
            peer: format!("{}-{}", options.peer_prefix, attempt()).into(),
            ordered: false,
        };
        let (stored_only, server_ip) = (wishes.stored_only, options.address);
        let started = Instant::now();
        Ok(Self {
            task,
            reference,
            range,
            if_range,
            conditions,
            head,
            http_1_0,
            stored_only,
            server_ip,
            files: request.extensions().get::<FilesToSend>().cloned(),
            started,
            trace: None,
        })
    }

    /// What the path names by a digest, if it does.
    pub(crate) fn kind(&self) -> Option<ReferenceKind> {
        self.reference.as_ref().map(|reference| reference.kind)
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

    /// The range that counts for a download described by `headers`; of several at once none does.
    pub(crate) fn wanted(&self, headers: &HeaderMap) -> RangeHeader {
        self.counting(headers).map_or(RangeHeader::Whole, RangeSet::single)
    }

    /// The parts wanted of a stored content of `total` bytes, described by `headers`.
    pub(crate) fn parts(&self, headers: &HeaderMap, total: u64) -> Parts {
        self.counting(headers).map_or(Parts::Whole, |range| range.resolve(total))
    }

    /// The `Range`, if `If-Range` lets it count.
    fn counting(&self, headers: &HeaderMap) -> Option<&RangeSet> {
        let counts = self.if_range.as_ref().is_none_or(|condition| range_counts(condition, headers));
        self.range.as_ref().filter(|_| counts)
    }
}
