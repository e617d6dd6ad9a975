//! `dfget run`.

use std::process::ExitCode;

use dfget_run::{Options, Plan, Variables};
use serde_json::json;

use crate::arguments::{Output, RunArguments};
use crate::message;

/// Runs the command and passes its exit status on.
pub(crate) fn run(arguments: RunArguments) -> ExitCode {
    let RunArguments { hosts, all_hosts, cluster, dry_run, output, verbose, quiet, command } = arguments;
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
    let options = Options { hosts, all_hosts, cluster: cluster.wish(), verbose, quiet, command: words };
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
    message::printed(message::output(text))
}
