//! Nodes, schedulers, links and stores that are lost: every pull ends right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::{Cluster, Reply};

use crate::support::{
    PIECE_PORT, PORT, dial, in_namespace, pull, put, scheduler_of, seal, setup, share_sent, until, until_sent,
};

/// The numbers of all nodes but this one.
fn all_but(cluster: &Cluster, left_out: usize) -> Vec<usize> {
    (1..=cluster.nodes.len()).filter(|number| *number != left_out).collect()
}

/// SIGKILL, from a thread that only borrows the cluster.
fn kill(cluster: &Cluster, node: usize) {
    cluster.node(node).daemon.send(dfget_testkit::daemon::Signal::KILL);
}

#[test]
fn a_parent_that_dies_in_the_middle_costs_no_pull() {
    in_namespace(|| {
        let cluster = setup(4).rates("100mbit", "50mbit").start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let before = cluster.network.sent(&cluster.node(1).place);
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 2..=4, &blob, &url));
            until_sent(&cluster, 1, before, 2 << 20);
            kill(&cluster, 1);
        });
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_parent_whose_cable_is_pulled_in_the_middle_costs_no_pull() {
    in_namespace(|| {
        let cluster = setup(3).rates("100mbit", "50mbit").start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let before = cluster.network.sent(&cluster.node(1).place);
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, 2..=3, &blob, &url));
            until_sent(&cluster, 1, before, 2 << 20);
            cluster.network.cut(&cluster.node(1).place);
        });
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_scheduler_that_dies_in_the_middle_costs_no_pull() {
    in_namespace(|| {
        let cluster = setup(5).rates("50mbit", "100mbit").start();
        let (blob, url) = put(&cluster, 16);
        let scheduler = scheduler_of(&cluster, &blob);
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, all_but(&cluster, scheduler), &blob, &url));
            let part = || cluster.registry.origin.body_bytes(&blob.digest) > 4 << 20;
            until("a part of the blob", || part().then_some(()));
            kill(&cluster, scheduler);
        });
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_scheduler_that_dies_before_anybody_knows_the_length_does_not_send_all_to_the_registry() {
    in_namespace(|| {
        let cluster = setup(7).rates("100mbit", "100mbit").start();
        let (blob, url) = put(&cluster, 12);
        let scheduler = scheduler_of(&cluster, &blob);
        let others = all_but(&cluster, scheduler);
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        cluster.registry.every_blob(move |answer| {
            until("the gate", || opened.load(Ordering::Acquire).then_some(()));
            Reply::Answer(answer)
        });
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, others.clone(), &blob, &url));
            let waiting = |number: &usize| {
                cluster.node(*number).metric("dragonfly_dfdaemon_proxy_request_via_dragonfly_total")
            };
            until("all to ask", || others.iter().all(|node| waiting(node) > Some(0.0)).then_some(()));
            until("one to lead", || {
                (!cluster.registry.origin.asked("GET", &blob.digest).is_empty()).then_some(())
            });
            kill(&cluster, scheduler);
            gate.store(true, Ordering::Release);
        });
        let share = share_sent(&cluster, &blob);
        assert!(share < 3.0, "{share}\n{}", cluster.logs());
    });
}

#[test]
fn a_scheduler_that_comes_back_learns_who_has_what() {
    in_namespace(|| {
        let mut cluster = setup(4).start();
        let (blob, url) = put(&cluster, 8);
        let scheduler = scheduler_of(&cluster, &blob);
        let others = all_but(&cluster, scheduler);
        pull(&cluster, [others[0]], &blob, &url);
        cluster.node_mut(scheduler).daemon.kill();
        cluster.node_mut(scheduler).daemon.start_again();
        // Nothing is sent by the registry any more: this can only come to pass when the holder has told it again.
        seal(&cluster);
        until("the scheduler to know the holder", || {
            let answer = cluster.node(others[1]).get(&url);
            (answer.status == 200 && answer.is_complete()).then_some(())
        });
        pull(&cluster, others, &blob, &url);
    });
}

