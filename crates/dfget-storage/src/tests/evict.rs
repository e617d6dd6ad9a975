use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// An entry of so many MiB.
fn image(mib: u64, accessed: u64) -> Candidate {
    Candidate { bytes: mib * MIB, accessed, pinned: false, small: false }
}

fn small(bytes: u64, accessed: u64) -> Candidate {
    Candidate { bytes, accessed, pinned: false, small: true }
}

fn quota(bytes: u64) -> Limits {
    Limits { quota_bytes: Some(bytes), ..Limits::default() }
}

fn percent(percent: u8) -> Limits {
    Limits { disk_percent: Some(percent), ..Limits::default() }
}

/// A disk of 1,000 MiB.
fn disk_with(free_mib: u64) -> Option<Disk> {
    Some(Disk { total: 1_000 * MIB, free: free_mib * MIB })
}

/// A sweep that knows of no other before it.
fn plan(candidates: &[Candidate], limits: Limits, disk: Option<Disk>, now: u64) -> Vec<(usize, Reason)> {
    sweep_plan(candidates, limits, disk, &mut Peak::default(), now)
}

fn leaving(plan: &[(usize, Reason)]) -> Vec<usize> {
    plan.iter().map(|(i, _)| *i).collect()
}

#[test]
fn an_image_larger_than_the_quota_stays_until_another_is_used() {
    let large = image(100, 1);
    assert_eq!(plan(&[large], quota(10), None, 5), []);
    assert_eq!(leaving(&plan(&[large, image(1, 2)], quota(10), None, 5)), [0]);
    let another = Candidate { pinned: true, ..image(2, 0) };
    assert_eq!(leaving(&plan(&[large, another], quota(10), None, 5)), [0], "it is used now");
}

#[test]
fn the_config_asked_for_after_an_image_takes_nothing_from_it() {
    let (older, image_, config) = (image(3, 1), image(20, 2), small(2, 3));
    assert_eq!(leaving(&plan(&[older, image_, config], quota(20 * MIB), None, 5)), [0]);
    assert_eq!(plan(&[image_, config], quota(20 * MIB), None, 5), []);
    assert_eq!(plan(&[image_, Candidate { pinned: true, ..config }], quota(MIB), None, 5), []);
}

#[test]
fn small_entries_stay_with_the_image_up_to_a_mebibyte() {
    let entries: Vec<_> = [image(9, 0)].into_iter().chain((1..=9).map(|n| small(300_000, n))).collect();
    assert_eq!(leaving(&plan(&entries, quota(0), None, 9)), (1..=6).collect::<Vec<_>>());
}

#[test]
fn of_equals_the_small_one_leaves_last() {
    let entries = [small(2, 1), image(5, 1), small(9, 1), image(1, 2)];
    assert_eq!(leaving(&plan(&entries, quota(0), None, 3)), [1, 2, 0]);
}

#[test]
fn where_all_are_small_the_last_one_stays() {
    let entries = [small(9, 1), small(9, 3), small(9, 2)];
    assert_eq!(leaving(&plan(&entries, quota(0), None, 3)), [0, 2]);
}

