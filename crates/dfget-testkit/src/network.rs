//! A small network: an origin and nodes, each a network namespace with one link to one bridge.
//!
//! `tests/real-clients/nodes` makes it and changes it, inside the namespaces that `tests/real-clients/in-namespace`
//! makes; here are its words, and the way for a test to open sockets and start programs at one of its places. What
//! does not belong to a place runs as ever. When the network is dropped, what runs at its places is ended.

use std::fmt::Display;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network. All of it goes when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// Where registries stand.
    pub origin: Place,
    /// The nodes, from the first.
    pub nodes: Vec<Place>,
}

/// One end of a link: a network namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    address: Ipv4Addr,
    entry: Arc<File>,
}

// === impl Network ===

impl Network {
    /// An origin and `nodes` nodes on links of these rates (as `tc` writes them, `100mbit`), both ways; `None` is no
    /// limit.
    ///
    /// # Panics
    /// If this is not inside the namespaces of `in-namespace`, or they refuse: the message is the script's.
    #[must_use]
    pub fn new(nodes: u8, origin_rate: Option<&str>, node_rate: Option<&str>) -> Self {
        let rates = [origin_rate, node_rate].map(|rate| rate.unwrap_or(NO_RATE));
        script(&["up", &nodes.to_string(), rates[0], rates[1]]);
        let origin = Place::new("origin".to_owned(), Ipv4Addr::new(198, 51, 100, 10));
        let nodes = (1..=nodes)
            .map(|number| Place::new(format!("node{number}"), Ipv4Addr::new(198, 51, 100, 100 + number)));
        Self { origin, nodes: nodes.collect() }
    }

    /// Gives the link of `place` another rate, both ways; `None` for no limit.
    pub fn set_rate(&self, place: &Place, rate: Option<&str>) {
        script(&["rate", &place.name, rate.unwrap_or(NO_RATE)]);
    }

    /// Pulls the cable of `place`: nothing comes or goes, and nobody is told.
    pub fn cut(&self, place: &Place) {
        script(&["cut", &place.name]);
    }

    /// Puts it back.
    pub fn join(&self, place: &Place) {
        script(&["join", &place.name]);
    }

    /// Loses what these two groups say to each other, without a word to anybody.
    pub fn part(&self, one: &[&Place], other: &[&Place]) {
        let names =
            |places: &[&Place]| places.iter().map(|place| place.name.as_str()).collect::<Vec<_>>().join(" ");
        script(&["part", &names(one), &names(other)]);
    }

    /// Ends all parting.
    pub fn heal(&self) {
        script(&["heal"]);
    }

    /// Bytes that `place` has sent over its link, all headers included.
    ///
    /// # Panics
    /// If the system does not tell.
    #[must_use]
    pub fn sent(&self, place: &Place) -> u64 {
        script(&["sent", &place.name]).trim().parse().expect("the script prints a number")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Within a panic another one would abort; the namespaces around these end all of it soon.
        let _ = command(&["down"]).output();
    }
}

// === impl Place ===

impl Place {
    fn new(name: String, address: Ipv4Addr) -> Self {
        let entry = File::open(Path::new("/run/netns").join(&name)).expect("the script made it");
        Self { name, address, entry: Arc::new(entry) }
    }

    /// Its name: `origin`, `node1`, `node2`…
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address; of the origin the first.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does `work` on a thread that is at this place: sockets that it opens, and programs that it starts, belong there
    /// for good. Threads that it starts do too.
    ///
    /// # Panics
    /// If `work` does, or the system refuses.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.entry.as_fd(), network).expect("root may go to a place");
                work()
            });
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.name, self.address)
    }
}

/// Does `work` at `place`, if there is one, and here if not.
pub(crate) fn at<T: Send>(place: Option<&Place>, work: impl FnOnce() -> T + Send) -> T {
    match place {
        Some(place) => place.within(work),
        None => work(),
    }
}

/// What the script printed.
#[track_caller]
fn script(words: &[&str]) -> String {
    let output = command(words).output().expect("the script is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nodes {}: {said}", words.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn command(words: &[&str]) -> Command {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/real-clients/nodes"].iter().collect();
    let mut command = Command::new(path);
    command.args(words).stdin(Stdio::null());
    command
}

/// The script's word for no limit.
const NO_RATE: &str = "none";
