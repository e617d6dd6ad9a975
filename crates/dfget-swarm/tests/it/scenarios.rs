//! What must hold of a swarm, whatever happens in it. Time is that of the simulation, the same on every machine.

use crate::sim::{Manner, Setup, World};

const MIB: u64 = 1 << 20;

fn swarm(setup: Setup) -> World {
    let mut world = World::new(setup);
    (0..world.setup.nodes).for_each(|node| world.start(node));
    world
}

/// Runs to the end; how many times the ideal the last node took.
fn finish(world: &mut World, limit: f64) -> f64 {
    let seed = world.setup.seed;
    let ideal = world.setup.ideal();
    let Some(last) = world.run(limit) else {
        let left: Vec<usize> =
            (0..world.nodes.len()).filter(|&node| world.nodes[node].done.is_none()).collect();
        panic!("seed {seed}: after {limit} s not done: {left:?}");
    };
    println!("seed {seed}: last node {:.3} x ideal, origin {:.3} x", last / ideal, world.origin_ratio());
    last / ideal
}

#[test]
fn sixteen_nodes_with_the_link_of_the_origin() {
    for seed in 1..4 {
        let mut world = swarm(Setup::equal(16, 256 * MIB, seed));
        let ratio = finish(&mut world, 200.0);
        assert!(ratio <= 1.2 && world.origin_ratio() <= 1.02, "seed {seed}: {ratio}");
    }
}

#[test]
fn sixteen_nodes_with_ten_times_the_link_of_the_origin() {
    for seed in 1..4 {
        let mut world = swarm(Setup { up: 125e6, down: 125e6, ..Setup::equal(16, 256 * MIB, seed) });
        let ratio = finish(&mut world, 200.0);
        assert!(ratio <= 1.08 && world.origin_ratio() <= 1.02, "seed {seed}: {ratio}");
    }
}

#[test]
fn two_hundred_nodes_with_the_link_of_the_origin() {
    let mut world = swarm(Setup::equal(200, 256 * MIB, 5));
    let ratio = finish(&mut world, 200.0);
    assert!(ratio <= 1.4 && world.origin_ratio() <= 1.05, "{ratio}");
}

#[test]
fn a_late_sixteenth_node_asks_nothing_of_the_origin() {
    let mut world = World::new(Setup::equal(16, 256 * MIB, 6));
    (1..16).for_each(|node| world.start_full(node));
    world.run_until(1.0);
    world.start(0);
    let ratio = finish(&mut world, 100.0);
    assert!(ratio <= 1.11 && world.origin_sent == 0.0, "{ratio}");
}

#[test]
fn nodes_that_come_one_after_the_other() {
    let mut world = World::new(Setup::equal(60, 128 * MIB, 7));
    for node in 0..60 {
        world.start(node);
        world.run_until(node as f64 * 0.5);
    }
    finish(&mut world, 200.0);
    assert!(world.origin_ratio() <= 1.05, "{}", world.origin_ratio());
    let slowest = world.nodes.iter().map(|node| node.done.unwrap() - node.started).fold(0.0, f64::max);
    assert!(slowest <= world.setup.ideal() * 2.6, "{slowest}");
}

#[test]
fn a_small_object_is_sent_by_the_origin_at_most_three_times() {
    for (seed, total) in [(8, 4 * MIB), (9, 100_000), (10, 3 * MIB)] {
        let mut world = swarm(Setup::equal(1_000, total, seed));
        finish(&mut world, 60.0);
        assert!(world.origin_times.iter().all(|&times| times <= 3), "seed {seed}: {:?}", world.origin_times);
    }
}

#[test]
fn thirty_in_a_hundred_leave_each_minute_and_others_come() {
    let mut setup = Setup::equal(200, 256 * MIB, 11);
    setup.nodes = 300;
    let mut world = World::new(setup);
    (0..200).for_each(|node| world.start(node));
    let mut random = fastrand::Rng::with_seed(11);
    for turn in 0..100 {
        world.run_until(f64::from(turn + 1) * 1.0);
        world.kill(random.usize(..200));
        if turn < 100 {
            world.start(200 + turn as usize);
        }
    }
    finish(&mut world, 300.0);
    assert!(world.origin_ratio() <= 1.3, "{}", world.origin_ratio());
}

#[test]
fn a_swarm_that_is_split_and_healed_asks_the_origin_once_a_side_at_most() {
    for seed in 12..15 {
        let mut world = swarm(Setup::equal(40, 256 * MIB, seed));
        world.run_until(8.0);
        (0..40).filter(|node| node % 2 == 1).for_each(|node| world.nodes[node].side = 1);
        world.split();
        world.run_until(16.0);
        world.heal();
        finish(&mut world, 200.0);
        assert!(world.origin_ratio() <= 1.5, "seed {seed}: {}", world.origin_ratio());
    }
}

