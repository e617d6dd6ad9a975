//! `dfget cluster`.

mod shown;
mod status;

pub(crate) use self::shown::{age, size};

use std::process::ExitCode;

use dfget_cluster::ClusterKey;
use dfget_config::Environment;

use crate::arguments::ClusterCommand;
use crate::message;

/// Does what the command says.
pub(crate) fn run(command: &ClusterCommand, environment: &Environment) -> ExitCode {
    match command {
        ClusterCommand::Key => key(),
        ClusterCommand::Status(arguments) => status::run(arguments, environment),
    }
}

/// Prints a new key.
fn key() -> ExitCode {
    let key = match ClusterKey::generate() {
        Ok(key) => key,
        Err(error) => {
            message::error(format_args!("no key can be made: {error}"));
            return ExitCode::FAILURE;
        }
    };
    message::printed(message::output(key.to_text().trim_end()))
}
