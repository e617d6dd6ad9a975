//! What must come out right, whatever befalls the nodes.

use std::time::Duration;

use super::node::address;
use super::scene::{Scene, Setup};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn fifty_nodes_pull_one_content_and_the_registry_sends_it_once() {
    let mut scene = Scene::new(1, &Setup { nodes: 50, ..Setup::default() });
    scene.pull(1..=50);
    let took = scene.finish(1..=50, seconds(60));
    println!("the last node was done after {took:?}; the registry sent {:.3} x", scene.origin.share());
    assert!(scene.origin.share() <= 1.1, "{}", scene.origin.share());
}

#[test]
fn the_scheduler_of_a_task_is_killed_in_the_middle_and_comes_back() {
    let mut scene = Scene::new(2, &Setup { nodes: 16, ..Setup::default() });
    let scheduler = scene.scheduler();
    let others: Vec<u8> = (1..=16).filter(|number| *number != scheduler).collect();
    scene.pull(others.clone());
    scene.until("half of it is there", seconds(30), |scene| scene.origin.share() > 0.5);
    scene.kill(scheduler);
    scene.pass(seconds(2));
    scene.begin_anew(scheduler, false);
    scene.finish(others, seconds(60));
    scene.pass(seconds(5));
    println!("the registry sent {:.3} x", scene.origin.share());
    assert!(scene.origin.share() <= 1.5, "{}", scene.origin.share());
    // It knows who has the content: they have told it again.
    let before = scene.origin.share();
    scene.pull([scheduler]);
    scene.finish([scheduler], seconds(30));
    assert!(scene.origin.share() - before < 0.01, "{}", scene.origin.share() - before);
}

#[test]
fn halves_that_lose_each_other_each_finish_and_feed_each_other_afterwards() {
    let mut scene = Scene::new(3, &Setup { nodes: 13, ..Setup::default() });
    scene.pull(1..=12);
    scene.until("a part of it is there", seconds(30), |scene| scene.origin.share() > 0.3);
    scene.part(1..=6, 7..=13);
    scene.finish(1..=12, seconds(120));
    println!("the registry sent {:.3} x", scene.origin.share());
    // Twice or three times it, and more where the machine's threads are so slow that its disks seem to hang.
    assert!(scene.origin.share() <= 6.0, "{}", scene.origin.share());
    scene.join(1..=6, 7..=13);
    // Those that did not answer are asked again less and less often.
    scene.pass(seconds(20));
    // One that is on its own now would find nobody of its half.
    for number in 7..=12 {
        scene.kill(number);
    }
    let before = scene.origin.share();
    scene.pull([13]);
    scene.finish([13], seconds(60));
    assert!(scene.origin.share() - before < 0.01, "{}", scene.origin.share() - before);
}

#[test]
fn what_a_node_was_to_fetch_that_vanishes_is_fetched_by_few_of_the_others() {
    let mut scene = Scene::new(7, &Setup { nodes: 24, registry: 4 << 20, ..Setup::default() });
    let scheduler = scene.scheduler();
    let others: Vec<u8> = (1..=24).filter(|number| *number != scheduler).collect();
    scene.pull(others.clone());
    scene.until("a part of it is there", seconds(30), |scene| scene.origin.share() > 0.3);
    let fetches = |number: &&u8| scene.origin.has_fed(address(**number));
    let lost = *others.iter().find(fetches).unwrap();
    // No connection ends: nobody is told.
    scene.cut_off(lost);
    scene.finish(others.into_iter().filter(|number| *number != lost), seconds(60));
    println!("the registry sent {:.3} x", scene.origin.share());
    assert!(scene.origin.share() <= 5.5, "{}", scene.origin.share());
}

#[test]
fn nodes_that_are_killed_and_begin_anew_all_finish_with_their_stores_or_without() {
    let mut scene = Scene::new(4, &Setup { nodes: 12, registry: 2 << 20, ..Setup::default() });
    scene.pull(1..=12);
    let mut dead: Vec<u8> = Vec::new();
    for _ in 0..24 {
        let quiet = scene.random.u64(50..500);
        scene.pass(Duration::from_millis(quiet));
        let number = scene.random.u8(1..=12);
        match dead.iter().position(|other| *other == number) {
            Some(place) => {
                dead.swap_remove(place);
                let wiped = scene.random.bool();
                scene.begin_anew(number, wiped);
            }
            None if dead.len() < 4 => {
                scene.kill(number);
                dead.push(number);
            }
            None => {}
        }
    }
    for number in dead {
        scene.begin_anew(number, false);
    }
    scene.finish(1..=12, seconds(120));
    println!("the registry sent {:.3} x", scene.origin.share());
}

#[test]
fn slow_links_that_lose_their_connections_keep_nobody_from_finishing() {
    let setup = Setup { nodes: 10, latency: Duration::from_millis(80), ..Setup::default() };
    let mut scene = Scene::new(5, &setup);
    scene.pull(1..=10);
    for _ in 0..60 {
        let (one, other) = (scene.random.u8(1..=10), scene.random.u8(1..=10));
        if one != other {
            // What is on its way is lost for good, and nobody is told.
            scene.part(one..=one, other..=other);
            scene.pass(Duration::from_millis(20));
            scene.join(one..=one, other..=other);
        }
        scene.pass(Duration::from_millis(80));
    }
    scene.finish(1..=10, seconds(120));
    println!("the registry sent {:.3} x", scene.origin.share());
}

#[test]
fn a_node_that_comes_late_has_everything_from_the_others() {
    for is_scheduler in [false, true] {
        let mut scene = Scene::new(6, &Setup::default());
        // The others have not heard of it for long: they tell its successor what they hold.
        let late = if is_scheduler { scene.scheduler() } else { scene.scheduler() % 8 + 1 };
        let others: Vec<u8> = (1..=8).filter(|number| *number != late).collect();
        scene.kill(late);
        scene.pull(others.clone());
        scene.finish(others, seconds(60));
        let before = scene.origin.share();
        scene.pass(seconds(10));
        scene.begin_anew(late, true);
        scene.pull([late]);
        scene.finish([late], seconds(30));
        assert!(scene.origin.share() - before < 0.01, "{}", scene.origin.share() - before);
        scene.pass(seconds(1));
        let [peers, registry, _] = scene.node(late).exchanged();
        assert_eq!((peers, registry), (scene.origin.blob.len() as u64, 0));
    }
}
