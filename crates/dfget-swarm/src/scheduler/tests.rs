#![expect(clippy::single_range_in_vec_init, reason = "one run of pieces is meant")]

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const MIB: u64 = 1 << 20;

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn key() -> SwarmKey {
    SwarmKey { task: "a".repeat(64).into(), authority: "https://registry.example".into() }
}

fn host(number: u8) -> HostInfo {
    HostInfo {
        id: format!("host{number}").into(),
        hostname: format!("host{number}"),
        ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
        port: 65000,
        idc: String::new(),
        location: String::new(),
        uplink: 0,
        keyed: true,
        disable_shared: false,
    }
}

/// Parents and part of the origin that a peer was told last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Told {
    parents: Vec<String>,
    origin: Vec<Range<u32>>,
    total: Option<u64>,
}

/// A scheduler, and what everybody was told last.
struct World {
    scheduler: Scheduler,
    now: Duration,
    told: HashMap<String, Told>,
    other: Vec<(String, What)>,
    sent: usize,
}

impl World {
    fn new(hosts: u8) -> Self {
        let mut scheduler = Scheduler::new(SchedulerOptions::default(), 1);
        (0..hosts).for_each(|number| scheduler.announce(host(number), at(0)));
        Self { scheduler, now: at(0), told: HashMap::new(), other: Vec::new(), sent: 0 }
    }

    fn take(&mut self, orders: Vec<Order>) {
        self.sent += orders.len();
        for order in orders {
            match order.what {
                What::Parents { parents, origin, total } => {
                    let mut parents: Vec<_> =
                        parents.iter().map(|parent| parent.host.id.to_string()).collect();
                    parents.sort();
                    self.told.insert(order.peer.to_string(), Told { parents, origin, total });
                }
                what => self.other.push((order.peer.to_string(), what)),
            }
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Scheduler, Duration, &mut Vec<Order>)) {
        let mut orders = Vec::new();
        act(&mut self.scheduler, self.now, &mut orders);
        self.take(orders);
    }

    fn begin(&mut self, number: u8, total: Option<u64>) {
        self.register(number, |register| {
            register.total = total;
            register.have = Some(Pieces::none(count(total.unwrap_or(0))));
        });
    }

    fn register(&mut self, number: u8, change: impl FnOnce(&mut Register)) {
        let mut register = Register {
            key: key(),
            peer: peer(number),
            host: format!("host{number}").into(),
            total: None,
            have: None,
            private: false,
            wants_proof: false,
            metadata_only: false,
            back_to_source: false,
        };
        change(&mut register);
        self.act(|scheduler, now, orders| scheduler.register(register, now, orders));
    }

    fn report(&mut self, number: u8, report: Report) {
        self.act(|scheduler, now, orders| scheduler.report(&peer(number), report, now, orders));
    }

    fn progress(&mut self, number: u8, total: u64, pieces: impl IntoIterator<Item = u32>) {
        self.report(number, progress(total, pieces));
    }

    fn hold(&mut self, number: u8, total: u64) {
        let host = format!("host{number}");
        self.act(|scheduler, now, orders| scheduler.hold(&host, key(), total, false, now, orders));
    }

    /// Lets time pass, with every tick when it is due.
    fn wait(&mut self, millis: u64) {
        let end = self.now + at(millis);
        while let Some(due) = self.scheduler.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.act(|scheduler, now, orders| {
                scheduler.tick(now, orders);
            });
        }
        self.now = end;
    }

    fn told(&self, number: u8) -> Told {
        self.told.get(&*peer(number)).cloned().unwrap_or_default()
    }

    fn at_origin(&self, of: u8) -> Vec<u8> {
        (0..of).filter(|&number| !self.told(number).origin.is_empty()).collect()
    }

    fn others(&mut self) -> Vec<(String, What)> {
        std::mem::take(&mut self.other)
    }
}

