//! What is known, put into the words of the API.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use dfget_console::{
    EndedTask, Live, LiveCluster, LiveMember, LiveStore, LiveTask, MOST_MEMBERS, MOST_NODES, MOST_TASKS,
    Neighbour, RegistryLine, RemarkLine, TaskParent,
};
use dfget_core::ContentReference;
use dfget_lease::{ClusterSeen, MemberSeen};
use dfget_task::{EndedView, TaskView};
use dfget_telemetry::{Remark, logging};

use super::{AllRates, Shared, Slow};
use crate::parts::version;

/// Digits of a digest that tell contents of one repository apart.
const SHORT_DIGEST: usize = 12;

/// Parents of one download that are shown.
const MOST_PARENTS: usize = 16;

impl Shared {
    /// At most `longest` of each list that can be long.
    pub(super) fn live(&self, now: SystemTime, longest: usize) -> Live {
        let watched = &self.watched;
        let (tasks, ledger) = (&watched.tasks, watched.tasks.metrics().ledger());
        let mut views = tasks.views(MOST_TASKS.min(longest));
        let (space, members) = {
            let Slow { space, members } = &*self.slow.lock();
            (*space, members.clone())
        };
        let seen = members.as_ref().map(|(_, seen)| &**seen);
        let rates = self.rates.lock();
        let shown = views.drain(..).map(|view| self.task(view, &rates, seen)).collect();
        let parents = ledger.parents().into_iter().map(|(host, bytes)| Neighbour {
            rate: rates.parents.rate(&host),
            node: host.to_string(),
            bytes,
        });
        let children = ledger.children().into_iter().map(|(address, bytes)| Neighbour {
            rate: rates.children.rate(&address),
            node: named(address, seen),
            bytes,
        });
        Live {
            at_millis: u64::try_from(since_1970(now).as_millis()).unwrap_or(u64::MAX),
            version: version().to_owned(),
            host: watched.host.clone(),
            started_at: since_1970(self.started).as_secs(),
            store: tasks.store().map(|store| {
                let usage = store.usage();
                LiveStore {
                    contents: usage.entries as u64,
                    used_bytes: usage.bytes,
                    quota_bytes: space.and_then(|space| space.quota_bytes),
                    free_bytes: space.and_then(|space| space.free_bytes),
                }
            }),
            no_store: watched.place.as_ref().err().cloned(),
            rates: rates.traffic.now(),
            history: rates.traffic.history(),
            running: tasks.running() as u64,
            tasks: shown,
            ended: tasks.ended_lately().into_iter().take(longest).map(ended).collect(),
            parents: most(parents),
            children: most(children),
            registries: registries(ledger.registries(), &rates),
            cluster: watched.survey.as_ref().map(|_| match &members {
                Some((at, seen)) => cluster(*at, seen, longest),
                None => LiveCluster::default(),
            }),
            remarks: logging::remarks().into_iter().take(longest).map(remark).collect(),
        }
    }

    fn task(&self, view: TaskView, rates: &AllRates, seen: Option<&ClusterSeen>) -> LiveTask {
        let children = self.watched.children.as_ref().map(|of| of(view.id.as_str())).unwrap_or_default();
        let named = |address: String| address.parse().map_or(address, |address| named(address, seen));
        LiveTask {
            name: name_of(&view.url),
            registry: view.authority.host_port(),
            total: view.total,
            present: view.present,
            from_origin: view.from_origin,
            from_peers: view.from_peers,
            rate: rates.tasks.rate(&view.peer),
            map: view.map,
            clients: view.readers as u64,
            age_millis: u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX),
            parents: view
                .parents
                .into_iter()
                .take(MOST_PARENTS)
                .map(|(node, bytes)| TaskParent { node, bytes })
                .collect(),
            children: children.into_iter().take(MOST_NODES).map(named).collect(),
            id: view.id.to_string(),
            url: view.url,
        }
    }
}

fn ended(view: EndedView) -> EndedTask {
    EndedTask {
        id: view.id.to_string(),
        name: name_of(&view.url),
        url: view.url,
        at: since_1970(view.at).as_secs(),
        took_millis: u64::try_from(view.took.as_millis()).unwrap_or(u64::MAX),
        total: view.total,
        from_peers: view.from_peers,
        failure: view.failure,
    }
}

