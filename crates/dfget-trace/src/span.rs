//! Spans: begun at a request's headers, ended when dropped.

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TraceId};
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use parking_lot::Mutex;

use crate::context::{Context, TRACEPARENT, TRACESTATE};
use crate::queue::{Entrance, Lost, Queue, Spans};

/// What a span is of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// Something within this process.
    #[default]
    Internal,
    /// A request that came.
    Server,
    /// A request that was sent.
    Client,
}

/// What an attribute says: text (cut after a KiB), a number, yes or no.
#[derive(Clone, Debug)]
pub struct Value(opentelemetry::Value);

/// What a tracer that is on is made of.
pub struct TracerOptions {
    /// The share of the traces beginning here that is recorded, 0 to 1.
    pub ratio: f64,
    /// Told how many spans are lost, whenever some are.
    pub lost: Box<dyn Fn(u64) + Send + Sync>,
}

/// Begins spans, or nothing at all while it is off. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    sdk: SdkTracer,
}

/// A part of a request's way. It ends when it is dropped; one that is not recorded is nothing.
#[derive(Debug, Default)]
pub struct Span {
    open: Option<Box<Open>>,
}

/// A span that several hold; it ends with the last of them, or before.
#[derive(Clone, Debug)]
pub struct SharedSpan {
    context: Context,
    span: Arc<Mutex<Span>>,
}

#[derive(Debug)]
struct Open {
    context: Context,
    kind: Kind,
    sdk: opentelemetry_sdk::trace::Span,
}

// === impl Value ===

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self(word.into())
    }
}

impl From<String> for Value {
    fn from(mut text: String) -> Self {
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
        }
        Self(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self(i64::try_from(number).unwrap_or(i64::MAX).into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self(i64::from(number).into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self(i64::from(number).into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self(flag.into())
    }
}

// === impl Kind ===

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
        }
    }
}

// === impl TracerOptions ===

impl fmt::Debug for TracerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracerOptions").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

// === impl Tracer ===

impl Tracer {
    /// Begins no spans.
    #[must_use]
    pub const fn off() -> Self {
        Self { on: None }
    }

    /// Begins spans; they come out of the other end.
    #[must_use]
    pub fn new(options: TracerOptions) -> (Self, Spans) {
        let lost: Lost = options.lost;
        let queue = Arc::new(Queue::new(lost));
        // Whose request is not recorded is not asked of it at all, see `enter`.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_max_attributes_per_span(MOST)
            // Who sends them is said with the batch.
            .with_resource(Resource::builder_empty().build())
            .with_span_processor(Entrance(Arc::clone(&queue)))
            .build();
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let on = On { sdk: provider.tracer_with_scope(scope) };
        (Self { on: Some(Arc::new(on)) }, Spans::new(queue))
    }

    /// Whether it is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// A request has come with these headers: the span of its answer, which is the parent of all
    /// that is done for it. It goes on in the headers. A `traceparent` that is none is taken out,
    /// as is the state that belongs to it.
    pub fn enter(&self, headers: &mut HeaderMap, name: &'static str) -> Span {
        let Some(on) = &self.on else { return Span::none() };
        if let Some(parent) = Context::of(headers) {
            // What nobody records is passed on as it came.
            if !parent.is_sampled() {
                return Span::none();
            }
            let span = on.begin(Some(parent), true, Kind::Server, name);
            span.mark(headers);
            return span;
        }
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
        let root = on.start(None, false, Kind::Server, name);
        // That it is not recorded is for those behind to know as well.
        root.context.write(headers);
        root.into_span()
    }

    /// A part of what is done for the request that has these headers.
    #[must_use]
    pub fn child(&self, headers: &HeaderMap, kind: Kind, name: &'static str) -> Span {
        match (&self.on, self.parent(headers)) {
            (Some(on), Some(parent)) => on.begin(Some(parent), false, kind, name),
            _ => Span::none(),
        }
    }