fn peer(number: u8) -> Arc<str> {
    format!("peer{number}").into()
}

fn count(total: u64) -> u32 {
    u32::try_from(dfget_core::piece_count(total, dfget_core::unit_length(total))).unwrap()
}

fn progress(total: u64, pieces: impl IntoIterator<Item = u32>) -> Report {
    let mut have = Pieces::none(count(total));
    pieces.into_iter().for_each(|piece| {
        have.insert(piece);
    });
    Report::Progress {
        have,
        total: Some(total),
        whole_only: false,
        no_origin: false,
        wants_proof: false,
        wrong_hosts: vec![],
        lost_hosts: vec![],
    }
}

fn lost(total: u64, pieces: impl IntoIterator<Item = u32>, lost: u8, wrong: bool) -> Report {
    let host: Arc<str> = format!("host{lost}").into();
    match progress(total, pieces) {
        Report::Progress { have, total, whole_only, .. } if wrong => Report::Progress {
            have,
            total,
            whole_only,
            no_origin: false,
            wants_proof: false,
            wrong_hosts: vec![host],
            lost_hosts: vec![],
        },
        Report::Progress { have, total, whole_only, .. } => Report::Progress {
            have,
            total,
            whole_only,
            no_origin: false,
            wants_proof: false,
            wrong_hosts: vec![],
            lost_hosts: vec![host],
        },
        other => other,
    }
}

#[test]
fn the_first_peer_fetches_the_beginning_and_the_second_asks_it_and_fetches_what_follows() {
    let mut world = World::new(2);
    world.begin(0, None);
    assert_eq!(world.told(0), Told { origin: vec![0..32], ..Told::default() });
    world.begin(1, None);
    assert_eq!(world.told(1), Told { parents: vec!["host0".into()], ..Told::default() });
    world.progress(0, 256 * MIB, []);
    world.wait(1_000);
    let told = Told { parents: vec!["host0".into()], origin: vec![32..64], total: Some(256 * MIB) };
    assert_eq!(world.told(1), told);
    let told = Told { parents: vec!["host1".into()], origin: vec![0..32], total: Some(256 * MIB) };
    assert_eq!(world.told(0), told);
}

#[test]
fn at_most_four_fetch_at_once_and_who_is_nearly_done_gets_the_next_run() {
    let mut world = World::new(10);
    let total = 256 * MIB;
    (0..10).for_each(|number| world.begin(number, Some(total)));
    let fetch = world.at_origin(10);
    assert_eq!(fetch.len(), 4);
    let mut ranges: Vec<_> = fetch.iter().flat_map(|&number| world.told(number).origin).collect();
    ranges.sort_by_key(|range| range.start);
    assert_eq!(ranges, [0..32, 32..64, 64..96, 96..128]);
    let first = world.told(fetch[0]).origin[0].clone();
    world.progress(fetch[0], total, first.clone().take(16));
    assert_eq!(world.told(fetch[0]).origin.len(), 1);
    world.progress(fetch[0], total, first.clone().take(30));
    assert_eq!(world.told(fetch[0]).origin, [first.clone(), 128..160]);
    world.progress(fetch[0], total, first);
    world.wait(300);
    assert_eq!(world.told(fetch[0]).origin, [128..160]);
}

#[test]
fn what_the_dead_fetched_goes_to_another_at_once_and_what_died_with_them_is_fetched_again() {
    let mut world = World::new(3);
    let total = 16 * MIB;
    world.begin(0, Some(total));
    world.begin(1, Some(total));
    world.begin(2, Some(total));
    world.progress(0, total, [0, 1]);
    world.report(0, Report::Gone);
    let heir = world.at_origin(3);
    assert_eq!(heir.iter().filter(|&&number| number > 0).count(), 1);
    assert_eq!(world.told(*heir.last().unwrap()).origin, [0..32]);
    world.wait(300);
    for number in [1, 2] {
        assert_eq!(world.told(number).parents.len(), 1, "{number}");
    }
}

