//! A cluster: a daemon on each node of a [`Network`], and a registry at its origin.
//!
//! The daemons know each other by their addresses and share a key that the binary itself makes. A node's clients are
//! on the node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::ca::TestCa;
use crate::client::Request;
use crate::content::sha256;
use crate::daemon::{Daemon, DaemonOptions};
use crate::incoming::Response;
use crate::network::{Network, Place};
use crate::registry::Registry;

/// What a cluster is set up with.
pub struct Setup {
    binary: PathBuf,
    nodes: u8,
    origin_rate: Option<String>,
    node_rate: Option<String>,
    cluster: String,
    hostname: Option<String>,
    more_members: String,
    alone: bool,
    change: Box<Change>,
}

/// Changes the options of a node, counted from 1.
type Change = dyn Fn(usize, DaemonOptions) -> DaemonOptions;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The daemons, from the first.
    pub nodes: Vec<Node>,
    /// The registry.
    pub registry: Registry,
    /// The authority of the registry's certificate; the daemons trust it, the clients do not.
    pub ca: TestCa,
    /// The links.
    pub network: Network,
}

/// A node with its daemon.
#[derive(Debug)]
pub struct Node {
    /// Where it is.
    pub place: Place,
    /// Its daemon.
    pub daemon: Daemon,
}

// === impl Setup ===

