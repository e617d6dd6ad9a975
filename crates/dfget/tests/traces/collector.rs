//! A collector: takes OTLP over HTTP, and reads it by OpenTelemetry's own messages.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dfget_testkit::origin::Received;
use dfget_testkit::{Answer, Origin, Reply};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

/// What was sent, in the order of its coming.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected(Arc<Mutex<Vec<Received>>>);

/// A span as a test looks at it.
#[derive(Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for the first of a trace.
    pub(crate) parent: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) failed: bool,
    pub(crate) service: String,
    pub(crate) took: u64,
}

// === impl Collected ===

impl Collected {
    /// Takes what is sent and answers as a collector does.
    pub(crate) fn take(&self, request: &Received) -> Reply {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        Answer::new(200).header("Content-Type", "application/x-protobuf").into()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All spans so far, each once: what was answered too late is sent again.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut seen = HashSet::new();
        let mut spans: Vec<_> = self.requests().iter().flat_map(|request| read(&request.body)).collect();
        spans.retain(|span| seen.insert((span.trace.clone(), span.id.clone())));
        spans
    }
}

/// A collector without TLS.
pub(crate) fn collector() -> (Origin, Collected) {
    let collected = Collected::default();
    let taken = collected.clone();
    (Origin::plain(move |request| taken.take(request)), collected)
}

/// The only span for which this holds.
#[track_caller]
pub(crate) fn only<'a>(spans: &'a [Span], what: &str, holds: impl Fn(&Span) -> bool) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| holds(span)).collect();
    assert_eq!(found.len(), 1, "{what} among {spans:#?}");
    found[0]
}

// === impl Span ===

impl Span {
    /// What it says under this key; empty if it says nothing.
    pub(crate) fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map(String::as_str).unwrap_or_default()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, trace, id, parent, attributes, .. } = self;
        write!(f, "{name} {trace} {parent} > {id} {attributes:?}")
    }
}

fn read(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let of = attributes(&resource.resource.expect("a resource").attributes);
        let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(all.map(|span| one(&span, &of["service.name"])));
    }
    spans
}

fn one(span: &otlp::Span, service: &str) -> Span {
    Span {
        name: span.name.clone(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(&span.attributes),
        failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
        service: service.to_owned(),
        took: span.end_time_unix_nano.checked_sub(span.start_time_unix_nano).expect("it ends after it began"),
    }
}

fn attributes(pairs: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: &AnyValue| match value.value.as_ref().expect("a value") {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.as_ref().map(text).unwrap_or_default())).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