#[test]
fn a_fetcher_that_gets_nowhere_is_relieved() {
    let mut world = World::new(2);
    let total = 16 * MIB;
    world.begin(0, Some(total));
    world.begin(1, Some(total));
    assert_eq!(world.told(0).origin, [0..32]);
    world.wait(20_000);
    assert_eq!((world.told(0).origin, world.told(1).origin), (vec![], vec![0..32]));
}

#[test]
fn an_origin_without_ranges_is_asked_by_one_only_and_by_another_when_that_one_dies() {
    let mut world = World::new(3);
    (0..3).for_each(|number| world.begin(number, None));
    let whole = |total: Option<u64>| Report::Progress {
        have: Pieces::none(count(total.unwrap_or(0))),
        total,
        whole_only: true,
        no_origin: false,
        wants_proof: false,
        wrong_hosts: vec![],
        lost_hosts: vec![],
    };
    world.report(0, whole(None));
    assert_eq!(world.told(0).origin, [0..u32::MAX]);
    world.report(0, whole(Some(256 * MIB)));
    world.wait(60_000);
    assert_eq!(world.at_origin(3), [0]);
    world.act(|scheduler, now, orders| scheduler.leave("host0", now, orders));
    assert_eq!(world.at_origin(3).iter().filter(|&&number| number > 0).count(), 1);
}

#[test]
fn a_late_one_gets_only_holders_and_nothing_from_the_origin() {
    let mut world = World::new(20);
    (1..20).for_each(|number| world.hold(number, 256 * MIB));
    world.begin(0, None);
    let told = world.told(0);
    assert_eq!((told.origin.len(), told.total), (0, Some(256 * MIB)));
    assert!(told.parents.len() >= 8, "{told:?}");
}

#[test]
fn a_holder_that_lost_its_store_is_forgotten_when_it_begins_anew() {
    let mut world = World::new(4);
    (0..4).for_each(|number| world.hold(number, 16 * MIB));
    (0..4).for_each(|number| world.begin(number, Some(16 * MIB)));
    world.wait(300);
    assert_eq!(world.at_origin(4).len(), 1);
    world.act(|scheduler, now, orders| scheduler.leave("host0", now, orders));
    world.wait(300);
    assert!(!world.at_origin(4).is_empty());
    assert_eq!(world.scheduler.peers(), 3);
    (1..4).for_each(|number| {
        world.act(|scheduler, now, orders| scheduler.leave(&format!("host{number}"), now, orders));
    });
    assert_eq!((world.scheduler.peers(), world.scheduler.swarms(), world.scheduler.due()), (0, 0, None));
}

#[test]
fn private_content_goes_between_keyed_hosts_only() {
    let mut world = World::new(3);
    let mut plain = host(2);
    plain.keyed = false;
    world.act(|scheduler, now, _| scheduler.announce(plain, now));
    let private = |register: &mut Register| {
        register.private = true;
        register.have = Some(Pieces::none(0));
    };
    (0..3).for_each(|number| world.register(number, private));
    world.wait(30_000);
    assert_eq!(world.told(0).parents, ["host1"]);
    assert_eq!(world.told(1).parents, ["host0"]);
    let alone = world.told(2);
    assert_eq!((alone.parents, alone.origin), (vec![], vec![0..u32::MAX]));
}

#[test]
fn two_that_were_sent_wrong_pieces_rid_everybody_of_a_host_and_a_stranger_does_not() {
    let mut world = World::new(5);
    let total = 256 * MIB;
    (0..4).for_each(|number| world.begin(number, Some(total)));
    world.wait(300);
    let with = |world: &World| (1..4).filter(|&at| world.told(at).parents.contains(&"host0".into())).count();
    assert_eq!(with(&world), 3);
    world.report(1, lost(total, [], 0, true));
    world.wait(300);
    assert_eq!(with(&world), 2);
    // Said twice, it is no second voice.
    world.report(1, lost(total, [], 0, true));
    world.wait(300);
    assert_eq!(with(&world), 2);
    world.report(2, lost(total, [], 0, true));
    world.wait(300);
    assert_eq!(with(&world), 0);
    world.begin(4, Some(total));
    assert!(!world.told(4).parents.contains(&"host0".into()));
    // It may still fetch for itself.
    assert!(!world.told(0).parents.is_empty());
}

