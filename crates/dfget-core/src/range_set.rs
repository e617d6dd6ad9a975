//! Several ranges in one `Range` header (RFC 9110, sections 14.1.2, 14.2 and 15.3.7).

use crate::range::{ByteRange, RangeHeader, RangeSpec};

/// More ranges than this that lie in the content are answered with the whole: each costs a look
/// at the store, and nobody who needs so many would not be better off with all.
pub const MOST_RANGES: usize = 100;

/// The ranges of a `Range` header, in the order in which they were asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeSet(Vec<RangeSpec>);

/// What a [`RangeSet`] means of a content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parts {
    /// The whole content: there is no valid set, or it asks for too much.
    Whole,
    /// None of the content's bytes: 416.
    Nothing,
    /// One part: 206 with a `Content-Range`.
    One(ByteRange),
    /// Two or more, in the order asked for: 206 as `multipart/byteranges`.
    Several(Vec<ByteRange>),
}

// === impl RangeSet ===

impl RangeSet {
    /// Reads the value of a `Range` header; `None` if it is of another unit, or breaks the grammar
    /// anywhere, `last` before `first` included. Such a header is as good as none.
    ///
    /// Empty elements of the list are passed over (RFC 9110, section 5.6.1.2).
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let written =
            set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
        let specs = written.map(RangeSpec::parse).collect::<Option<Vec<_>>>()?;
        (!specs.is_empty()).then_some(Self(specs))
    }

    /// The set as one range, for whoever can do with one only; several are as good as none.
    #[must_use]
    pub fn single(&self) -> RangeHeader {
        match *self.0.as_slice() {
            [spec] => RangeHeader::One(spec),
            _ => RangeHeader::Whole,
        }
    }

    /// Whether more than one range is asked for.
    #[must_use]
    pub fn is_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The parts meant of a content of `total` bytes. Ranges that lie outside of it are left out.
    /// Of more than [`MOST_RANGES`], and of ranges that together are longer than the content, the
    /// answer is the whole (RFC 9110, section 14.2 lets a server ignore what looks like an attack).
    #[must_use]
    pub fn resolve(&self, total: u64) -> Parts {
        let parts: Vec<_> = self.0.iter().filter_map(|spec| spec.resolve(total).ok()).collect();
        let sum = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.len()));
        match *parts.as_slice() {
            [] => Parts::Nothing,
            [part] => Parts::One(part),
            _ if parts.len() > MOST_RANGES || sum > total => Parts::Whole,
            _ => Parts::Several(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(value: &str, total: u64) -> Parts {
        RangeSet::parse(value).map_or(Parts::Whole, |set| set.resolve(total))
    }

    fn several(ranges: &[(u64, u64)]) -> Parts {
        Parts::Several(ranges.iter().map(|&(start, end)| ByteRange { start, end }).collect())
    }

    #[test]
    fn the_examples_of_rfc_9110_mean_what_it_says() {
        assert_eq!(parts("bytes=0-0,-1", 10_000), several(&[(0, 1), (9999, 10_000)]));
        assert_eq!(
            parts("bytes=0-999, 4500-5499, -1000", 10_000),
            several(&[(0, 1000), (4500, 5500), (9000, 10_000)])
        );
        assert_eq!(
            parts("bytes= 0-999,,4500-5499 ,\t-1000,", 10_000),
            parts("bytes=0-999,4500-5499,-1000", 10_000)
        );
        assert_eq!(parts("bytes=500-600,601-999", 10_000), several(&[(500, 601), (601, 1000)]));
        assert_eq!(parts("bytes=500-700,601-999", 10_000), several(&[(500, 701), (601, 1000)]));
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        assert_eq!(parts("bytes=0-1,100-", 100), Parts::One(ByteRange { start: 0, end: 2 }));
        assert_eq!(parts("bytes=-0,100-200", 100), Parts::Nothing);
        assert_eq!(parts("bytes=0-1,-1", 0), Parts::Nothing);
    }

    #[test]
    fn one_wrong_range_spoils_the_set() {
        for value in [
            "bytes=0-1,2-1",
            "bytes=0-1,x",
            "bytes=0-1;2-3",
            "bytes=0 - 1",
            "lines=0-1,2-3",
            "bytes=,",
            "bytes",
        ] {
            assert_eq!(RangeSet::parse(value), None, "{value}");
        }
    }

    #[test]
    fn too_much_is_the_whole() {
        assert_eq!(parts("bytes=0-,0-", 10), Parts::Whole, "more bytes than there are");
        assert_eq!(parts("bytes=0-4,5-9", 10), several(&[(0, 5), (5, 10)]), "as many bytes as there are");
        let many = |count: usize| format!("bytes={}", vec!["1-1"; count].join(","));
        assert!(matches!(parts(&many(MOST_RANGES), 1000), Parts::Several(_)));
        assert_eq!(parts(&many(MOST_RANGES + 1), 1000), Parts::Whole);
    }

    proptest! {
        #[test]
        fn any_value_is_answered_by_bytes_that_are_there(value in "(bytes=)?[-0-9, \t=x]{0,60}", total: u16) {
            let total = u64::from(total);
            match parts(&value, total) {
                Parts::Whole | Parts::Nothing => {}
                Parts::One(part) => prop_assert!(part.start < part.end && part.end <= total),
                Parts::Several(parts) => {
                    prop_assert!(parts.len() > 1 && parts.len() <= MOST_RANGES);
                    prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= total));
                    prop_assert!(parts.iter().map(|part| part.len()).sum::<u64>() <= total);
                }
            }
        }

        #[test]
        fn one_range_means_the_same_as_a_set_and_alone(first: u16, more: u16, kind in 0..3, total: u16) {
            let spec = match kind {
                0 => RangeSpec::FromTo(first.into(), u64::from(first) + u64::from(more)),
                1 => RangeSpec::From(first.into()),
                _ => RangeSpec::Suffix(first.into()),
            };
            let alone = spec.resolve(total.into()).map_or(Parts::Nothing, Parts::One);
            prop_assert_eq!(parts(&spec.to_string(), total.into()), alone);
        }
    }
}
