use proptest::prelude::*;

use super::*;

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn hosts(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|number| format!("host{number}").into()).collect()
}

/// A picker of `count` pieces with parents that have all.
fn picker(count: u32, parents: usize) -> Picker {
    let mut picker = Picker::new(PickerOptions::default(), Pieces::none(count), 7);
    let hosts = hosts(parents);
    picker.set_parents(&hosts, at(0));
    hosts.iter().for_each(|host| picker.offers(host, &Pieces::all(count), at(0)));
    picker
}

fn all(picker: &mut Picker, now: Duration) -> Vec<Ask> {
    std::iter::from_fn(|| picker.next(0, now)).collect()
}

fn give(picker: &mut Picker, ask: &Ask, now: Duration) {
    picker.came(ask, 4 << 20, at(100), now);
    picker.arrived(ask.piece, now);
}

#[test]
fn a_new_parent_gets_one_ask_and_a_proven_one_its_share() {
    let mut picker = picker(64, 2);
    let asks = all(&mut picker, at(0));
    assert_eq!(asks.len(), 2);
    assert_ne!(asks[0].host, asks[1].host);
    give(&mut picker, &asks[0], at(100));
    let asks = all(&mut picker, at(100));
    assert_eq!(asks.len(), 4);
    assert!(asks.iter().all(|ask| ask.host == asks[0].host));
}

#[test]
fn a_rare_piece_is_asked_for_sooner_than_others() {
    let mut rare = 0;
    for seed in 0..1_000 {
        let mut picker = Picker::new(PickerOptions::default(), Pieces::none(64), seed);
        picker.set_parents(&hosts(3), at(0));
        picker.offers("host0", &Pieces::all(64), at(0));
        let mut but_one = Pieces::all(64);
        but_one.remove(40);
        picker.offers("host1", &but_one, at(0));
        picker.offers("host2", &but_one, at(0));
        rare += usize::from(all(&mut picker, at(0)).iter().any(|ask| ask.piece == 40));
    }
    // Three draws of 64 find it more often than one does.
    assert!(rare > 25, "{rare}");
}

#[test]
fn what_the_origin_gives_is_not_asked_of_parents_until_it_gives_nothing() {
    let mut picker = picker(8, 4);
    picker.set_origin(&[0..7, 7..u32::MAX], at(0));
    assert_eq!(picker.next(0, at(100)), None);
    assert!(!picker.is_starving());
    assert!(picker.wake(at(100)).is_some());
    picker.arrived(0, at(9_000));
    assert_eq!(picker.next(0, at(15_000)), None);
    assert!(picker.next(0, at(19_000)).is_some());
}

#[test]
fn a_parent_that_is_a_hundred_times_slower_gets_one_ask_and_is_left() {
    let mut picker = picker(1_000, 4);
    let mut slow = 0;
    let mut left = None;
    let mut flights: Vec<(Duration, Ask)> = Vec::new();
    for now in (0..30_000).step_by(50).map(at) {
        for (_, ask) in flights.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
            give(&mut picker, &ask, now);
        }
        for ask in all(&mut picker, now) {
            slow += usize::from(&*ask.host == "host0");
            let took = if &*ask.host == "host0" { 100_000 } else { 100 };
            flights.push((now + at(took), ask));
        }
        if picker.reports().1.iter().any(|host| &**host == "host0") {
            left.get_or_insert(now);
        }
        if picker.have().is_full() {
            break;
        }
    }
    assert!(picker.have().is_full());
    assert_eq!(slow, 1);
    assert!(left.is_some_and(|left| left <= at(6_000)), "{left:?}");
}

