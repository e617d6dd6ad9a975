//! The `dfget` command.
//!
//! Owns the command line, what is printed, and exit statuses; everything else is the work of the
//! other crates. Exit statuses: 0 done, 1 failed (of `explain`: the
//! answer is no; of `cluster status`: a member is down; of `doctor`: something is bad; of `cache verify`: something was
//! rotten), 2 a wrong command line, 75 try again later (`EX_TEMPFAIL` of sysexits), 77 not allowed (`EX_NOPERM`), 78 a
//! configuration that cannot be used (`EX_CONFIG`); of `get` and `preheat` also 124 its time is over, 130 interrupted.

mod api;
mod arguments;
mod ca;
mod cache;
mod check;
mod cluster;
mod completions;
mod daemon;
mod doctor;
mod explain;
mod get;
#[cfg(test)]
mod help_tests;
mod leased;
mod manual;
mod message;
mod preheat;
mod run;
mod setup;
mod show;
mod top;
mod values;
mod variables;
mod words;

use std::{process::ExitCode, sync::Arc};

use clap::Parser as _;
use dfget_config::Environment;
use dfget_daemon::PemRules;

use crate::arguments::{Arguments, Command, ConfigCommand};

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(get::with_command(std::env::args_os()));
    let environment = match Environment::current(Arc::new(PemRules)) {
        Ok(environment) => environment,
        Err(error) => {
            message::error(format_args!("the working directory is gone: {error}; `cd` to one that exists"));
            return ExitCode::FAILURE;
        }
    };
    match arguments.command {
        Command::Daemon(arguments) => daemon::run(arguments, &environment),
        Command::Get(arguments) => get::run(&arguments),
        Command::Preheat(arguments) => preheat::run(&arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::LeasedDaemon => leased::run(),
        Command::Cluster(command) => cluster::run(&command, &environment),
        Command::Cache(command) => cache::run(&command, &environment),
        Command::Ca(command) => ca::run(command, &environment),
        Command::Config(ConfigCommand::Check(arguments)) => check::run(&arguments, &environment),
        Command::Config(ConfigCommand::Show(arguments)) => show::run(arguments, &environment),
        Command::Config(ConfigCommand::Reference) => show::reference(),
        Command::Explain(arguments) => explain::run(arguments, &environment),
        Command::Doctor(arguments) => doctor::run(arguments, &environment),
        Command::Top(arguments) => top::run(&arguments),
        Command::Setup(arguments) => setup::run(arguments, &environment),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => manual::run(&arguments),
    }
}
