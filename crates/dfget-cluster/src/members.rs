//! The members of a cluster, as of one moment.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfget_core::ListedHost;
use dfget_proto::Ring;
use parking_lot::Mutex;

/// Who belongs to the cluster.
#[derive(Debug)]
pub struct Members {
    /// In the order of their lists, each once.
    members: Vec<Member>,
    /// Which of them is this node.
    me: Option<usize>,
    ring: Ring,
    resolver: Arc<Resolver>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What the ring and all nodes call it: `name:port`, an IPv6 address in brackets.
    pub name: String,
    /// Its host, a name or an address.
    pub host: String,
    /// Its gRPC port.
    pub port: u16,
}

/// What this node is, so that it finds itself among the members.
#[derive(Clone, Debug, Default)]
pub struct Itself {
    /// Names that it goes by, short or long, in lower case.
    pub hostnames: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its gRPC port.
    pub port: u16,
}

// === impl Members ===

impl Members {
    /// These hosts; `port` is that of whom the list gives none. Looks names up only where no name
    /// of a member is this node's. What is odd is told, once for each cause.
    pub(crate) async fn new(
        hosts: Vec<ListedHost>,
        itself: &Itself,
        resolver: Arc<Resolver>,
    ) -> (Self, Vec<String>) {
        let mut remarks = Vec::new();
        let members = distinct(hosts, itself.port, &mut remarks);
        let mut me = by_name(&members, itself);
        if me.is_none() && !members.is_empty() {
            me = by_address(&members, itself, &resolver, &mut remarks).await;
            if me.is_none() {
                remarks.push(not_among(itself));
            }
        }
        let ring = Ring::new(members.iter().map(|member| member.name.clone()));
        (Self { members, me, ring, resolver }, remarks)
    }

    /// These hosts, for somebody who only asks them: no name is looked up to find out which of them is
    /// this node.
    pub(crate) fn as_listed(
        hosts: Vec<ListedHost>,
        itself: &Itself,
        resolver: Arc<Resolver>,
    ) -> (Self, Vec<String>) {
        let mut remarks = Vec::new();
        let members = distinct(hosts, itself.port, &mut remarks);
        let me = by_name(&members, itself).or_else(|| by_literal(&members, itself));
        let ring = Ring::new(members.iter().map(|member| member.name.clone()));
        (Self { members, me, ring, resolver }, remarks)
    }

    /// All members.
    #[must_use]
    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// Which of them is this node, by its name in the ring; `None`: it is no member, and takes part
    /// as a peer only.
    #[must_use]
    pub fn me(&self) -> Option<&str> {
        self.members.get(self.me?).map(|member| member.name.as_str())
    }

    /// Whom the tasks belong to.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The addresses of a member, by its name in the ring. What was looked up holds for half a
    /// minute, a failure for five seconds.
    ///
    /// # Errors
    /// Why there are none, with the name.
    pub async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = split(name).ok_or_else(|| format!("{name} is no name of a member"))?;
        self.resolver.resolve(host, port).await
    }
}

// === impl Member ===

impl Member {
    fn new(host: ListedHost, port: u16) -> Self {
        let port = host.port.unwrap_or(port);
        let brackets = host.host.contains(':');
        let name = if brackets { format!("[{}]:{port}", host.host) } else { format!("{}:{port}", host.host) };
        Self { name, host: host.host, port }
    }
}

fn split(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some((inner.unwrap_or(host), port.parse().ok()?))
}

/// Each member once; who is there twice is told in one remark.
fn distinct(hosts: Vec<ListedHost>, port: u16, remarks: &mut Vec<String>) -> Vec<Member> {
    let mut seen = std::collections::HashSet::new();
    let mut twice = Vec::new();
    let mut members = Vec::with_capacity(hosts.len());
    for host in hosts {
        let member = Member::new(host, port);
        if seen.insert(member.name.clone()) {
            members.push(member);
        } else {
            twice.push(member.name);
        }
    }
    if let Some(first) = twice.first() {
        remarks.push(format!(
            "{first} is listed more than once, as are {} others; each counts once: mend the list of members",
            twice.len() - 1
        ));
    }
    members
}