#[test]
fn parents_that_are_silent_take_no_place_from_others_and_are_left_within_seconds() {
    // Seven of eight say that they have all, and never answer.
    let mut picker = picker(200, 8);
    let mut flights: Vec<(Duration, Ask)> = Vec::new();
    let (mut done, mut lost) = (None, Vec::new());
    for now in (0..60_000).step_by(50).map(at) {
        for (_, ask) in flights.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
            give(&mut picker, &ask, now);
        }
        let asks = all(&mut picker, now);
        flights.extend(asks.into_iter().filter(|ask| &*ask.host == "host0").map(|ask| (now + at(100), ask)));
        lost.extend(picker.reports().1.into_iter().map(|host| (now, host)));
        if picker.have().is_full() {
            done.get_or_insert(now);
        }
    }
    assert_eq!(lost.len(), 7);
    assert!(lost.iter().all(|(when, host)| *when <= at(3_000) && &**host != "host0"), "{lost:?}");
    assert!(done.is_some_and(|done| done <= at(25_000)), "{done:?}");
}

#[test]
fn where_all_are_slow_no_more_than_twice_as_much_is_asked_for() {
    let mut picker = picker(1_000, 8);
    let ask = picker.next(0, at(0)).expect("a parent");
    give(&mut picker, &ask, at(100));
    let mut asks = Vec::new();
    for now in (100..60_000).step_by(100).map(at) {
        asks.extend(all(&mut picker, now));
        assert!(picker.asked() <= 16, "{}", picker.asked());
        assert!(asks.iter().filter(|ask| picker.hopes_for(ask, now)).count() <= 8);
    }
}

