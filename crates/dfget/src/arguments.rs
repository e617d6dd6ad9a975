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
    /// Run the proxy until SIGTERM or SIGINT
    Daemon(DaemonArguments),

    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Flags of `dfget daemon`; they override the file.
#[derive(Args, Debug)]
#[command(after_help = DAEMON_EXAMPLES)]
pub(crate) struct DaemonArguments {
    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Log to standard output in human form instead of files
    #[arg(long)]
    pub(crate) console: bool,

    /// Log at debug level
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong or odd with a configuration, without starting
    Check(CheckArguments),
}

/// Flags of `dfget config check`.
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
  dfget daemon                        run the proxy
  dfget config check                  look at the file the daemon would read
  dfget config check my.yaml          look at this one

Configuration: --config FILE, else $DFGET_CONFIG, else
/etc/dragonfly/dfget.yaml, else ~/.config/dragonfly/dfget.yaml.";

const DAEMON_EXAMPLES: &str = "\
Examples:
  dfget daemon
  dfget daemon --config my.yaml --console

A client then pulls through it; no_proxy must not name the registry:
  SSL_CERT_FILE=ca.crt HTTPS_PROXY=127.0.0.1:65001 \\
    apptainer pull oras://registry.example.com/path/image:tag

Exit status: 0 told to end, 78 the configuration cannot be used,
2 wrong command line, 1 anything else.";

const CHECK_EXAMPLES: &str = "\
Examples:
  dfget config check
  dfget config check my.yaml --output json

Exit status: 0 it can be used, 78 it cannot, 2 wrong command line.";
