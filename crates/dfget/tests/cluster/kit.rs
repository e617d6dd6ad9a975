//! The network of the tests does what it says, without any cluster.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::{Network, Place};

use crate::apptainer::{pull_image, push_image};
use crate::support::{MIB, in_namespace, pull, put, setup, share_sent, until_sent};

/// Whether a connection from one to the other can be made within a second.
fn reaches(from: &Place, to: &Place) -> bool {
    let listener = to.within(|| TcpListener::bind((to.address(), 0))).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    from.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).is_ok()
}

/// Seconds in which so many bytes go from one to the other.
fn seconds(from: &Place, to: &Place, bytes: usize) -> f64 {
    let listener = to.within(|| TcpListener::bind((to.address(), 0))).expect("a port is free");
    let address: SocketAddr = listener.local_addr().expect("it is bound");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all.len())
    });
    let began = Instant::now();
    let mut stream = from.within(|| TcpStream::connect(address)).expect("it listens");
    stream.write_all(&vec![0; bytes]).expect("it reads");
    drop(stream);
    assert_eq!(receiver.join().expect("it ends").expect("it reads"), bytes);
    began.elapsed().as_secs_f64()
}

#[test]
fn nodes_reach_each_other_unless_parted_or_cut() {
    in_namespace(|| {
        let network = Network::new(3, None, None);
        let [one, two, three] = [0, 1, 2].map(|index| &network.nodes[index]);
        assert!(reaches(one, two) && reaches(two, one) && reaches(one, &network.origin));
        network.part(&[one, two], &[three]);
        assert!(reaches(one, two) && !reaches(one, three) && !reaches(three, two));
        assert!(reaches(three, &network.origin) && reaches(one, &network.origin));
        network.part(&[three], &[&network.origin]);
        assert!(!reaches(three, &network.origin));
        network.heal();
        assert!(reaches(one, three) && reaches(three, two) && reaches(three, &network.origin));
        network.cut(two);
        assert!(!reaches(one, two) && !reaches(two, three));
        network.join(two);
        assert!(reaches(one, two));
    });
}

#[test]
fn links_have_the_rates_that_they_were_given() {
    in_namespace(|| {
        let network = Network::new(2, Some("80mbit"), Some("800mbit"));
        let [one, two] = [&network.nodes[0], &network.nodes[1]];
        let before = network.sent(one);
        let fast = seconds(one, two, 4 * MIB);
        assert!(network.sent(one) >= before + 4 * MIB as u64);
        let slow = seconds(&network.origin, one, 4 * MIB);
        network.set_rate(one, Some("8mbit"));
        let slower = seconds(one, two, MIB);
        eprintln!("4 MiB at 800 and 80 Mbit/s: {fast:.2} s, {slow:.2} s; 1 MiB at 8 Mbit/s: {slower:.2} s");
        // A shaper may let through less than it should, never more than its bucket besides.
        let least = |bytes: usize, megabits: usize| (bytes - MIB / 2) as f64 * 8.0 / (megabits as f64 * 1e6);
        assert!(slow > least(4 * MIB, 80) && slower > least(MIB, 8));
    });
}

#[test]
fn daemons_without_a_cluster_pull_each_for_itself_and_the_registry_counts_it() {
    in_namespace(|| {
        let mut cluster = setup(2).alone().start();
        let (blob, url) = put(&cluster, 4);
        let origin = &cluster.network.origin;
        let before = cluster.network.sent(origin);
        pull(&cluster, [1, 2], &blob, &url);
        assert_eq!(cluster.registry.origin.body_bytes(&blob.digest), 2 * blob.len() as u64);
        assert!(cluster.network.sent(origin) > before + 2 * blob.len() as u64);
        until_sent(&cluster, 1, 0, 1);
        assert!(cluster.node(1).metric("dragonfly_dfdaemon_proxy_request_total").is_some());

        cluster.node_mut(1).daemon.kill();
        cluster.node_mut(1).daemon.wipe();
        cluster.node_mut(1).daemon.start_again();
        assert_all_right(&[cluster.node(1).get(&url)], &blob.digest);
        assert!(share_sent(&cluster, &blob) > 2.9);
        assert_all_right(&[cluster.node(2).get(&url)], &blob.digest);
        assert!(share_sent(&cluster, &blob) < 3.1);
    });
}

#[test]
fn apptainer_pulls_on_a_node_from_the_registry_at_the_origin() {
    in_namespace(|| {
        let cluster = setup(2).alone().start();
        let (image, reference) = push_image(&cluster);
        pull_image(&cluster, &image, &reference);
    });
}
