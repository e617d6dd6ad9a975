//! Spans as collectors take them: OTLP 1.x, in protobuf.
//!
//! Of `opentelemetry/proto/{collector/trace,trace,common,resource}/v1` it has the fields that are
//! filled in here, under their numbers; all others stay absent, which means their defaults.

use prost::Message;

use crate::queue::Ended;
use crate::span::{Kind, Value};

/// Who sends spans.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    /// `service.version`.
    pub version: &'static str,
    /// `service.instance.id`: differs between processes.
    pub instance: String,
    /// `host.name`.
    pub host: String,
}

/// What a collector says of spans that it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It has them.
    Taken,
    /// It refuses so many of them.
    Refused(u64),
    /// This is no answer of a collector.
    Nonsense,
}

/// The body of a request that exports these spans.
#[must_use]
pub fn encode(resource: &Resource, spans: Vec<Ended>) -> Vec<u8> {
    let text = |key: &str, value: &str| KeyValue::new(key, &Value::Text(value.to_owned()));
    let attributes = vec![
        text("service.name", &resource.service),
        text("service.version", resource.version),
        text("service.instance.id", &resource.instance),
        text("host.name", &resource.host),
    ];
    let scope = InstrumentationScope { name: SCOPE.to_owned(), version: resource.version.to_owned() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(span).collect() };
    let resource = ResourceAttributes { attributes };
    let all = ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans] };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}

/// What the body of a successful answer means.
#[must_use]
pub fn verdict(body: &[u8]) -> Verdict {
    match ExportTraceServiceResponse::decode(body) {
        Err(_) => Verdict::Nonsense,
        Ok(ExportTraceServiceResponse { partial_success: Some(partial) }) if partial.rejected_spans > 0 => {
            Verdict::Refused(u64::try_from(partial.rejected_spans).unwrap_or(0))
        }
        Ok(_) => Verdict::Taken,
    }
}

fn span(ended: Ended) -> Span {
    let attributes = ended.attributes.iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let remote = if ended.remote { HAS_IS_REMOTE | IS_REMOTE } else { HAS_IS_REMOTE };
    Span {
        trace_id: ended.trace.0.to_vec(),
        span_id: ended.span.to_vec(),
        parent_span_id: ended.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: u32::from(ended.flags) | remote,
        name: ended.name.to_owned(),
        kind: match ended.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: ended.start,
        end_time_unix_nano: ended.end,
        attributes,
        status: ended.failed.then_some(Status { code: STATUS_ERROR }),
    }
}

/// In `flags`: the next bit tells whether the parent is another process's.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const STATUS_ERROR: i32 = 2;
/// The name of what makes the spans.
const SCOPE: &str = "dfget";

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceAttributes>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

/// `opentelemetry.proto.resource.v1.Resource`.
#[derive(Clone, PartialEq, Message)]
struct ResourceAttributes {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    /// 1 internal, 2 server, 3 client.
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<ExportTracePartialSuccess>,
}

/// Why is for people, and may hold anything; it is not looked at.
#[derive(Clone, PartialEq, Message)]
struct ExportTracePartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

// === impl KeyValue ===

impl KeyValue {
    fn new(key: &str, value: &Value) -> Self {
        let any = match value {
            Value::Text(text) => Any::Text(text.clone()),
            Value::Word(word) => Any::Text((*word).to_owned()),
            Value::Number(number) => Any::Number(*number),
            Value::Flag(flag) => Any::Flag(*flag),
        };
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(any) }) }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1 as collector;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use opentelemetry_proto::tonic::trace::v1 as trace;

    use super::*;
    use crate::context::Context;

    #[test]
    fn the_messages_of_opentelemetry_say_the_same() {
        let (own, parent) = (Context::begin(true), Context::begin(true));
        let ended = Ended {
            trace: own.trace,
            span: own.span,
            parent: Some(parent.span),
            remote: true,
            flags: 1,
            kind: Kind::Client,
            name: "GET",
            start: 5,
            end: 7,
            attributes: vec![
                ("http.request.method", Value::Word("GET")),
                ("url.path", Value::Text("/v2/".to_owned())),
                ("server.port", Value::Number(443)),
                ("dfget.stored", Value::Flag(true)),
            ],
            failed: true,
        };
        let root = Ended { trace: own.trace, span: parent.span, ..Ended::default() };
        let resource = Resource {
            service: "dfget".to_owned(),
            version: "1.2.3",
            instance: "i".to_owned(),
            host: "node1".to_owned(),
        };
        let body = encode(&resource, vec![ended, root]);
        let read = collector::ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let [of] = &read.resource_spans[..] else { panic!("{read:?}") };
        let text = |value: &str| Some(any_value::Value::StringValue(value.to_owned()));
        let said: Vec<_> = of
            .resource
            .iter()
            .flat_map(|resource| &resource.attributes)
            .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap().value))
            .collect();
        assert_eq!(
            said,
            [
                ("service.name", text("dfget")),
                ("service.version", text("1.2.3")),
                ("service.instance.id", text("i")),
                ("host.name", text("node1")),
            ]
        );
        let [trace::ScopeSpans { scope, spans, .. }] = &of.scope_spans[..] else { panic!("{of:?}") };
        assert_eq!(scope.as_ref().map(|scope| scope.name.as_str()), Some("dfget"));
        let [span, root] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&span.trace_id[..], &span.span_id[..]), (&own.trace.0[..], &own.span[..]));
        assert_eq!(span.parent_span_id, parent.span);
        assert_eq!((span.name.as_str(), span.kind()), ("GET", trace::span::SpanKind::Client));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano, span.flags), (5, 7, 0x301));
        assert_eq!(span.status.as_ref().unwrap().code(), trace::status::StatusCode::Error);
        let said: Vec<_> = span
            .attributes
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap().value))
            .collect();
        assert_eq!(
            said,
            [
                ("http.request.method", text("GET")),
                ("url.path", text("/v2/")),
                ("server.port", Some(any_value::Value::IntValue(443))),
                ("dfget.stored", Some(any_value::Value::BoolValue(true))),
            ]
        );
        assert!(root.parent_span_id.is_empty() && root.status.is_none());
        assert_eq!(root.kind(), trace::span::SpanKind::Internal);
    }

    #[test]
    fn answers_are_understood() {
        assert_eq!(verdict(b""), Verdict::Taken);
        let partial = |rejected_spans| {
            let error_message = "quota".to_owned();
            let partial_success =
                Some(collector::ExportTracePartialSuccess { rejected_spans, error_message });
            verdict(&collector::ExportTraceServiceResponse { partial_success }.encode_to_vec())
        };
        assert_eq!(
            (partial(0), partial(3), partial(-1)),
            (Verdict::Taken, Verdict::Refused(3), Verdict::Taken)
        );
        assert_eq!(verdict(b"<html>Welcome to nginx!</html>"), Verdict::Nonsense);
    }
}