#[test]
fn one_node_with_a_hundredth_of_the_link_holds_nobody_back() {
    let mut world = World::new(Setup::equal(16, 256 * MIB, 15));
    world.link(0, 125e3, 125e3);
    (0..16).for_each(|node| world.start(node));
    world.run_until(200.0);
    let last = world.nodes[1..].iter().map(|node| node.done.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    println!(
        "last of the others {:.3} x ideal, origin {:.3} x",
        last / world.setup.ideal(),
        world.origin_ratio()
    );
    assert!(last <= world.setup.ideal() * 2.2, "{last}");
    assert!(world.origin_ratio() <= 1.1);
}

#[test]
fn the_only_holder_is_killed_and_wiped() {
    let mut world = World::new(Setup::equal(5, 256 * MIB, 16));
    world.start_full(0);
    world.run_until(1.0);
    (1..5).for_each(|node| world.start(node));
    world.run_until(6.0);
    let before: u32 = (1..5).map(|node| world.have(node)).sum();
    assert!(before > 0 && world.origin_sent == 0.0);
    world.kill(0);
    world.run_until(7.0);
    assert!(world.origin_times.iter().sum::<u32>() >= 4, "the origin is asked within a second");
    finish(&mut world, 200.0);
    assert!(world.origin_ratio() <= 1.0);
}

#[test]
fn four_holders_come_back_with_empty_stores_before_eight_pull() {
    let mut world = World::new(Setup::equal(12, 128 * MIB, 17));
    (0..4).for_each(|node| world.start_full(node));
    world.run_until(1.0);
    (0..4).for_each(|node| world.kill(node));
    world.run_until(1.1);
    (0..12).for_each(|node| world.start(node));
    finish(&mut world, 200.0);
    assert!(world.origin_ratio() <= 1.02, "{}", world.origin_ratio());
}

#[test]
fn a_scheduler_that_knows_nothing_learns_all_from_those_who_come_to_it() {
    let mut world = swarm(Setup::equal(100, 256 * MIB, 18));
    world.run_until(10.0);
    world.replace_scheduler();
    let ratio = finish(&mut world, 200.0);
    assert!(ratio <= 2.6 && world.origin_ratio() <= 1.1, "{ratio}, {}", world.origin_ratio());
}

#[test]
fn a_fifth_that_lies_in_whatever_way_does_not_stop_the_rest() {
    let rest = {
        let mut world = swarm(Setup::equal(160, 256 * MIB, 19));
        finish(&mut world, 400.0)
    };
    for manner in [Manner::Wrong, Manner::Missing, Manner::Silent, Manner::Forged] {
        let mut world = World::new(Setup::equal(200, 256 * MIB, 20));
        (0..200).filter(|node| node % 5 == 0).for_each(|node| world.nodes[node].manner = manner);
        (0..200).for_each(|node| world.start(node));
        let ratio = finish(&mut world, 400.0);
        let worst = world.nodes.iter().map(|node| most_from_one(&node.bad)).max().unwrap_or(0);
        println!("{manner:?}: {:.3} of the speed without, at most {worst} bad from one", rest / ratio);
        // What is forged by those that say they have all is found out when all is there, and is fetched once more.
        let least = if manner == Manner::Forged { 0.5 } else { 0.8 };
        assert!(rest / ratio >= least, "{manner:?}: {ratio} beside {rest}");
        assert!(worst <= 3 || manner == Manner::Forged, "{manner:?}");
        assert!(world.origin_ratio() <= 1.1, "{manner:?}: {}", world.origin_ratio());
    }
}

#[test]
fn forged_pieces_cost_the_origin_no_more_than_one_copy_and_blame_nobody_who_is_honest() {
    for (nodes, manner) in
        [(4, Manner::Forged), (4, Manner::Perjured), (16, Manner::Forged), (16, Manner::Perjured)]
    {
        for seed in 21..23 {
            let mut world = World::new(Setup::equal(nodes, 256 * MIB, seed));
            world.nodes[0].manner = manner;
            (0..nodes).for_each(|node| world.start(node));
            let ratio = finish(&mut world, 400.0);
            println!("{nodes} nodes, {manner:?}: {ratio:.3} x ideal");
            assert!(
                world.origin_ratio() <= 1.1,
                "{nodes} nodes, {manner:?}, seed {seed}: {}",
                world.origin_ratio()
            );
            let banned = world.nodes.iter().flat_map(|node| &node.banned);
            assert!(banned.into_iter().all(|&host| host == 0));
            let caught = world.nodes[1..].iter().filter(|node| node.banned.contains(&0)).count();
            assert!(manner != Manner::Perjured || caught >= 2, "{caught} found it out");
        }
    }
}

fn most_from_one(bad: &[usize]) -> usize {
    bad.iter().map(|one| bad.iter().filter(|other| *other == one).count()).max().unwrap_or(0)
}
