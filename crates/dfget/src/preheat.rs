//! `dfget preheat`.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use dfget_core::expand_hostlist;
use dfget_get::{Event, Platform, Reference};
use dfget_lease::{NodeSpread, Nodes, SpreadSeen, SpreadState};
use dfget_preheat::{
    Audience, PreheatError, Preheated, Project, SpreadError, Spreading, Wanted, exit_code, images_of_list,
    preheat,
};
use dfget_run::Variables;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Output;
use crate::get::bar::can_draw;
use crate::get::report;
use crate::message;
use crate::values::duration;

/// A wrong command line.
const USAGE: u8 = 2;
/// The time is over, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// Ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// The longest list that is read.
const LONGEST_LIST: u64 = 4 << 20;
/// Nodes that are named at the end.
const SHOWN_NODES: usize = 8;
const TEMPLATE: &str = "{pos} of {len} images  {msg}";

/// Flags of `dfget preheat`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PreheatArguments {
    /// Images: oras://…, docker://…, https://…
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,

    /// Those of a list, one a line; `-` for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Those that the files of a Nextflow or Snakemake project name
    #[arg(long, value_name = "DIR")]
    project: Vec<PathBuf>,

    /// Fill other nodes too: so many with this one, all, or a hostlist
    #[arg(long, value_name = "NUMBER|all|HOSTLIST")]
    nodes: Option<String>,

    /// Only say which images these are
    #[arg(long)]
    dry_run: bool,

    /// Get so many at once
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    at_once: u8,

    /// Give up after so long, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,

    /// Exit with 0 whatever happens, for a Slurm prolog
    #[arg(long)]
    best_effort: bool,

    /// Which image, where there are several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Take logins from this file alone
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// Speak to the registry of oras:// and docker:// without TLS
    #[arg(long)]
    plain_http: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Say what is decided, and why
    #[arg(long, short)]
    verbose: bool,

    /// Say nothing but warnings and errors
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
}

/// Gets images into the store of this node, and says how that went.
pub(crate) fn run(arguments: &PreheatArguments) -> ExitCode {
    let code = carry_out(arguments);
    if arguments.best_effort && code != 0 {
        message::warning("dfget preheat: going on all the same (--best-effort)");
        return ExitCode::SUCCESS;
    }
    ExitCode::from(code)
}

fn carry_out(arguments: &PreheatArguments) -> u8 {
    let references = match references(arguments) {
        Ok(references) => references,
        Err((error, code)) => {
            message::error(error);
            return code;
        }
    };
    if references.is_empty() {
        if arguments.project.is_empty() && arguments.files.is_empty() {
            message::error("no image is named; name some, or a list by -f, or a workflow by --project");
            return USAGE;
        }
        message::warning("dfget preheat: no image is named there");
    }
    if arguments.dry_run {
        return told(&match arguments.output {
            Output::Text => references.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Output::Json => {
                let images: Vec<_> = references.iter().map(ToString::to_string).collect();
                json!({ "version": 1, "images": images }).to_string()
            }
        });
    }
    let spreading = match arguments.nodes.as_deref().map(nodes).transpose() {
        Ok(nodes) => nodes.map(|nodes| Spreading {
            sockets: dfget_daemon::daemon_sockets(),
            nodes,
            until: arguments.timeout.map(|limit| Instant::now() + limit),
        }),
        Err(reason) => {
            message::error(format_args!("--nodes: {reason}"));
            return USAGE;
        }
    };
    // Before anything is fetched that could not be passed on.
    if let Some(Err(error)) = spreading.as_ref().filter(|_| !references.is_empty()).map(Spreading::check) {
        message::error(&error);
        return error.exit_code();
    }
    let (names, began) = (references.iter().map(ToString::to_string).collect::<Vec<_>>(), Instant::now());
    let screen = Arc::new(Screen::new(names.clone(), arguments));
    let outcomes = match get_all(arguments, references, spreading, &screen) {
        Ok(outcomes) => outcomes,
        Err((error, code)) => {
            screen.bar.finish_and_clear();
            message::error(error);
            return code;
        }
    };
    screen.bar.finish_and_clear();
    let code = exit_code(&outcomes);
    if arguments.output == Output::Json {
        let object = object(&names, &outcomes, began.elapsed());
        return told(&object.to_string()).max(code);
    }
    let there = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    if !arguments.quiet {
        let place = if arguments.nodes.is_some() { "at the nodes" } else { "here" };
        message::note(format_args!("{there} of {} images are {place}", outcomes.len()));
    }
    code
}

