//! A network of nodes for the scenario `cluster`: `tests/real-clients/nodes` makes it, with links of a rate.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::places::Places;

/// A network. It goes, with all that runs on it, when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// Where the origin stands, at its usual address.
    pub origin: Place,
    /// The nodes.
    pub nodes: Vec<Place>,
    script: PathBuf,
}

/// One end of a link: a network namespace.
#[derive(Debug)]
pub struct Place {
    /// The address of a node, as text.
    pub address: String,
    /// Its name.
    pub name: String,
    entry: File,
}

// === impl Network ===

impl Network {
    /// An origin and so many nodes on links of these rates, in Mbit/s, both ways.
    ///
    /// # Errors
    /// The script says why not.
    pub fn new(places: &Places, nodes: usize, origin_rate: u32, node_rate: u32) -> io::Result<Self> {
        let script = places.scripts.join("nodes");
        let rates = [origin_rate, node_rate].map(|rate| format!("{rate}mbit"));
        let output = Command::new(&script).arg("up").arg(nodes.to_string()).args(rates).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let origin = Place::new("origin".to_owned(), String::new());
        let node =
            |number| Place::new(format!("node{number}"), format!("198.51.100.{}", FIRST_ADDRESS + number));
        let nodes = (1..=nodes).map(node).collect::<io::Result<_>>();
        let network = Self { origin: origin?, nodes: nodes?, script };
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg("down").stdin(Stdio::null()).output();
    }
}

// === impl Place ===

impl Place {
    fn new(name: String, address: String) -> io::Result<Self> {
        let entry = File::open(format!("/run/netns/{name}"))?;
        Ok(Self { address, name, entry })
    }

    /// Does `work` on a thread at this place: sockets that it opens, and programs that it starts, belong there.
    ///
    /// # Errors
    /// Those of `work`, and the system's.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let there = || {
            move_into_link_name_space(self.entry.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        let ended = thread::scope(|scope| scope.spawn(there).join());
        ended.map_err(|_| io::Error::other(format!("what ran at {} failed", self.name)))?
    }
}

/// Node N is at 198.51.100.(100 + N).
const FIRST_ADDRESS: usize = 100;
