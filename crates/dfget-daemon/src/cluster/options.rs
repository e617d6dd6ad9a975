//! What the configuration says about the cluster, in the words of `dfget-cluster`.

use std::ffi::OsString;

use dfget_cluster::{Bind, ClusterOptions, Sources, slurm_job};
use dfget_config::{Cluster, Config};

/// The cluster that a daemon with this configuration belongs to; `None`: it works alone.
/// `variable` gives the environment's variables: a job of Slurm has ports and a name of its own.
#[must_use]
pub fn cluster_options(
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<ClusterOptions> {
    config.cluster.is_wanted().then(|| options(config, variable))
}

/// The same for one who is a peer of Dragonfly's schedulers: neither members nor key matter then. `None`: there are
/// none.
pub(super) fn guest_options(
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<ClusterOptions> {
    (!config.scheduler.addresses.is_empty()).then(|| options(config, variable))
}

fn options(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> ClusterOptions {
    let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
    let cluster = &config.cluster;
    let (grpc, pieces) = (config.download.peer_grpc, config.upload.listen);
    ClusterOptions {
        sources: sources(cluster),
        key_file: cluster.key_file.clone(),
        make_key: cluster.make_key,
        allow_plaintext: cluster.allow_plaintext_peers,
        hostname: config.host.hostname.clone(),
        advertise: config.host.advertise_ip,
        job: slurm_job(text("SLURM_JOB_ID").as_deref()),
        aliases: text("SLURMD_NODENAME").into_iter().filter(|name| !name.is_empty()).collect(),
        grpc: Bind { ip: grpc.ip, port: cluster.port.or(grpc.port) },
        pieces: Bind { ip: pieces.ip, port: pieces.port },
    }
}

/// Where the members are named.
pub(super) fn sources(cluster: &Cluster) -> Sources {
    Sources {
        hostlists: cluster.members.clone(),
        file: cluster.members_file.clone(),
        dns: cluster.dns.clone(),
    }
}

#[cfg(test)]
mod tests {
    use dfget_config::{Paths, Proxy};

    use super::*;

    fn config() -> Config {
        Config::new(Proxy::default(), Paths { log_dir: None, data_dir: "/d".into() })
    }

    #[test]
    fn who_names_no_member_works_alone() {
        assert!(cluster_options(&config(), |_| None).is_none());
    }

    #[test]
    fn the_cluster_is_what_the_file_and_the_job_say() {
        let mut config = config();
        config.cluster = Cluster { members: vec!["n[1-2]".to_owned()], ..Cluster::default() };
        config.download.peer_grpc.port = Some(7);
        config.upload.listen.port = Some(9);
        let job = |name: &str| match name {
            "SLURM_JOB_ID" => Some("5".into()),
            "SLURMD_NODENAME" => Some("n2".into()),
            _ => None,
        };
        let options = cluster_options(&config, job).unwrap();
        assert_eq!((options.job, options.aliases.as_slice()), (Some(5), &["n2".to_owned()][..]));
        assert_eq!(options.ports().unwrap(), (7, 9));
        config.cluster.port = Some(8);
        assert_eq!(cluster_options(&config, job).unwrap().ports().unwrap(), (8, 9));
    }
}
