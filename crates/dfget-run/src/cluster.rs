//! `dfget run --cluster`: the nodes of a job feed each other.
//!
//! Such a command has a daemon of its own kind: another cluster, port or job has another one, and
//! neither the system's daemon nor that of other commands is asked. When the command has ended its
//! daemon stays while other nodes still pull; `dfget run` stays with it, for Slurm ends all of a
//! step's processes on a node when the task there ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dfget_core::{HostlistError, expand_hostlist};
use serde::{Deserialize, Serialize};

use crate::variables::Variables;

/// What the command line says about the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterWish {
    /// Who the members are (`--cluster`).
    pub members: String,
    /// The port for them (`--cluster-port`); `None` = by the job.
    pub port: Option<u16>,
    /// Where the key lies (`--cluster-key`); `None` = the usual place.
    pub key_file: Option<PathBuf>,
    /// How long the daemon stays at most while others still pull (`--cluster-linger`).
    pub linger: Duration,
}

/// What a daemon of a cluster is started with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StartCluster {
    /// Who the members are, a hostlist.
    pub members: String,
    /// The port for them; `None` = by the job.
    pub port: Option<u16>,
    /// The job of Slurm that it belongs to.
    pub job: Option<u64>,
    /// What Slurm calls this node.
    pub node: Option<String>,
    /// Where the key lies.
    pub key_file: PathBuf,
    /// Whether a missing key is made there.
    pub make_key: bool,
    /// How long it stays at most while others still pull, in milliseconds.
    pub linger_ms: u64,
}

// === impl ClusterWish ===

impl ClusterWish {
    /// Whether the list can be read.
    ///
    /// # Errors
    /// Where it is wrong.
    pub fn check(&self) -> Result<(), HostlistError> {
        expand_hostlist(&self.members).map(drop)
    }

    /// What its daemon is started with. Root has the system's key, which is never made; everybody
    /// else one below the home directory, which is.
    #[must_use]
    pub fn start(&self, variables: &Variables, is_root: bool) -> StartCluster {
        let directory = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = directory("HOME");
        let config = directory("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let own = config.filter(|_| !is_root).map(|config| config.join("dragonfly/cluster.key"));
        let in_home = |path: &Path| home.as_ref().is_some_and(|home| path.starts_with(home));
        StartCluster {
            members: self.members.clone(),
            port: self.port,
            job: variables.get("SLURM_JOB_ID").and_then(|id| id.trim().parse().ok()),
            node: variables.get("SLURMD_NODENAME").filter(|name| !name.is_empty()).cloned(),
            make_key: match &self.key_file {
                Some(path) => !is_root && in_home(path),
                None => own.is_some(),
            },
            key_file: self.key_file.clone().or(own).unwrap_or_else(|| SYSTEM_KEY.into()),
            linger_ms: u64::try_from(self.linger.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

// === impl StartCluster ===

impl StartCluster {
    /// Commands that share a daemon have this in common.
    pub(crate) fn identity(&self) -> String {
        let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let key = self.key_file.display();
        format!("{} {} {} {key}", self.members, number(self.port.map(u64::from)), number(self.job))
    }
}

/// The key of the system's daemon.
const SYSTEM_KEY: &str = "/etc/dragonfly/cluster.key";

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> ClusterWish {
        let members = "node[1-4]".to_owned();
        ClusterWish { members, port: None, key_file: None, linger: Duration::from_secs(600) }
    }

    fn variables(set: &[(&str, &str)]) -> Variables {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_daemon_is_told_its_job_and_where_the_key_lies() {
        let job = [("HOME", "/home/u"), ("SLURM_JOB_ID", "7"), ("SLURMD_NODENAME", "node3")];
        let start = wish().start(&variables(&job), false);
        assert_eq!((start.job, start.node.as_deref(), start.linger_ms), (Some(7), Some("node3"), 600_000));
        assert_eq!(start.key_file, Path::new("/home/u/.config/dragonfly/cluster.key"));
        assert!(start.make_key);
        let root = wish().start(&variables(&job), true);
        assert_eq!((root.key_file.to_str(), root.make_key), (Some(SYSTEM_KEY), false));
        let named = |path: &str, is_root| {
            let wish = ClusterWish { key_file: Some(path.into()), ..wish() };
            let start = wish.start(&variables(&job), is_root);
            (start.key_file.display().to_string(), start.make_key)
        };
        assert_eq!(named("/home/u/k", false), ("/home/u/k".into(), true));
        assert_eq!(named("/home/u/k", true), ("/home/u/k".into(), false));
        assert_eq!(named("/site/k", false), ("/site/k".into(), false));
        assert!(!wish().start(&Variables::new(), false).make_key, "without a home nothing is made");
    }

    #[test]
    fn only_commands_of_one_job_and_cluster_share_a_daemon() {
        let of =
            |wish: ClusterWish, job: &str| wish.start(&variables(&[("SLURM_JOB_ID", job)]), true).identity();
        assert_eq!(of(wish(), "7"), of(ClusterWish { linger: Duration::ZERO, ..wish() }, "7"));
        assert_ne!(of(wish(), "7"), of(wish(), "8"));
        assert_ne!(of(wish(), "7"), of(ClusterWish { port: Some(1), ..wish() }, "7"));
        assert_ne!(of(wish(), "7"), of(ClusterWish { members: "node1".into(), ..wish() }, "7"));
    }

    #[test]
    fn a_list_that_is_none_is_told_with_its_place() {
        let error = ClusterWish { members: "node[1-".into(), ..wish() }.check().unwrap_err();
        assert_eq!(error.to_string(), "a number is missing at character 8");
    }
}
