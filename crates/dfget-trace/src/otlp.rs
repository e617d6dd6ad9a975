//! Spans as collectors take them: OTLP 1.x, in protobuf.

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

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
pub fn encode(resource: &Resource, spans: Vec<SpanData>) -> Vec<u8> {
    let Resource { service, version, instance, host } = resource.clone();
    let attributes = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("service.instance.id", instance),
        KeyValue::new("host.name", host),
    ];
    let resource = opentelemetry_sdk::Resource::builder_empty().with_attributes(attributes).build();
    let resource = ResourceAttributesWithSchema::from(&resource);
    let resource_spans = group_spans_by_resource_and_scope(spans, &resource);
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// What the body of a successful answer means.
#[must_use]
pub fn verdict(body: &[u8]) -> Verdict {
    match ExportTraceServiceResponse::decode(body) {
        Err(_) => Verdict::Nonsense,
        Ok(ExportTraceServiceResponse { partial_success: Some(partial), .. })
            if partial.rejected_spans > 0 =>
        {
            Verdict::Refused(u64::try_from(partial.rejected_spans).unwrap_or(0))
        }
        Ok(_) => Verdict::Taken,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::span::{Tracer, TracerOptions};

    #[test]
    fn who_sends_what_is_said() {
        let (tracer, spans) = Tracer::new(TracerOptions { ratio: 1.0, lost: Box::new(|_| {}) });
        drop(tracer.enter(&mut HeaderMap::new(), "GET"));
        let resource = Resource {
            service: "dfget".to_owned(),
            version: "1.2.3",
            instance: "i".to_owned(),
            host: "node1".to_owned(),
        };
        let read = ExportTraceServiceRequest::decode(&encode(&resource, spans.take())[..]).unwrap();
        let [of] = &read.resource_spans[..] else { panic!("{read:?}") };
        let attributes = &of.resource.as_ref().unwrap().attributes;
        let mut said: Vec<_> =
            attributes.iter().map(|pair| (&*pair.key, pair.value.clone().unwrap().value.unwrap())).collect();
        said.sort_by_key(|(key, _)| *key);
        let text = |value: &str| Value::StringValue(value.to_owned());
        assert_eq!(
            said,
            [
                ("host.name", text("node1")),
                ("service.instance.id", text("i")),
                ("service.name", text("dfget")),
                ("service.version", text("1.2.3")),
            ]
        );
        assert_eq!((of.scope_spans[0].spans[0].name.as_str(), of.scope_spans.len()), ("GET", 1));
    }

    #[test]
    fn answers_are_understood() {
        assert_eq!(verdict(b""), Verdict::Taken);
        let partial = |rejected_spans| {
            let error_message = "quota".to_owned();
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
            verdict(&ExportTraceServiceResponse { partial_success }.encode_to_vec())
        };
        assert_eq!(
            (partial(0), partial(3), partial(-1)),
            (Verdict::Taken, Verdict::Refused(3), Verdict::Taken)
        );
        assert_eq!(verdict(b"<html>Welcome to nginx!</html>"), Verdict::Nonsense);
    }
}