/// What people call a content: repository and the beginning of the digest, else the last part of the path.
fn name_of(url: &str) -> String {
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    let path = path.unwrap_or(url);
    match ContentReference::of_path(path) {
        Some(reference) => {
            let digest = reference.digest.to_string();
            let short = digest.split_once(':').map_or(digest.as_str(), |(_, hex)| hex);
            format!("{}@{}", reference.repository, short.get(..SHORT_DIGEST).unwrap_or(short))
        }
        None => path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

/// The id of the host with this address, as far as it is known; else the address.
fn named(address: IpAddr, seen: Option<&ClusterSeen>) -> String {
    let text = address.to_string();
    let told = seen.iter().flat_map(|seen| &seen.members).filter_map(|member| member.told.as_ref());
    let mut same = told.filter(|told| told.ip == text && !told.hostname.is_empty());
    match (same.next(), same.next()) {
        (Some(told), None) => format!("{text}-{}", told.hostname),
        _ => text,
    }
}

fn most(neighbours: impl Iterator<Item = Neighbour>) -> Vec<Neighbour> {
    let mut all: Vec<Neighbour> = neighbours.collect();
    all.sort_unstable_by(|one, other| {
        (Reverse(one.rate), Reverse(one.bytes), &one.node).cmp(&(
            Reverse(other.rate),
            Reverse(other.bytes),
            &other.node,
        ))
    });
    all.truncate(MOST_NODES);
    all
}

fn registries(counts: Vec<dfget_telemetry::RegistryCount>, rates: &AllRates) -> Vec<RegistryLine> {
    let line = |count: dfget_telemetry::RegistryCount| RegistryLine {
        rate: rates.registries.rate(&count.name),
        name: count.name,
        requests: count.requests,
        bytes: count.bytes,
        saved_requests: count.saved_requests,
        saved_bytes: count.saved_bytes,
        logins: count.logins,
    };
    counts.into_iter().map(line).collect()
}

fn cluster(at: SystemTime, seen: &ClusterSeen, longest: usize) -> LiveCluster {
    let mut members: Vec<&MemberSeen> = seen.members.iter().collect();
    // The sort keeps the order of names.
    members.sort_by_key(|member| (!member.own, member.down.is_none()));
    LiveCluster {
        asked_at: since_1970(at).as_secs(),
        count: members.len() as u64,
        up: members.iter().filter(|member| member.down.is_none()).count() as u64,
        members: members.into_iter().take(MOST_MEMBERS.min(longest)).map(member).collect(),
    }
}

fn member(seen: &MemberSeen) -> LiveMember {
    let told = seen.told.clone().unwrap_or_default();
    LiveMember {
        name: seen.name.clone(),
        this_node: seen.own,
        down: seen.down.clone(),
        hostname: told.hostname,
        ip: told.ip,
        version: told.version,
        stored: told.stored_tasks,
        running: told.running_tasks,
        from_peers: told.bytes_from_peers,
        from_origin: told.bytes_from_origin,
        to_peers: told.bytes_to_peers,
    }
}

fn remark(remark: Remark) -> RemarkLine {
    RemarkLine {
        number: remark.number,
        at: since_1970(remark.at).as_secs(),
        error: remark.is_error,
        text: remark.text,
        times: remark.times,
    }
}

fn since_1970(time: SystemTime) -> std::time::Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dfget_lease::NodeTold;

    use super::*;

    fn seen() -> ClusterSeen {
        let up = |name: &str, ip: &str, own| MemberSeen {
            name: format!("{name}:65000"),
            own,
            down: None,
            told: Some(NodeTold { hostname: name.to_owned(), ip: ip.to_owned(), ..NodeTold::default() }),
        };
        let down =
            MemberSeen { name: "n0:65000".to_owned(), down: Some("why".to_owned()), ..MemberSeen::default() };
        let members =
            vec![down, up("n1", "10.0.0.1", false), up("n2", "10.0.0.2", true), up("n3", "10.0.0.1", false)];
        ClusterSeen { members, ..ClusterSeen::default() }
    }

    #[test]
    fn contents_have_the_names_that_people_know() {
        let digest = "a".repeat(64);
        for (url, name) in [
            (format!("https://r.test:5000/v2/lab/tool/blobs/sha256:{digest}"), "lab/tool@aaaaaaaaaaaa"),
            ("https://files.test/images/x.sif".to_owned(), "x.sif"),
            ("https://files.test/".to_owned(), ""),
            ("nonsense".to_owned(), "nonsense"),
        ] {
            assert_eq!(name_of(&url), name, "{url}");
        }
    }

    #[test]
    fn an_address_has_a_name_where_one_member_alone_has_it() {
        let seen = seen();
        let named = |ip: &str| named(ip.parse().unwrap(), Some(&seen));
        assert_eq!(named("10.0.0.2"), "10.0.0.2-n2");
        assert_eq!((named("10.0.0.1"), named("10.0.0.9")), ("10.0.0.1".to_owned(), "10.0.0.9".to_owned()));
    }

    #[test]
    fn this_node_and_those_that_are_down_come_first() {
        let short = cluster(UNIX_EPOCH, &seen(), 1);
        assert_eq!((short.members.len(), short.count, short.up), (1, 4, 3), "all are counted");
        let cluster = cluster(UNIX_EPOCH, &seen(), usize::MAX);
        let names: Vec<_> = cluster.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["n2:65000", "n0:65000", "n1:65000", "n3:65000"]);
        assert_eq!((cluster.count, cluster.up), (4, 3));
    }

    #[test]
    fn who_gives_most_now_comes_first_and_the_rest_is_left_off() {
        let neighbour = |number: usize| Neighbour { node: number.to_string(), bytes: 1, rate: number as u64 };
        let shown = most((0..MOST_NODES + 9).map(neighbour));
        assert_eq!((shown.len(), shown[0].rate), (MOST_NODES, MOST_NODES as u64 + 8));
    }
}
