//! A content's bytes, whatever happens to the connections they come over.
//!
//! The real clients neither resume a broken pull nor time out on a stalled one, so this stream
//! does both for them: it continues with a `Range` request where the last connection stopped,
//! waits between tries, and gives up only when several in a row bring no byte. A byte once
//! handed on is never repeated, and bytes of two different contents are never joined: without
//! a digest to prove it, the origin must say by validator that the content is still the same.

use std::time::Duration;

use bytes::Bytes;
use dfget_core::{ByteRange, ContentRange};
use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::budget::retry_after;
use crate::decode::Gunzip;
use crate::error::cause;
use crate::headers::{content_length, is_strong, text};
use crate::limit::Ticket;
use crate::{FetchError, FetchRequest, Flow, OriginClient, OriginError};

/// The longest `Retry-After` that is waited for with a client's connection open.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What tells that a later answer is of the same content as the first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The content is named by a digest, which will be checked at its end; nothing else is needed.
    pub named: bool,
    /// `ETag` of the first answer, if it is a strong one.
    pub etag: Option<String>,
    /// `Last-Modified` of the first answer.
    pub last_modified: Option<String>,
    /// Length of the whole content in bytes.
    pub total: Option<u64>,
}

/// The bytes of a content, from some offset on, in order.
#[derive(Debug)]
pub struct ContentStream {
    client: OriginClient,
    request: FetchRequest,
    identity: Identity,
    body: Option<Incoming>,
    gunzip: Option<Gunzip>,
    /// Offset of the next byte to hand on.
    position: u64,
    /// Offset just past the last byte to hand on.
    end: Option<u64>,
    /// Bytes of the present body that were handed on before.
    skip: u64,
    /// The origin takes no notice of `Range`, or a wrong one.
    whole_only: bool,
    tries: u32,
    /// The task whose share of a rate limit it reads from, if there is a limit.
    flow: Option<Flow>,
    /// The place in the queue for the next read, or the right to it.
    ticket: Option<Ticket>,
    /// It has had to wait for a rate limit.
    limited: bool,
}

// === impl Identity ===

impl Identity {
    /// What a first answer says of its content.
    #[must_use]
    pub fn of(headers: &HeaderMap, named: bool, total: Option<u64>) -> Self {
        let etag = text(headers, &ETAG).filter(|etag| is_strong(etag)).map(ToOwned::to_owned);
        // A content that changed in the very second of its answer can change again in the same
        // second (RFC 9110, section 8.8.2.2).
        let settled = |modified: &&str| text(headers, &DATE) != Some(modified);
        let last_modified = text(headers, &LAST_MODIFIED).filter(settled).map(ToOwned::to_owned);
        Self { named, etag, last_modified, total }
    }

    /// Whether parts of this content can be fetched by different requests.
    fn joins(&self) -> bool {
        self.named || self.etag.is_some() || self.last_modified.is_some()
    }

    /// What a continuation is made to depend on; a content with a digest needs nothing, and may
    /// come from replicas that give it different tags.
    fn validator(&self) -> Option<&str> {
        if self.named {
            return None;
        }
        self.etag.as_deref().or(self.last_modified.as_deref())
    }

    /// Whether `headers` speak of this content too.
    fn admits(&self, headers: &HeaderMap) -> bool {
        if self.named {
            return true;
        }
        match (&self.etag, &self.last_modified) {
            (Some(etag), _) => text(headers, &ETAG) == Some(etag),
            (None, Some(modified)) => text(headers, &LAST_MODIFIED) == Some(modified),
            (None, None) => false,
        }
    }
}

// === impl ContentStream ===

impl ContentStream {
    /// The stream of what `answer` (to `request`, of status 200 or 206) carries.
    ///
    /// `asked` is the range that was asked for, if one was; `named` whether the content is named
    /// by a digest. An origin that answers 200 to a range yields the stream of the whole content
    /// (see [`Self::position`]).
    ///
    /// # Errors
    /// [`FetchError::Unusable`] if the answer's headers contradict the request.
    pub fn new(
        client: OriginClient,
        request: FetchRequest,
        answer: Response<Incoming>,
        asked: Option<ByteRange>,
        named: bool,
    ) -> Result<Self, FetchError> {
        let (head, body) = answer.into_parts();
        let gunzip = coding(&head.headers)?;
        let length = content_length(&head.headers).filter(|_| gunzip.is_none());
        let (position, end, total) = match (head.status, asked) {
            (StatusCode::OK, _) => (0, length, length),
            (StatusCode::PARTIAL_CONTENT, Some(asked)) if gunzip.is_none() => {
                let sent = partial(&head.headers, asked.start)?;
                // The total may show that less than what was asked exists.
                let end = asked.end.min(sent.total.unwrap_or(sent.range.end));
                (asked.start, Some(end), sent.total)
            }
            (status, _) => {
                return Err(FetchError::Unusable(format!(
                    "the origin answered {status} to a request for the content"
                )));
            }
        };
        let whole_only = asked.is_some() && head.status == StatusCode::OK;
        let identity = Identity::of(&head.headers, named, total);
        Ok(Self {
            client,
            request,
            identity,
            body: Some(body),
            gunzip,
            position,
            end,
            skip: 0,
            whole_only,
            tries: 0,
            flow: None,
            ticket: None,
            limited: false,
        })
    }