/// Which nodes are meant.
fn nodes(text: &str) -> Result<Nodes, String> {
    if text == "all" {
        return Ok(Nodes::All);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number > 0 => Ok(Nodes::Number(number)),
            _ => Err("name at least one node, and not more than there are".to_owned()),
        };
    }
    match expand_hostlist(text) {
        Ok(_) => Ok(Nodes::Listed(text.to_owned())),
        Err(error) => Err(format!("{error}; write a number, `all`, or a list such as node[01-16]")),
    }
}

/// Prints a result.
fn told(text: &str) -> u8 {
    match message::output(text) {
        Ok(()) => 0,
        Err(error) => {
            message::error(message::not_written(&error));
            1
        }
    }
}

/// All that are named, each once; with the exit status if one of them is none.
fn references(arguments: &PreheatArguments) -> Result<Vec<Reference>, (String, u8)> {
    let mut named = arguments.images.clone();
    for file in &arguments.files {
        let text = read_list(file)
            .map_err(|error| (format!("{} cannot be read: {error}", file.display()), USAGE))?;
        let images = images_of_list(&text);
        named.extend(images.map_err(|error| (format!("{}: {error}", file.display()), USAGE))?);
    }
    for dir in &arguments.project {
        let project = Project::read(dir)
            .map_err(|error| (format!("{} cannot be read: {error}", dir.display()), USAGE))?;
        for unclear in &project.unclear {
            message::warning(format_args!(
                "dfget preheat: {}:{}: only a run knows this image: {}",
                unclear.file.display(),
                unclear.line,
                unclear.text
            ));
        }
        named.extend(project.images);
    }
    let mut seen = BTreeSet::new();
    let mut references = Vec::new();
    for name in named {
        let reference =
            Reference::parse(&name, arguments.plain_http).map_err(|error| (error.to_string(), USAGE))?;
        if seen.insert(reference.to_string()) {
            references.push(reference);
        }
    }
    Ok(references)
}

fn read_list(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST_LIST).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(LONGEST_LIST).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn get_all(
    arguments: &PreheatArguments,
    references: Vec<Reference>,
    spreading: Option<Spreading>,
    screen: &Arc<Screen>,
) -> Result<Vec<Result<Preheated, PreheatError>>, (String, u8)> {
    let variables = crate::variables::variables::<Variables>();
    let wanted = Wanted {
        references,
        at_once: usize::from(arguments.at_once),
        platform: arguments.platform.clone().unwrap_or_else(Platform::of_this_machine),
        login_file: arguments.authfile.clone(),
        verbose: arguments.verbose,
        spreading,
    };
    let system = |error: std::io::Error| (format!("the system refuses: {error}"), 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(system)?;
    let audience = Arc::clone(screen) as Arc<dyn Audience>;
    let kept = "what has come stays, and the same command goes on from there";
    let outcomes = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let over = async {
            match arguments.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcomes = preheat(wanted, &variables, audience) => Ok(outcomes),
            _ = interrupt.recv() => Err((format!("interrupted; {kept}"), INTERRUPTED)),
            _ = terminate.recv() => Err((format!("told to end; {kept}"), INTERRUPTED)),
            () = over => Err((format!("not done within {:?}; {kept}", arguments.timeout.unwrap_or_default()), TIMED_OUT)),
        }
    });
    // A thread may wait for a daemon; nobody waits for it any more.
    runtime.shutdown_background();
    outcomes
}

