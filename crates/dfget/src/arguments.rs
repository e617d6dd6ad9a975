//! The command line: commands, flags and the help. Lines of the help have at most 80 characters.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Fast, safe and polite image pulls for Apptainer and Singularity
#[derive(Debug, Parser)]
#[command(name = "dfget", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong or odd with a configuration, without starting
    Check(CheckArguments),
}

/// Say all that is wrong or odd with a configuration, without starting anything.
///
/// Exit status: 0 it can be used, 78 it cannot, 2 wrong command line.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArguments {
    /// The file to look at [default: the one the daemon would read]
    pub(crate) file: Option<PathBuf>,

    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// Lines to read
    Text,
    /// One JSON object, for programs
    Json,
}

const EXAMPLES: &str = "\
Examples:
  dfget config check                  look at the file the daemon would read
  dfget config check my.yaml          look at this one

Configuration: --config FILE, else $DFGET_CONFIG, else
/etc/dragonfly/dfget.yaml, else ~/.config/dragonfly/dfget.yaml.";

const CHECK_EXAMPLES: &str = "\
Examples:
  dfget config check
  dfget config check my.yaml --output json";
