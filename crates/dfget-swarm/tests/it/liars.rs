//! Up to half of the nodes lie, together: each pull of the others ends right, after a bounded time, and for a bounded
//! number of copies from the registry. What is wrong is never taken for right in the simulation (see `World::check`).

use crate::sim::{Manner, Setup, World};

const MIB: u64 = 1 << 20;

/// So many nodes, of which each `each`th lies.
fn lying(nodes: usize, each: usize, manner: Manner, seed: u64) -> World {
    let mut world = World::new(Setup::equal(nodes, 128 * MIB, seed));
    (0..nodes).step_by(each).for_each(|node| world.nodes[node].manner = manner);
    (0..nodes).for_each(|node| world.start(node));
    world
}

/// How many times as long as the same swarm takes when nobody lies, and how many copies the registry sends.
fn cost(nodes: usize, each: usize, manner: Manner, seed: u64) -> (f64, f64, World) {
    let mut honest = World::new(Setup::equal(nodes, 128 * MIB, seed));
    (0..nodes).for_each(|node| honest.start(node));
    let usual = honest.run(500.0).expect("an honest swarm ends");
    let mut world = lying(nodes, each, manner, seed);
    let Some(last) = world.run(usual * 40.0) else {
        panic!("{nodes} nodes, each {each}th {manner:?}, seed {seed}: a pull does not end");
    };
    let (times, copies) = (last / usual, world.origin_ratio());
    println!(
        "{nodes} nodes, each {each}th {manner:?}, seed {seed}: {times:.2} x as long, {copies:.2} copies, {} settled",
        world.settled
    );
    (times, copies, world)
}

/// Small and large swarms, and how many of them lie: a fifth or a quarter, and half.
const SWARMS: [(usize, usize); 5] = [(4, 2), (16, 4), (16, 2), (60, 5), (60, 2)];

#[test]
fn who_swears_to_wrong_bytes_together_with_others_costs_one_more_download() {
    for manner in [Manner::Perjured, Manner::Mute, Manner::Forged] {
        for (at, (nodes, each)) in SWARMS.into_iter().enumerate() {
            let (times, copies, world) = cost(nodes, each, manner, 31 + at as u64);
            assert!(times <= 3.0, "{times}");
            assert!(copies <= 1.6, "{copies}");
            blames_liars_only(&world);
        }
    }
}

#[test]
fn who_says_again_and_again_to_have_begun_anew_is_believed_twice_and_then_one_fetches_for_all() {
    for (at, (nodes, each)) in SWARMS.into_iter().enumerate() {
        let (times, copies, world) = cost(nodes, each, Manner::Turncoat, 41 + at as u64);
        assert!(times <= 6.5, "{times}");
        assert!(copies <= 4.0, "{copies}");
        blames_liars_only(&world);
    }
}

#[test]
fn slander_talks_nobody_out_of_the_swarm_for_long() {
    for (at, (nodes, each)) in SWARMS.into_iter().enumerate() {
        let (times, copies, mut world) = cost(nodes, each, Manner::Slanderer, 51 + at as u64);
        assert!(times <= 3.0, "{times}");
        assert!(copies <= 2.2, "{copies}");
        let banned = world.banned_hosts().len();
        assert!(each == 2 || banned == 0, "{banned} are banned by a minority's word");
        world.run_until(world.now + 130.0);
        assert!(world.banned_hosts().is_empty(), "after two minutes nobody is, who was so once");
    }
}

#[test]
fn a_node_alone_among_liars_does_not_wait_for_a_witness() {
    // All that tell the others to fetch are liars: whoever is to fetch for all does nothing.
    let mut world = lying(8, 1, Manner::Turncoat, 61);
    world.nodes[3].manner = Manner::Honest;
    world.kill(3);
    world.start(3);
    let ideal = world.setup.ideal();
    let last = world.run(ideal * 60.0).expect("it ends");
    println!("alone among liars: {:.2} x ideal, {:.2} copies", last / ideal, world.origin_ratio());
    assert!(world.origin_ratio() <= 1.2, "{}", world.origin_ratio());
    assert!(last <= ideal * 15.0, "{last}");
}

/// Only those that lie are left for good by those that found them out, and the scheduler bans no other.
fn blames_liars_only(world: &World) {
    let honest = |host: &&usize| world.nodes[**host].manner == Manner::Honest;
    let blamed: Vec<usize> =
        world.nodes.iter().flat_map(|node| &node.banned).filter(honest).copied().collect();
    assert!(blamed.is_empty(), "blamed: {blamed:?}");
    let banned: Vec<usize> = world.banned_hosts().iter().filter(honest).copied().collect();
    assert!(banned.is_empty(), "banned: {banned:?}");
}