/// The terminal.
struct Screen {
    names: Vec<String>,
    began: Vec<Mutex<Option<Instant>>>,
    bar: ProgressBar,
    quiet: bool,
    verbose: bool,
}

// === impl Screen ===

impl Screen {
    fn new(names: Vec<String>, arguments: &PreheatArguments) -> Self {
        let draws = !arguments.quiet && can_draw();
        let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(names.len() as u64), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        if draws {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let began = names.iter().map(|_| Mutex::new(None)).collect();
        Self { names, began, bar, quiet: arguments.quiet, verbose: arguments.verbose }
    }

    fn took(&self, number: usize) -> Duration {
        let began = self.began.get(number).and_then(|began| *began.lock());
        began.map(|began| began.elapsed()).unwrap_or_default()
    }
}

impl Audience for Screen {
    fn hear(&self, number: usize, event: Event<'_>) {
        let name = self.names.get(number).map_or("", String::as_str);
        match event {
            Event::Warning(line) => {
                self.bar.suspend(|| message::warning(format_args!("dfget preheat: {name}: {line}")));
            }
            Event::Note(line) if self.verbose => {
                self.bar.suspend(|| message::note(format_args!("dfget preheat: {name}: {line}")));
            }
            Event::Begun { .. } => {
                if let Some(began) = self.began.get(number) {
                    began.lock().get_or_insert_with(Instant::now);
                }
                self.bar.set_message(name.to_owned());
            }
            _ => {}
        }
    }

    fn spreads(&self, number: usize, seen: &SpreadSeen) {
        let name = self.names.get(number).map_or("", String::as_str);
        self.bar.set_message(format!("{name}: {}", progress(seen)));
    }

