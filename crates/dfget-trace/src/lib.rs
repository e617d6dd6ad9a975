//! What a request's way looked like, for whoever collects that: spans, their queue, OTLP.
//!
//! Names, sampling and form of spans are those of OpenTelemetry's own SDK; here is how they go with
//! requests, and how they wait. A [`Tracer`] is off unless somebody wants spans, and then it is a `None`: nothing is allocated,
//! looked up or counted. The way from one span to the next is the one that W3C Trace Context gives
//! it, the headers of the request itself: whoever begins a span writes it into the `traceparent` of
//! what it sends on, and whoever is called finds its parent there. So nothing between has to know.
//!
//! What a span may say is closed: keys are fixed words, values come from our own code. Nothing of a
//! header, a query or a login is ever one. Ended spans wait in a bounded queue, and those for which
//! there is no room are lost and counted: no request waits for a collector.

mod context;
mod otlp;
mod queue;
mod request;
mod span;

pub use context::Context;
pub use opentelemetry::trace::TraceId;
pub use otlp::{Resource, Verdict, encode, verdict};
pub use queue::Spans;
pub use request::{RequestFacts, span_name};
pub use span::{Kind, SharedSpan, Span, Tracer, TracerOptions, Value};