#[test]
fn a_cluster_in_halves_pulls_in_each_and_whole_again_together() {
    in_namespace(|| {
        let cluster = setup(6).rates("100mbit", "100mbit").start();
        let (blob, url) = put(&cluster, 16);
        let places: Vec<_> = cluster.nodes.iter().map(|node| &node.place).collect();
        thread::scope(|scope| {
            scope.spawn(|| pull(&cluster, [1, 2, 4, 5], &blob, &url));
            let part = || cluster.registry.origin.body_bytes(&blob.digest) > 4 << 20;
            until("a part of the blob", || part().then_some(()));
            cluster.network.part(&places[..3], &places[3..]);
        });
        pull(&cluster, [3, 6], &blob, &url);
        share_sent(&cluster, &blob);
        cluster.network.heal();
        let other = dfget_testkit::Blob::random(16 << 20, 33);
        let url = cluster.registry.put("public/other", &other);
        pull(&cluster, 1..=6, &other, &url);
        share_sent(&cluster, &other);
    });
}

#[test]
fn the_only_holder_killed_and_wiped_is_no_holder() {
    in_namespace(|| {
        let mut cluster = setup(4).start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [2], &blob, &url);
        cluster.node_mut(2).daemon.kill();
        cluster.node_mut(2).daemon.wipe();
        pull(&cluster, [1], &blob, &url);
        cluster.node_mut(2).daemon.start_again();
        pull(&cluster, 1..=4, &blob, &url);
    });
}

#[test]
fn the_only_holder_killed_and_wiped_in_the_middle_costs_no_pull_not_even_its_own() {
    in_namespace(|| {
        let mut cluster = setup(4).rates("100mbit", "50mbit").start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, [1], &blob, &url);
        let before = cluster.network.sent(&cluster.node(1).place);
        let (network, registry) = (&cluster.network, &cluster.registry);
        let [holder, others @ ..] = cluster.nodes.as_mut_slice() else { panic!("there are four") };
        thread::scope(|scope| {
            for node in others {
                let (url, digest) = (&url, &blob.digest);
                scope.spawn(move || assert_all_right(&[node.get(url)], digest));
            }
            let sent = || network.sent(&holder.place) > before + (2 << 20);
            until("bytes of the holder", || sent().then_some(()));
            holder.daemon.kill();
            holder.daemon.wipe();
            holder.daemon.start_again();
            assert_all_right(&[holder.get(&url)], &blob.digest);
        });
        let sent = registry.origin.body_bytes(&blob.digest) as f64 / blob.len() as f64;
        // Once for the holder at first, and then no more than a node alone would have asked for each.
        assert!(sent <= 3.0, "the registry sent {sent} x the blob\n{}", cluster.logs());
    });
}

#[test]
fn four_holders_that_come_back_with_nothing_are_no_holders() {
    in_namespace(|| {
        let mut cluster = setup(8).rates("400mbit", "400mbit").start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, 1..=4, &blob, &url);
        for number in 1..=4 {
            let daemon = &mut cluster.node_mut(number).daemon;
            daemon.kill();
            daemon.wipe();
        }
        for number in 1..=4 {
            cluster.node_mut(number).daemon.start_again();
        }
        pull(&cluster, 1..=8, &blob, &url);
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_daemon_that_restarts_just_after_serving_has_its_ports_at_once() {
    in_namespace(|| {
        let mut cluster = setup(3).start();
        let (blob, url) = put(&cluster, 8);
        pull(&cluster, [1], &blob, &url);
        pull(&cluster, [2], &blob, &url);
        for killed in [false, true] {
            let daemon = &mut cluster.node_mut(1).daemon;
            if killed {
                daemon.kill();
            } else {
                daemon.stop();
            }
            daemon.start_again();
            for port in [PORT, PIECE_PORT] {
                let dialled = || dial(cluster.node(3), cluster.node(1), port).ok();
                until("the port of a restarted daemon", dialled);
            }
        }
        // And what it has is known again: the other holder is gone, and the registry sends nothing.
        cluster.node_mut(2).daemon.kill();
        seal(&cluster);
        until("the others to know the holder", || {
            let answer = cluster.node(3).get(&url);
            (answer.status == 200 && answer.is_complete()).then_some(())
        });
        pull(&cluster, [3], &blob, &url);
    });
}

#[test]
fn alone_in_the_dark_a_node_goes_to_the_registry() {
    in_namespace(|| {
        let cluster = setup(5).start();
        let (blob, url) = put(&cluster, 8);
        pull(&cluster, [2], &blob, &url);
        for number in 2..=5 {
            cluster.network.cut(&cluster.node(number).place);
        }
        pull(&cluster, [1], &blob, &url);
        assert!(share_sent(&cluster, &blob) >= 1.9);
        for number in 2..=5 {
            cluster.network.join(&cluster.node(number).place);
        }
        pull(&cluster, 1..=5, &blob, &url);
    });
}