    fn ended(&self, number: usize, outcome: &Result<Preheated, PreheatError>) {
        let name = self.names.get(number).map_or("", String::as_str);
        self.bar.suspend(|| match outcome {
            Ok(Preheated { report, nodes }) if !self.quiet => {
                message::note(format_args!("{name}: {}", report::summary(report, self.took(number))));
                if let Some(seen) = nodes {
                    message::note(format_args!("{name}: {}", spread(seen)));
                }
            }
            Ok(_) => {}
            Err(error) => {
                let error = error.to_string();
                let names_it = error.contains(name);
                message::error(if names_it { error } else { format!("{name}: {error}") });
            }
        });
        self.bar.inc(1);
    }
}

/// How far it is, in a few words: what all nodes have together of what all that are wanted should have.
fn progress(seen: &SpreadSeen) -> String {
    let have = seen.nodes.iter().filter(|node| node.state != SpreadState::Failed);
    let have = have.fold(0_u128, |sum, node| sum + u128::from(node.have));
    let all = u128::from(seen.total) * u128::from(seen.wanted);
    let percent = (have * 100).checked_div(all).unwrap_or(100).min(100);
    format!("{} of {} nodes, {percent} %", seen.there(), seen.wanted)
}

/// Who has it in the end, and who should have and has not.
fn spread(seen: &SpreadSeen) -> String {
    let there = seen.nodes.iter().filter(|node| node.state == SpreadState::There);
    let mut names: Vec<&str> = there.map(|node| node.name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN_NODES);
    names.truncate(SHOWN_NODES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let failed = seen.nodes.iter().filter(|node| node.state == SpreadState::Failed);
    let failed =
        failed.map(|node| format!("; not at {}: {}", node.name, node.reason.as_deref().unwrap_or("?")));
    let failed: String = failed.take(SHOWN_NODES).collect();
    format!("{} of {} nodes have it: {}{more}{failed}", seen.there(), seen.wanted, names.join(", "))
}

/// One node, for programs.
fn node_object(node: &NodeSpread) -> serde_json::Value {
    json!({
        "name": node.name,
        "thisNode": node.own,
        "ok": node.state == SpreadState::There,
        "bytes": node.have,
        "error": node.reason,
    })
}

/// `version` grows when a field changes its meaning or goes.
fn object(
    names: &[String],
    outcomes: &[Result<Preheated, PreheatError>],
    took: Duration,
) -> serde_json::Value {
    let nodes = |seen: &SpreadSeen| seen.nodes.iter().map(node_object).collect::<serde_json::Value>();
    let image = |(name, outcome): (&String, &Result<Preheated, PreheatError>)| match outcome {
        Ok(Preheated { report, nodes: seen }) => json!({
            "image": name,
            "ok": true,
            "bytes": report.bytes,
            "digest": report.digest.map(|digest| digest.to_string()),
            "sources": {
                "cache": report.sources.cache,
                "peers": report.sources.peers,
                "origin": report.sources.origin,
            },
            "nodes": seen.as_ref().map(nodes),
        }),
        Err(error) => {
            let seen = match error {
                PreheatError::Spread(SpreadError::TooFew { seen }) => Some(seen),
                _ => None,
            };
            json!({
                "image": name,
                "ok": false,
                "error": error.to_string(),
                "exitCode": error.exit_code(),
                "nodes": seen.map(nodes),
            })
        }
    };
    json!({
        "version": 1,
        "ok": outcomes.iter().all(Result::is_ok),
        "images": names.iter().zip(outcomes).map(image).collect::<Vec<_>>(),
        "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

const EXAMPLES: &str = "\
Examples:
  dfget preheat oras://registry.example.org/project/image:1
  dfget preheat -f images.txt --timeout 30m
  dfget preheat --project ~/workflows/rnaseq --dry-run
  srun --ntasks-per-node=1 dfget preheat -f images.txt      (all nodes of a job)
  dfget preheat --nodes 8 --timeout 10m -f images.txt       (8 of the cluster)
  sbatch --dependency=afterok:$(sbatch --parsable preheat.sh) job.sh

Images come into the store of the daemon that `dfget run` would use, with your
own login; who pulls them later still needs theirs. Nodes of a cluster have
them from each other: with --nodes, which root and the daemon's own user may
use, members take them from this one and never ask the registry.

Exit status: 0 all are there, 75 try again later, also where fewer nodes have
them, 77 not allowed, 78 configuration, 124 the time is over, 130 interrupted,
2 wrong command line, 1 anything else, or failures of several kinds; with
--best-effort always 0.";

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, have: u64, state: SpreadState, reason: Option<&str>) -> NodeSpread {
        NodeSpread { name: name.to_owned(), own: false, have, state, reason: reason.map(ToOwned::to_owned) }
    }

    #[test]
    fn nodes_are_a_number_all_or_a_list() {
        assert_eq!(nodes("3"), Ok(Nodes::Number(3)));
        assert_eq!(nodes("all"), Ok(Nodes::All));
        assert_eq!(nodes("node[01-16],login"), Ok(Nodes::Listed("node[01-16],login".to_owned())));
        for wrong in ["0", "99999999999", "", "node[1", "node]"] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_told_how_many_nodes_have_it_and_who_has_failed() {
        use SpreadState::{Coming, Failed, There};
        let mut seen = SpreadSeen {
            total: 100,
            wanted: 3,
            nodes: vec![
                node("n1:1", 100, There, None),
                node("n2:1", 60, Failed, Some("no room")),
                node("n3:1", 50, Coming, None),
            ],
            ended: false,
        };
        assert_eq!(progress(&seen), "1 of 3 nodes, 50 %");
        seen.nodes[2].state = There;
        assert_eq!(spread(&seen), "2 of 3 nodes have it: n1:1, n3:1; not at n2:1: no room");
        seen.nodes.extend((4..20).map(|number| node(&format!("n{number}:1"), 100, There, None)));
        assert!(spread(&seen).contains("n9:1 and 10 more; not at n2:1"), "{}", spread(&seen));
        let empty = SpreadSeen { wanted: 1, ..SpreadSeen::default() };
        assert_eq!(progress(&empty), "0 of 1 nodes, 100 %");
    }
}
