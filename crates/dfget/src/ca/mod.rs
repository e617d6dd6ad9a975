//! `dfget ca`: the authority that signs for hijacked hosts, as a file to make, look at and hand out.
//!
//! Nothing here prints a key, and nothing of the system is changed but by `install`, and by `rotate`
//! where the old authority was installed.

mod arguments;
mod bundle;
mod create;
mod failure;
mod install;
mod rotate;
mod show;
mod site;
mod store;

use std::process::ExitCode;

use dfget_config::Environment;

pub(crate) use arguments::CaCommand;

use self::failure::Failure;

/// Does what is asked, and says why not.
pub(crate) fn run(command: CaCommand, environment: &Environment) -> ExitCode {
    let done = match command {
        CaCommand::Create(arguments) => create::run(arguments, environment),
        CaCommand::Show(arguments) => show::run(arguments, environment),
        CaCommand::Bundle(arguments) => bundle::run(arguments, environment),
        CaCommand::Install(arguments) => install::run(arguments, environment),
        CaCommand::Rotate(arguments) => rotate::run(arguments, environment),
    };
    done.map_or_else(|failure| failure.say(), |()| ExitCode::SUCCESS)
}
