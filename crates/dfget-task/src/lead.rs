//! The first request for a content that is not here: its own answer decides what becomes of it.

use std::sync::Arc;

use dfget_core::{ByteRange, RangeHeader, RangeSpec};
use dfget_origin::headers::{content_length, representation};
use dfget_origin::{Answer, ContentStream, Identity};
use dfget_storage::{BLOCK, Entry};
use http::header::{HeaderName, HeaderValue, RANGE};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;
use tracing::warn;

use crate::direct::Direct;
use crate::error::ContentError;
use crate::meta::TaskMeta;
use crate::request::{RunKey, TaskRequest, partial_key};
use crate::task::{Seat, Task};
use crate::tasks::Tasks;

/// The right and duty to ask the origin for a content. Others wait until it is used or dropped.
#[derive(Debug)]
pub struct Lead {
    tasks: Tasks,
    key: RunKey,
    settled: bool,
    /// Dropped with the lead: that is what wakes those who wait.
    _done: watch::Sender<()>,
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

impl Lead {
    pub(crate) const fn new(tasks: Tasks, key: RunKey, done: watch::Sender<()>) -> Self {
        Self { tasks, key, settled: false, _done: done }
    }

    /// Asks the origin with the client's own request, unless `carried` is its answer already, for
    /// the whole content. `accepted` is told once the origin has
    /// begun to give the content to the client, before anybody else sees that it is there.
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
        accepted: impl FnOnce(&Identity),
    ) -> Result<Begun, ContentError> {
        let (answer, asked) = match carried {
            Some(answer) => (answer, None),
            None => self.ask(request).await?,
        };
        let Answer { response, redirected } = answer;
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(Begun::Answer(response));
        }
        let status = response.status();
        let headers = response.headers().clone();
        let origin = self.tasks.origin().clone();
        let stream =
            ContentStream::new(origin, request.fetch.clone(), response, asked, request.digest.is_some())
                .map_err(|source| ContentError::Fetch { origin: self.key.authority.to_string(), source })?;
        accepted(stream.identity());
        let meta = self.describe(request, &headers, &stream);
        let Some(entry) = self.store(request, &meta, &stream).await else {
            if asked.is_some() {
                return Ok(Begun::Unstored);
            }
            let body = Box::new(Direct::new(stream, self.key.authority.to_string(), request.digest));
            return Ok(Begun::Direct { body, status, headers });
        };
        let task = Task::new(self.tasks.clone(), self.key.clone(), request, entry, meta);
        self.tasks.metrics().task_started();
        self.tasks.run(&self.key, &task);
        self.settled = true;
        let seat = Seat::take(&task);
        task.begin_with(stream);
        Ok(Begun::Task { task: seat, own_headers: (!redirected).then_some(headers) })
    }

    /// Sends the first request: for the part that the client wants where the origin knows
    /// ranges, else for the whole.
    async fn ask(&self, request: &TaskRequest) -> Result<(Answer, Option<ByteRange>), ContentError> {
        let whole_from_the_start = || async {
            let answer = self.tasks.origin().fetch(&request.fetch, &[]).await?;
            Ok((answer, None))
        };
        let spec = match request.range {
            RangeHeader::One(spec) if !self.tasks.inner.options.prefetch => spec,
            RangeHeader::One(_) => {
                self.tasks.metrics().prefetch_started();
                return whole_from_the_start().await;
            }
            RangeHeader::Whole => return whole_from_the_start().await,
        };
        let range = match spec {
            RangeSpec::FromTo(first, last) => ByteRange { start: first, end: last.saturating_add(1) },
            RangeSpec::From(first) => ByteRange { start: first, end: u64::MAX },
            // Only the total tells where it begins.
            RangeSpec::Suffix(_) => ByteRange { start: 0, end: 1 },
        };
        let aligned = ByteRange { start: range.start - range.start % BLOCK, end: range.end };
        if aligned.start == 0 && aligned.end == u64::MAX {
            return whole_from_the_start().await;
        }
        let value = match aligned.end {
            u64::MAX => format!("bytes={}-", aligned.start),
            _ => aligned.to_header(),
        };
        let extra: [(HeaderName, HeaderValue); 1] =
            [(RANGE, value.try_into().unwrap_or(HeaderValue::from_static("")))];
        let answer = self.tasks.origin().fetch(&request.fetch, &extra).await?;
        let without_total = answer.response.status() == StatusCode::PARTIAL_CONTENT
            && total_of(answer.response.headers()).is_none();
        if without_total {
            // A part of something without a known end cannot be answered exactly.
            return whole_from_the_start().await;
        }
        Ok((answer, Some(aligned)))
    }

    fn describe(&self, request: &TaskRequest, headers: &HeaderMap, stream: &ContentStream) -> TaskMeta {
        let identity = stream.identity();
        let mut meta = TaskMeta {
            digest: request.digest.map(|digest| digest.to_string()),
            etag: identity.etag.clone(),
            last_modified: identity.last_modified.clone(),
            ..TaskMeta::default()
        };
        meta.add_origin(&self.key.authority, &representation(headers));
        meta
    }

    /// A place in the store for the content; `None` where it cannot or must not be stored: an
    /// unnamed content without a validator could never be told from another one.
    async fn store(
        &self,
        request: &TaskRequest,
        meta: &TaskMeta,
        stream: &ContentStream,
    ) -> Option<Arc<Entry>> {
        let store = self.tasks.inner.store.clone()?;
        if request.digest.is_none() && meta.etag.is_none() && meta.last_modified.is_none() {
            return None;
        }
        let (key, total) = (partial_key(&self.key), stream.identity().total);
        let bytes = meta.to_bytes();
        let create = move || store.create(key, bytes, total, std::time::SystemTime::now());
        let created = tokio::task::spawn_blocking(create).await;
        match created {
            Ok(Ok(entry)) => Some(entry),
            Ok(Err(error)) => {
                warn!(task = %self.key.id, "streaming without the store: {error}");
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.settled {
            self.tasks.give_up(&self.key);
        }
    }
}

fn total_of(headers: &HeaderMap) -> Option<u64> {
    let value = dfget_origin::headers::text(headers, &http::header::CONTENT_RANGE);
    match value {
        Some(value) => dfget_core::ContentRange::parse(value)?.total,
        None => content_length(headers),
    }
}
