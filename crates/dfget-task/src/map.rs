//! What of a download is here, as a picture of a few cells.

use std::ops::Range;

use crate::swarm::Layout;

/// Cells at most.
const MOST_CELLS: u32 = 256;

/// What is here, cell by cell; see [`TaskView::map`](crate::TaskView). `gaps` are in order, `of_peers` the units that peers sent.
pub(crate) fn map(layout: &Layout, gaps: &[Range<u64>], of_peers: impl Iterator<Item = u32>) -> String {
    let cells = layout.count.min(MOST_CELLS);
    if cells == 0 {
        return String::new();
    }
    // Exact in 64 bits: both are numbers of 32.
    // Cells of as many units each as can be, in numbers of 64 bits, for theirs are of 32.
    let first_of = |cell: u32| {
        let unit = u64::from(cell) * u64::from(layout.count) / u64::from(cells);
        u32::try_from(unit).unwrap_or(u32::MAX)
    };
    let cell_of = |unit: u32| {
        let cell = ((u64::from(unit) + 1) * u64::from(cells) - 1) / u64::from(layout.count);
        usize::try_from(cell).unwrap_or(usize::MAX)
    };
    let mut peers = vec![0_u32; cells as usize];
    for unit in of_peers.filter(|unit| *unit < layout.count) {
        if let Some(sum) = peers.get_mut(cell_of(unit)) {
            *sum += 1;
        }
    }
    let mut map = String::with_capacity(cells as usize);
    let mut gaps = gaps.iter().peekable();
    for cell in 0..cells {
        let units = first_of(cell)..first_of(cell + 1);
        let bytes = layout.bytes(&units);
        let mut missing = 0;
        while let Some(gap) = gaps.peek() {
            missing += gap.end.min(bytes.end).saturating_sub(gap.start.max(bytes.start));
            if gap.end > bytes.end {
                break;
            }
            gaps.next();
        }
        let most_from_peers = peers[cell as usize] * 2 >= units.end - units.start;
        map.push(match missing {
            0 if most_from_peers => 'p',
            0 => 'o',
            _ if missing >= bytes.end - bytes.start => '.',
            _ => '+',
        });
    }
    map
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;

    use super::*;

    /// The least there is.
    const UNIT: u64 = 512 << 10;

    fn layout(total: u64) -> Layout {
        Layout::of(total).expect("it has pieces")
    }

    #[test]
    fn a_map_tells_what_is_here_and_from_whom() {
        let layout = layout(6 * UNIT + 1);
        assert_eq!(layout.count, 7);
        let gaps = [0..UNIT, 2 * UNIT..3 * UNIT - 1, 6 * UNIT..6 * UNIT + 1];
        assert_eq!(map(&layout, &gaps, [1, 3].into_iter()), ".p+poo.");
        assert_eq!(map(&layout, slice::from_ref(&(0..6 * UNIT + 1)), [].into_iter()), ".......");
        assert_eq!(map(&self::layout(0), &[], [].into_iter()), "");
    }

    #[test]
    fn a_gap_over_many_cells_is_seen_in_each() {
        let total = 1000 * UNIT;
        let all = map(&layout(total), slice::from_ref(&(1..total - 1)), [].into_iter());
        assert_eq!((all.len(), &all[..1], all.matches('.').count()), (256, "+", 254));
        assert!(all.ends_with('+'));
    }

    proptest! {
        #[test]
        fn every_unit_of_a_peer_is_in_one_cell(units in 1_u64..5000, seed in any::<u64>()) {
            let layout = layout(units * UNIT);
            let unit = u32::try_from(seed % u64::from(layout.count)).unwrap();
            let map = map(&layout, &[], std::iter::repeat_n(unit, layout.count as usize));
            prop_assert_eq!(map.matches('p').count(), 1);
            prop_assert_eq!(map.len(), layout.count.min(MOST_CELLS) as usize);
        }
    }
}
