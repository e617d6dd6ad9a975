//! Everything that a live view of a node needs, in one answer (`GET /api/v1/live`).
//!
//! What can be many is bounded: the answer of a busy node of a large cluster is some tens of kilobytes. Numbers of
//! what is left off are told.

use serde::{Deserialize, Serialize};

/// Who tells it.
pub trait LiveView: Send + Sync + 'static {
    /// How the node is now, with at most `most` of each list that can be long: [`Live::tasks`], [`Live::ended`],
    /// [`LiveCluster::members`], [`Live::remarks`]. Called on a thread that may wait, once a second for each who looks,
    /// so it had better not.
    fn live(&self, most: usize) -> Live;
}

/// A node at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Live {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// Version of the daemon's program.
    pub version: String,
    /// The name of the host.
    pub host: String,
    /// When the daemon started, in seconds since 1970; all counts are since then.
    pub started_at: u64,
    /// Its cache; `None` where there is none, and pulls stream through.
    pub store: Option<LiveStore>,
    /// Why there is no cache.
    pub no_store: Option<String>,
    /// Bytes a second now.
    pub rates: Rates,
    /// Bytes a second over the last minutes.
    pub history: History,
    /// Downloads that run; `tasks` has the oldest of them.
    pub running: u64,
    /// The downloads that run, the oldest first, at most [`MOST_TASKS`].
    pub tasks: Vec<LiveTask>,
    /// Those that ended last, the newest first.
    pub ended: Vec<EndedTask>,
    /// Nodes that feed this one, most bytes first, at most [`MOST_NODES`].
    pub parents: Vec<Neighbour>,
    /// Nodes that this one feeds, most bytes first, at most [`MOST_NODES`].
    pub children: Vec<Neighbour>,
    /// What each registry was asked and spared, by name.
    pub registries: Vec<RegistryLine>,
    /// The cluster; `None` for a node that is alone.
    pub cluster: Option<LiveCluster>,
    /// The last warnings and errors, the newest first.
    pub remarks: Vec<RemarkLine>,
}

/// Downloads that are shown.
pub const MOST_TASKS: usize = 64;

/// Nodes that are shown of each kind.
pub const MOST_NODES: usize = 64;

/// A cache and its room, in bytes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveStore {
    /// Contents, whole or in part.
    pub contents: u64,
    /// What they take.
    pub used_bytes: u64,
    /// What they may take; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// What is free on the disk.
    pub free_bytes: Option<u64>,
}

/// Bytes a second by where they go.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rates {
    /// From registries to downloads.
    pub origin: u64,
    /// From other nodes.
    pub peers: u64,
    /// To clients, from wherever.
    pub clients: u64,
    /// Of those, what was in the cache before.
    pub cache: u64,
    /// To other nodes.
    pub to_peers: u64,
}

/// [`Rates`] over time, each with the oldest first and all of one length.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Milliseconds from one to the next.
    pub every_millis: u64,
    /// See [`Rates::origin`].
    pub origin: Vec<u64>,
    /// See [`Rates::peers`].
    pub peers: Vec<u64>,
    /// See [`Rates::clients`].
    pub clients: Vec<u64>,
    /// See [`Rates::cache`].
    pub cache: Vec<u64>,
    /// See [`Rates::to_peers`].
    pub to_peers: Vec<u64>,
}

/// A download that runs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveTask {
    /// The content's name in the cluster.
    pub id: String,
    /// Its URL, without query and login.
    pub url: String,
    /// What people call it: the repository, else the last part of the URL's path.
    pub name: String,
    /// `host:port` where it is fetched from.
    pub registry: String,
    /// Its length in bytes, once known.
    pub total: Option<u64>,
    /// Bytes of it that are here.
    pub present: u64,
    /// Bytes of it that registries have sent.
    pub from_origin: u64,
    /// Bytes of it that other nodes have sent.
    pub from_peers: u64,
    /// Bytes a second now, from wherever.
    pub rate: u64,
    /// What of it is here, in cells of about the same size from the first byte to the last: `.` nothing,
    /// `+` something, `o` all of it from the registry or from before, `p` most of it from other nodes.
    /// Empty while the length is not known.
    pub map: String,
    /// Clients that read it.
    pub clients: u64,
    /// For how long it has run.
    pub age_millis: u64,
    /// Who has sent most of it, by the id of the host.
    pub parents: Vec<TaskParent>,
    /// Nodes that have asked for it within the last half minute, by address.
    pub children: Vec<String>,
}

/// A node that has sent something of a download.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskParent {
    /// The id of the host.
    pub node: String,
    /// Bytes that it has sent.
    pub bytes: u64,
}

/// A download that has ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndedTask {
    /// The content's name in the cluster.
    pub id: String,
    /// Its URL, without query and login.
    pub url: String,
    /// What people call it.
    pub name: String,
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// How long it took.
    pub took_millis: u64,
    /// Its length in bytes, if it was known.
    pub total: Option<u64>,
    /// Bytes of it that other nodes have sent.
    pub from_peers: u64,
    /// Why it failed; `None` if it is whole and right.
    pub failure: Option<String>,
}

/// A node that feeds this one, or that this one feeds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Neighbour {
    /// The id of its host, or its address.
    pub node: String,
    /// Bytes since the daemon started.
    pub bytes: u64,
    /// Bytes a second now.
    pub rate: u64,
}

/// What a registry, or another origin, was asked and spared.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryLine {
    /// `host:port`; `others` for all that found no place.
    pub name: String,
    /// Requests that it was sent, of whatever kind.
    pub requests: u64,
    /// Bytes of contents that it sent.
    pub bytes: u64,
    /// Bytes of contents a second that it sends now.
    pub rate: u64,
    /// Requests of clients that were answered without asking it for the same.
    pub saved_requests: u64,
    /// Bytes that clients got from this node or others, and that it did not send for that.
    pub saved_bytes: u64,
    /// Different logins that clients came with; to have none counts as one.
    pub logins: u64,
}

/// The members of a cluster, as this node saw them last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveCluster {
    /// When they were asked, in seconds since 1970; 0 = they are being asked for the first time.
    pub asked_at: u64,
    /// How many there are.
    pub count: u64,
    /// How many of them are up.
    pub up: u64,
    /// This node, those that are down, then the others; at most [`MOST_MEMBERS`].
    pub members: Vec<LiveMember>,
}

/// Members that are shown.
pub const MOST_MEMBERS: usize = 256;

/// A member of a cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveMember {
    /// As the list of members has it.
    pub name: String,
    /// It is this node.
    pub this_node: bool,
    /// Why it is down; `None` if it is up.
    pub down: Option<String>,
    /// The name of its host.
    pub hostname: String,
    /// Its address.
    pub ip: String,
    /// Its program's version.
    pub version: String,
    /// Contents that are whole there.
    pub stored: u64,
    /// Downloads that run there.
    pub running: u64,
    /// Bytes that it has had from other nodes since it started.
    pub from_peers: u64,
    /// Bytes that it has had from registries.
    pub from_origin: u64,
    /// Bytes that it has sent to other nodes.
    pub to_peers: u64,
}

/// A warning or an error.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemarkLine {
    /// Its place among all since the daemon started; the newest has the highest.
    pub number: u64,
    /// When it was said last, in seconds since 1970.
    pub at: u64,
    /// It is an error, and no warning.
    pub error: bool,
    /// What was said.
    pub text: String,
    /// How often.
    pub times: u64,
}
