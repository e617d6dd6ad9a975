//! Byte ranges: `Range`, `Content-Range` and half-open stretches of bytes (RFC 9110, section 14).

use std::fmt;

/// The bytes from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset just past the last byte; never below `start`.
    pub end: u64,
}

/// One range-spec of a `Range` header, as written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RangeSpec {
    /// `first-last`, both included.
    FromTo(u64, u64),
    /// `first-`: to the end.
    From(u64),
    /// `-length`: so many last bytes.
    Suffix(u64),
}

/// What a request's `Range` header asks of a download.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RangeHeader {
    /// No `Range`, or one that a server may leave out of account: another unit, a malformed
    /// set (RFC 9110, section 14.2), or several ranges at once ([`crate::RangeSet`]).
    Whole,
    /// One range.
    One(RangeSpec),
}

/// The asked range has no byte in the content: the answer is 416.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the range lies outside of the content's {total} bytes")]
pub struct RangeError {
    /// Length of the content in bytes.
    pub total: u64,
}

/// A `Content-Range` header of a 206 answer (RFC 9110, section 14.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentRange {
    /// The bytes that the answer carries.
    pub range: ByteRange,
    /// Length of the whole content; `None` where the origin wrote `*`.
    pub total: Option<u64>,
}

// === impl ByteRange ===

impl ByteRange {
    /// How many bytes it spans.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it spans no byte at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The value of a `Range` header that asks for it. Must not be empty.
    #[must_use]
    pub fn to_header(self) -> String {
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

// === impl RangeHeader ===

impl RangeHeader {
    /// Reads the value of a `Range` header.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        crate::RangeSet::parse(value).map_or(Self::Whole, |set| set.single())
    }
}

// === impl RangeSpec ===

impl RangeSpec {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return number(last).map(Self::Suffix);
        }
        let first = number(first)?;
        if last.is_empty() {
            return Some(Self::From(first));
        }
        let last = number(last)?;
        (first <= last).then_some(Self::FromTo(first, last))
    }

    /// The bytes meant, in a content of `total` bytes.
    ///
    /// # Errors
    /// [`RangeError`] if none of the content's bytes is meant.
    pub fn resolve(self, total: u64) -> Result<ByteRange, RangeError> {
        let (start, end) = match self {
            Self::FromTo(first, last) => (first, last.saturating_add(1).min(total)),
            Self::From(first) => (first, total),
            Self::Suffix(length) => (total.saturating_sub(length), total),
        };
        if start < end { Ok(ByteRange { start, end }) } else { Err(RangeError { total }) }
    }
}

impl fmt::Display for RangeSpec {
    /// The value of a `Range` header that asks for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTo(first, last) => write!(f, "bytes={first}-{last}"),
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::Suffix(length) => write!(f, "bytes=-{length}"),
        }
    }
}

// === impl ContentRange ===

impl ContentRange {
    /// Reads the value of a `Content-Range` header; `None` if it is not one of bytes, or lies
    /// outside of the total that it names.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let end = last.checked_add(1)?;
        let fits = first < end && total.is_none_or(|total| end <= total);
        fits.then_some(Self { range: ByteRange { start: first, end }, total })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/", self.range.start, self.range.end - 1)?;
        match self.total {
            Some(total) => write!(f, "{total}"),
            None => f.write_str("*"),
        }
    }
}

/// Digits only, as the grammar's `1*DIGIT`; `u64::from_str` would take a sign too.
/// A number past 2^64 is as good as the largest: no content is that long.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(header: &str, total: u64) -> Option<(u64, u64)> {
        match RangeHeader::parse(header) {
            RangeHeader::Whole => None,
            RangeHeader::One(spec) => spec.resolve(total).ok().map(|range| (range.start, range.end)),
        }
    }

    #[test]
    fn single_ranges_resolve_as_rfc_9110_says() {
        assert_eq!(resolved("bytes=0-499", 10_000), Some((0, 500)));
        assert_eq!(resolved("bytes=9500-", 10_000), Some((9500, 10_000)));
        assert_eq!(resolved("bytes=-500", 10_000), Some((9500, 10_000)));
        assert_eq!(resolved("bytes=-20000", 10_000), Some((0, 10_000)));
        assert_eq!(resolved("bytes=9999-99999999999999999999999", 10_000), Some((9999, 10_000)));
        assert_eq!(resolved("Bytes=1-1", 10), Some((1, 2)));
        assert_eq!(resolved("bytes=5-7,", 10), Some((5, 8)), "an empty list element is allowed");
    }

    #[test]
    fn unsatisfiable_ranges_name_the_total() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            let RangeHeader::One(spec) = RangeHeader::parse(header) else { panic!("{header}") };
            assert_eq!(spec.resolve(10), Err(RangeError { total: 10 }), "{header}");
        }
        assert_eq!(RangeSpec::Suffix(1).resolve(0), Err(RangeError { total: 0 }));
    }

    #[test]
    fn what_is_no_single_byte_range_means_the_whole() {
        for header in [
            "bytes",
            "items=0-1",
            "bytes=",
            "bytes=a-b",
            "bytes=2-1",
            "bytes=+1-2",
            "bytes=0-1,3-4",
            "bytes=--1",
        ] {
            assert_eq!(RangeHeader::parse(header), RangeHeader::Whole, "{header}");
        }
    }

    #[test]
    fn content_ranges_that_contradict_themselves_are_refused() {
        let good = ContentRange { range: ByteRange { start: 3, end: 7 }, total: Some(9) };
        assert_eq!(ContentRange::parse("bytes 3-6/9"), Some(good));
        assert_eq!(ContentRange::parse("bytes 3-6/*"), Some(ContentRange { total: None, ..good }));
        for bad in [
            "3-6/9",
            "bytes 6-3/9",
            "bytes 3-9/9",
            "bytes */9",
            "items 3-6/9",
            "bytes 3-6",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}", total: u64) {
            if let RangeHeader::One(spec) = RangeHeader::parse(&text)
                && let Ok(range) = spec.resolve(total) {
                prop_assert!(range.start < range.end && range.end <= total);
            }
            let _ = ContentRange::parse(&text);
        }

        #[test]
        fn range_text_and_value_agree(first: u64, more: u64, kind in 0..3) {
            let spec = match kind {
                0 => RangeSpec::FromTo(first, first.saturating_add(more)),
                1 => RangeSpec::From(first),
                _ => RangeSpec::Suffix(first),
            };
            prop_assert_eq!(RangeHeader::parse(&spec.to_string()), RangeHeader::One(spec));
        }

        #[test]
        fn content_range_text_and_value_agree(start in 0..1_u64 << 40, len in 1..1_u64 << 40, more: Option<u32>) {
            let range = ByteRange { start, end: start + len };
            let value = ContentRange { range, total: more.map(|more| range.end + u64::from(more)) };
            prop_assert_eq!(ContentRange::parse(&value.to_string()), Some(value));
        }
    }
}