#[test]
fn a_host_that_was_lost_is_named_again_after_a_while() {
    let mut world = World::new(2);
    let total = 16 * MIB;
    world.begin(0, Some(total));
    world.begin(1, Some(total));
    world.progress(0, total, [0]);
    world.report(1, lost(total, [], 0, false));
    world.wait(300);
    assert!(world.told(1).parents.is_empty());
    world.progress(0, total, [0, 1]);
    world.wait(30_000);
    assert_eq!(world.told(1).parents, ["host0"]);
}

#[test]
fn nothing_is_told_twice() {
    let mut world = World::new(4);
    let total = 256 * MIB;
    (0..4).for_each(|number| world.begin(number, Some(total)));
    world.wait(1_000);
    let sent = world.sent;
    for end in 1..3 {
        (0..4).for_each(|number| world.progress(number, total, 0..end));
        world.wait(1_000);
    }
    assert_eq!(world.sent, sent);
}

#[test]
fn a_large_swarm_gets_few_parents_each_and_all_are_joined() {
    let mut world = World::new(200);
    (0..200).for_each(|number| world.begin(number, Some(1024 * MIB)));
    world.wait(5_000);
    let mut reached = vec![0_u8];
    let mut at = 0;
    while let Some(&next) = reached.get(at) {
        at += 1;
        for number in 0..200 {
            let told = world.told(number);
            assert!(told.parents.len() <= 20 && told.parents.len() >= 5, "{told:?}");
            if told.parents.contains(&format!("host{next}")) && !reached.contains(&number) {
                reached.push(number);
            }
        }
    }
    assert_eq!(reached.len(), 200);
    assert_eq!(world.at_origin(200).len(), 4);
}

#[test]
fn stock_peers_go_to_the_origin_first_and_wait_for_the_one_that_does() {
    let mut world = World::new(4);
    (0..3).for_each(|number| world.register(number, |register| register.total = Some(64 * MIB)));
    assert_eq!(world.others(), [("peer0".into(), What::BackToSource("nobody has it yet"))]);
    world.wait(500);
    world.report(0, Report::BackToSourceStarted);
    assert_eq!(world.told(1).parents[0], "host0");
    assert!(world.told(2).parents.contains(&"host0".into()));
    assert!(world.others().is_empty());
    // Our own waits for it as well.
    world.begin(3, Some(64 * MIB));
    assert!(world.told(3).origin.is_empty() && world.told(3).parents.contains(&"host0".into()));
    world.report(0, Report::Finished);
    assert_eq!(world.others(), [("peer0".into(), What::Close)]);
    world.report(1, Report::Reschedule { parents: vec![peer(0)] });
    assert_eq!(world.told(1).parents, ["host3"]);
    world.report(1, Report::Failed);
    assert_eq!(world.others(), [("peer1".into(), What::Close)]);
}

#[test]
fn stock_peers_do_not_wait_longer_than_two_seconds_for_nothing() {
    let mut world = World::new(8);
    (0..8).for_each(|number| world.register(number, |register| register.total = Some(64 * MIB)));
    world.wait(1_900);
    assert_eq!(world.others().len(), 1);
    world.wait(700);
    assert_eq!(world.others().len(), 3, "four at the origin at once");
    world.wait(6_500);
    assert_eq!(world.others().len(), 4);
}

