//! `dfget run`.

use std::path::PathBuf;
use std::process::ExitCode;

use dfget_run::{ClusterWish, Options, Plan, Variables};
use serde_json::json;

use crate::arguments::{Output, RunArguments};
use crate::message;

/// Runs the command and passes its exit status on.
pub(crate) fn run(arguments: RunArguments) -> ExitCode {
    let cluster = cluster(&arguments);
    let RunArguments { hosts, all_hosts, dry_run, output, verbose, quiet, command, .. } = arguments;
    let mut words = Vec::new();
    for word in command {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                message::error(format_args!("{}: an argument must be UTF-8", word.to_string_lossy()));
                return ExitCode::from(2);
            }
        }
    }
    let options = Options { hosts, all_hosts, cluster, verbose, quiet, command: words };
    let variables = crate::variables::variables::<Variables>();
    let ended = if dry_run {
        dfget_run::plan(options, variables).map(|plan| print(&plan, output))
    } else {
        dfget_run::run(options, variables, |line| message::note(format_args!("dfget run: {line}")))
            .map(ExitCode::from)
    };
    ended.unwrap_or_else(|error| {
        message::error(&error);
        ExitCode::from(error.exit_code())
    })
}

fn cluster(arguments: &RunArguments) -> Option<ClusterWish> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    Some(ClusterWish {
        members: arguments.cluster.clone()?,
        port: arguments.cluster_port,
        key_file: arguments.cluster_key.as_ref().map(absolute),
        linger: arguments.cluster_linger,
    })
}

fn print(plan: &Plan, output: Output) -> ExitCode {
    let text = match output {
        Output::Text => {
            plan.notes.iter().for_each(|note| message::note(format_args!("dfget run: {note}")));
            let lines: Vec<_> =
                plan.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.join("\n")
        }
        Output::Json => json!({
            "version": 1,
            "hosts": plan.hosts,
            "allHosts": plan.all_hosts,
            "store": plan.store.display().to_string(),
            "environment": plan.variables,
            "notes": plan.notes,
        })
        .to_string(),
    };
    match message::output(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            message::error(format_args!("standard output cannot be written: {error}; look for a full disk"));
            ExitCode::FAILURE
        }
    }
}
