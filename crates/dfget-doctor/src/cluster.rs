//! Whether the cluster's key can be used, and the other members answer.

use std::collections::BTreeSet;

use dfget_config::Config;
use dfget_daemon::{AskDaemon, ClusterSeen, cluster_options, cluster_status, dragonfly_status};

use crate::finding::{Area, Finding, Verdict};

/// So many that are down are named.
const MOST: usize = 3;
const SCHEDULERS: &str = "look at scheduler.netAddrs, and whether the schedulers run; until they answer, all comes from the origin";
const STATUS: &str = "`dfget cluster status` tells of all";

pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let variable = |name: &str| match name {
        // A job has ports of its own, the daemon of the file has not.
        "SLURM_JOB_ID" => None,
        _ => std::env::var_os(name),
    };
    if !config.scheduler.addresses.is_empty() {
        return match dragonfly_status(&config.scheduler.addresses) {
            Ok(status) => judge_joined(&status.seen),
            Err(error) => vec![Finding::new(Area::Cluster, Verdict::Bad, error.to_string(), SCHEDULERS)],
        };
    }
    let Some(options) = cluster_options(config, variable) else { return Vec::new() };
    match cluster_status(&options, AskDaemon::First) {
        Ok(status) => judge(&status.seen),
        Err(error) => {
            let remedy =
                "all nodes need the same key: `dfget cluster key` makes one, docs/cluster.md has the rest";
            vec![Finding::new(Area::Cluster, Verdict::Bad, error.to_string(), remedy)]
        }
    }
}

/// Of a daemon that is to be a peer of Dragonfly's schedulers.
fn judge_joined(seen: &ClusterSeen) -> Vec<Finding> {
    let all = seen.schedulers.len();
    let down: Vec<_> =
        seen.schedulers.iter().filter_map(|one| Some((&one.name, one.down.as_ref()?))).collect();
    let text = format!("{} of {all} schedulers of Dragonfly answer", all - down.len());
    // The origin stands in for them.
    let (verdict, remedy) = match down.len() == all {
        true => (Verdict::Warning, SCHEDULERS),
        false => (Verdict::Good, ""),
    };
    let mut findings = vec![Finding::new(Area::Cluster, verdict, text, remedy)];
    let warn = |(name, why): &(&String, &String)| {
        Finding::new(Area::Cluster, Verdict::Warning, format!("scheduler {name}: {why}"), SCHEDULERS)
    };
    findings.extend(down.iter().take(MOST).map(warn));
    findings
}

fn judge(seen: &ClusterSeen) -> Vec<Finding> {
    let down: Vec<_> = seen.members.iter().filter_map(|one| Some((&one.name, one.down.as_ref()?))).collect();
    let versions: BTreeSet<_> =
        seen.members.iter().filter_map(|member| Some(&member.told.as_ref()?.version)).collect();
    let text = format!("{} of {} members answer", seen.members.len() - down.len(), seen.members.len());
    let mut findings = vec![Finding::good(Area::Cluster, text)];
    let warn = |text: String, remedy: &str| Finding::new(Area::Cluster, Verdict::Warning, text, remedy);
    findings.extend(down.iter().take(MOST).map(|(name, why)| warn(format!("{name}: {why}"), STATUS)));
    if down.len() > MOST {
        findings.push(warn(format!("and {} more do not answer", down.len() - MOST), STATUS));
    }
    findings.extend(seen.remarks.iter().map(|remark| warn(remark.clone(), "look at cluster.members")));
    if !seen.members.is_empty() && !seen.members.iter().any(|member| member.own) {
        findings.push(warn(
            "this node is not among the members, so others do not find it".to_owned(),
            "add it to cluster.members as the other nodes know it, or set host.hostname",
        ));
    }
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().map(String::as_str).collect();
        findings.push(warn(
            format!("members have different versions: {}", versions.join(", ")),
            "they work together; install one version on all when you can",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use dfget_daemon::{MemberSeen, NodeTold};

    use super::*;

    fn member(name: &str, version: &str) -> MemberSeen {
        let told = NodeTold { version: version.to_owned(), ..NodeTold::default() };
        MemberSeen { name: name.to_owned(), own: name == "n1", down: None, told: Some(told) }
    }

    #[test]
    fn what_is_odd_with_members_is_told() {
        let all =
            ClusterSeen { members: vec![member("n1", "1"), member("n2", "1")], ..ClusterSeen::default() };
        assert_eq!(judge(&all).len(), 1);
        let silent = |name: &str| MemberSeen {
            name: name.to_owned(),
            down: Some("no route".to_owned()),
            ..MemberSeen::default()
        };
        let members =
            vec![member("n2", "1"), member("n3", "2"), silent("a"), silent("b"), silent("c"), silent("d")];
        let odd = judge(&ClusterSeen { members, ..ClusterSeen::default() });
        let texts: Vec<_> = odd.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "2 of 6 members answer",
                "a: no route",
                "b: no route",
                "c: no route",
                "and 1 more do not answer",
                "this node is not among the members, so others do not find it",
                "members have different versions: 1, 2",
            ]
        );
    }
}