    /// A stream that asks for the bytes from `start` to `end` (the content's own end if `None`)
    /// of the content known by `identity`, when it is first read.
    #[must_use]
    pub const fn lazy(
        client: OriginClient,
        request: FetchRequest,
        start: u64,
        end: Option<u64>,
        identity: Identity,
    ) -> Self {
        Self {
            client,
            request,
            identity,
            body: None,
            gunzip: None,
            position: start,
            end,
            skip: 0,
            whole_only: false,
            tries: 0,
            flow: None,
            ticket: None,
            limited: false,
        }
    }

    /// Offset, in the content, of the next byte that [`Self::next`] yields.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Offset just past the last byte, once known.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// Ends the stream at `end`, if that is before its own end and not behind it already.
    pub fn end_at(&mut self, end: u64) {
        if self.end.is_some_and(|own| end < own) {
            self.end = Some(end.max(self.position));
        }
    }

    /// What tells this content from another.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the stream asks with.
    #[must_use]
    pub const fn request(&self) -> &FetchRequest {
        &self.request
    }

    /// Whether the origin has shown to take no notice of ranges.
    #[must_use]
    pub const fn is_whole_only(&self) -> bool {
        self.whole_only
    }

    /// Lets the stream read from the share of this task in the rate limits; else it is a task of
    /// its own.
    pub fn count_for(&mut self, flow: Option<&Flow>) {
        self.flow = flow.cloned();
    }