/// The member with one of our names and our port; a long name before a short one.
fn by_name(members: &[Member], itself: &Itself) -> Option<usize> {
    let ours = |same: &dyn Fn(&str, &str) -> bool| {
        members.iter().position(|member| {
            member.port == itself.port && itself.hostnames.iter().any(|name| same(&member.host, name))
        })
    };
    let exactly = |host: &str, name: &str| host == name;
    let shortened = |host: &str, name: &str| {
        let bare = |text: &str| !text.contains('.');
        host.parse::<IpAddr>().is_err() && (bare(host) || bare(name)) && short(host) == short(name)
    };
    ours(&exactly).or_else(|| ours(&shortened))
}

fn short(name: &str) -> &str {
    name.split_once('.').map_or(name, |(short, _)| short)
}

/// The member with one of our addresses and our port.
async fn by_address(
    members: &[Member],
    itself: &Itself,
    resolver: &Resolver,
    remarks: &mut Vec<String>,
) -> Option<usize> {
    let is_ours = |addresses: &[SocketAddr]| {
        addresses.iter().any(|address| itself.addresses.contains(&address.ip().to_canonical()))
    };
    if let Some(index) = by_literal(members, itself) {
        return Some(index);
    }
    let candidates = || members.iter().enumerate().filter(|(_, member)| member.port == itself.port);
    // Loopback names every node; a name that leads there is this node only where nothing else is.
    let (mut failed, begun) = (Vec::new(), Instant::now());
    for (index, member) in candidates().filter(|(_, member)| member.host.parse::<IpAddr>().is_err()) {
        match resolver.resolve(&member.host, member.port).await {
            Ok(addresses) if is_ours(&addresses) => return Some(index),
            Ok(_) => {}
            Err(reason) => failed.push(reason),
        }
        if failed.len() >= MOST_FAILURES || begun.elapsed() > LOOKING {
            break;
        }
    }
    if let Some(first) = failed.first() {
        let more = failed.len() - 1;
        remarks.push(format!("{first} ({more} more members do not resolve): mend the list, or DNS"));
    }
    None
}

/// The member that is written as one of our addresses, with our port.
fn by_literal(members: &[Member], itself: &Itself) -> Option<usize> {
    members.iter().position(|member| {
        let is_ours = |ip: IpAddr| itself.addresses.contains(&ip.to_canonical());
        member.port == itself.port && member.host.parse().is_ok_and(is_ours)
    })
}

fn not_among(itself: &Itself) -> String {
    format!(
        "this node ({}, port {}) is not among the members: it fetches from them and feeds them, but schedules nothing; add it to the list, or set host.hostname",
        itself.hostnames.first().map_or("without a name", String::as_str),
        itself.port
    )
}

/// Looks names up, and remembers for a short time.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    known: Mutex<HashMap<String, Known>>,
}

/// What was found out about a name, and when.
#[derive(Debug)]
struct Known {
    at: Instant,
    found: Result<Vec<IpAddr>, String>,
}

// === impl Resolver ===

impl Resolver {
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let with_port = |ips: Vec<IpAddr>| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(with_port(vec![ip]));
        }
        if let Some(known) = self.remembered(host) {
            return known.map(with_port);
        }
        let found = look_up(host, port).await;
        let mut known = self.known.lock();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(host.to_owned(), Known { at: Instant::now(), found: found.clone() });
        drop(known);
        found.map(with_port)
    }

    fn remembered(&self, host: &str) -> Option<Result<Vec<IpAddr>, String>> {
        let known = self.known.lock();
        let Known { at, found } = known.get(host)?;
        let holds = if found.is_ok() { FOUND_HOLDS } else { FAILURE_HOLDS };
        (at.elapsed() < holds).then(|| found.clone())
    }
}

