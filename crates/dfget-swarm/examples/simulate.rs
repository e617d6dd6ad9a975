//! Prints how swarms of many nodes do: `simulate [NODES TOTAL_MIB [SEED]] [NAME=VALUE]…`, or a table of all.
//! `wrong`, `missing`, `silent`, `mute`, `forged`, `perjured`, `turncoat` or `slanderer` with a number n makes every n-th
//! node a liar of that kind. The variable `TRACE` shows how each node stands meanwhile.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a simulation reckons in floating point, and prints"
)]

#[path = "../tests/it/sim/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod sim;

use std::time::Instant;

use sim::{Manner, Setup, World};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    let sets: Vec<(usize, u64)> = if arguments.is_empty() {
        vec![(16, 256), (200, 256), (1_000, 256), (1_000, 10_000)]
    } else {
        vec![(number(0, 16) as usize, number(1, 256))]
    };
    for (nodes, mib) in sets {
        let mut setup = Setup::equal(nodes, mib << 20, number(2, 1));
        let mut liars = None;
        for pair in &arguments {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value: f64 = value.parse().unwrap();
            match name {
                "patience" => setup.patience = value,
                "uploads" => setup.uploads = value as usize,
                "asked" => setup.picker.most_asked = value as usize,
                "one" => setup.picker.most_at_one = value as usize,
                "parents" => setup.scheduler.most_parents = value as usize,
                "origins" => setup.scheduler.most_at_origin = value as usize,
                "streams" => setup.origin_streams = value as usize,
                "links" => (setup.up, setup.down) = (setup.origin * value, setup.origin * value),
                "wrong" => liars = Some((Manner::Wrong, value as usize)),
                "missing" => liars = Some((Manner::Missing, value as usize)),
                "silent" => liars = Some((Manner::Silent, value as usize)),
                "mute" => liars = Some((Manner::Mute, value as usize)),
                "turncoat" => liars = Some((Manner::Turncoat, value as usize)),
                "slanderer" => liars = Some((Manner::Slanderer, value as usize)),
                "perjured" => liars = Some((Manner::Perjured, value as usize)),
                "forged" => liars = Some((Manner::Forged, value as usize)),
                _ => {}
            }
        }
        run(setup, liars);
    }
}

fn run(setup: Setup, liars: Option<(Manner, usize)>) {
    let begin = Instant::now();
    let (nodes, ideal, seed) = (setup.nodes, setup.ideal(), setup.seed);
    let mut world = World::new(setup);
    if let Some((manner, each)) = liars {
        (0..nodes).step_by(each).for_each(|node| world.nodes[node].manner = manner);
    }
    (0..nodes).for_each(|node| world.start(node));
    if std::env::var_os("TRACE").is_some() {
        for turn in 1..60 {
            world.run_until(ideal * f64::from(turn) * 0.25);
            let mut generations = [0; 6];
            let (mut done, mut tainted, mut alone, mut proof) = (0, 0, 0, 0);
            for n in world.nodes.iter().filter(|n| n.manner.pulls()) {
                generations[n.trust.round().min(5) as usize] += 1;
                done += u32::from(n.done.is_some());
                tainted += u32::from(!n.tainted.is_empty());
                alone += u32::from(n.alone);
                proof += u32::from(n.trust.wants_proof());
            }
            let caught: std::collections::BTreeSet<_> =
                world.nodes.iter().flat_map(|n| n.banned.clone()).collect();
            println!(
                "{turn}: generations {generations:?} done {done} tainted {tainted} caught by any {} origin {:.2} banned {} alone {alone} proof {proof} settled {}",
                caught.len(),
                world.origin_ratio(),
                world.banned_hosts().len(),
                world.settled
            );
            if world.all_done() {
                break;
            }
        }
    }
    let last = world.run(ideal * 20.0);
    let mut done: Vec<f64> = world.nodes.iter().filter_map(|node| node.done).collect();
    done.sort_by(f64::total_cmp);
    let last_or_now = last.unwrap_or(world.now);
    let cpu = world.cpu.as_secs_f64() / last_or_now / (nodes as f64 / 1000.0);
    println!(
        "{nodes} nodes, {} MiB, seed {seed}: last {:.3} x ideal{}, median {:.3}, first {:.3}; origin {:.3} x until {:.3}, {} went alone, {} settled; \
         scheduler {:.2} % of a core per 1,000 peers, {} calls, {} orders; pickers {:.2} s; {} events in {:.1} s",
        world.setup.total >> 20,
        last_or_now / ideal,
        if last.is_some() { "" } else { " NOT DONE" },
        done.get(done.len() / 2).copied().unwrap_or(0.0) / ideal,
        done.first().copied().unwrap_or(0.0) / ideal,
        world.origin_ratio(),
        world.origin_end_at / ideal,
        world.gone_alone,
        world.settled,
        cpu * 100.0,
        world.calls,
        world.orders,
        world.picker_cpu.as_secs_f64(),
        world.events,
        begin.elapsed().as_secs_f64()
    );
}
