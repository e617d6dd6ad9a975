//! `dfget cluster status`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use dfget_cluster::ClusterOptions;
use dfget_config::{ConfigErrors, Environment, LoadOptions, load_without_authority};
use dfget_core::unix_seconds;
use dfget_daemon::{
    AskDaemon, ClusterStatus, StatusError, cluster_options, cluster_status, cluster_status_by_daemon,
    dragonfly_status,
};
use dfget_run::{ClusterWish, Variables};

use super::shown::{to_json, to_text};
use crate::arguments::{Output, StatusArguments};
use crate::{leased, message};

/// A member is down.
const SOME_DOWN: u8 = 1;
/// A wrong command line.
const USAGE: u8 = 2;
/// The key is somebody else's (`EX_NOPERM` of sysexits).
const NOT_ALLOWED: u8 = 77;

/// Which cluster is meant.
enum Meant {
    /// One of daemons like this node's.
    Own {
        options: Box<ClusterOptions>,
        /// Whether this node's daemon may answer.
        daemon: AskDaemon,
    },
    /// One of Dragonfly, with these schedulers.
    Dragonfly(Vec<(String, u16)>),
}

/// Says how the members of a cluster are.
pub(crate) fn run(arguments: &StatusArguments, environment: &Environment) -> ExitCode {
    let status = match meant(arguments, environment) {
        Ok(Meant::Own { options, daemon }) => cluster_status(&options, daemon),
        Ok(Meant::Dragonfly(schedulers)) => dragonfly_status(&schedulers),
        // Root is told what is wrong with the file.
        Err(NotMeant::Config(failed)) => {
            match of_daemon(arguments).filter(|_| !rustix::process::geteuid().is_root()) {
                Some(status) => Ok(status),
                None => {
                    message::diagnostics(failed.errors.iter().chain(&failed.warnings));
                    return ExitCode::from(ConfigErrors::EXIT_CODE);
                }
            }
        }
        Err(NotMeant::List(reason)) => {
            message::error(reason);
            return ExitCode::from(USAGE);
        }
        // Its daemon may have been told by `--cluster` or `--scheduler`.
        Err(NotMeant::Alone(file)) => match of_daemon(arguments) {
            Some(status) => Ok(status),
            None => {
                message::error(format_args!(
                    "{} names no cluster: set cluster.members, cluster.membersFile or cluster.dns there, or \
                     scheduler.netAddrs, or say --cluster HOSTLIST",
                    file.display()
                ));
                return ExitCode::from(ConfigErrors::EXIT_CODE);
            }
        },
    };
    match status {
        Ok(status) => print(&status, arguments.output),
        Err(error) => {
            message::error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Why it cannot be said which cluster is meant.
enum NotMeant {
    /// The file cannot be used.
    Config(ConfigErrors),
    /// The file names no cluster.
    Alone(PathBuf),
    /// `--cluster` is no list.
    List(String),
}

/// The cluster of the command line, as `dfget run` has it; else that of the file, as `dfget daemon` has it.
fn meant(arguments: &StatusArguments, environment: &Environment) -> Result<Meant, NotMeant> {
    let StatusArguments { config, cluster, cluster_port, cluster_key, .. } = arguments;
    let key = cluster_key.as_ref().map(|path| environment.working_directory.join(path));
    if let (Some(members), None) = (cluster, config) {
        let (members, linger) = (members.clone(), Duration::ZERO);
        let wish = ClusterWish { members, port: *cluster_port, key_file: key, linger };
        wish.check().map_err(|error| {
            NotMeant::List(format!(
                "--cluster: {error}; write it as 'node[001-128]' or \"$SLURM_JOB_NODELIST\""
            ))
        })?;
        let variables = crate::variables::variables::<Variables>();
        let start = wish.start(&variables, rustix::process::geteuid().is_root());
        let options = Box::new(leased::cluster(start).options);
        return Ok(Meant::Own { options, daemon: AskDaemon::Never });
    }
    let options = LoadOptions {
        config: config.clone(),
        cluster: cluster.clone(),
        cluster_port: *cluster_port,
        ..LoadOptions::default()
    };
    let loaded = load_without_authority(&options, environment).map_err(NotMeant::Config)?;
    if !loaded.config.scheduler.addresses.is_empty() {
        return Ok(Meant::Dragonfly(loaded.config.scheduler.addresses));
    }
    // A job has ports of its own, the daemon of the file has not.
    let variable = |name: &str| match name {
        "SLURM_JOB_ID" if cluster.is_none() => None,
        _ => std::env::var_os(name),
    };
    let Some(mut options) = cluster_options(&loaded.config, variable) else {
        return Err(NotMeant::Alone(loaded.source));
    };
    let daemon = match (&key, cluster) {
        (None, None) if options.make_key => AskDaemon::First,
        (None, None) => AskDaemon::WithoutKey,
        _ => AskDaemon::Never,
    };
    if let Some(key) = key {
        options.key_file = key;
    }
    Ok(Meant::Own { options: Box::new(options), daemon })
}

/// What the daemon answers, unless a cluster is named: the file may not be for everybody's eyes, or name none.
fn of_daemon(arguments: &StatusArguments) -> Option<ClusterStatus> {
    let StatusArguments { config, cluster, cluster_port, cluster_key, .. } = arguments;
    let unspecific = config.is_none() && cluster.is_none() && cluster_port.is_none() && cluster_key.is_none();
    if unspecific { cluster_status_by_daemon().ok() } else { None }
}

fn print(status: &ClusterStatus, output: Output) -> ExitCode {
    let now = unix_seconds(SystemTime::now());
    let ClusterStatus { seen, by_daemon } = status;
    let text = match output {
        Output::Text => {
            for remark in &seen.remarks {
                message::warning(remark);
            }
            to_text(seen, by_daemon.as_deref().map(Path::new), now)
        }
        Output::Json => to_json(seen, by_daemon.as_deref(), now).to_string(),
    };
    let all_up = seen.members.iter().all(|member| member.told.is_some())
        && seen.schedulers.iter().all(|scheduler| scheduler.down.is_none());
    let status = if all_up { ExitCode::SUCCESS } else { ExitCode::from(SOME_DOWN) };
    message::printed_or(message::output(text), status)
}

fn exit_code(error: &StatusError) -> u8 {
    match error {
        StatusError::Key { .. } if error.is_not_allowed() => NOT_ALLOWED,
        StatusError::Io(_) => 1,
        _ => ConfigErrors::EXIT_CODE,
    }
}
