//! `dfget setup`: files for other programs, filled in for this machine.

mod examples;
mod facts;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use dfget_config::{ConfigErrors, Environment, LoadOptions, load_without_authority};

use self::examples::{EXAMPLES, Example};
use self::facts::Facts;
use crate::arguments::SetupArguments;
use crate::message;

/// The names of all examples, for the command line.
pub(crate) fn names() -> Vec<PossibleValue> {
    EXAMPLES.iter().map(|example| PossibleValue::new(example.name).help(example.about)).collect()
}

/// Prints an example, or lists them.
pub(crate) fn run(arguments: SetupArguments, environment: &Environment) -> ExitCode {
    let wanted = arguments.what.as_deref();
    let Some(example) = wanted.and_then(|name| EXAMPLES.iter().find(|example| example.name == name)) else {
        return message::printed(message::output(list()));
    };
    let Some(facts) = facts(arguments.config, environment) else {
        return ExitCode::from(ConfigErrors::EXIT_CODE);
    };
    let text = facts.fill(example);
    let Some(file) = arguments.output else {
        tell(example, example.place);
        return message::printed(message::output(text.trim_end()));
    };
    match write(&file, &text) {
        Ok(()) => {
            tell(example, &file.display().to_string());
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            message::error(format_args!(
                "{} is there already; look at it, then remove it or name another file by --output",
                file.display()
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            message::error(format_args!(
                "{} cannot be written: {error}; name another file by --output",
                file.display()
            ));
            ExitCode::FAILURE
        }
    }
}

/// What is so here. `None` if a configuration cannot be used, which is said.
fn facts(config: Option<std::path::PathBuf>, environment: &Environment) -> Option<Facts> {
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/dfget".into());
    let facts = Facts::new(program);
    let options = LoadOptions { config, ..LoadOptions::default() };
    match load_without_authority(&options, environment) {
        Ok(loaded) => Some(facts.with(&loaded.config, &loaded.source)),
        Err(failed) if failed.source.is_none() => {
            message::note("dfget setup: there is no dfget.yaml here; addresses are the usual ones");
            Some(facts)
        }
        Err(failed) => {
            message::diagnostics(failed.errors.iter().chain(&failed.warnings));
            None
        }
    }
}

/// Where the file goes and what is to be typed, for who reads it at a terminal.
fn tell(example: &Example, place: &str) {
    let then = match example.then {
        "" => String::new(),
        command => format!("; then: {command}"),
    };
    message::note(format_args!("dfget setup: {place}{then}"));
}

/// Writes a file that is not there yet.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(file)?;
    file.write_all(text.as_bytes())
}

fn list() -> String {
    let line = |example: &Example| format!("  {:<15} {}", example.name, example.about);
    let lines: Vec<_> = EXAMPLES.iter().map(line).collect();
    format!("`dfget setup WHAT` prints one of these for this machine:\n{}", lines.join("\n"))
}