#[test]
fn who_sent_what_was_wrong_is_never_asked_again() {
    let mut picker = picker(8, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    picker.failed(&ask, Failure::Wrong, at(10));
    assert_eq!(picker.reports(), (hosts(1), vec![]));
    assert_eq!(picker.reports(), (vec![], vec![]));
    picker.set_parents(&hosts(1), at(1_000_000));
    assert_eq!(picker.next(0, at(1_000_000)), None);
    assert!(picker.is_starving());
}

#[test]
fn a_broken_parent_is_asked_again_only_when_named_again_later() {
    let mut picker = picker(8, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    picker.failed(&ask, Failure::Broken, at(10));
    assert_eq!(picker.reports(), (vec![], hosts(1)));
    picker.set_parents(&hosts(1), at(5_000));
    assert_eq!(picker.next(0, at(5_000)), None);
    picker.set_parents(&hosts(1), at(10_010));
    assert!(picker.next(0, at(10_010)).is_some());
}

#[test]
fn a_piece_that_is_missing_at_a_parent_is_not_asked_of_it_again_and_others_are() {
    let mut picker = picker(2, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    picker.failed(&ask, Failure::Missing, at(10));
    let other = picker.next(0, at(10)).expect("the other piece");
    assert_ne!(other.piece, ask.piece);
    give(&mut picker, &other, at(20));
    assert_eq!(picker.next(0, at(20)), None);
    assert!(picker.is_starving());
    picker.offer("host0", ask.piece, at(30));
    assert_eq!(picker.next(0, at(30)), Some(ask));
}

#[test]
fn the_last_piece_is_asked_for_twice_when_it_is_late_and_the_other_ask_is_named() {
    let mut picker = picker(4, 2);
    let mut last = None;
    for now in [0, 100, 200, 300] {
        let asks = all(&mut picker, at(now));
        for ask in asks {
            if picker.have().present() < 3 {
                give(&mut picker, &ask, at(now));
            } else {
                last = Some((ask, now));
            }
        }
    }
    let (ask, since) = last.expect("one piece is left");
    assert_eq!(picker.next(0, at(since + 1_000)), None);
    let wake = picker.wake(at(since + 1_000)).expect("it is looked at again");
    let second = picker.next(0, wake).expect("a second ask");
    assert_eq!(second.piece, ask.piece);
    assert_ne!(second.host, ask.host);
    assert_eq!(picker.next(0, wake), None);
    picker.came(&second, 4 << 20, at(100), wake);
    assert_eq!(picker.arrived(second.piece, wake), [ask]);
    assert_eq!(picker.asked(), 0);
}

#[test]
fn a_parent_that_was_lost_and_is_back_as_another_peer_is_asked_at_once() {
    let mut picker = picker(4, 1);
    let hosts = hosts(1);
    let ask = picker.next(0, at(0)).expect("one parent");
    picker.failed(&ask, Failure::Broken, at(10));
    picker.lost("host0", at(10));
    picker.set_parents(&hosts, at(1_000));
    assert_eq!(picker.next(0, at(1_000)), None);
    picker.renew("host0");
    assert_eq!(picker.next(0, at(1_000)), None, "it has not told what it has now");
    picker.offer("host0", 2, at(1_000));
    assert_eq!(picker.next(0, at(1_000)).map(|ask| ask.piece), Some(2));
    picker.convict("host0");
    picker.renew("host0");
    picker.offer("host0", 3, at(1_000));
    assert_eq!(picker.next(0, at(1_000)), None, "a liar does not come back by another name");
}

#[test]
fn pieces_that_turn_out_wrong_are_missing_again_and_name_their_giver() {
    let mut picker = picker(1, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    give(&mut picker, &ask, at(10));
    assert_eq!(picker.giver(0), Some(&ask.host));
    let giver = picker.discard(0).expect("a parent gave it");
    picker.convict(&giver);
    assert_eq!(picker.reports().0, [ask.host]);
    assert_eq!((picker.have().present(), picker.is_starving()), (0, true));
}

/// A picker of `count` units with parents of another kind that have all.
fn picker_of_whole(count: u32, parents: usize) -> Picker {
    let mut picker = Picker::new(PickerOptions::default(), Pieces::none(count), 7);
    let hosts = hosts(parents);
    picker.set_parents(&hosts, at(0));
    hosts.iter().for_each(|host| picker.offer_whole(host, 0..count, at(0)));
    picker
}

#[test]
fn what_a_parent_without_units_is_asked_for_comes_with_all_of_its_piece() {
    let mut picker = picker_of_whole(20, 2);
    let asks = all(&mut picker, at(0));
    assert_eq!(asks.len(), 2);
    assert_ne!(asks[0].piece / 8, asks[1].piece / 8, "one piece is asked for once");
    for ask in &asks {
        picker.came(ask, 4 << 20, at(800), at(800));
    }
    assert_eq!(picker.asked(), 0);
    assert!(picker.have().present() == 16 || picker.have().present() == 12);
    // The last piece, too, is asked for once, and nobody is put aside for it.
    let last = all(&mut picker, at(800));
    assert_eq!(last.len(), 1);
    picker.came(&last[0], 4 << 20, at(800), at(1_600));
    assert!(picker.have().is_full());
    assert_eq!(picker.reports(), (Vec::new(), Vec::new()));
    let giver = picker.giver(3).expect("it came from a parent");
    assert_eq!(picker.giver(4), Some(giver));
}

#[test]
fn an_ask_for_a_whole_piece_is_superfluous_when_all_of_it_has_come_from_elsewhere() {
    let mut picker = picker_of_whole(8, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    for unit in 0..7 {
        assert_eq!(picker.arrived(unit, at(10)), []);
    }
    assert_eq!(picker.arrived(7, at(10)), [ask]);
    assert_eq!(picker.asked(), 0);
}

#[test]
fn a_whole_piece_may_take_eight_times_as_long_as_a_unit() {
    let mut picker = Picker::new(PickerOptions::default(), Pieces::none(800), 7);
    let hosts = hosts(2);
    picker.set_parents(&hosts, at(0));
    picker.offers("host0", &Pieces::all(800), at(0));
    picker.offer_whole("host1", 0..800, at(0));
    let slow = all(&mut picker, at(0)).into_iter().find(|ask| &*ask.host == "host1").expect("it is asked");
    // The other gives a unit in a second each, this one a piece in eight and more.
    for second in 1..20 {
        let now = at(second * 1_000);
        for ask in all(&mut picker, now).into_iter().filter(|ask| &*ask.host == "host0") {
            picker.came(&ask, 512 << 10, at(1_000), now);
        }
    }
    assert_eq!(picker.reports().1, [] as [Arc<str>; 0]);
    picker.came(&slow, 4 << 20, at(20_000), at(20_000));
    assert_eq!(picker.reports().1, [] as [Arc<str>; 0]);
}

#[test]
fn whole_pieces_that_do_not_come_are_asked_for_elsewhere_in_units() {
    // One gives units; seven have whole pieces and never answer.
    let mut picker = Picker::new(PickerOptions::default(), Pieces::none(200), 7);
    let hosts = hosts(8);
    picker.set_parents(&hosts, at(0));
    picker.offers("host0", &Pieces::all(200), at(0));
    hosts[1..].iter().for_each(|host| picker.offer_whole(host, 0..200, at(0)));
    let mut flights: Vec<(Duration, Ask)> = Vec::new();
    let (mut done, mut lost, mut ended) = (None, Vec::new(), Vec::new());
    for now in (0..60_000).step_by(50).map(at) {
        for (_, ask) in flights.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
            picker.came(&ask, 1, at(100), now);
            ended.extend(picker.arrived(ask.piece, now));
        }
        let asks = all(&mut picker, now);
        assert!(picker.asked() <= 16, "{}", picker.asked());
        flights.extend(asks.into_iter().filter(|ask| &*ask.host == "host0").map(|ask| (now + at(100), ask)));
        lost.extend(picker.reports().1.into_iter().map(|host| (now, host)));
        if picker.have().is_full() {
            done.get_or_insert(now);
        }
    }
    assert!(done.is_some_and(|done| done <= at(25_000)), "{done:?}");
    assert_eq!((lost.len(), ended.len(), picker.asked()), (7, 7, 0));
    assert!(lost.iter().all(|(when, host)| *when >= at(3_000) && &**host != "host0"), "{lost:?}");
    assert!(ended.iter().all(|ask| &*ask.host != "host0"), "{ended:?}");
}

proptest! {
    #[test]
    fn parents_with_and_without_units_bring_everything_and_nothing_twice(
        count in 1..200_u32,
        seed in any::<u64>(),
    ) {
        let mut picker = Picker::new(PickerOptions::default(), Pieces::none(count), seed);
        let hosts = hosts(4);
        picker.set_parents(&hosts, at(0));
        picker.offers("host0", &Pieces::all(count), at(0));
        picker.offers("host1", &Pieces::all(count), at(0));
        picker.offer_whole("host2", 0..count, at(0));
        picker.offer_whole("host3", 0..count, at(0));
        let range = |ask: &Ask| match &*ask.host {
            "host0" | "host1" => ask.piece..ask.piece + 1,
            _ => ask.piece / 8 * 8..count.min(ask.piece / 8 * 8 + 8),
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let mut asked: Vec<Ask> = Vec::new();
        let mut now = at(0);
        while !picker.have().is_full() {
            for ask in all(&mut picker, now) {
                prop_assert!(!picker.have().contains(ask.piece));
                prop_assert!(asked.iter().all(|other| !range(other).contains(&ask.piece)), "asked for twice");
                asked.push(ask);
            }
            prop_assert!(!asked.is_empty(), "nothing is asked for, and something is missing");
            prop_assert_eq!(picker.asked(), asked.len());
            now += at(10);
            let ask = asked.swap_remove(random.usize(..asked.len()));
            picker.came(&ask, 1, at(10), now);
            for unit in range(&ask) {
                for other in picker.arrived(unit, now) {
                    asked.retain(|ask| *ask != other);
                }
            }
        }
        prop_assert_eq!(picker.reports(), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_whole_piece_that_is_missing_at_a_parent_is_missing_in_all_its_units() {
    let mut picker = picker_of_whole(8, 1);
    let ask = picker.next(0, at(0)).expect("one parent");
    picker.failed(&ask, Failure::Missing, at(10));
    assert_eq!(picker.next(0, at(10)), None);
    assert!(picker.is_starving());
}

#[derive(Clone, Debug)]
enum Event {
    Ask,
    Give(usize),
    Fail(usize, u8),
    Offer(usize, u32),
    Lose(usize),
    Name(u8),
    Origin(u32),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Ask),
        4 => any::<usize>().prop_map(Event::Give),
        1 => (any::<usize>(), 0..3_u8).prop_map(|(at, why)| Event::Fail(at, why)),
        3 => (0..5_usize, 0..80_u32).prop_map(|(host, piece)| Event::Offer(host, piece)),
        1 => (0..5_usize).prop_map(Event::Lose),
        1 => any::<u8>().prop_map(Event::Name),
        1 => (0..80_u32).prop_map(Event::Origin),
        2 => (0..5_000_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn it_never_asks_for_what_is_here_nor_too_much_nor_starves_beside_an_offer(
        events in proptest::collection::vec(event(), 1..200),
        seed in any::<u64>(),
    ) {
        let options = PickerOptions { most_asked: 6, most_at_one: 2 };
        let mut picker = Picker::new(options, Pieces::none(70), seed);
        let names = hosts(5);
        picker.set_parents(&names, at(0));
        let mut now = at(0);
        let mut flights: Vec<Ask> = Vec::new();
        let mut banned: Vec<Arc<str>> = Vec::new();
        for event in events {
            match event {
                Event::Ask => {
                    let Some(ask) = picker.next(0, now) else { continue };
                    prop_assert!(!picker.have().contains(ask.piece));
                    prop_assert!(!flights.contains(&ask), "the same ask twice");
                    prop_assert!(!banned.contains(&ask.host));
                    prop_assert!(flights.iter().filter(|other| other.piece == ask.piece).count() <= 1);
                    flights.push(ask.clone());
                    prop_assert!(flights.len() <= 6);
                    prop_assert!(flights.iter().filter(|other| other.host == ask.host).count() <= 2);
                }
                Event::Give(which) if !flights.is_empty() => {
                    let ask = flights.swap_remove(which % flights.len());
                    picker.came(&ask, 1, at(50), now);
                    let others = picker.arrived(ask.piece, now);
                    for other in &others {
                        prop_assert!(flights.contains(other));
                    }
                    flights.retain(|other| other.piece != ask.piece);
                }
                Event::Fail(which, why) if !flights.is_empty() => {
                    let ask = flights.swap_remove(which % flights.len());
                    let why = [Failure::Broken, Failure::Missing, Failure::Wrong][usize::from(why)];
                    picker.failed(&ask, why, now);
                    if why == Failure::Wrong {
                        banned.push(ask.host);
                    }
                }
                Event::Offer(host, piece) => picker.offer(&names[host], piece, now),
                Event::Lose(host) => picker.lost(&names[host], now),
                Event::Name(which) => {
                    let some: Vec<_> = (0..5).filter(|at| which & (1 << at) != 0).map(|at| names[at].clone()).collect();
                    picker.set_parents(&some, now);
                }
                Event::Origin(end) => picker.set_origin(&[0..end / 4, end / 2..end], now),
                Event::Wait(millis) => now += at(millis),
                Event::Give(_) | Event::Fail(..) => {}
            }
            prop_assert_eq!(picker.asked(), flights.len());
        }
        // With nothing asked for, an unfailed parent that offers something missing is asked.
        for ask in flights {
            picker.failed(&ask, Failure::Missing, now);
        }
        picker.set_origin(&[], now);
        let fresh: Arc<str> = "fresh".into();
        picker.set_parents(std::slice::from_ref(&fresh), now);
        let missing = picker.have().missing().next();
        if let Some(piece) = missing {
            picker.offer(&fresh, piece, now);
            prop_assert!(!picker.is_starving());
            prop_assert_eq!(picker.next(0, now), Some(Ask { host: fresh, piece }));
        }
    }
}
