use proptest::prelude::*;

use super::*;

fn entry(bytes: u64, accessed: u64) -> Candidate {
    Candidate { bytes, accessed, pinned: false }
}

fn quota(bytes: u64) -> Limits {
    Limits { quota_bytes: Some(bytes), ..Limits::default() }
}

fn leaving(plan: &[(usize, Reason)]) -> Vec<usize> {
    plan.iter().map(|(i, _)| *i).collect()
}

#[test]
fn an_entry_larger_than_the_quota_stays_until_another_is_used() {
    let large = entry(100, 1);
    assert_eq!(plan(&[large], quota(10), None, 5), []);
    assert_eq!(leaving(&plan(&[large, entry(1, 2)], quota(10), None, 5)), [0]);
}

#[test]
fn the_disk_costs_only_its_excess_and_never_more_than_three_quarters() {
    let entries: Vec<_> = (0..8).map(|n| entry(10, n)).collect();
    let limits = Limits { disk_percent: Some(80), ..Limits::default() };
    let fuller = |free| Some(Disk { total: 1_000, free });
    assert_eq!(plan(&entries, limits, fuller(200), 9), []);
    assert_eq!(leaving(&plan(&entries, limits, fuller(185), 9)), [0, 1]);
    assert_eq!(leaving(&plan(&entries, limits, fuller(0), 9)), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn expired_bytes_count_towards_the_excess() {
    let entries = [entry(30, 0), entry(10, 50), entry(10, 60)];
    let limits =
        Limits { disk_percent: Some(50), expire: Some(Duration::from_secs(100)), ..Limits::default() };
    let disk = Some(Disk { total: 100, free: 20 });
    assert_eq!(plan(&entries, limits, disk, 100), [(0, Reason::Expired)]);
}

#[test]
fn a_clock_set_back_expires_nothing() {
    let limits = Limits { expire: Some(Duration::from_secs(10)), ..Limits::default() };
    assert_eq!(plan(&[entry(1, 1_000), entry(1, 995)], limits, None, 500), []);
}

#[test]
fn an_expiry_of_zero_is_none() {
    let limits = Limits { expire: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(plan(&[entry(1, 0)], limits, None, u64::MAX), []);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0..1_000_u64, 0..50_u64, prop::bool::weighted(0.2));
    prop::collection::vec(
        one.prop_map(|(bytes, accessed, pinned)| Candidate { bytes, accessed, pinned }),
        0..40,
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        prop::option::of(0..20_000_u64),
        prop::option::of(0..=100_u8),
        prop::option::of((0..60_u64).prop_map(Duration::from_secs)),
        prop_oneof![Just(0), 0..20_000_u64],
    )
        .prop_map(|(quota_bytes, disk_percent, expire, wanted_bytes)| Limits {
            quota_bytes,
            disk_percent,
            expire,
            wanted_bytes,
        })
}

fn disk() -> impl Strategy<Value = Option<Disk>> {
    let disk = (0..50_000_u64, 0..=100_u64);
    prop::option::of(disk.prop_map(|(total, free)| Disk { total, free: total * free / 100 }))
}

proptest! {
    #[test]
    fn the_policy_keeps_its_promises(
        entries in candidates(), limits in limits(), disk in disk(), now in 0..80_u64,
    ) {
        let plan = plan(&entries, limits, disk, now);
        let gone = leaving(&plan);
        let used_at = |i: usize| entries[i].accessed.min(now);

        let mut once = gone.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), gone.len(), "each leaves once");
        prop_assert!(gone.iter().all(|&i| !entries[i].pinned));

        let for_space: Vec<_> =
            plan.iter().filter(|(_, why)| *why == Reason::Space).map(|(i, _)| *i).collect();
        let stays: Vec<_> = (0..entries.len()).filter(|i| !gone.contains(i)).collect();
        if let Some(&last) = for_space.last() {
            prop_assert!(!stays.is_empty(), "space never empties the cache");
            prop_assert!(stays.iter().all(|&i| entries[i].pinned || used_at(i) >= used_at(last)));

            // without the last one it would not have been enough
            let sum = |of: &[usize]| of.iter().map(|&i| entries[i].bytes).sum::<u64>();
            let expired = sum(&gone) - sum(&for_space);
            let held = sum(&stays) + sum(&for_space);
            let before = sum(&for_space[..for_space.len() - 1]);
            prop_assert!(before < excess(held, expired, limits, disk));
        }

        if let Some(age) = limits.expire.filter(|age| !age.is_zero()) {
            for &i in &stays {
                prop_assert!(entries[i].pinned || now - used_at(i) < age.as_secs());
            }
        }
        if let Some(quota) = limits.quota_bytes {
            let held: u64 = stays.iter().map(|&i| entries[i].bytes).sum();
            let evictable = stays.iter().filter(|&&i| !entries[i].pinned).count();
            prop_assert!(held <= quota || evictable <= 1, "{held} of {quota} held");
        }
    }
}
