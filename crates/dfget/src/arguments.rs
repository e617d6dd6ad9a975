//! The command line: commands, flags and the help. Lines of the help have at most 80 characters.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use dfget_run::ClusterWish;

use crate::ca::CaCommand;
use crate::cache::CacheCommand;
use crate::get::GetArguments;
use crate::preheat::PreheatArguments;
use crate::values::duration;

/// Fast, safe and polite image pulls for Apptainer and Singularity
#[derive(Debug, Parser)]
#[command(
    name = "dfget",
    version,
    arg_required_else_help = true,
    next_line_help = true,
    after_help = EXAMPLES
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy until SIGTERM or SIGINT
    Daemon(DaemonArguments),

    /// Get a file or an image; `get` need not be said
    Get(Box<GetArguments>),

    /// Get images into the store of this node before they are needed
    Preheat(PreheatArguments),

    /// Run a command whose image pulls go through a daemon of this node
    Run(RunArguments),

    /// The daemon behind `dfget run`, which starts it
    #[command(hide = true)]
    LeasedDaemon,

    /// Make and keep the certificate authority that clients trust
    #[command(subcommand)]
    Ca(CaCommand),

    /// Nodes that feed each other
    #[command(subcommand)]
    Cluster(ClusterCommand),

    /// Look at what is stored, check it, remove it, carry it elsewhere
    #[command(subcommand)]
    Cache(CacheCommand),

    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),

    /// Say what would become of a URL or an image, and why
    Explain(ExplainArguments),

    /// Look for all that would make a first pull fail on this node
    Doctor(DoctorArguments),

    /// Look at the daemon of this node while it works
    Top(TopArguments),

    /// Print files for systemd, Slurm, Ansible and others, for this machine
    Setup(SetupArguments),

    /// Print what completes dfget's commands in a shell
    Completions(CompletionsArguments),

    /// Write the manual pages, one for each command
    #[command(hide = true)]
    Man(ManArguments),
}

/// Flags of `dfget doctor`.
#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArguments {
    /// Registries to try besides those of the file (NAME or NAME:PORT)
    #[arg(value_name = "REGISTRY")]
    pub(crate) registries: Vec<String>,

    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Ask no registry and no other node
    #[arg(long)]
    pub(crate) offline: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print a new key, which all nodes of a cluster share
    #[command(after_help = KEY_EXAMPLES)]
    Key,

    /// Say how all members are, and what they have had from each other
    Status(StatusArguments),
}

/// Flags of `dfget cluster status`.
#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArguments {
    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The members, instead of those of the file: "$SLURM_JOB_NODELIST"
    #[arg(long, value_name = "HOSTLIST")]
    pub(crate) cluster: Option<String>,

    /// Their port [default: that of the file; in a job, the job's]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    pub(crate) cluster_port: Option<u16>,

    /// The key they share [default: that of the daemon, or of the job]
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_key: Option<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
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
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Nodes that feed each other, such as 'node[001-128]'
    #[arg(long, value_name = "HOSTLIST")]
    pub(crate) cluster: Option<String>,

    /// Port for them; pieces go two above it [default: 65000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    pub(crate) cluster_port: Option<u16>,

    /// A Dragonfly scheduler to join, such as 'scheduler.example.com:8002'
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "cluster")]
    pub(crate) scheduler: Option<String>,
}

/// Flags of `dfget run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// Go through the daemon to this host too (NAME or NAME:PORT)
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,

    /// Go through the daemon to every host (for nextflow, snakemake, …)
    #[arg(long)]
    pub(crate) all_hosts: bool,

    #[command(flatten)]
    pub(crate) cluster: JobClusterArguments,

    /// Print the environment the command would get, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// What --dry-run prints
    #[arg(long, value_enum, default_value_t = Output::Text, requires = "dry_run")]
    pub(crate) output: Output,

    /// Say what is decided, and why
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Say nothing but errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// The cluster of a job, for `dfget run` and `dfget get`.
#[derive(Args, Clone, Debug)]
pub(crate) struct JobClusterArguments {
    /// Nodes that feed each other, such as "$SLURM_JOB_NODELIST"
    #[arg(long, value_name = "HOSTLIST")]
    pub(crate) cluster: Option<String>,

