//! The first request for a content that is not here: its own answer decides what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use dfget_core::{ByteRange, RangeHeader, RangeSpec, public_url};
use dfget_origin::headers::content_length;
use dfget_origin::{Answer, ContentStream, Identity};
use dfget_storage::{BLOCK, Entry, EntryKey, Store};
use dfget_swarm::Pieces;
use dfget_trace::SharedSpan;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, RANGE, VARY};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;
use tracing::warn;

use crate::direct::Direct;
use crate::error::ContentError;
use crate::meta::TaskMeta;
use crate::request::{RunKey, TaskRequest, partial_key};
use crate::spans;
use crate::swarm::{Join, Membership, Network, Orders};
use crate::task::{OnEnd, Seat, Task};
use crate::tasks::{Answered, Tasks};

/// The right and duty to ask the origin for a content. Others wait until it is used or dropped.
#[derive(Debug)]
pub struct Lead {
    tasks: Tasks,
    key: RunKey,
    settled: bool,
    /// What is done from here on.
    span: Option<SharedSpan>,
    /// Dropped with the lead: that is what wakes those who wait.
    done: watch::Sender<Answered>,
}

/// What the first of a swarm asks the origin for, as long as it does not know how long the content
/// is: 16 MiB.
const FIRST_PART: u64 = 16 << 20;

/// How long the scheduler of a task is waited for before the origin is asked.
const SCHEDULER: Duration = Duration::from_millis(1500);

/// A place in the swarm of a content, and what the scheduler said first.
pub struct Joined {
    membership: Box<dyn Membership>,
    orders: Orders,
}

/// What the origin's answer led to.
#[derive(Debug)]
pub enum Begun {
    /// A download runs; the leader is its first reader. The origin has accepted its credential.
    Task {
        /// The download.
        task: Seat,
        /// All headers of the answer, for the client whose own they are; `None` if they come
        /// from a place that the registry redirected to.
        own_headers: Option<HeaderMap>,
    },
    /// The content can be had but not stored; it is for this client alone.
    Direct {
        /// Its stream.
        body: Box<Direct>,
        /// The answer's status: 200 or 206.
        status: StatusCode,
        /// The answer's headers.
        headers: HeaderMap,
    },
    /// A part of the content can be had but not stored; the client is to ask for its part itself.
    Unstored,
    /// The answer is not the content: refused, not found, an error. It is this client's own.
    Answer(Response<Incoming>),
}

// === impl Joined ===

impl Joined {
    /// Whether others have the content, or are fetching it.
    #[must_use]
    pub fn has_parents(&self) -> bool {
        !self.orders.parents.is_empty()
    }

    /// The content's length, if the cluster knows it.
    #[must_use]
    pub const fn total(&self) -> Option<u64> {
        self.orders.total
    }

    /// Waits until the cluster knows how long the content is, but no longer than `most`. `false` if the
    /// scheduler is gone meanwhile: another one may know.
    pub async fn wait_for_length(&mut self, most: Duration) -> bool {
        let membership = &mut self.membership;
        let orders = &mut self.orders;
        let wait = async {
            while orders.total.is_none() {
                let Some(next) = membership.next().await else { return false };
                *orders = next;
            }
            true
        };
        tokio::time::timeout(most, wait).await.unwrap_or(true)
    }

    /// Gives the place up.
    pub fn leave(self, why: &str) {
        self.membership.fail(why);
    }
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").field("orders", &self.orders).finish_non_exhaustive()
    }
}

// === impl Lead ===

impl Lead {
    pub(crate) const fn new(
        tasks: Tasks,
        key: RunKey,
        done: watch::Sender<Answered>,
        span: Option<SharedSpan>,
    ) -> Self {
        Self { tasks, key, settled: false, span, done }
    }