impl Setup {
    /// `nodes` nodes with the daemon in `binary`, on links without a limit.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, nodes: u8) -> Self {
        Self {
            binary: binary.into(),
            nodes,
            origin_rate: None,
            node_rate: None,
            cluster: String::new(),
            hostname: None,
            more_members: String::new(),
            alone: false,
            change: Box::new(|_, options| options),
        }
    }

    /// Limits the links, both ways: the registry's and each node's, as `tc` writes it (`100mbit`).
    #[must_use]
    pub fn rates(mut self, origin: &str, node: &str) -> Self {
        self.origin_rate = Some(origin.to_owned());
        self.node_rate = Some(node.to_owned());
        self
    }

    /// Adds lines to the section `cluster`, such as `allowPlaintextPeers: true`.
    #[must_use]
    pub fn cluster(mut self, yaml: &str) -> Self {
        self.cluster.extend(yaml.lines().map(|line| format!("  {line}\n")));
        self
    }

    /// Gives all nodes one name instead of one each.
    #[must_use]
    pub fn hostname(mut self, name: &str) -> Self {
        self.hostname = Some(name.to_owned());
        self
    }

    /// Names one more member, which there is not.
    #[must_use]
    pub fn member(mut self, name: &str) -> Self {
        self.more_members.push(',');
        self.more_members.push_str(name);
        self
    }

    /// Leaves the section `cluster` away: each daemon is alone.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Changes what single nodes are started with; they are counted from 1.
    #[must_use]
    pub fn each(mut self, change: impl Fn(usize, DaemonOptions) -> DaemonOptions + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Starts everything and waits until every daemon listens.
    ///
    /// # Panics
    /// If that does not come to pass.
    #[must_use]
    pub fn start(self) -> Cluster {
        let network = Network::new(self.nodes, self.origin_rate.as_deref(), self.node_rate.as_deref());
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https_at(&network.origin, &ca);
        let key = (!self.alone).then(|| new_key(&self.binary));
        let members = network.nodes.iter().map(|place| place.address().to_string());
        let members = members.collect::<Vec<_>>().join(",") + &self.more_members;
        let start = |(index, place): (usize, &Place)| {
            let hostname = self.hostname.as_deref().unwrap_or_else(|| place.name());
            let mut options = DaemonOptions::new(&self.binary)
                .trust(&ca)
                .place(place)
                .hosts(r"[{regx: '^198\.51\.100\.'}]")
                .listen("{listen: 127.0.0.1, port: 65001}")
                .extra(&format!("host: {{hostname: {hostname}, advertiseIP: {}}}", place.address()));
            if let Some(key) = &key {
                let section = format!("cluster:\n  members: '{members}'\n{}", self.cluster);
                options = options.extra(&format!("{section}  keyFile: {}", key_file(place).display()));
                write_key(place, key).expect("the directory for temporary files can be written");
            }
            Node { place: place.clone(), daemon: (self.change)(index + 1, options).start() }
        };
        let nodes = network.nodes.iter().enumerate().map(start).collect();
        Cluster { nodes, registry, ca, network }
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Setup").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

// === impl Cluster ===

impl Cluster {
    /// What each of these nodes (counted from 1) gets that asks for `url`, all at once.
    ///
    /// # Panics
    /// If one of them gets no answer at all.
    #[must_use]
    pub fn get_at_once(&self, nodes: impl IntoIterator<Item = usize>, url: &str) -> Vec<Response> {
        thread::scope(|scope| {
            let clients: Vec<_> = nodes
                .into_iter()
                .map(|number| self.node(number))
                .map(|node| scope.spawn(move || node.get(url)))
                .collect();
            clients.into_iter().map(|client| client.join().expect("a client gets an answer")).collect()
        })
    }

    /// A node, counted from 1.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// A node, counted from 1, to be killed or started again.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// All that the daemons have logged, for the message of a failed test.
    #[must_use]
    pub fn logs(&self) -> String {
        let said = |node: &Node| format!("--- {}\n{}", node.place, node.daemon.everything_said());
        self.nodes.iter().map(said).collect()
    }
}

// === impl Node ===

impl Node {
    /// What a client on this node gets that asks for `url` through its daemon.
    ///
    /// # Panics
    /// If no answer comes at all.
    #[must_use]
    pub fn get(&self, url: &str) -> Response {
        self.fetch(&Request::get(url))
    }

    /// What a client on this node gets that sends `request` through its daemon.
    ///
    /// # Panics
    /// If no answer comes at all.
    #[must_use]
    pub fn fetch(&self, request: &Request) -> Response {
        let answer = self.place.within(|| self.daemon.client().fetch(request));
        let said = |error| format!("{}: {error}\n{}", self.place, self.daemon.everything_said());
        answer.map_err(said).expect("a client gets an answer")
    }

    /// The value of a counter or gauge of the daemon, all its labels summed up; `None` where it has none.
    ///
    /// # Panics
    /// If the admin port does not answer.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.daemon.metrics().expect("the admin port answers");
        samples(&metrics, name)
    }

    /// Gives the daemon another key than the others have; it holds from its next start.
    ///
    /// # Panics
    /// If the binary makes none.
    pub fn change_key(&self, binary: &Path) {
        write_key(&self.place, &new_key(binary)).expect("the directory for temporary files can be written");
    }
}

/// Panics unless every answer is a whole body with this digest.
///
/// # Panics
/// As said.
#[track_caller]
pub fn assert_all_right(answers: &[Response], digest: &str) {
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 200, "answer {index}: {}", answer.text());
        assert!(answer.is_complete(), "answer {index} ends by {:?}", answer.end);
        assert_eq!(sha256(&answer.body), digest, "answer {index} has other bytes");
    }
}

/// A key as `dfget cluster key` prints it.
fn new_key(binary: &Path) -> Vec<u8> {
    let output = Command::new(binary).args(["cluster", "key"]).output().expect("the binary is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dfget cluster key: {said}");
    output.stdout
}

fn key_file(place: &Place) -> PathBuf {
    std::env::temp_dir().join(format!("{}.key", place.name()))
}

fn write_key(place: &Place, key: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = key_file(place);
    fs::write(&path, key)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// The sum of the samples with this name in a text of metrics.
fn samples(metrics: &str, name: &str) -> Option<f64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_any_labels_are_summed_up_and_other_names_left_out() {
        let text = "# TYPE a counter\na_total{x=\"1 } 2\"} 3\na_total{x=\"2\"} 4.5\na_total_more 9\nb 7\n";
        assert_eq!(samples(text, "a_total"), Some(7.5));
        assert_eq!(samples(text, "b"), Some(7.0));
        assert_eq!(samples(text, "a"), None);
    }
}
