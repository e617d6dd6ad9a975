//! The hidden command that `dfget run` starts its daemon by.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use dfget_cluster::{Bind, ClusterOptions, Sources};
use dfget_daemon::{LeasedCluster, LeasedOptions, run_leased};
use dfget_run::{Start, StartCluster, Started};

use crate::message;

/// Reads how to start from standard input, and says on standard output how that went.
pub(crate) fn run() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            answer(&Started::Failed(reason));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let start: Start = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| format!("this command is for `dfget run` alone: {error}"))?;
    let upstream = start.way().upstream().map_err(|error| error.to_string())?;
    let options = LeasedOptions {
        socket: start.socket,
        lock: start.lock,
        data_dir: start.data_dir,
        log_dir: start.log_dir,
        ca_dir: start.ca_dir,
        upstream,
        linger: Duration::from_millis(start.linger_ms),
        verbose: start.verbose,
        cluster: start.cluster.map(cluster),
    };
    run_leased(options, |notes| answer(&Started::Ready(notes))).map_err(|error| error.to_string())
}

/// What a command of a cluster wants, in the words of the daemon.
pub(crate) fn cluster(start: StartCluster) -> LeasedCluster {
    LeasedCluster {
        linger: Duration::from_millis(start.linger_ms),
        options: ClusterOptions {
            sources: Sources { hostlists: vec![start.members], ..Sources::default() },
            key_file: start.key_file,
            make_key: start.make_key,
            job: start.job,
            aliases: start.node.into_iter().collect(),
            grpc: Bind { ip: None, port: start.port },
            ..ClusterOptions::default()
        },
    }
}

fn answer(started: &Started) {
    // Nobody is left to hear that nobody listens.
    let _ = serde_json::to_string(started).map(message::output);
}