/// All addresses of a name, IPv4 first.
async fn look_up(host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let failed = |reason: String| format!("cannot resolve {host}: {reason}");
    let looked_up = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await;
    let found = looked_up
        .map_err(|_| failed("no answer in 5 s".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let mut ips: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    ips.sort_unstable();
    ips.dedup();
    if ips.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(ips) }
}

/// The addresses of `dns`, the port beside it for each.
pub(crate) async fn by_dns(host: &str, port: u16) -> Result<Vec<ListedHost>, String> {
    let ips = look_up(host, port).await?;
    Ok(ips.into_iter().map(|ip| ListedHost { host: ip.to_string(), port: Some(port) }).collect())
}

/// How long an answer holds, and a failure.
const FOUND_HOLDS: Duration = Duration::from_secs(30);
const FAILURE_HOLDS: Duration = Duration::from_secs(5);
/// Time to look a name up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Names that are remembered, at most.
const MOST_REMEMBERED: usize = 65_536;
/// How long a node looks for itself by address: the daemon waits for it.
const LOOKING: Duration = Duration::from_secs(10);
/// After so many names that do not resolve, DNS is out of order.
const MOST_FAILURES: usize = 16;

#[cfg(test)]
mod tests {
    use dfget_core::expand_hostlist;

    use super::*;

    fn itself(names: &[&str], addresses: &[&str], port: u16) -> Itself {
        Itself {
            hostnames: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            port,
        }
    }

    async fn members(list: &str, itself: &Itself) -> (Members, Vec<String>) {
        Members::new(expand_hostlist(list).unwrap(), itself, Arc::default()).await
    }

    #[tokio::test]
    async fn a_node_finds_itself_by_its_name_short_or_long() {
        for (own, listed) in [("n2", "n2"), ("n2.hpc.example", "n2"), ("n2", "n2.hpc.example")] {
            let list = format!("n1,{listed},n3");
            let (members, remarks) = members(&list, &itself(&[own], &[], 65_000)).await;
            assert_eq!(members.me(), Some(format!("{listed}:65000").as_str()), "{own}");
            assert!(remarks.is_empty(), "{remarks:?}");
        }
        let (two, _) = members("n2.a.example,n2.b.example", &itself(&["n2.b.example"], &[], 1)).await;
        assert_eq!(two.me(), Some("n2.b.example:1"));
    }

    #[tokio::test]
    async fn a_node_finds_itself_by_address_and_port() {
        let (nodes, remarks) = members("10.1.0.[1-3]", &itself(&["x"], &["127.0.0.1", "10.1.0.3"], 7)).await;
        assert_eq!((nodes.me(), remarks.len()), (Some("10.1.0.3:7"), 0));
        let one_host = "127.0.0.1:18002,127.0.0.1:18012";
        let (nodes, _) = members(one_host, &itself(&["x"], &["127.0.0.1"], 18_012)).await;
        assert_eq!(nodes.me(), Some("127.0.0.1:18012"));
        let (nodes, _) = members("[::1]:9,10.0.0.1", &itself(&["x"], &["::1"], 9)).await;
        assert_eq!(nodes.me(), Some("[::1]:9"));
        assert_eq!(nodes.resolve("[::1]:9").await.unwrap(), ["[::1]:9".parse::<SocketAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_node_that_is_no_member_and_members_that_are_there_twice_are_told_once() {
        let (nodes, remarks) = members("10.0.0.[1-3],10.0.0.2,10.0.0.2:7", &itself(&["n9"], &[], 7)).await;
        assert_eq!((nodes.me(), nodes.all().len(), nodes.ring().len()), (None, 3, 3));
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].starts_with("10.0.0.2:7 is listed more than once"), "{remarks:?}");
        assert!(remarks[1].contains("this node (n9, port 7) is not among the members"), "{remarks:?}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_one_remark_and_no_end() {
        let list = "none[1-3].invalid,localhost";
        let (nodes, remarks) = members(list, &itself(&["x"], &["127.0.0.1", "::1"], 7)).await;
        assert_eq!(nodes.me(), Some("localhost:7"), "{remarks:?}");
        let reason = nodes.resolve("none1.invalid:7").await.unwrap_err();
        assert!(reason.starts_with("cannot resolve none1.invalid: "), "{reason}");
        let (_, remarks) = members("none[1-3].invalid", &itself(&["x"], &[], 7)).await;
        assert!(remarks[0].starts_with("cannot resolve none1.invalid: "), "{remarks:?}");
        assert!(remarks[0].contains("(2 more members do not resolve)"), "{remarks:?}");
        assert!(nodes.resolve("nonsense").await.is_err());
    }
}