#[test]
fn the_disk_costs_only_its_excess_and_never_more_than_three_quarters() {
    let entries: Vec<_> = (0..8).map(|n| image(10, n)).collect();
    assert_eq!(plan(&entries, percent(80), disk_with(200), 9), []);
    assert_eq!(leaving(&plan(&entries, percent(80), disk_with(185), 9)), [0, 1]);
    assert_eq!(leaving(&plan(&entries, percent(80), disk_with(0), 9)), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_disk_that_others_keep_full_leaves_a_quarter_for_an_hour() {
    let mut entries: Vec<_> = (0..64).map(|n| image(10, n)).collect();
    let mut peak = Peak::default();
    let mut held = |minute: u64| {
        let plan = sweep_plan(&entries, percent(20), disk_with(0), &mut peak, minute * 60);
        let mut gone = leaving(&plan);
        gone.sort_unstable();
        for i in gone.into_iter().rev() {
            entries.remove(i);
        }
        entries.len()
    };
    assert!((59..=119).all(|minute| held(minute) == 16));
    // what was here in the last hour is forgotten an hour after that has ended
    assert_eq!(held(120), 4);
    assert_eq!(held(121), 4);
}

#[test]
fn a_peak_lasts_an_hour_and_no_clock_breaks_it() {
    let mut peak = Peak::default();
    assert_eq!(peak.note(100, 10 * 3_600 + 3_599), 100);
    assert_eq!(peak.note(7, 11 * 3_600), 100);
    assert_eq!(peak.note(5, 13 * 3_600), 5, "nobody looked for an hour");
    assert_eq!(peak.note(4, 0), 4, "the clock was set back");
    assert_eq!(peak.note(3, u64::MAX), 3);
}

#[test]
fn expired_bytes_count_towards_the_excess() {
    let entries = [image(30, 0), image(10, 50), image(10, 60)];
    let limits = Limits { expire: Some(Duration::from_secs(100)), ..percent(80) };
    assert_eq!(plan(&entries, limits, disk_with(170), 100), [(0, Reason::Expired)]);
}

#[test]
fn a_clock_set_back_expires_nothing() {
    let limits = Limits { expire: Some(Duration::from_secs(10)), ..Limits::default() };
    assert_eq!(plan(&[image(1, 1_000), image(1, 995)], limits, None, 500), []);
}

#[test]
fn an_expiry_of_zero_is_none() {
    let limits = Limits { expire: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(plan(&[image(1, 0)], limits, None, u64::MAX), []);
}

#[test]
fn a_writer_takes_three_quarters_in_all_however_often_it_asks() {
    let writer = Candidate { pinned: true, ..image(900, 0) };
    let mut entries: Vec<_> = (0..16).map(|n| image(10, n)).chain([writer]).collect();
    assert_eq!(room(&entries, 5 * MIB, 0), 125 * MIB);
    let mut taken = 0;
    for asked in 0..16 {
        let plan = room_plan(&entries, 10 * MIB, taken);
        assert_eq!(plan, if asked < 12 { vec![0] } else { vec![] });
        plan.iter().for_each(|&i| taken += entries.remove(i).bytes);
    }
    assert_eq!(room(&entries, 5 * MIB, taken), 5 * MIB);
}

#[test]
fn a_writer_takes_the_place_of_the_only_image() {
    let writer = Candidate { pinned: true, ..image(1, 0) };
    assert_eq!(room_plan(&[image(80, 9), writer], MIB, 0), [0]);
    assert_eq!(room_plan(&[image(80, 9), Candidate { small: true, ..writer }], MIB, 0), []);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let bytes = prop_oneof![Just(2), 0..SMALL_BYTES, SMALL_BYTES..4 * MIB];
    let one = (bytes, 0..50_u64, prop::bool::weighted(0.2));
    prop::collection::vec(
        one.prop_map(|(bytes, accessed, pinned)| Candidate {
            bytes,
            accessed,
            pinned,
            small: bytes < SMALL_BYTES,
        }),
        0..40,
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        prop::option::of(0..60 * MIB),
        prop::option::of(0..=100_u8),
        prop::option::of((0..60_u64).prop_map(Duration::from_secs)),
    )
        .prop_map(|(quota_bytes, disk_percent, expire)| Limits { quota_bytes, disk_percent, expire })
}

fn disk() -> impl Strategy<Value = Option<Disk>> {
    let disk = (0..150 * MIB, 0..=100_u64);
    prop::option::of(disk.prop_map(|(total, free)| Disk { total, free: total / 100 * free }))
}

/// The sum of the bytes of `of`.
fn sum<'a>(entries: &[Candidate], of: impl IntoIterator<Item = &'a usize>) -> u64 {
    of.into_iter().map(|&i| entries[i].bytes).sum()
}

/// Checks what holds of all that left for space, in order, at `now`.
fn check_space(entries: &[Candidate], for_space: &[usize], stays: &[usize], now: u64) {
    let used_at = |i: usize| if entries[i].pinned { u64::MAX } else { entries[i].accessed.min(now) };
    let Some(&last) = for_space.last() else { return };
    assert!(for_space.iter().all(|&i| !entries[i].pinned));
    assert!(for_space.is_sorted_by_key(|&i| used_at(i)), "the least recently used first");
    let image = stays.iter().copied().filter(|&i| !entries[i].small).max_by_key(|&i| used_at(i));
    let before: Vec<_> = stays.iter().filter(|&&i| used_at(i) < used_at(last)).collect();
    match image {
        // it alone may be older than a small one that left, and then it is the last image
        Some(image) => {
            assert!(for_space.iter().all(|&i| entries[i].small || used_at(i) <= used_at(image)));
            assert!(before.is_empty() || (before == [&image] && entries[last].small));
        }
        None => {
            assert!(for_space.iter().all(|&i| entries[i].small), "an image stays if there is one");
            assert!(before.is_empty() && !stays.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn a_sweep_keeps_its_promises(
        entries in candidates(), limits in limits(), disk in disk(), now in 0..80_u64,
    ) {
        let plan = plan(&entries, limits, disk, now);
        let gone = leaving(&plan);
        let mut once = gone.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), gone.len(), "each leaves once");

        let for_space: Vec<_> =
            plan.iter().filter(|(_, why)| *why == Reason::Space).map(|(i, _)| *i).collect();
        let stays: Vec<_> = (0..entries.len()).filter(|i| !gone.contains(i)).collect();
        check_space(&entries, &for_space, &stays, now);

        let movable = |of: &[usize]| sum(&entries, of.iter().filter(|&&i| !entries[i].pinned));
        if let Some((_, but_last)) = for_space.split_last() {
            // without the last one it would not have been enough
            let (left, kept) = (sum(&entries, but_last), sum(&entries, &stays));
            let held = kept + sum(&entries, &for_space);
            let for_quota = limits.quota_bytes.is_some_and(|quota| held - left > quota);
            let expired = sum(&entries, &gone) - sum(&entries, &for_space);
            let for_disk = expired + left < excess_on_disk(limits, disk)
                && left < (movable(&stays) + movable(&for_space)).div_ceil(4) * 3;
            prop_assert!(for_quota || for_disk);
        }
        if let Some(age) = limits.expire.filter(|age| !age.is_zero()) {
            for &i in &stays {
                prop_assert!(entries[i].pinned || now - entries[i].accessed.min(now) < age.as_secs());
            }
        }
        if let Some(quota) = limits.quota_bytes {
            let held = sum(&entries, &stays);
            let free_to_go: Vec<_> = stays.iter().filter(|&&i| !entries[i].pinned).collect();
            let images = free_to_go.iter().filter(|&&&i| !entries[i].small).count();
            let small: u64 = free_to_go.iter().filter(|&&&i| entries[i].small).map(|&&i| entries[i].bytes).sum();
            prop_assert!(held <= quota || (images <= 1 && small <= SMALL_BYTES), "{held} of {quota}");
        }
    }

    #[test]
    fn others_never_shrink_the_cache_below_a_quarter_by_more_than_an_entry(
        entries in candidates(), disk in disk(), limits in 0..=100_u8, sweeps in 1..10_u64,
    ) {
        let movable = |entries: &[Candidate]| -> u64 {
            entries.iter().filter(|one| !one.pinned).map(|one| one.bytes).sum()
        };
        let all = movable(&entries);
        let mut entries = entries;
        let mut peak = Peak::default();
        for now in 0..sweeps {
            let mut gone = leaving(&sweep_plan(&entries, percent(limits), disk, &mut peak, now));
            if let Some(&last) = gone.last() {
                let crosses = entries[last].bytes;
                gone.sort_unstable();
                for i in gone.into_iter().rev() {
                    entries.remove(i);
                }
                prop_assert!(movable(&entries) + crosses >= all / 4);
            }
        }
    }

    #[test]
    fn a_writer_never_takes_more_than_three_quarters_and_an_entry(
        entries in candidates(), wants in prop::collection::vec(0..8 * MIB, 1..30), free in 0..8 * MIB,
    ) {
        let all: u64 = entries.iter().filter(|one| !one.pinned).map(|one| one.bytes).sum();
        let most = room(&entries, free, 0) - free;
        let mut entries = entries;
        let (mut taken, mut last) = (0, 0);
        for bytes in wants {
            let mut plan = room_plan(&entries, bytes, taken);
            let stays: Vec<_> = (0..entries.len()).filter(|i| !plan.contains(i)).collect();
            check_space(&entries, &plan, &stays, u64::MAX);
            if let Some(&i) = plan.last() {
                last = entries[i].bytes;
            }
            plan.sort_unstable();
            plan.into_iter().rev().for_each(|i| taken += entries.remove(i).bytes);
            prop_assert!(taken <= all / 4 * 3 + last);
            prop_assert!(taken <= most, "{taken} left, {most} were promised as the most");
        }
    }
}
