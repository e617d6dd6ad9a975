//! Keys of the traces.

use super::{Kind, Opt};

pub(super) const TRACING: Opt = Opt::full(
    "tracing",
    Kind::Section(KEYS),
    "",
    "spans of each request for an OpenTelemetry collector; none are made unless an `endpoint` is named, here or by `OTEL_EXPORTER_OTLP_ENDPOINT`",
);

const KEYS: &[Opt] = &[
    Opt::full(
        "endpoint",
        Kind::Text,
        "",
        "the collector: `host:port` or a URL; OTLP over HTTP, usually port 4318. Empty: no traces, whatever the environment says",
    ),
    Opt::full(
        "protocol",
        Kind::Text,
        "",
        "`http` or `https`, for an `endpoint` that is no URL; without it plain HTTP",
    ),
    Opt::full("path", Kind::Text, "/v1/traces", "what the path of a URL of the collector ends with"),
    Opt::full(
        "headers",
        Kind::Map(&Kind::Secret),
        "",
        "sent with each batch, such as a token; `OTEL_EXPORTER_OTLP_HEADERS`, if there are none",
    ),
    Opt::full(
        "ratio",
        Kind::Number,
        "1",
        "the share of the requests that is told of, 0 to 1; of one that comes with a `traceparent`, that decides. Or as `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say",
    ),
    Opt::full("caCert", Kind::Pem, "", "authority of the collector, besides those of the system"),
];