    /// A part of what is done for another process, which has sent this as its `traceparent`.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, name: &'static str) -> Span {
        match (&self.on, self.parent(headers)) {
            (Some(on), Some(parent)) => on.begin(Some(parent), true, Kind::Server, name),
            _ => Span::none(),
        }
    }

    /// A part of what is done within `parent`.
    #[must_use]
    pub fn below(&self, parent: Option<Context>, kind: Kind, name: &'static str) -> Span {
        match (&self.on, parent) {
            (Some(on), Some(parent)) => on.begin(Some(parent), false, kind, name),
            _ => Span::none(),
        }
    }

    /// The recorded trace that the request with these headers belongs to.
    #[must_use]
    pub fn trace(&self, headers: &HeaderMap) -> Option<TraceId> {
        self.parent(headers).map(|parent| parent.trace())
    }

    fn parent(&self, headers: &HeaderMap) -> Option<Context> {
        self.on.as_ref().and_then(|_| Context::of(headers)).filter(Context::is_sampled)
    }
}

// === impl On ===

impl On {
    fn begin(&self, parent: Option<Context>, remote: bool, kind: Kind, name: &'static str) -> Span {
        self.start(parent, remote, kind, name).into_span()
    }

    fn start(&self, parent: Option<Context>, remote: bool, kind: Kind, name: &'static str) -> Open {
        let around = opentelemetry::Context::new();
        let around = match parent {
            Some(parent) => around.with_remote_span_context(parent.as_parent(remote)),
            None => around,
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind.into());
        let sdk = self.sdk.build_with_context(builder, &around);
        Open { context: Context::from(sdk.span_context()), kind, sdk }
    }
}

// === impl Open ===

impl Open {
    /// Nothing, if it is not recorded.
    fn into_span(self) -> Span {
        Span { open: self.sdk.is_recording().then(|| Box::new(self)) }
    }
}

// === impl Span ===

impl Span {
    /// One that is not recorded.
    #[must_use]
    pub const fn none() -> Self {
        Self { open: None }
    }

    /// The span as others know it, if it is recorded.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        self.open.as_ref().map(|open| open.context)
    }

    /// What it is of; nothing in particular if it is not recorded.
    pub(crate) fn kind(&self) -> Kind {
        self.open.as_ref().map_or(Kind::Internal, |open| open.kind)
    }

    /// Says something of it. What to say is worked out only if it is recorded.
    pub fn set<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(open) = &mut self.open {
            open.sdk.set_attribute(KeyValue::new(key, value().into().0));
        }
    }

    /// It did not end as it should have: by this kind of failure (`error.type`).
    pub fn fail<V: Into<Value>>(&mut self, kind: impl FnOnce() -> V) {
        self.set("error.type", kind);
        if let Some(open) = &mut self.open {
            open.sdk.set_status(Status::error(""));
        }
    }

    /// Makes it the parent of what these headers are sent with; does nothing if it is not recorded.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Some(open) = &self.open {
            open.context.write(headers);
        }
    }

    /// The header by which it is the parent of what is sent, if it is recorded.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.open.as_ref().and_then(|open| open.context.header())
    }

    /// For several to hold; `None` if it is not recorded.
    #[must_use]
    pub fn share(self) -> Option<SharedSpan> {
        let context = self.context()?;
        Some(SharedSpan { context, span: Arc::new(Mutex::new(self)) })
    }
}

// === impl SharedSpan ===

impl SharedSpan {
    /// The span as others know it.
    #[must_use]
    pub const fn context(&self) -> Context {
        self.context
    }

    /// Does something with it, if it has not ended.
    pub fn with(&self, work: impl FnOnce(&mut Span)) {
        work(&mut self.span.lock());
    }

    /// Ends it for all that hold it.
    pub fn end(&self) {
        let ended = std::mem::take(&mut *self.span.lock());
        drop(ended);
    }
}

