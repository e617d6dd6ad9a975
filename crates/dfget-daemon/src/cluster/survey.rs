//! How all members are, as this node sees them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfget_cluster::local_addresses;
use dfget_lease::{ClusterSeen, MemberSeen, NodeTold, SchedulerSeen};
use dfget_proto::messages::dfget::v1::StatusReply;
use dfget_scheduler::{Dragonfly, Member as _, MemberState, SchedulerState, Schedulers};
use tokio::sync::Mutex;

use super::itself::Itself;

/// For so long an answer is given again: whoever may ask this daemon must not be able to keep the
/// whole cluster busy by it.
const HOLDS: Duration = Duration::from_secs(2);

/// Asks all members. Clones are the same.
#[derive(Clone)]
pub(crate) struct Survey {
    of: Of,
    last: Arc<Mutex<Option<(Instant, ClusterSeen)>>>,
}

/// Whom it asks.
#[derive(Clone)]
enum Of {
    /// All members, which have the key with this fingerprint.
    Own(Schedulers, String),
    /// The schedulers of Dragonfly, and this node itself.
    Guest(Dragonfly, Arc<Itself>),
}

// === impl Survey ===

impl Survey {
    /// By these, under the key with this fingerprint.
    pub(crate) fn new(schedulers: Schedulers, key: String) -> Self {
        Self { of: Of::Own(schedulers, key), last: Arc::default() }
    }

    /// Of a peer of these schedulers.
    pub(super) fn of_guest(schedulers: Dragonfly, itself: Arc<Itself>) -> Self {
        Self { of: Of::Guest(schedulers, itself), last: Arc::default() }
    }

    /// How all members are now, or were a moment ago; nobody else asks them meanwhile.
    pub(crate) async fn look(&self) -> ClusterSeen {
        let mut last = self.last.lock().await;
        if let Some((_, seen)) = last.as_ref().filter(|(at, _)| at.elapsed() < HOLDS) {
            return seen.clone();
        }
        let seen = match &self.of {
            Of::Own(schedulers, key) => seen(schedulers.status().await, key.clone()),
            Of::Guest(schedulers, itself) => {
                let reply = itself.status().await;
                let name = reply.host.as_ref().map(|host| host.id.clone()).unwrap_or_default();
                let own = MemberState { name, own: true, reply: Ok(reply) };
                let schedulers = schedulers.status().await.into_iter().map(scheduler).collect();
                ClusterSeen { schedulers, ..seen(vec![own], String::new()) }
            }
        };
        *last = Some((Instant::now(), seen.clone()));
        seen
    }
}

/// What the members answered, in the words of the socket. Where no name of the list is this node's, the
/// member that answers at one of this node's addresses is.
pub(super) fn seen(states: Vec<MemberState>, key: String) -> ClusterSeen {
    let mut members: Vec<MemberSeen> = states.into_iter().map(member).collect();
    if !members.iter().any(|member| member.own) {
        let ours = local_addresses();
        let is_ours =
            |told: &NodeTold| told.ip.parse().is_ok_and(|ip: IpAddr| !ip.is_loopback() && ours.contains(&ip));
        let mut own = members.iter_mut().filter(|member| member.told.as_ref().is_some_and(is_ours));
        if let (Some(only), None) = (own.next(), own.next()) {
            only.own = true;
        }
    }
    ClusterSeen { key, members, ..ClusterSeen::default() }
}

/// What a scheduler of Dragonfly answered.
pub(super) fn scheduler(state: SchedulerState) -> SchedulerSeen {
    SchedulerSeen { name: state.name, down: state.down.map(|why| shown(&why)) }
}

fn member(state: MemberState) -> MemberSeen {
    let MemberState { name, own, reply } = state;
    match reply {
        Ok(reply) => MemberSeen { name, own, down: None, told: Some(told(reply)) },
        Err(reason) => MemberSeen { name, own, down: Some(reason), told: None },
    }
}

fn told(reply: StatusReply) -> NodeTold {
    let host = reply.host.unwrap_or_default();
    NodeTold {
        version: shown(&reply.version),
        hostname: shown(&host.hostname),
        ip: shown(&host.ip),
        started_at: reply.started_at,
        stored_tasks: reply.stored_tasks,
        running_tasks: reply.running_tasks,
        scheduled_tasks: reply.scheduled_tasks,
        known_hosts: reply.known_hosts,
        bytes_from_peers: reply.bytes_from_peers,
        bytes_from_origin: reply.bytes_from_origin,
        bytes_to_peers: reply.bytes_to_peers,
    }
}

/// A word of another node as it may stand on a terminal and in a log.
pub(super) fn shown(word: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    word.chars().take(LONGEST_WORD).map(plain).collect()
}

/// Characters of a name or a version that are shown.
const LONGEST_WORD: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_say_is_shown_without_what_a_terminal_would_obey() {
        let reply =
            StatusReply { version: "1\u{1b}[2J".to_owned(), stored_tasks: 3, ..StatusReply::default() };
        let up = MemberState { name: "n1:1".to_owned(), own: true, reply: Ok(reply) };
        let down = MemberState { name: "n2:1".to_owned(), own: false, reply: Err("why".to_owned()) };
        let seen = seen(vec![up, down], "k".to_owned());
        let told = seen.members[0].told.as_ref().unwrap();
        assert_eq!((told.version.as_str(), told.stored_tasks), ("1?[2J", 3));
        assert_eq!((seen.members[1].down.as_deref(), &seen.members[1].told), (Some("why"), &None));
    }

    #[test]
    fn a_node_that_the_list_does_not_name_as_itself_is_known_by_its_address() {
        let Some(ours) = local_addresses().into_iter().find(|ip| !ip.is_loopback()) else { return };
        let at = |name: &str, ip: &str| {
            let host = dfget_proto::messages::common::v2::Host { ip: ip.to_owned(), ..Default::default() };
            let reply = StatusReply { host: Some(host), ..StatusReply::default() };
            MemberState { name: name.to_owned(), own: false, reply: Ok(reply) }
        };
        let seen = seen(vec![at("n1:1", "192.0.2.1"), at("n2:1", &ours.to_string())], String::new());
        assert_eq!(seen.members.iter().map(|member| member.own).collect::<Vec<_>>(), [false, true]);
    }
}