    /// Asks the origin with the client's own request, unless `carried` is its answer already, for
    /// the whole content. `accepted` is told once the origin has begun to give the content to the
    /// client, before anybody else sees that it is there; what it returns is told whether it was
    /// the right content.
    ///
    /// # Errors
    /// [`ContentError`] if there is no answer, or one that contradicts itself.
    ///
    /// # Cancel safety
    /// Dropped before the answer, the next one that waits gets the lead.
    pub async fn begin(
        mut self,
        request: &TaskRequest,
        carried: Option<Answer>,
        swarm: Option<Joined>,
        accepted: impl FnOnce(&Identity) -> OnEnd,
    ) -> Result<Begun, ContentError> {
        let request = &*spans::within(self.span.as_ref(), request);
        let (answer, asked) = match carried {
            Some(answer) => (answer, None),
            None => match self.ask(request, swarm.is_some()).await {
                Ok(asked) => asked,
                Err(error) => {
                    self.done.send_replace(Answered);
                    return Err(error);
                }
            },
        };
        let Answer { response, redirected } = answer;
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(Begun::Answer(response));
        }
        let status = response.status();
        let headers = response.headers().clone();
        let origin = self.tasks.origin().clone();
        let stream = ContentStream::new(origin, request.fetch.clone(), response, asked, request.named)
            .map_err(|source| ContentError::Fetch { origin: self.key.authority.to_string(), source })?;
        let on_end = accepted(stream.identity());
        let meta = TaskMeta::describing(request, &headers, stream.identity());
        let Some(entry) = self.store(request, &meta, &headers, &stream).await else {
            if asked.is_some() {
                return Ok(Begun::Unstored);
            }
            let body = Box::new(Direct::new(stream, self.key.authority.to_string(), request.digest));
            return Ok(Begun::Direct { body, status, headers });
        };
        let task = self.task(request, entry, meta);
        task.when_ended(on_end);
        let seat = Seat::take(&task);
        let fetch = task.reserve(&stream);
        self.tasks.run(&self.key, &task);
        self.settled = true;
        if let Some(Joined { membership, orders }) = swarm {
            task.begin_swarm(Some((membership, orders)));
        }
        task.spawn_fetch(fetch, stream);
        Ok(Begun::Task { task: seat, own_headers: (!redirected).then_some(headers) })
    }

    /// Whether the cluster has to be told how long the content is before it says who has it.
    #[must_use]
    pub fn needs_length(&self, request: &TaskRequest) -> bool {
        self.tasks.network().is_some_and(|network| network.needs_length()) && self.may_join(request, None)
    }

    fn may_join(&self, request: &TaskRequest, total: Option<u64>) -> bool {
        let shared = |network: &Arc<dyn Network>| network.may_share(request.is_private(), total);
        self.tasks.network().is_some_and(shared)
            && request.is_shared()
            && request.range == RangeHeader::Whole
            && self.tasks.store().is_some()
    }

    /// Asks the cluster who has the content, of `total` bytes if that is known. `None` if it is no content that
    /// peers share, or if no scheduler answers within a moment.
    pub async fn join(&self, request: &TaskRequest, total: Option<u64>) -> Option<Joined> {
        let network = self.tasks.network()?;
        if !self.may_join(request, total) || (network.needs_length() && total.is_none()) {
            return None;
        }
        let join = Join {
            task: request.id.clone(),
            peer: network.peer_id(),
            url: public_url(&request.fetch.url),
            total,
            have: Pieces::default(),
            private: request.is_private(),
            trace: None,
            wants_proof: false,
        };
        let mut span = spans::join(self.tasks.origin().tracer(), self.span.as_ref());
        let join = Join { trace: span.context(), ..join };
        let asking = async {
            let mut membership = network.join(join).await?;
            let orders = membership.next().await?;
            Some(Joined { membership, orders })
        };
        let joined = tokio::time::timeout(SCHEDULER, asking).await.ok().flatten();
        spans::joined(&mut span, joined.as_ref().map(|joined| &joined.orders));
        joined
    }

    /// Begins the download with the cluster's help, for a client whose credential the origin has
    /// accepted; `described` are the headers by which the origin describes the content.
    ///
    /// # Errors
    /// The lead itself, if the content cannot be stored.
    pub async fn begin_with_peers(
        mut self,
        request: &TaskRequest,
        described: &HeaderMap,
        total: Option<u64>,
        joined: Joined,
        on_end: OnEnd,
    ) -> Result<Seat, Self> {
        let request = &*spans::within(self.span.as_ref(), request);
        let identity = Identity::of(described, true, total);
        let meta = TaskMeta::describing(request, described, &identity);
        let Some(store) = self.tasks.inner.store.clone() else { return Err(self) };
        let Some(entry) = create(store, request, partial_key(&self.key), meta.to_bytes(), total).await else {
            return Err(self);
        };
        let task = self.task(request, entry, meta);
        task.when_ended(on_end);
        let seat = Seat::take(&task);
        self.tasks.run(&self.key, &task);
        self.settled = true;
        task.begin_swarm(Some((joined.membership, joined.orders)));
        Ok(seat)
    }

    fn task(&mut self, request: &TaskRequest, entry: Arc<Entry>, meta: TaskMeta) -> Arc<Task> {
        self.tasks.metrics().task_started();
        Task::new(self.tasks.clone(), self.key.clone(), request, entry, meta, self.span.take())
    }

    /// Begins the download from peers alone, for no client: `meta` says what another node has told of the content.
    ///
    /// # Errors
    /// The content cannot be stored: why, as the store says.
    pub(crate) async fn begin_by_order(
        mut self,
        store: &Store,
        request: &TaskRequest,
        meta: TaskMeta,
        total: u64,
    ) -> Result<Seat, String> {
        let (store, key, bytes) = (store.clone(), partial_key(&self.key), meta.to_bytes());
        let create = move || store.create(key, bytes, Some(total), std::time::SystemTime::now());
        let created = tokio::task::spawn_blocking(create).await.map_err(|error| error.to_string())?;
        let entry = created.map_err(|error| error.to_string())?;
        let task = self.task(request, entry, meta);
        let seat = Seat::take(&task);
        self.tasks.run(&self.key, &task);
        self.settled = true;
        Ok(seat)
    }

    /// Sends the first request: for the part that the client wants where the origin knows
    /// ranges, else for the whole.
    async fn ask(
        &self,
        request: &TaskRequest,
        in_swarm: bool,
    ) -> Result<(Answer, Option<ByteRange>), ContentError> {
        let whole_from_the_start = || async {
            let answer = self.tasks.origin().fetch_patiently(&request.fetch, &[]).await?;
            Ok((answer, None))
        };
        let spec = match request.range {
            RangeHeader::One(spec) if !self.tasks.prefetches(request) => spec,
            RangeHeader::One(_) => {
                self.tasks.metrics().prefetch_started();
                return whole_from_the_start().await;
            }
            RangeHeader::Whole if in_swarm => match self.ask_for_the_first_part(request).await? {
                Some(answer) => return Ok(answer),
                None => return whole_from_the_start().await,
            },
            RangeHeader::Whole => return whole_from_the_start().await,
        };
        let range = match spec {
            RangeSpec::FromTo(first, last) => ByteRange { start: first, end: last.saturating_add(1) },
            RangeSpec::From(first) => ByteRange { start: first, end: u64::MAX },
            // Only the total tells where it begins.
            RangeSpec::Suffix(_) => ByteRange { start: 0, end: 1 },
        };
        // Whole blocks, or the rest of the last one would be asked for by a request of its own.
        let end = range.end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        let aligned = ByteRange { start: range.start - range.start % BLOCK, end };
        if aligned.start == 0 && aligned.end == u64::MAX {
            return whole_from_the_start().await;
        }
        let value = match aligned.end {
            u64::MAX => format!("bytes={}-", aligned.start),
            _ => aligned.to_header(),
        };
        let extra: [(HeaderName, HeaderValue); 1] =
            [(RANGE, value.try_into().unwrap_or(HeaderValue::from_static("")))];
        let answer = self.tasks.origin().fetch_patiently(&request.fetch, &extra).await?;
        let without_total = answer.response.status() == StatusCode::PARTIAL_CONTENT
            && total_of(answer.response.headers()).is_none();
        if without_total {
            // A part of something without a known end cannot be answered exactly.
            return whole_from_the_start().await;
        }
        Ok((answer, Some(aligned)))
    }

    /// Asks for no more than what the first of a swarm is to fetch: others may fetch the rest.
    /// `None` if the origin knows no ranges of this content.
    async fn ask_for_the_first_part(
        &self,
        request: &TaskRequest,
    ) -> Result<Option<(Answer, Option<ByteRange>)>, ContentError> {
        let first = ByteRange { start: 0, end: FIRST_PART };
        let extra: [(HeaderName, HeaderValue); 1] =
            [(RANGE, first.to_header().try_into().unwrap_or(HeaderValue::from_static("")))];
        let answer = self.tasks.origin().fetch_patiently(&request.fetch, &extra).await?;
        let (status, headers) = (answer.response.status(), answer.response.headers());
        let empty = status == StatusCode::RANGE_NOT_SATISFIABLE;
        let endless = status == StatusCode::PARTIAL_CONTENT && total_of(headers).is_none();
        Ok((!empty && !endless).then_some((answer, Some(first))))
    }

    /// A place in the store for the content; `None` where it cannot or must not be stored: an
    /// unnamed content without a validator could never be told from another one.
    async fn store(
        &self,
        request: &TaskRequest,
        meta: &TaskMeta,
        headers: &HeaderMap,
        stream: &ContentStream,
    ) -> Option<Arc<Entry>> {
        let store = self.tasks.inner.store.clone()?;
        let validated = meta.etag.is_some() || meta.last_modified.is_some();
        if !(request.named || (validated && is_shareable(headers))) {
            return None;
        }
        create(store, request, partial_key(&self.key), meta.to_bytes(), stream.identity().total).await
    }
}

