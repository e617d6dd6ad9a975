//! The nodes and the registry, and what befalls them.

use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::ClusterKey;
use dfget_proto::Ring;
use dfget_testkit::Blob;
use tempfile::TempDir;
use turmoil::{Builder, Sim};

use super::network::Turmoil;
use super::node::{Node, REGISTRY, address};
use super::origin::Origin;

/// What a simulation begins with.
pub(super) struct Setup {
    pub(super) nodes: u8,
    /// Length of the blob in bytes.
    pub(super) length: usize,
    /// Bytes a second that the registry sends.
    pub(super) registry: u64,
    /// Bytes a second that each node sends.
    pub(super) uplink: u64,
    /// The longest that a message is on its way.
    pub(super) latency: Duration,
}

/// A running simulation. Dropped in a panic, it tells its seed.
pub(super) struct Scene {
    pub(super) sim: Sim<'static>,
    pub(super) origin: Arc<Origin>,
    /// Node number n is at n - 1.
    pub(super) nodes: Vec<Arc<Node>>,
    /// For what befalls whom.
    pub(super) random: fastrand::Rng,
    seed: u64,
    _network: dfget_net::Simulation,
    _place: TempDir,
}

/// The time that passes at once: no message is faster.
const TICK: Duration = Duration::from_millis(5);

// === impl Setup ===

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 8,
            length: 8 << 20,
            registry: 8 << 20,
            uplink: 32 << 20,
            latency: Duration::from_millis(10),
        }
    }
}

// === impl Scene ===

impl Scene {
    /// All nodes run, and nobody pulls yet.
    pub(super) fn new(seed: u64, setup: &Setup) -> Self {
        let seed = std::env::var("DFGET_SEED").map_or(seed, |text| text.parse().unwrap());
        fastrand::seed(seed);
        let network = dfget_net::simulate(Turmoil);
        // In memory if possible: nothing here is about disks, and all stores are made durable often.
        let place = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let key = place.path().join("cluster.key");
        std::fs::write(&key, ClusterKey::generate().unwrap().to_text().as_bytes()).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let mut sim = Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(setup.latency)
            .tcp_capacity(512)
            .build();
        let origin = Arc::new(Origin::new(Blob::random(setup.length, seed), setup.registry));
        let registry = Arc::clone(&origin);
        sim.host(REGISTRY, move || Arc::clone(&registry).serve());
        let node = |number| {
            let node = Node::new(number, setup.nodes, place.path(), setup.uplink, Arc::clone(&origin));
            let node = Arc::new(node);
            let runs = Arc::clone(&node);
            sim.host(address(number), move || Arc::clone(&runs).run());
            node
        };
        let nodes = (1..=setup.nodes).map(node).collect();
        let random = fastrand::Rng::with_seed(seed);
        let mut scene = Self { sim, origin, nodes, random, seed, _network: network, _place: place };
        scene.pass(Duration::from_millis(500));
        scene
    }

    pub(super) fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// So much time goes by.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.sim.step().unwrap();
        }
    }

    /// Time goes by until something holds; the time that it took.
    pub(super) fn until(&mut self, what: &str, within: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.sim.elapsed();
        while !holds(self) {
            let took = self.sim.elapsed() - begun;
            assert!(took < within, "not within {within:?}: {what}: {}", self.state());
            self.sim.step().unwrap();
        }
        self.sim.elapsed() - begun
    }

    /// These nodes' clients begin to pull.
    pub(super) fn pull(&self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.node(number).pull.send_replace(true);
        }
    }

    /// Waits until these nodes' clients have all of the blob, and no wrong byte; the time that it took.
    pub(super) fn finish(&mut self, numbers: impl IntoIterator<Item = u8>, within: Duration) -> Duration {
        let numbers: Vec<u8> = numbers.into_iter().collect();
        let took = self.until("all pulls end", within, |scene| {
            numbers.iter().all(|number| scene.node(*number).outcome().is_some())
        });
        for number in numbers {
            assert_eq!(self.node(number).outcome(), Some(Ok(())), "node {number}: {}", self.state());
        }
        took
    }

    /// The daemon of a node is killed.
    pub(super) fn kill(&mut self, number: u8) {
        self.sim.crash(address(number));
    }

    /// It begins anew, over its old store or an empty one.
    pub(super) fn begin_anew(&mut self, number: u8, wiped: bool) {
        self.node(number).next_life(wiped);
        self.sim.bounce(address(number));
    }

    /// These two groups do not reach each other any more. What is between them is lost: unlike the
    /// system's, these connections send nothing again, and are dead from then on, untold.
    pub(super) fn part(&self, these: RangeInclusive<u8>, those: RangeInclusive<u8>) {
        let pairs = these.flat_map(|one| those.clone().map(move |other| (one, other)));
        pairs.for_each(|(one, other)| self.sim.partition(address(one), address(other)));
    }

    /// This node reaches nobody, and is reached by nobody, as in [`Self::part`].
    pub(super) fn cut_off(&self, number: u8) {
        let others = (1..).zip(&self.nodes).map(|(other, _)| other).filter(|other| *other != number);
        others.for_each(|other| self.sim.partition(address(number), address(other)));
        self.sim.partition(address(number), REGISTRY);
    }

    /// They do again, by new connections.
    pub(super) fn join(&self, these: RangeInclusive<u8>, those: RangeInclusive<u8>) {
        let pairs = these.flat_map(|one| those.clone().map(move |other| (one, other)));
        pairs.for_each(|(one, other)| self.sim.repair(address(one), address(other)));
    }

    /// The node that schedules the blob's task.
    pub(super) fn scheduler(&self) -> u8 {
        let name = |node: &Arc<Node>| format!("{}:65000", address(node.number));
        let ring = Ring::new(self.nodes.iter().map(name));
        let task = self.origin.blob.digest.trim_start_matches("sha256:");
        let first = ring.order(task).next().unwrap().to_owned();
        self.nodes.iter().find(|node| name(node) == first).unwrap().number
    }

    fn state(&self) -> String {
        let of = |node: &Arc<Node>| {
            let [peers, origin, _] = node.exchanged();
            let how = match node.outcome() {
                None if *node.pull.borrow() => "pulls".to_owned(),
                None => "waits".to_owned(),
                Some(Ok(())) => "done".to_owned(),
                Some(Err(error)) => error,
            };
            format!("{}: {how}, {peers} from peers, {origin} from the registry", node.number)
        };
        let nodes: Vec<String> = self.nodes.iter().map(of).collect();
        format!("the registry sent {:.3} x\n{}", self.origin.share(), nodes.join("\n"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("simulated with DFGET_SEED={} for {:?}", self.seed, self.sim.elapsed());
        }
    }
}
