//! Which trace a request belongs to, and which span has sent it (W3C Trace Context).
//!
//! Lenient in nothing: a `traceparent` that is not exactly what the recommendation says counts as
//! none, and so do two of them. Of a later version only what this one knows is read.

use std::fmt;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The header that names trace and parent.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which tracing systems keep what is their own; it is passed on as it is.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The name of a trace; not all zero.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct TraceId(pub(crate) [u8; 16]);

/// The name of a span within its trace; not all zero.
pub(crate) type SpanId = [u8; 8];

/// A span as others know it: what `traceparent` carries (section 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) flags: u8,
}

/// The trace is recorded.
const SAMPLED: u8 = 1;
/// The flags that have a meaning: sampled, and that the trace's name is random (level 2).
const KNOWN: u8 = 3;
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
        let [version] = bytes(&known[..2])?;
        // Version 00 ends here; a later one may go on after another dash.
        let ends = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|&next| next == b'-') };
        if version == 0xff || !dashes || !ends {
            return None;
        }
        let (trace, span) = (bytes(&known[3..35])?, bytes(&known[36..52])?);
        let [flags] = bytes(&known[53..])?;
        let named = trace != [0; 16] && span != [0; 8];
        named.then_some(Self { trace: TraceId(trace), span, flags: flags & KNOWN })
    }

    /// A new span of the same trace.
    pub(crate) fn next(&self) -> Self {
        Self { span: span_id(), ..*self }
    }

    /// The first span of a new trace.
    pub(crate) fn begin(sampled: bool) -> Self {
        Self { trace: trace_id(), span: span_id(), flags: u8::from(sampled) }
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace.
    #[must_use]
    pub const fn trace(&self) -> TraceId {
        self.trace
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

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.trace)?;
        hex(&self.span, f)?;
        write!(f, "-{:02x}", self.flags)
    }
}

// === impl TraceId ===

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// A trace's name has to differ from others and is no secret, so no call of the kernel is made for it.
fn trace_id() -> TraceId {
    TraceId(fastrand::u128(1..).to_be_bytes())
}

fn span_id() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// `N` bytes from twice as many digits, in lower case only.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut all = [0; N];
    for (byte, pair) in all.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(all)
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
            assert_eq!(context.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03");
        }
    }

    #[test]
    fn a_span_follows_in_the_same_trace() {
        let parent = Context::parse(GOOD.as_bytes()).unwrap();
        let child = parent.next();
        assert_eq!((child.trace, child.flags), (parent.trace, parent.flags));
        assert_ne!(child.span, parent.span);
        assert_ne!(Context::begin(true).trace, Context::begin(true).trace);
        assert!(!Context::begin(false).is_sampled());
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = Context::parse(&text) {
                prop_assert!(context.to_string().len() == LENGTH);
            }
        }

        #[test]
        fn what_is_written_is_read(trace in 1..=u128::MAX, span in 1..=u64::MAX, flags in 0..4_u8) {
            let context = Context { trace: TraceId(trace.to_be_bytes()), span: span.to_be_bytes(), flags };
            prop_assert_eq!(Context::parse(context.to_string().as_bytes()), Some(context));
        }
    }
}