async fn create(
    store: Store,
    request: &TaskRequest,
    key: EntryKey,
    meta: Vec<u8>,
    total: Option<u64>,
) -> Option<Arc<Entry>> {
    let create = move || store.create(key, meta, total, std::time::SystemTime::now());
    match tokio::task::spawn_blocking(create).await {
        Ok(Ok(entry)) => Some(entry),
        Ok(Err(error)) => {
            warn!(task = %request.id, "streaming without the store: {error}");
            None
        }
        Err(_) => None,
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.settled {
            self.tasks.give_up(&self.key);
        }
    }
}

/// Whether an answer that no digest names may be kept at all (RFC 9111, sections 4.1 and 5.2.2).
fn is_shareable(headers: &HeaderMap) -> bool {
    let tokens = |name| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .map(|token| token.trim().to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    let private = |token: &String| token == "no-store" || token.starts_with("private");
    let harmless = |token: &String| matches!(token.as_str(), "accept-encoding" | "origin" | "");
    !tokens(CACHE_CONTROL).iter().any(private) && tokens(VARY).iter().all(harmless)
}

fn total_of(headers: &HeaderMap) -> Option<u64> {
    let value = dfget_origin::headers::text(headers, &http::header::CONTENT_RANGE);
    match value {
        Some(value) => dfget_core::ContentRange::parse(value)?.total,
        None => content_length(headers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_clients_own_is_not_kept() {
        let shareable = |pairs: &[(&'static str, &'static str)]| {
            let header = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            is_shareable(&pairs.iter().map(header).collect())
        };
        assert!(
            shareable(&[])
                && shareable(&[("cache-control", "max-age=60, public"), ("vary", "Accept-Encoding")])
        );
        for private in ["no-store", "max-age=0, Private", "private=\"x\""] {
            assert!(!shareable(&[("cache-control", private)]), "{private}");
        }
        assert!(!shareable(&[("vary", "Accept-Encoding, Cookie")]) && !shareable(&[("vary", "*")]));
    }
}