#[test]
fn a_host_that_was_lost_and_is_back_is_handed_out_again_and_a_liar_is_not() {
    for (lost, again) in [(true, true), (false, false)] {
        let mut world = World::new(3);
        let total = 64 * MIB;
        (0..3).for_each(|number| world.begin(number, Some(total)));
        world.wait(500);
        assert!(world.told(1).parents.contains(&"host0".into()));
        let mut word = progress(total, [40]);
        if let Report::Progress { wrong_hosts, lost_hosts, .. } = &mut word {
            *(if lost { lost_hosts } else { wrong_hosts }) = vec!["host0".into()];
        }
        world.report(1, word);
        world.wait(500);
        assert!(!world.told(1).parents.contains(&"host0".into()));
        // It has died, and comes back before anybody would try it again.
        world.report(0, Report::Gone);
        world.wait(500);
        world.register(0, |register| {
            register.peer = "peer0-again".into();
            register.total = Some(total);
            register.have = Some(Pieces::none(count(total)));
        });
        world.wait(500);
        assert_eq!(world.told(1).parents.contains(&"host0".into()), again);
        assert!(world.told(2).parents.contains(&"host0".into()));
    }
}

#[test]
fn a_stock_peer_with_a_credential_waits_for_nobody() {
    let mut world = World::new(2);
    world.scheduler.announce(HostInfo { keyed: false, ..host(1) }, at(0));
    world.hold(0, 64 * MIB);
    world.register(1, |register| (register.total, register.private) = (Some(64 * MIB), true));
    assert_eq!(world.others(), [("peer1".into(), What::BackToSource("nobody has it yet"))]);
}

#[test]
fn stock_peers_never_ask_in_a_circle() {
    let mut world = World::new(3);
    world.register(0, |register| register.total = Some(64 * MIB));
    world.report(0, Report::BackToSourceStarted);
    world.register(1, |register| register.total = Some(64 * MIB));
    world.register(2, |register| register.total = Some(64 * MIB));
    assert!(world.told(2).parents.contains(&"host1".into()));
    world.report(1, Report::Reschedule { parents: vec![peer(0)] });
    world.others();
    assert_eq!(world.told(1).parents, ["host0"], "no new answer yet");
    world.wait(3_000);
    assert_eq!(world.others(), [("peer1".into(), What::BackToSource("no parent in time"))]);
}

#[test]
fn other_answers_to_stock_peers() {
    let mut world = World::new(2);
    world.register(9, |_| ());
    world.register(0, |register| register.metadata_only = true);
    world.register(1, |register| register.total = Some(0));
    let others = world.others();
    assert_eq!(others[0], ("peer9".into(), What::Refuse("host not found")));
    assert_eq!(others[1], ("peer0".into(), What::MetadataOnly));
    assert_eq!(others[2], ("peer1".into(), What::Empty));
    world.report(0, Report::Started);
    world.report(0, Report::Finished);
    world.report(1, Report::Finished);
    assert_eq!(world.others().len(), 2);
    world.register(1, |register| register.total = Some(64 * MIB));
    assert_eq!(world.told(1).parents, ["host0"]);
}

/// A world in which `stranger` has not shown the cluster's key.
fn with_stranger(hosts: u8, stranger: u8) -> World {
    let mut world = World::new(hosts);
    let mut plain = host(stranger);
    plain.keyed = false;
    world.act(|scheduler, now, _| scheduler.announce(plain, now));
    world
}

#[test]
fn what_a_stranger_says_to_have_keeps_nobody_waiting_who_may_not_ask_it() {
    let mut world = with_stranger(3, 2);
    world.hold(2, 64 * MIB);
    for number in 0..2 {
        world.register(number, |register| {
            register.private = true;
            register.total = Some(64 * MIB);
            register.have = Some(Pieces::none(count(64 * MIB)));
        });
    }
    assert!(!world.at_origin(2).is_empty(), "the stranger is no source for them");
    assert!(!world.told(0).parents.contains(&"host2".into()));
    assert!(!world.told(1).parents.contains(&"host2".into()));
}

