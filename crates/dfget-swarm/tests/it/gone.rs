//! Those that fetch from the registry for all go, and the scheduler with them.

use crate::sim::{Setup, World};

const MIB: u64 = 1 << 20;

/// So many nodes at 50 Mbit/s, as the registry has, pull an image of so many MiB.
fn small(nodes: usize, mib: u64, seed: u64) -> World {
    let rate = 6.25e6;
    let setup = Setup {
        origin: rate,
        up: rate,
        down: rate,
        origin_streams: 4,
        ..Setup::equal(nodes, mib * MIB, seed)
    };
    let mut world = World::new(setup);
    (0..nodes).for_each(|node| world.start(node));
    world
}

fn finish(what: &str, world: &mut World) -> f64 {
    let (seed, ideal) = (world.setup.seed, world.setup.ideal());
    let last = world.run(300.0).unwrap_or_else(|| panic!("{what}, seed {seed}: it does not end"));
    let copies = world.origin_ratio();
    println!(
        "{what}, seed {seed}: last {:.2} x ideal, {copies:.2} copies, {} went alone",
        last / ideal,
        world.gone_alone
    );
    copies
}

/// What happens as soon as the registry has sent so much of an image.
fn when_sent(world: &mut World, part: f64, mut act: impl FnMut(&mut World, usize)) {
    while world.origin_ratio() < part {
        let now = world.now;
        world.run_until(now + 0.02);
    }
    for node in world.fetchers() {
        act(world, node);
    }
}

#[test]
fn what_a_killed_node_was_to_fetch_one_other_fetches() {
    for (mib, seed) in [(12, 1), (12, 2), (12, 3), (64, 4), (64, 5)] {
        let mut world = small(10, mib, seed);
        when_sent(&mut world, 0.22, World::kill);
        let copies = finish(&format!("killed, {mib} MiB"), &mut world);
        assert!(copies <= 1.6, "{copies}");
    }
}

#[test]
fn what_a_vanished_node_was_to_fetch_one_other_fetches() {
    for (mib, seed) in [(12, 1), (12, 2), (12, 3), (64, 4), (64, 5)] {
        let mut world = small(10, mib, seed);
        let mut one = true;
        when_sent(&mut world, 0.22, |world, node| {
            if std::mem::take(&mut one) {
                world.vanish(node);
            }
        });
        let copies = finish(&format!("vanished, {mib} MiB"), &mut world);
        assert!(copies <= 1.6, "{copies}");
    }
}

#[test]
fn the_scheduler_and_those_that_fetch_may_die_at_once() {
    for (mib, seed) in [(12, 1), (12, 2), (12, 3), (64, 4), (64, 5)] {
        let mut world = small(10, mib, seed);
        when_sent(&mut world, 0.22, World::kill);
        world.replace_scheduler();
        let copies = finish(&format!("with the scheduler, {mib} MiB"), &mut world);
        assert!(copies <= 1.8, "{copies}");
    }
}