    /// Port for them [default: by SLURM_JOB_ID, else 65000]
    #[arg(
        long,
        value_name = "PORT",
        requires = "cluster",
        value_parser = clap::value_parser!(u16).range(1..=65_533)
    )]
    pub(crate) cluster_port: Option<u16>,

    /// The key they share [default: ~/.config/dragonfly/cluster.key]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) cluster_key: Option<PathBuf>,

    /// Stay for so long at most while other nodes still pull
    #[arg(
        long,
        value_name = "DURATION",
        requires = "cluster",
        default_value = "10m",
        value_parser = duration
    )]
    pub(crate) cluster_linger: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong or odd with a configuration, without starting
    Check(CheckArguments),

    /// Print the configuration in effect, and where each value is from
    Show(ShowArguments),

    /// Print every key there is, with its meaning and default (Markdown)
    #[command(after_help = REFERENCE_EXAMPLES)]
    Reference,
}

/// Flags of `dfget config show`.
#[derive(Args, Debug)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArguments {
    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// As `dfget daemon --console` would have it
    #[arg(long)]
    pub(crate) console: bool,

    /// As `dfget daemon --verbose` would have it
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// As `dfget daemon --cluster HOSTLIST` would have it
    #[arg(long, value_name = "HOSTLIST")]
    pub(crate) cluster: Option<String>,

    /// As `dfget daemon --cluster-port PORT` would have it
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    pub(crate) cluster_port: Option<u16>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Flags of `dfget explain`.
#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct ExplainArguments {
    /// A URL, or an image (oras://…, docker://…, library://…, HOST/…)
    #[arg(value_name = "URL|IMAGE")]
    pub(crate) reference: String,

    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The method by which a URL is asked for
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,

    /// A header that the client sends; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Flags of `dfget top`.
#[derive(Args, Debug)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct TopArguments {
    /// Print one picture and end, as where standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    /// Print the address of the same as a web page, with its token
    #[arg(long, conflicts_with_all = ["once", "output"])]
    pub(crate) web: bool,
}

/// Flags of `dfget config check`.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArguments {
    /// The configuration file [default: see `dfget --help`]
    pub(crate) file: Option<PathBuf>,

    /// The same, as a flag
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Flags of `dfget setup`.
#[derive(Args, Debug)]
#[command(after_help = SETUP_EXAMPLES)]
pub(crate) struct SetupArguments {
    /// Which file; without it, all are listed
    #[arg(
        value_name = "WHAT",
        value_parser = PossibleValuesParser::new(crate::setup::names()),
        hide_possible_values = true
    )]
    pub(crate) what: Option<String>,

    /// The configuration file [default: see `dfget --help`]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Write it to this new file instead of standard output
    #[arg(long, short = 'O', value_name = "FILE", requires = "what")]
    pub(crate) output: Option<PathBuf>,
}

/// Flags of `dfget completions`.
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: CompletedShell,
}

/// A shell whose completions are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