#[test]
fn a_strangers_word_about_the_length_counts_for_nothing_against_a_member() {
    let mut world = with_stranger(4, 3);
    world.hold(3, 5 * MIB);
    world.hold(0, 64 * MIB);
    world.begin(1, None);
    assert_eq!(world.told(1).total, Some(64 * MIB));
    assert!(world.told(1).parents.contains(&"host0".into()));
    let mut world = with_stranger(4, 3);
    world.hold(0, 64 * MIB);
    world.hold(3, 5 * MIB);
    world.begin(1, None);
    assert_eq!((world.told(1).total, world.told(1).parents), (Some(64 * MIB), vec!["host0".to_owned()]));
}

#[test]
fn of_those_that_take_nothing_without_proof_one_fetches_all_and_the_next_when_it_gets_nowhere() {
    let total = 256 * MIB;
    let mut world = World::new(4);
    for number in 0..4 {
        world.register(number, |register| {
            register.wants_proof = true;
            register.total = Some(total);
            register.have = Some(Pieces::all(count(total)));
            register.have.as_mut().unwrap().remove(number.into());
        });
    }
    let witnesses = |world: &World| -> Vec<u8> {
        (0..4).filter(|&number| world.told(number).origin == [0..u32::MAX]).collect()
    };
    assert_eq!(witnesses(&world).len(), 1, "though all claim to have nearly all");
    assert!((0..4).all(|number| world.told(number).parents.is_empty()), "nothing is proved");
    let first = witnesses(&world)[0];
    world.wait(10_000);
    let second = witnesses(&world);
    assert!(second.len() == 1 && second[0] != first);
    let mut here = progress(total, 0..count(total));
    if let Report::Progress { wants_proof, .. } = &mut here {
        *wants_proof = true;
    }
    world.report(second[0], here);
    world.report(second[0], Report::Finished);
    world.wait(3_000);
    let holder = format!("host{}", second[0]);
    let others = (0..4).filter(|number| *number != second[0]);
    assert!(others.clone().all(|number| world.told(number).parents == [holder.clone()]));
    assert!(witnesses(&world).iter().all(|number| *number == second[0]), "proof is there");
}

#[test]
fn who_is_accused_by_few_of_many_is_handed_out_still_and_who_was_banned_comes_back() {
    let total = 256 * MIB;
    let mut world = World::new(9);
    (0..8).for_each(|number| world.begin(number, Some(total)));
    world.wait(300);
    let with = |world: &World| (1..9).filter(|&at| world.told(at).parents.contains(&"host0".into())).count();
    assert_eq!(with(&world), 7);
    (1..4).for_each(|number| world.report(number, lost(total, [], 0, true)));
    world.wait(300);
    assert_eq!(with(&world), 4, "three of seven may slander");
    world.report(4, lost(total, [], 0, true));
    world.wait(300);
    assert_eq!(with(&world), 0, "more accuse it than ask it");
    assert_eq!(world.scheduler.banned(world.now).count(), 1);
    world.wait(121_000);
    world.act(|scheduler, now, _| scheduler.announce(host(0), now));
    assert_eq!(world.scheduler.banned(world.now).count(), 0);
    world.begin(8, Some(total));
    world.wait(3_000);
    assert!(world.told(8).parents.contains(&"host0".into()), "a newcomer gets it");
}

#[test]
fn what_is_only_held_costs_nothing_by_its_length() {
    let mut world = World::new(3);
    let counted = |world: &World| world.scheduler.swarms[0].as_ref().map(|(_, swarm)| swarm.counted());
    world.hold(0, 1 << 44);
    world.hold(1, 1 << 44);
    assert_eq!(counted(&world), Some(0));
    world.begin(2, Some(1 << 44));
    assert_eq!(counted(&world), Some(count(1 << 44) as usize));
}
