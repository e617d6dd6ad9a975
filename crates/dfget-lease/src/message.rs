//! What is said over the socket: one JSON object a line, in this order.
//!
//! ```text
//! command                               daemon
//!   Lease (with the listening socket) ─►
//!                                      ◄─ Granted, or Refused and the end
//!   Child (with its pidfd)            ─►
//!   Done                              ─►
//!                                      ◄─ Spared
//! ```
//!
//! Or one question instead of a lease: `Look`, `Cluster` or `Spread`; the last has several answers.

use serde::{Deserialize, Serialize};

/// Version of these messages; it grows when one changes its meaning.
pub const PROTOCOL: u32 = 1;

/// From the command to the daemon.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ToDaemon {
    /// The first message; carries the listening socket of the proxy.
    Lease(LeaseRequest),
    /// The command has begun; carries its pidfd. The lease then outlives a command line that is
    /// killed before its command.
    Child,
    /// The command has ended, or there is none; asks what was spared so far. It may be asked again and
    /// again.
    Done,
    /// The first message of somebody who wants to know what is stored, and no lease.
    Look(Look),
    /// The first message of somebody who wants to know how the cluster is, and no lease.
    Cluster,
    /// The first message of somebody who wants other nodes to have contents of this one, and no lease. The
    /// order ends with the connection.
    Spread(Spread),
}

/// Contents that nodes of the cluster are to have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Their URLs at their origin, of what is whole in the daemon's store; none = only say whether it could be
    /// done.
    pub contents: Vec<String>,
    /// Who is to have them.
    pub nodes: Nodes,
    /// Give up after so many milliseconds.
    pub within_ms: Option<u64>,
}

/// Members of a cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Nodes {
    /// So many, whichever; with the node that is asked, if it is a member.
    Number(u32),
    /// All.
    All,
    /// Those of a hostlist.
    Listed(String),
}

/// Contents that are asked about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Their names in the store.
    pub names: Vec<String>,
}

/// What a lease is asked for.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRequest {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Version of the sender's program.
    pub version: String,
    /// Password of the proxy; the user is `lease`.
    pub secret: String,
    /// Host names to be hijacked.
    pub hosts: Vec<String>,
    /// Hijack every host.
    pub all_hosts: bool,
    /// URLs that are images themselves.
    pub images: Vec<String>,
    /// The authorities (PEM) that the command's programs trust already, for they run: there is no
    /// lease with others. Empty = none runs yet.
    #[serde(default)]
    pub trusts: Vec<String>,
}

/// From the daemon to the command.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromDaemon {
    /// The lease holds.
    Granted(Grant),
    /// There is none.
    Refused {
        /// [`PROTOCOL`] of the daemon.
        protocol: u32,
        /// Version of the daemon's program.
        version: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The answer to [`ToDaemon::Done`].
    Spared(Spared),
    /// The answer to [`ToDaemon::Look`].
    Seen(Seen),
    /// The answer to [`ToDaemon::Cluster`].
    Cluster(ClusterSeen),
    /// The answers to [`ToDaemon::Spread`]: how far it is, until it has ended.
    Spread(SpreadSeen),
    /// The other answer to it: nothing is done.
    NotSpread {
        /// What kind of reason it is.
        cause: NotSpread,
        /// Why, and what to do.
        reason: String,
    },
}

/// How far contents are spread.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpreadSeen {
    /// Bytes of the contents together.
    pub total: u64,
    /// So many nodes are to have them.
    pub wanted: u32,
    /// Those that were asked so far.
    pub nodes: Vec<NodeSpread>,
    /// Nothing more happens.
    pub ended: bool,
}

/// One node that is to have contents.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpread {
    /// Its name in the list of members, `name:port`.
    pub name: String,
    /// It is the node that was asked.
    pub own: bool,
    /// Bytes that are there.
    pub have: u64,
    /// How it stands.
    pub state: SpreadState,
    /// Why it has failed.
    pub reason: Option<String>,
}

/// How contents stand at a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SpreadState {
    /// They are on their way.
    #[default]
    Coming,
    /// They are whole and verified there.
    There,
    /// They will not be there; another node was asked, if there is one.
    Failed,
}

/// Why nothing is spread.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NotSpread {
    /// The daemon belongs to no cluster.
    NoCluster,
    /// Whoever asks has no right to it.
    NotAllowed,
    /// There are no such nodes.
    Nodes,
    /// The contents cannot be told to other nodes.
    Contents,
}

// === impl SpreadSeen ===

impl SpreadSeen {
    /// How many nodes have it all.
    #[must_use]
    pub fn there(&self) -> usize {
        self.nodes.iter().filter(|node| node.state == SpreadState::There).count()
    }

    /// Whether as many have it as should.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.there() >= self.wanted as usize
    }
}

/// How the members of a cluster are, as one of them sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSeen {
    /// Tells the cluster's key from others.
    pub key: String,
    /// All of them, in the order of their names.
    pub members: Vec<MemberSeen>,
    /// What is odd with the list of members.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// The schedulers of the Dragonfly cluster that the node has joined; then it alone is a member.
    #[serde(default)]
    pub schedulers: Vec<SchedulerSeen>,
}

/// One scheduler of a Dragonfly cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerSeen {
    /// `ip:port`.
    pub name: String,
    /// Why it does not serve; `None` = it does.
    pub down: Option<String>,
}

