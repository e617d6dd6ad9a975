//! What the tests share.

#[path = "../real_clients/support/namespace.rs"]
#[expect(dead_code, reason = "the real clients need more of it")]
mod namespace;
#[path = "../real_clients/support/process.rs"]
#[expect(dead_code, reason = "the real clients need more of it")]
mod process;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dfget_proto::Ring;
use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::{Blob, Cluster, Node, Setup};

pub(crate) use namespace::{clients_dir, dfget_binary, in_namespace};
pub(crate) use process::{Finished, run, until};

/// Where the repository of the tests' blobs is.
pub(crate) const REPOSITORY: &str = "public/blob";

/// The port on which members speak gRPC, unless told otherwise.
pub(crate) const PORT: u16 = 65_000;

/// The port on which they hand out pieces.
pub(crate) const PIECE_PORT: u16 = PORT + 2;

/// Bytes.
pub(crate) const MIB: usize = 1 << 20;

/// `nodes` nodes with the binary under test.
pub(crate) fn setup(nodes: u8) -> Setup {
    Setup::new(dfget_binary(), nodes)
}

/// A blob of this size that no other test has, in the registry, with its URL.
pub(crate) fn put(cluster: &Cluster, mib: usize) -> (Blob, String) {
    let blob = Blob::random(mib * MIB, 7);
    let url = cluster.registry.put(REPOSITORY, &blob);
    (blob, url)
}

/// Pulls by these nodes at once; every one gets the blob.
#[track_caller]
pub(crate) fn pull(cluster: &Cluster, nodes: impl IntoIterator<Item = usize>, blob: &Blob, url: &str) {
    assert_all_right(&cluster.get_at_once(nodes, url), &blob.digest);
}

/// Lets the registry say who may, and send nothing of a blob any more: every download is cut.
pub(crate) fn seal(cluster: &Cluster) {
    use dfget_testkit::{Cut, Reply};
    cluster.registry.every_blob(|_| Reply::Cut(Cut::Reset));
}

/// The number of the node whose scheduler is responsible for this blob.
pub(crate) fn scheduler_of(cluster: &Cluster, blob: &Blob) -> usize {
    let name = |node: &Node| format!("{}:{PORT}", node.place.address());
    let ring = Ring::new(cluster.nodes.iter().map(name));
    let task = blob.digest.trim_start_matches("sha256:");
    let first = ring.order(task).next().expect("there are members").to_owned();
    1 + cluster.nodes.iter().position(|node| name(node) == first).expect("it is a member")
}

/// A connection to a port of `to`, made on `from`.
pub(crate) fn dial(from: &Node, to: &Node, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((to.place.address(), port));
    from.place.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(20)))
}

/// Waits until `node` has sent so many bytes more than `before`.
#[track_caller]
pub(crate) fn until_sent(cluster: &Cluster, node: usize, before: u64, bytes: usize) {
    let place = &cluster.node(node).place;
    until("bytes on a link", || (cluster.network.sent(place) > before + bytes as u64).then_some(()));
}

/// Bytes of bodies that the registry sent of this blob, as a share of it, printed too.
pub(crate) fn share_sent(cluster: &Cluster, blob: &Blob) -> f64 {
    let share = cluster.registry.origin.body_bytes(&blob.digest) as f64 / blob.len() as f64;
    eprintln!("the registry sent {share:.3} x the blob");
    share
}
