//! Which trace a request belongs to, and which span has sent it (W3C Trace Context).
//!
//! Lenient in nothing, unlike the propagator of the SDK: a `traceparent` that is not exactly what
//! the recommendation says counts as none, and so do two of them. Of a later version only what this
//! one knows is read.

use std::fmt;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header that names trace and parent.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which tracing systems keep what is their own; it is passed on as it is.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A span as others know it: what `traceparent` carries (section 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

/// Characters of version 00.
const LENGTH: usize = 55;

// === impl Context ===

impl Context {
    /// The context that a request carries, if it carries exactly one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (first, second) = (all.next()?, all.next());
        if second.is_some() { None } else { Self::parse(first.as_bytes()) }
    }

    /// Reads `version-trace-parent-flags`, all in lower-case hex.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let (version, trace) = (hex(&known[..2])?, hex(&known[3..35])?);
        let (span, flags) = (hex(&known[36..52])?, hex(&known[53..])?);
        // Version 00 ends here; a later one may go on after another dash.
        let ends =
            if version == "00" { rest.is_empty() } else { rest.first().is_none_or(|&next| next == b'-') };
        if version == "ff" || !dashes || !ends {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        // Flags without a meaning here are not passed on (section 3.2.2.5).
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let named = trace != TraceId::INVALID && span != SpanId::INVALID;
        named.then_some(Self { trace, span, flags })
    }

    /// The trace.
    #[must_use]
    pub const fn trace(&self) -> TraceId {
        self.trace
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// As the SDK knows it; `remote`: the span is another process's.
    pub(crate) fn as_parent(&self, remote: bool) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, remote, TraceState::NONE)
    }

    /// Makes it the one that a request carries.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.header() {
            headers.insert(name, value);
        }
    }

    /// The header that carries it.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let value = HeaderValue::try_from(self.to_string()).ok()?;
        Some((TRACEPARENT, value))
    }
}

impl From<&SpanContext> for Context {
    fn from(of: &SpanContext) -> Self {
        Self { trace: of.trace_id(), span: of.span_id(), flags: of.trace_flags() }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace}-{span}-{flags:02x}")
    }
}

/// Digits, in lower case only.
fn hex(text: &[u8]) -> Option<&str> {
    let all = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if all { std::str::from_utf8(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (TRACEPARENT, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written_alike() {
        let context = Context::of(&with(&[GOOD])).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.trace().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.to_string(), GOOD);
        let mut headers = with(&["something else", "and again"]);
        context.write(&mut headers);
        assert_eq!(Context::of(&headers), Some(context));
    }

    #[test]
    fn what_is_not_exactly_a_traceparent_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ] {
            assert_eq!(Context::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Context::of(&with(&[GOOD, GOOD])), None, "of two nobody knows which");
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        for text in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-more",
        ] {
            let context = Context::parse(text.as_bytes()).unwrap();
            assert_eq!(context.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        }
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = Context::parse(&text) {
                prop_assert!(context.to_string().len() == LENGTH);
            }
        }

        #[test]
        fn what_is_written_is_read(trace in 1..=u128::MAX, span in 1..=u64::MAX, sampled in any::<bool>()) {
            let (trace, span) = (trace.into(), span.into());
            let context = Context { trace, span, flags: TraceFlags::default().with_sampled(sampled) };
            prop_assert_eq!(Context::parse(context.to_string().as_bytes()), Some(context));
        }
    }
}
