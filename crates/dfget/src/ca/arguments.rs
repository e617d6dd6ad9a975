//! The command line of `dfget ca`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dfget_tls::NewAuthority;

use crate::arguments::Output;

/// What can be done with the authority.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a certificate authority for the hosts that are hijacked
    Create(CreateArguments),

    /// Show a certificate authority, and what is weak about it
    Show(ShowArguments),

    /// Print the system's authorities and dfget's as one file of PEM
    Bundle(BundleArguments),

    /// Let all programs of this machine trust the authority (as root)
    Install(InstallArguments),

    /// Make a new authority in place of the old one
    Rotate(RotateArguments),
}

/// For which hosts.
#[derive(Args, Debug)]
pub(crate) struct HostArguments {
    /// A host it is for; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,

    /// Bind it to no host: its key can impersonate any site then
    #[arg(long, conflicts_with = "hosts")]
    pub(crate) any_host: bool,
}

/// Where, and for how long.
#[derive(Args, Debug)]
pub(crate) struct PairArguments {
    /// Directory of ca.crt and ca.key [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Days it is valid
    #[arg(
        long,
        value_name = "N",
        default_value_t = NewAuthority::DEFAULT_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(NewAuthority::MOST_DAYS))
    )]
    pub(crate) days: u32,
}

/// Which configuration.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgument {
    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Flags of `dfget ca create`.
#[derive(Args, Debug)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    pub(crate) hosts: HostArguments,

    #[command(flatten)]
    pub(crate) pair: PairArguments,

    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

/// Flags of `dfget ca show`.
#[derive(Args, Debug)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArguments {
    /// The certificate [default: the one that the daemon uses]
    pub(crate) file: Option<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

/// Flags of `dfget ca bundle`.
#[derive(Args, Debug)]
#[command(after_help = BUNDLE_EXAMPLES)]
pub(crate) struct BundleArguments {
    /// The certificate [default: the one that the daemon uses]
    pub(crate) file: Option<PathBuf>,

    /// Write it to a file instead of standard output
    #[arg(short = 'O', long = "to", value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

/// Flags of `dfget ca install`.
#[derive(Args, Debug)]
#[command(after_help = INSTALL_EXAMPLES)]
pub(crate) struct InstallArguments {
    /// The certificate [default: the one that the daemon uses]
    #[arg(conflicts_with = "remove")]
    pub(crate) file: Option<PathBuf>,

    /// Take it out of the system's store again
    #[arg(long)]
    pub(crate) remove: bool,

    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

/// Flags of `dfget ca rotate`.
#[derive(Args, Debug)]
#[command(after_help = ROTATE_EXAMPLES)]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    pub(crate) hosts: HostArguments,

    #[command(flatten)]
    pub(crate) pair: PairArguments,

    #[command(flatten)]
    pub(crate) config: ConfigArgument,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  dfget ca create
  dfget ca create --host registry.example.com --host 192.0.2.7
  dfget ca create --host registry.example.com --dir ~/pki --days 90

Without --host it is for the hosts that hijackHTTPS.hosts spells out. It is
bound to them by name constraints, which also cover the names below them.

Exit status: 0 made, 1 failed or there already, 2 wrong command line,
78 the configuration cannot be used.";

const SHOW_EXAMPLES: &str = "\
Examples:
  dfget ca show
  dfget ca show /etc/dragonfly/ca.crt --output json

Exit status: 0 shown, 1 there is none or it cannot be read,
2 wrong command line, 78 the configuration cannot be used.";

const BUNDLE_EXAMPLES: &str = "\
Examples:
  dfget ca bundle -O ~/bundle.pem
  SSL_CERT_FILE=~/bundle.pem apptainer pull oras://registry.example.com/a:b

The system's authorities are those of the file that SSL_CERT_FILE names, if it
is set. The bundle is a copy: make it anew when they change.

Exit status: 0 written, 1 failed, 2 wrong command line,
78 the configuration cannot be used.";

const INSTALL_EXAMPLES: &str = "\
Examples:
  sudo dfget ca install
  sudo dfget ca install /etc/dragonfly/ca.crt
  sudo dfget ca install --remove

Exit status: 0 done, 1 failed or no store that is known, 2 wrong command line,
77 not root, 78 the configuration cannot be used.";

const ROTATE_EXAMPLES: &str = "\
Examples:
  dfget ca rotate
  dfget ca rotate --host registry.example.com --host mirror.example.com

Without --host the new one is for the same hosts as the old one. The old
certificate is kept as ca.crt.old, the old key is destroyed.

Exit status: 0 made, 1 failed, 2 wrong command line,
78 the configuration cannot be used.";