    /// Whether a rate limit has held it up: then the origin need not be slow.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.limited
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`FetchError`], after which the stream must not be read again.
    ///
    /// # Cancel safety
    /// Safe to drop while waiting for bytes; while a connection is being made anew only that
    /// try is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            if self.end.is_some_and(|end| self.position >= end) {
                return Ok(None);
            }
            if let Some(bytes) = self.decoded()? {
                return Ok(Some(self.advance(bytes)));
            }
            if self.body.is_none() {
                self.reconnect().await?;
                continue;
            }
            // That takes as long as it takes, and is no stall of the origin's.
            self.may_read().await;
            let Some(body) = &mut self.body else { continue };
            let broken = match timeout(self.client.timeouts().stall, body.frame()).await {
                Err(_) => format!("no byte for {} s", self.client.timeouts().stall.as_secs()),
                Ok(Some(Err(error))) => cause(&error),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        if let Some(ticket) = self.ticket.take() {
                            ticket.settle(bytes.len());
                        }
                        if let Some(bytes) = self.accept(bytes) {
                            return Ok(Some(self.advance(bytes)));
                        }
                    }
                    continue;
                }
                Ok(None) => match self.finish()? {
                    Finish::Last(bytes) => return Ok(bytes.map(|bytes| self.advance(bytes))),
                    Finish::Early => "the connection ended before the content".to_owned(),
                },
            };
            self.interrupted(&broken)?;
        }
    }

    /// Waits for the rate limits, if there are any. Dropped while waiting, its place is kept.
    async fn may_read(&mut self) {
        if self.flow.is_none() {
            self.flow = self.client.flow();
        }
        let Some(flow) = &self.flow else { return };
        let ticket = self.ticket.get_or_insert_with(|| Ticket::take(flow));
        self.limited |= ticket.granted().await;
    }

    /// Takes bytes of the body: decodes them, or leaves out what was handed on before.
    fn accept(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        if let Some(gunzip) = &mut self.gunzip {
            gunzip.push(bytes);
            return None;
        }
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
        if let Some(end) = self.end {
            let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            bytes.truncate(left);
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    fn advance(&mut self, bytes: Bytes) -> Bytes {
        self.position += bytes.len() as u64;
        self.tries = 0;
        bytes
    }

    fn decoded(&mut self) -> Result<Option<Bytes>, FetchError> {
        match &mut self.gunzip {
            Some(gunzip) => gunzip.pull().map_err(bad_coding),
            None => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<Finish, FetchError> {
        self.body = None;
        if let Some(gunzip) = &mut self.gunzip {
            let last = gunzip.finish().map_err(bad_coding)?;
            let end = self.position + last.len() as u64;
            (self.end, self.identity.total) = (Some(end), Some(end));
            return Ok(Finish::Last((!last.is_empty()).then_some(last)));
        }
        if self.end.is_some() || self.skip > 0 {
            return Ok(Finish::Early);
        }
        (self.end, self.identity.total) = (Some(self.position), Some(self.position));
        Ok(Finish::Last(None))
    }

    /// Notes that the present connection is of no use any more.
    fn interrupted(&mut self, reason: &str) -> Result<(), FetchError> {
        self.body = None;
        self.tries += 1;
        if self.gunzip.is_some() || !self.identity.joins() {
            let last = format!("{reason}; without a validator or with a coding it cannot be continued");
            return Err(FetchError::GaveUp { attempts: self.tries, last });
        }
        let most = self.client.retries().most;
        if self.tries >= most {
            return Err(FetchError::GaveUp { attempts: self.tries, last: reason.to_owned() });
        }
        info!(
            origin = self.request.url.host_str(),
            position = self.position,
            "download interrupted: {reason}; continuing (try {} of {most})",
            self.tries
        );
        Ok(())
    }

    /// Asks the origin for what is missing, until there is a body to read or no hope.
    async fn reconnect(&mut self) -> Result<(), FetchError> {
        if self.tries > 0 {
            tokio::time::sleep(self.client.retries().between.wait(self.tries, fastrand::f64())).await;
        }
        let answer = match self.client.fetch(&self.request, &self.continuation()).await {
            Ok(answer) => answer.response,
            Err(error @ OriginError::Resting { wait, .. }) => {
                self.interrupted(&error.to_string())?;
                tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
                return Ok(());
            }
            Err(error) if error.is_unreachable() => return self.interrupted(&error.to_string()),
            Err(error) => return Err(FetchError::Unusable(error.to_string())),
        };
        let status = answer.status();
        match status.as_u16() {
            206 => match partial(answer.headers(), self.position) {
                Ok(sent) => self.continue_with(answer, sent),
                Err(error) => {
                    // A range that is not the one asked for: next time ask for everything.
                    self.whole_only = true;
                    self.interrupted(&error.to_string())
                }
            },
            200 => self.restart_with(answer),
            401 | 403 | 407 => Err(FetchError::Denied(status)),
            // Registries that hide what is private answer a dead credential so.
            404 | 410 if self.identity.named => Err(FetchError::Denied(status)),
            408 | 425 | 429 | 500..=599 => {
                let pause = retry_after(answer.headers()).map(|pause| pause.min(LONGEST_PAUSE));
                self.interrupted(&format!("the origin answers {status}"))?;
                if let Some(pause) = pause {
                    debug!(seconds = pause.as_secs(), "waiting as the origin asks by Retry-After");
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
            404 | 410 | 412 | 416 => Err(FetchError::Changed(format!("it answers {status}"))),
            _ => Err(FetchError::Unusable(format!("the origin answers {status}"))),
        }
    }

    fn continuation(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut extra = Vec::new();
        if self.whole_only || (self.position == 0 && self.end.is_none()) {
            return extra;
        }
        let range = match self.end {
            Some(end) => ByteRange { start: self.position, end }.to_header(),
            None => format!("bytes={}-", self.position),
        };
        if let Ok(range) = range.try_into() {
            extra.push((RANGE, range));
        }
        if let Some(Ok(validator)) = self.identity.validator().map(TryInto::try_into) {
            extra.push((IF_RANGE, validator));
        }
        extra
    }

    fn continue_with(&mut self, answer: Response<Incoming>, sent: ContentRange) -> Result<(), FetchError> {
        self.check_same(answer.headers(), sent.total)?;
        self.learn_total(sent.total);
        if coding(answer.headers())?.is_some() {
            return Err(FetchError::Unusable("the origin sent a part of the content gzip-coded".to_owned()));
        }
        (self.body, self.skip) = (Some(answer.into_body()), 0);
        Ok(())
    }

    /// A 200: the whole content, of which the first part may have been handed on before.
    fn restart_with(&mut self, answer: Response<Incoming>) -> Result<(), FetchError> {
        let asked = !self.continuation().is_empty();
        let gunzip = coding(answer.headers())?;
        if gunzip.is_some() && self.position > 0 {
            return Err(FetchError::Unusable(
                "the origin sent the content gzip-coded the second time".to_owned(),
            ));
        }
        let total = content_length(answer.headers()).filter(|_| gunzip.is_none());
        self.check_same(answer.headers(), total)?;
        self.learn_total(total);
        self.whole_only |= asked;
        self.gunzip = gunzip;
        (self.body, self.skip) = (Some(answer.into_body()), self.position);
        Ok(())
    }

    fn learn_total(&mut self, total: Option<u64>) {
        self.identity.total = self.identity.total.or(total);
        self.end = match (self.end, self.identity.total) {
            (Some(end), Some(total)) => Some(end.min(total)),
            (end, total) => end.or(total),
        };
    }

    fn check_same(&self, headers: &HeaderMap, total: Option<u64>) -> Result<(), FetchError> {
        if !self.identity.admits(headers) {
            return Err(FetchError::Changed("its validator is another".to_owned()));
        }
        match (self.identity.total, total) {
            (Some(before), Some(now)) if before != now => {
                Err(FetchError::Changed(format!("it had {before} bytes and has {now}")))
            }
            _ => Ok(()),
        }
    }
}

enum Finish {
    Last(Option<Bytes>),
    Early,
}

fn coding(headers: &HeaderMap) -> Result<Option<Gunzip>, FetchError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    match value.as_bytes().to_ascii_lowercase().trim_ascii() {
        b"" | b"identity" => Ok(None),
        b"gzip" | b"x-gzip" => Ok(Some(Gunzip::new())),
        other => Err(FetchError::Unusable(format!(
            "the origin sent Content-Encoding: {} although identity was asked for",
            String::from_utf8_lossy(other).chars().take(20).collect::<String>()
        ))),
    }
}

fn bad_coding(error: std::io::Error) -> FetchError {
    FetchError::Unusable(format!("the origin's gzip coding is broken: {error}"))
}

/// The `Content-Range` of a 206 that must begin at `start`.
fn partial(headers: &HeaderMap, start: u64) -> Result<ContentRange, FetchError> {
    let value = text(headers, &CONTENT_RANGE).unwrap_or("");
    match ContentRange::parse(value) {
        Some(sent) if sent.range.start == start => Ok(sent),
        _ => Err(FetchError::Unusable(format!(
            "asked for the bytes from {start} on, the origin answered 206 with Content-Range \"{}\"",
            value.chars().take(60).collect::<String>()
        ))),
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

    #[test]
    fn unnamed_contents_are_joined_only_under_the_same_validator() {
        let first = Identity::of(&headers(&[("etag", "\"1\""), ("last-modified", "then")]), false, Some(9));
        assert!(first.joins() && first.admits(&headers(&[("etag", "\"1\"")])));
        assert!(!first.admits(&headers(&[("etag", "\"2\""), ("last-modified", "then")])));
        let weak = Identity::of(&headers(&[("etag", "W/\"1\"")]), false, None);
        assert!(!weak.joins() && !weak.admits(&headers(&[("etag", "W/\"1\"")])));
        let fresh = Identity::of(&headers(&[("last-modified", "then"), ("date", "then")]), false, None);
        assert!(!fresh.joins());
        let dated = Identity::of(&headers(&[("last-modified", "then")]), false, None);
        assert!(dated.joins() && !dated.admits(&headers(&[])));
        let named = Identity::of(&headers(&[]), true, None);
        assert!(named.joins() && named.admits(&headers(&[("etag", "\"other\"")])));
    }

    #[test]
    fn codings_other_than_gzip_are_refused_by_name() {
        assert!(matches!(coding(&headers(&[])), Ok(None)));
        assert!(matches!(coding(&headers(&[("content-encoding", "Identity")])), Ok(None)));
        assert!(matches!(coding(&headers(&[("content-encoding", "GZIP")])), Ok(Some(_))));
        let refused = coding(&headers(&[("content-encoding", "br")])).expect_err("brotli is not decoded");
        assert!(refused.to_string().contains("Content-Encoding: br"), "{refused}");
    }

    #[test]
    fn a_part_that_was_not_asked_for_is_refused() {
        assert!(partial(&headers(&[("content-range", "bytes 5-9/10")]), 5).is_ok());
        for wrong in ["bytes 4-9/10", "bytes 6-9/10", "bytes */10", ""] {
            assert!(partial(&headers(&[("content-range", wrong)]), 5).is_err(), "{wrong}");
        }
        assert!(partial(&headers(&[]), 0).is_err());
    }
}
