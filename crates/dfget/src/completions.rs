//! `dfget completions`.

use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::arguments::{Arguments, CompletedShell, CompletionsArguments};
use crate::message;

/// Prints the script of the shell.
pub(crate) fn run(arguments: &CompletionsArguments) -> ExitCode {
    let shell = match arguments.shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut shown(&Arguments::command()), "dfget", &mut script);
    message::printed(message::output(String::from_utf8_lossy(&script).trim_end()))
}

/// The command without what `dfget --help` does not show: completions would name it.
fn shown(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned())
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(shown));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}