/// Attributes of one span, at most.
const MOST: u32 = 32;
/// Bytes of a text, at most.
const LONGEST: usize = 1024;
/// The name of what makes the spans.
const SCOPE: &str = "dfget";

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanId;

    use super::*;

    const CAME: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn headers(traceparent: &'static str) -> HeaderMap {
        [(TRACEPARENT, HeaderValue::from_static(traceparent)), (TRACESTATE, HeaderValue::from_static("a=1"))]
            .into_iter()
            .collect()
    }

    fn tracer(ratio: f64) -> (Tracer, Spans) {
        Tracer::new(TracerOptions { ratio, lost: Box::new(|_| {}) })
    }

    #[test]
    fn off_it_touches_nothing() {
        let tracer = Tracer::off();
        for text in [CAME, "nonsense"] {
            let mut came = headers(text);
            let mut span = tracer.enter(&mut came, "GET");
            span.set("key", || -> &'static str { panic!("nobody asked for it") });
            assert_eq!((came, span.context()), (headers(text), None));
            assert_eq!(tracer.trace(&headers(CAME)), None);
            assert!(tracer.child(&headers(CAME), Kind::Client, "GET").context().is_none());
        }
    }

    #[test]
    fn a_request_is_continued_and_what_is_done_for_it_is_below() {
        let (tracer, spans) = tracer(0.0);
        let mut came = headers(CAME);
        let server = tracer.enter(&mut came, "GET");
        let child = tracer.child(&came, Kind::Client, "HEAD");
        let of = Context::of(&came).unwrap();
        assert_eq!(server.context(), Some(of));
        assert_eq!(came[TRACESTATE], "a=1");
        assert_eq!(tracer.trace(&came).unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
        drop(child);
        drop(server);
        let [inner, outer] = &spans.take()[..] else { panic!("two spans") };
        let (inside, around) = (&inner.span_context, &outer.span_context);
        assert_eq!(
            (&*inner.name, inner.parent_span_id, inner.parent_span_is_remote),
            ("HEAD", around.span_id(), false)
        );
        let client = SpanId::from_hex("b7ad6b7169203331").unwrap();
        assert_eq!((&*outer.name, outer.parent_span_id, outer.parent_span_is_remote), ("GET", client, true));
        assert!(inside.trace_id() == around.trace_id() && inside.span_id() != around.span_id());
        assert!(
            inside.is_sampled() && inner.end_time >= inner.start_time && outer.end_time >= outer.start_time
        );
    }

    #[test]
    fn what_the_client_does_not_record_goes_on_as_it_came() {
        let (tracer, spans) = tracer(1.0);
        let mut came = headers(UNRECORDED);
        drop(tracer.enter(&mut came, "GET"));
        assert_eq!(came, headers(UNRECORDED));
        assert!(tracer.child(&came, Kind::Client, "GET").context().is_none());
        assert!(spans.take().is_empty());
    }

    #[test]
    fn a_malformed_parent_counts_as_none() {
        let (tracer, spans) = tracer(1.0);
        let mut came = headers("00-nonsense");
        drop(tracer.enter(&mut came, "GET"));
        assert!(!came.contains_key(TRACESTATE), "the state of another trace");
        let [span] = &spans.take()[..] else { panic!("a span") };
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_eq!(Context::of(&came).map(|context| context.trace()), Some(span.span_context.trace_id()));
    }

    #[test]
    fn a_trace_that_is_not_taken_is_known_as_such_to_those_behind() {
        let (tracer, spans) = tracer(0.0);
        let mut came = HeaderMap::new();
        drop(tracer.enter(&mut came, "GET"));
        assert!(Context::of(&came).is_some_and(|context| !context.is_sampled()));
        assert!(spans.take().is_empty());
    }

    #[test]
    fn a_share_is_taken_the_same_everywhere() {
        let taken = |ratio| {
            let (tracer, spans) = tracer(ratio);
            for _ in 0..1000 {
                drop(tracer.enter(&mut HeaderMap::new(), "GET"));
            }
            std::iter::from_fn(|| Some(spans.take()).filter(|taken| !taken.is_empty())).flatten().count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 1000));
        // Six standard deviations to each side.
        assert!((168..=332).contains(&taken(0.25)));
    }

    #[test]
    fn a_span_says_so_much_and_no_more() {
        let (tracer, spans) = tracer(1.0);
        let mut span = tracer.enter(&mut HeaderMap::new(), "GET");
        span.fail(|| "timeout");
        for _ in 0..2 * MOST {
            span.set("text", || "\u{e4}".repeat(LONGEST));
        }
        let shared = span.share().unwrap();
        let other = shared.clone();
        shared.end();
        other.with(|span| assert_eq!(span.context(), None));
        let [ended] = &spans.take()[..] else { panic!("one span") };
        assert!(ended.status == Status::error("") && ended.attributes.len() == MOST as usize);
        assert_eq!(ended.attributes[0], KeyValue::new("error.type", "timeout"));
        assert_eq!(ended.attributes[1], KeyValue::new("text", "\u{e4}".repeat(LONGEST / 2)));
    }
}