/// One member.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSeen {
    /// `name:port`.
    pub name: String,
    /// It is the node that was asked.
    pub own: bool,
    /// Why it does not answer; `None` = it does.
    pub down: Option<String>,
    /// What it says of itself; nothing while it is down.
    pub told: Option<NodeTold>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTold {
    /// Version of its program.
    pub version: String,
    /// Its name in the cluster.
    pub hostname: String,
    /// Its address.
    pub ip: String,
    /// Since when it runs, in seconds since 1970.
    pub started_at: u64,
    /// Contents that are whole in its store.
    pub stored_tasks: u64,
    /// Contents that it fetches now.
    pub running_tasks: u64,
    /// Tasks that it knows as a scheduler.
    pub scheduled_tasks: u64,
    /// Hosts that it knows as a scheduler.
    pub known_hosts: u64,
    /// Bytes that other nodes have sent it since its start.
    pub bytes_from_peers: u64,
    /// Bytes that origins have sent it.
    pub bytes_from_origin: u64,
    /// Bytes that it has sent to other nodes.
    pub bytes_to_peers: u64,
}

/// What a daemon has stored.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Version of the daemon's program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where its store is, if there is one.
    pub store: Option<String>,
    /// One for each name asked about; `None` = it is not there.
    pub contents: Vec<Option<SeenContent>>,
}

/// One stored content.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenContent {
    /// Whether all of it is there.
    pub complete: bool,
    /// Its length, if known.
    pub total: Option<u64>,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub accessed: u64,
}

/// A lease.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Version of the daemon's program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Hosts that are hijacked; empty with `all_hosts`.
    pub hosts: Vec<String>,
    /// Certificates (PEM) of the authorities that sign for them; the command's programs must trust them.
    pub authorities: Vec<String>,
    /// Where the store is, if there is one.
    pub store: Option<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a lease did for its command.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spared {
    /// Contents handed out.
    pub tasks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// How many came from the store, or were being fetched for others already.
    pub spared_tasks: u64,
    /// Bytes of these.
    pub spared_bytes: u64,
    /// Where the bytes came from; `None` = the daemon does not say (0.1.0 and before).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Sources>,
}

/// Where the bytes of a lease's contents came from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// Bytes of contents that were whole on this node before.
    pub cache: u64,
    /// Bytes that other nodes have sent.
    pub peers: u64,
    /// Bytes that registries have sent.
    pub origin: u64,
}

impl std::fmt::Debug for LeaseRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseRequest")
            .field("protocol", &self.protocol)
            .field("version", &self.version)
            .field("hosts", &self.hosts)
            .field("all_hosts", &self.all_hosts)
            .field("images", &self.images.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_does_not_show_its_secret() {
        let request = LeaseRequest { secret: "hidden".to_owned(), ..LeaseRequest::default() };
        assert!(!format!("{request:?}").contains("hidden"));
        assert!(!format!("{:?}", ToDaemon::Lease(request)).contains("hidden"));
    }

    #[test]
    fn a_daemon_that_does_not_tell_sources_is_understood() {
        let old = r#"{"type":"spared","tasks":1,"bytes":2,"sparedTasks":0,"sparedBytes":0}"#;
        let FromDaemon::Spared(read) = serde_json::from_str(old).unwrap() else { panic!("an answer") };
        assert_eq!((read.bytes, read.sources), (2, None));
        let told = Spared { sources: Some(Sources { cache: 1, peers: 2, origin: 3 }), ..read };
        let text = serde_json::to_string(&FromDaemon::Spared(told)).unwrap();
        assert!(text.ends_with(r#""sources":{"cache":1,"peers":2,"origin":3}}"#), "{text}");
    }

    #[test]
    fn the_form_on_the_wire_is_fixed() {
        let done = serde_json::to_string(&ToDaemon::Done).unwrap();
        assert_eq!(done, r#"{"type":"done"}"#);
        let refused = FromDaemon::Refused { protocol: 1, version: "1.2.3".into(), reason: "no".into() };
        let text = serde_json::to_string(&refused).unwrap();
        assert_eq!(text, r#"{"type":"refused","protocol":1,"version":"1.2.3","reason":"no"}"#);
        let cluster = serde_json::to_string(&ToDaemon::Cluster).unwrap();
        assert_eq!(cluster, r#"{"type":"cluster"}"#);
        let spread = Spread { contents: vec!["u".into()], nodes: Nodes::Number(3), within_ms: None };
        let text = serde_json::to_string(&ToDaemon::Spread(spread)).unwrap();
        assert_eq!(text, r#"{"type":"spread","contents":["u"],"nodes":{"number":3},"withinMs":null}"#);
        let refused = FromDaemon::NotSpread { cause: NotSpread::NoCluster, reason: "r".into() };
        let text = serde_json::to_string(&refused).unwrap();
        assert_eq!(text, r#"{"type":"notSpread","cause":"noCluster","reason":"r"}"#);
        let lease = r#"{"type":"lease","protocol":1,"version":"0","secret":"s","hosts":["a"],"all_hosts":false,"allHosts":true,"images":[]}"#;
        let ToDaemon::Lease(read) = serde_json::from_str(lease).unwrap() else { panic!("a lease") };
        assert!(read.all_hosts && read.hosts == ["a"], "a field of a later version is passed over");
    }
}