/// Flags of `dfget man`.
#[derive(Args, Debug)]
pub(crate) struct ManArguments {
    /// The directory for the pages; it must be there
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

// === impl JobClusterArguments ===

impl JobClusterArguments {
    /// The cluster, if one is named.
    pub(crate) fn wish(&self) -> Option<ClusterWish> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Some(ClusterWish {
            members: self.cluster.clone()?,
            port: self.cluster_port,
            key_file: self.cluster_key.as_ref().map(absolute),
            linger: self.cluster_linger,
        })
    }
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    // No help of their own, which would make `--help` twice as long as `-h`.
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  dfget run -- apptainer pull oras://registry.example.org/project/image:1
                                      pull through a daemon, without any set-up
  dfget oras://registry.example.org/project/image:1 -O image.sif
                                      get it without another program
  dfget preheat -f images.txt         get images before a job starts
  dfget daemon                        run the proxy for all users of this node
  dfget doctor                        look for what would make a pull fail
  dfget explain oras://registry.example.org/project/image:1
                                      say whether it is cached, and why not
  dfget top                           look at the downloads that run
  dfget cache ls                      look at what is stored
  dfget config check                  look at the file the daemon would read
  dfget setup                         list files for systemd, Slurm and others

Configuration: --config FILE, else $DFGET_CONFIG, else
/etc/dragonfly/dfget.yaml, else ~/.config/dragonfly/dfget.yaml.";

const DAEMON_EXAMPLES: &str = "\
Examples:
  dfget daemon
  dfget daemon --config my.yaml --console
  dfget daemon --cluster 'node[001-128]'

A client then pulls through it; no_proxy must not name the registry:
  SSL_CERT_FILE=ca.crt HTTPS_PROXY=127.0.0.1:65001 \\
    apptainer pull oras://registry.example.com/path/image:tag

Exit status: 0 told to end, 78 the configuration cannot be used,
2 wrong command line, 1 anything else.";

const RUN_EXAMPLES: &str = "\
Examples:
  dfget run -- apptainer pull oras://registry.example.org/project/image:1
  dfget run -- apptainer exec docker://ghcr.io/project/image:1 true
  dfget run --host registry.example.org -- ./my-script.sh
  dfget run --all-hosts -- nextflow run main.nf
  srun --ntasks-per-node=1 dfget run --cluster \"$SLURM_JOB_NODELIST\" -- \\
    apptainer pull oras://registry.example.org/project/image:1

A daemon of this node is used if there is one, else one is started, without
root; it ends seconds after its last command. The command alone gets
HTTPS_PROXY and a bundle of authorities. If no daemon can be had, it runs
directly.

Exit status: that of the command; 127 it was not found, 126 it cannot be
executed, 128+n it was ended by signal n, 2 wrong command line.";

const KEY_EXAMPLES: &str = "\
Examples:
  (umask 077; dfget cluster key > /etc/dragonfly/cluster.key)
                                      make it on one node, then copy it to all

Only its owner may read the file (mode 0600). Who has the key belongs to the
cluster.

Exit status: 0 printed, 1 it cannot be.";

const STATUS_EXAMPLES: &str = "\
Examples:
  dfget cluster status                the cluster of the file
  dfget cluster status --output json
  dfget cluster status --cluster \"$SLURM_JOB_NODELIST\"
                                      that of this job's `dfget run --cluster`

Members are asked with the cluster's key. Who cannot read it is told what the
daemon of this node sees.

Exit status: 0 all are up, 1 some are down, 77 the key is not yours, 78 the
configuration or the key cannot be used, 2 wrong command line.";

const CHECK_EXAMPLES: &str = "\
Examples:
  dfget config check
  dfget config check my.yaml --output json

Exit status: 0 it can be used, 78 it cannot, 2 wrong command line.";

const SHOW_EXAMPLES: &str = "\
Examples:
  dfget config show
  dfget config show --config my.yaml --output json

What is printed is a configuration file itself and means the same; secrets
are left out of it.

Exit status: 0 printed, 78 the configuration cannot be used, 2 wrong command
line.";

const REFERENCE_EXAMPLES: &str = "\
Examples:
  dfget config reference | less

The same as docs/configuration.md.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  dfget doctor
  dfget doctor registry.example.org --output json
  dfget doctor --offline

It looks at the configuration, ports, proxy variables, who trusts the
authority, disks, limits, the cluster, and tries the registries, as the shell
that it runs in sees them. It changes nothing.

Exit status: 0 nothing bad, 1 something is, 2 wrong command line.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  dfget explain oras://registry.example.org/project/image:1
  dfget explain https://files.example.org/x.sif --method HEAD
  HTTPS_PROXY=127.0.0.1:65001 dfget explain docker://alpine --output json

It looks at the proxy variables of its environment as a client would. No
registry is asked anything.

Exit status: 0 it would be accelerated, 1 it would not, 78 the configuration
cannot be used, 2 wrong command line.";

const TOP_EXAMPLES: &str = "\
Examples:
  dfget top                           downloads, who feeds whom, what is saved
  dfget top --once                    the same as text, once
  dfget top --once --output json
  dfget top --web                     the address of the web page

Keys: q leaves, the arrows, page up and down scroll, space pauses.

Exit status: 0 shown, 75 no daemon runs, 77 it is another user's (ask as root
or as the daemon's own user), 2 wrong command line, 1 anything else.";

const SETUP_EXAMPLES: &str = "\
Examples:
  dfget setup                         list what there is
  dfget setup slurm-prolog            print one
  dfget setup systemd --output /etc/systemd/system/dfget.service

Addresses, paths and registries are those of the configuration in effect.
Where a file goes, and what is to be typed then, is said on standard error.

Exit status: 0 printed, 1 the file is there already or cannot be written,
78 the configuration cannot be used, 2 wrong command line.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  dfget completions bash > ~/.local/share/bash-completion/completions/dfget
  dfget completions zsh > ~/.zfunc/_dfget
                                      with ~/.zfunc in zsh's `fpath`
  dfget completions fish > ~/.config/fish/completions/dfget.fish

The packages of dfget bring them along.";
