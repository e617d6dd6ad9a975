//! Which members are to have contents: pure, and the same each time for the same contents and members.

use std::collections::VecDeque;

use dfget_core::{ListedHost, expand_hostlist};
use dfget_lease::Nodes;

/// Members that are asked at once.
const AT_ONCE: usize = 128;

/// A name at least so much like the wanted one is named: half of its letters.
const LIKENESS: f64 = 0.5;

/// Those that may be asked, in order, and how many of them are wanted.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Choice {
    waiting: VecDeque<String>,
    wanted: usize,
    going: usize,
    there: usize,
}

// === impl Choice ===

impl Choice {
    /// Out of `ring`, all members in the order of the contents, `me` among them if it is one. It has them already,
    /// and comes first.
    ///
    /// # Errors
    /// There are no such members: which, and what there is.
    pub(super) fn new(nodes: &Nodes, ring: Vec<String>, me: Option<&str>) -> Result<Self, String> {
        let chosen = match nodes {
            Nodes::Number(0) => return Err("0 nodes: name at least one".to_owned()),
            Nodes::Number(_) | Nodes::All => ring,
            Nodes::Listed(list) => listed(list, ring)?,
        };
        let wanted = match nodes {
            Nodes::Number(number) => *number as usize,
            Nodes::All | Nodes::Listed(_) => chosen.len(),
        };
        if wanted > chosen.len() || chosen.is_empty() {
            return Err(format!("{wanted} nodes are wanted, and the cluster has {}", chosen.len()));
        }
        let (own, others): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|name| Some(name.as_str()) == me);
        let waiting = own.into_iter().chain(others).collect();
        Ok(Self { waiting, wanted, going: 0, there: 0 })
    }

    /// How many are to have them.
    pub(super) const fn wanted(&self) -> usize {
        self.wanted
    }

    /// Who is to be asked now.
    pub(super) fn next(&mut self) -> Option<String> {
        if self.going >= AT_ONCE || self.there + self.going >= self.wanted {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.going += 1;
        Some(next)
    }

    /// One that was asked has them now, or will not have them.
    pub(super) fn settled(&mut self, there: bool) {
        self.going = self.going.saturating_sub(1);
        self.there += usize::from(there);
    }

    /// Whether nothing more is to be done once nobody is being asked.
    pub(super) const fn is_over(&self) -> bool {
        self.going == 0
    }
}

/// The members that a hostlist names, in the order of `ring`.
fn listed(list: &str, ring: Vec<String>) -> Result<Vec<String>, String> {
    let hosts = expand_hostlist(list).map_err(|error| format!("the list of nodes is wrong: {error}"))?;
    let mut wanted = std::collections::HashSet::new();
    for host in &hosts {
        let found = ring.iter().find(|name| is_called(name, host, false));
        let found = found.or_else(|| ring.iter().find(|name| is_called(name, host, true)));
        let Some(found) = found else { return Err(unknown(&host.host, &ring)) };
        wanted.insert(found.clone());
    }
    Ok(ring.into_iter().filter(|name| wanted.contains(name)).collect())
}

/// Whether a member, `name:port`, is this host; `shortly`: one name may have a domain that the other lacks.
fn is_called(name: &str, host: &ListedHost, shortly: bool) -> bool {
    let Some((member, port)) = name.rsplit_once(':') else { return false };
    let member = member.trim_start_matches('[').trim_end_matches(']');
    if host.port.is_some_and(|wanted| port != wanted.to_string()) {
        return false;
    }
    if !shortly {
        return member.eq_ignore_ascii_case(&host.host);
    }
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    let short = |text: &str| text.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let bare = !member.contains('.') || !host.host.contains('.');
    bare && !is_address(member) && !is_address(&host.host) && short(member) == short(&host.host)
}

