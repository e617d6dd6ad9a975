//! What to ask of the origin next. Pure: ranges in, ranges out.

use std::ops::Range;

/// What the plan is made from.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    /// What readers want and what is to be finished for those who left, most urgent first.
    pub(crate) wanted: &'a [Range<u64>],
    /// What is being fetched now, each from where it began to where it will end; `u64::MAX`
    /// where the end is not known.
    pub(crate) flying: &'a [Range<u64>],
    /// How many fetches may be under way at once.
    pub(crate) most: usize,
    /// The origin takes no notice of ranges: one fetch at a time, and always of everything.
    pub(crate) whole_only: bool,
}

/// The fetches to begin now. `missing` yields the stretches of a range that are not stored.
///
/// Nothing that is stored or being fetched is asked for again, except where the origin can only
/// send the whole.
pub(crate) fn fetches(
    situation: &Situation<'_>,
    missing: impl Fn(Range<u64>) -> Vec<Range<u64>>,
) -> Vec<Range<u64>> {
    let mut flying = situation.flying.to_vec();
    let mut begun = Vec::new();
    for wanted in situation.wanted {
        for gap in missing(wanted.clone()) {
            for range in without(gap, &flying) {
                if flying.len() >= situation.most || (situation.whole_only && !flying.is_empty()) {
                    return begun;
                }
                flying.push(range.clone());
                begun.push(range);
            }
        }
    }
    begun
}

/// Adds a range to a list of ranges that neither overlap nor touch.
pub(crate) fn merge(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    ranges.retain(|other| {
        let apart = other.end < range.start || range.end < other.start;
        if !apart {
            range = range.start.min(other.start)..range.end.max(other.end);
        }
        apart
    });
    ranges.push(range);
}

/// What is left of `range` when all of `taken` is cut out of it.
fn without(range: Range<u64>, taken: &[Range<u64>]) -> Vec<Range<u64>> {
    taken.iter().fold(vec![range], |left, cut| {
        left.into_iter()
            .flat_map(|part| {
                let before = part.start..part.end.min(cut.start).max(part.start);
                let after = part.start.max(cut.end).min(part.end)..part.end;
                [before, after]
            })
            .filter(|part| part.start < part.end)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn situation<'a>(wanted: &'a [Range<u64>], flying: &'a [Range<u64>]) -> Situation<'a> {
        Situation { wanted, flying, most: 4, whole_only: false }
    }

    #[expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    #[test]
    fn what_flies_or_is_there_is_not_asked_for_again() {
        let everything_missing = |range| vec![range];
        assert_eq!(fetches(&situation(&[0..100], &[]), everything_missing), [0..100]);
        assert!(fetches(&situation(&[10..50], &[0..u64::MAX]), everything_missing).is_empty());
        assert_eq!(fetches(&situation(&[0..100], &[20..40]), everything_missing), [0..20, 40..100]);
        assert_eq!(fetches(&situation(&[0..50, 30..70], &[]), everything_missing), [0..50, 50..70]);
        assert!(fetches(&situation(&[0..100], &[]), |_| Vec::new()).is_empty());
    }

    #[expect(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    #[test]
    fn an_origin_without_ranges_is_asked_once_at_a_time() {
        let whole = |flying| Situation { wanted: &[0..10, 20..30], flying, most: 4, whole_only: true };
        assert_eq!(fetches(&whole(&[]), |range| vec![range]), [0..10]);
        assert!(fetches(&whole(&[0..10]), |range| vec![range]).is_empty());
    }

    proptest! {
        #[test]
        fn merged_ranges_cover_the_same_and_stay_apart(list in prop::collection::vec((0..100_u64, 1..20_u64), 0..20)) {
            let mut merged = Vec::new();
            for &(start, len) in &list {
                merge(&mut merged, start..start + len);
            }
            for at in 0..130 {
                let within = list.iter().any(|&(start, len)| (start..start + len).contains(&at));
                prop_assert_eq!(merged.iter().filter(|range| range.contains(&at)).count(), usize::from(within));
            }
            merged.sort_by_key(|range| range.start);
            prop_assert!(merged.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn fetches_cover_what_is_wanted_and_never_overlap(
            wanted in prop::collection::vec((0..200_u64, 1..50_u64), 1..6),
            flying in prop::collection::vec((0..200_u64, 1..50_u64), 0..3),
            stored in prop::collection::vec(any::<bool>(), 260),
        ) {
            let ranges = |list: Vec<(u64, u64)>| list.into_iter().map(|(start, len)| start..start + len).collect::<Vec<_>>();
            let (wanted, flying) = (ranges(wanted), ranges(flying));
            let missing = |range: Range<u64>| {
                range.filter(|&at| !stored[usize::try_from(at).expect("small")]).map(|at| at..at + 1).collect()
            };
            let most = 1000;
            let begun = fetches(&Situation { wanted: &wanted, flying: &flying, most, whole_only: false }, missing);
            for at in 0..260_u64 {
                let asked = begun.iter().filter(|range| range.contains(&at)).count();
                let flies = flying.iter().any(|range| range.contains(&at));
                let needed = wanted.iter().any(|range| range.contains(&at)) && !stored[usize::try_from(at).expect("small")];
                prop_assert_eq!(asked, usize::from(needed && !flies), "at {}", at);
            }
            let few = fetches(&Situation { wanted: &wanted, flying: &flying, most: 2, whole_only: false }, missing);
            prop_assert!(few.len() <= 2_usize.saturating_sub(flying.len()));
        }
    }
}
