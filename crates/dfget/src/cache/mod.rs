//! `dfget cache`: what is stored, and what is done about it.
//!
//! A daemon that runs is asked by its API; without one, the same API is served by this very process
//! over the store, which nobody else has open then.

mod arguments;
mod export;
mod failure;
mod gc;
mod import;
mod layout;
mod ls;
mod place;
mod progress;
mod rm;
mod shown;
mod stat;
mod verify;
mod wanted;

use std::process::ExitCode;

use dfget_config::Environment;

pub(crate) use self::arguments::CacheCommand;
use self::failure::Failure;

/// Does what the command says.
pub(crate) fn run(command: &CacheCommand, environment: &Environment) -> ExitCode {
    let done = match command {
        CacheCommand::Ls(arguments) => ls::run(arguments, environment),
        CacheCommand::Stat(arguments) => stat::run(arguments, environment),
        CacheCommand::Rm(arguments) => rm::run(arguments, environment),
        CacheCommand::Verify(arguments) => verify::run(arguments, environment),
        CacheCommand::Gc(arguments) => gc::run(arguments, environment),
        CacheCommand::Export(arguments) => export::run(arguments, environment),
        CacheCommand::Import(arguments) => import::run(arguments, environment),
    };
    done.unwrap_or_else(Failure::tell)
}