fn unknown(host: &str, ring: &[String]) -> String {
    let bare = |name: &str| name.rsplit_once(':').map_or(name, |(host, _)| host).to_owned();
    let likeness = |name: &String| strsim::normalized_damerau_levenshtein(&bare(name), host);
    let nearest = ring
        .iter()
        .map(|name| (likeness(name), name))
        .max_by(|(one, a), (other, b)| one.total_cmp(other).then_with(|| b.cmp(a)));
    let meant = nearest.filter(|(likeness, _)| *likeness >= LIKENESS);
    let meant = meant.map_or_else(String::new, |(_, name)| format!(", as {} is", bare(name)));
    format!("{host} is no member of the cluster{meant}; `dfget cluster status` lists them")
}

#[cfg(test)]
mod tests {
    use dfget_proto::Ring;

    use super::*;

    fn ring(seed: &str) -> Vec<String> {
        Ring::new((1..=6).map(|number| format!("n{number}.hpc:65000")))
            .order(seed)
            .map(str::to_owned)
            .collect()
    }

    fn all(mut choice: Choice) -> Vec<String> {
        std::iter::from_fn(|| choice.next()).collect()
    }

    #[test]
    fn the_same_contents_go_to_the_same_nodes_and_others_to_others() {
        let three =
            |seed: &str| all(Choice::new(&Nodes::Number(3), ring(seed), Some("n4.hpc:65000")).unwrap());
        let one = three("a");
        assert_eq!((one.len(), one[0].as_str()), (3, "n4.hpc:65000"), "this node has them already");
        assert_eq!(one, three("a"));
        assert_eq!(
            one[1..],
            ring("a").into_iter().filter(|name| name != "n4.hpc:65000").take(2).collect::<Vec<_>>()
        );
        assert!(["b", "c", "d", "e"].into_iter().any(|seed| three(seed) != one));
        let stranger = Choice::new(&Nodes::Number(3), ring("a"), None).unwrap();
        assert_eq!(all(stranger), ring("a")[..3]);
    }

    #[test]
    fn who_fails_is_replaced_by_the_next_until_nobody_is_left() {
        let mut choice = Choice::new(&Nodes::Number(2), ring("a"), None).unwrap();
        let first = [choice.next().unwrap(), choice.next().unwrap()];
        assert_eq!((&first[..], choice.next()), (&ring("a")[..2], None));
        choice.settled(false);
        assert_eq!(choice.next().as_ref(), Some(&ring("a")[2]));
        choice.settled(true);
        assert_eq!(choice.next(), None);
        choice.settled(true);
        assert!(choice.is_over() && choice.next().is_none());
        let mut choice = Choice::new(&Nodes::All, ring("a"), None).unwrap();
        assert_eq!(choice.wanted(), 6);
        while choice.next().is_some() {
            choice.settled(false);
        }
        assert!(choice.is_over());
    }

    #[test]
    fn nodes_are_named_as_slurm_does() {
        let of = |list: &str| {
            let mut names = all(Choice::new(&Nodes::Listed(list.to_owned()), ring("a"), None)?);
            names.sort();
            Ok::<_, String>(names)
        };
        let two = ["n2.hpc:65000", "n3.hpc:65000"].map(str::to_owned).to_vec();
        assert_eq!(of("n[2-3]"), Ok(two.clone()));
        assert_eq!(of("n2.hpc,n3,n2"), Ok(two.clone()));
        assert_eq!(of("n[2-3]:65000"), Ok(two));
        assert!(of("n2:7").is_err() && of("n2.elsewhere").is_err());
        let unknown = of("n1,n7.hpc").unwrap_err();
        assert!(unknown.starts_with("n7.hpc is no member of the cluster, as n"), "{unknown}");
        let unknown = of("elsewhere").unwrap_err();
        assert!(unknown.starts_with("elsewhere is no member of the cluster; "), "{unknown}");
        assert!(of("n[2").unwrap_err().contains("at character"));
    }

    #[test]
    fn more_than_there_are_and_none_are_refused() {
        let seven = Choice::new(&Nodes::Number(7), ring("a"), None).unwrap_err();
        assert_eq!(seven, "7 nodes are wanted, and the cluster has 6");
        assert!(Choice::new(&Nodes::Number(0), ring("a"), None).is_err());
        assert!(Choice::new(&Nodes::All, Vec::new(), None).is_err());
    }
}
