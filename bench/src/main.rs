//! The program behind `make bench`; `bench/run` starts it in namespaces of its own.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dfget_bench::contender::{Contender, Kind};
use dfget_bench::course::{Bench, Plan};
use dfget_bench::origin::Origin;
use dfget_bench::output::{note, output};
use dfget_bench::places::Places;
use dfget_bench::table::{DFGET, Table};
use dfget_bench::{machine, scenario};
use serde_json::json;

/// Measures dfget beside other proxies.
#[derive(Debug, Parser)]
struct Arguments {
    /// The dfget to measure
    #[arg(long)]
    dfget: PathBuf,
    /// The directory that tests/real-clients/setup filled
    #[arg(long)]
    clients: PathBuf,
    /// The directory with the scripts of tests/real-clients
    #[arg(long)]
    scripts: PathBuf,
    /// An unpacked squid
    #[arg(long)]
    squid: Option<PathBuf>,
    /// Where the result goes, as JSON
    #[arg(long)]
    json: PathBuf,
    /// Rounds of each scenario
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Scenarios to run instead of all, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Networks of `cluster` to run instead of all, separated by commas
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Sizes ÷ 64 and one round, to see that it works
    #[arg(long)]
    small: bool,
    /// NAME=COMMAND of another proxy
    #[arg(long)]
    peer: Vec<String>,
    /// NAME=PATH of another dfget
    #[arg(long)]
    other: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let Ok(namespace) = env::var("DFGET_NAMESPACE") else {
        return Err(io::Error::other("type: make bench"));
    };
    let names = scenario::ALL.map(|(name, _)| name);
    if let Some(unknown) = arguments.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(io::Error::other(format!("no scenario is called {unknown}, but {}", names.join(", "))));
    }
    let scratch = PathBuf::from("/tmp/bench");
    let places = Places {
        clients: arguments.clients.clone(),
        scripts: arguments.scripts.clone(),
        scratch: scratch.clone(),
        root: namespace == "root",
    };
    fs::create_dir_all(&scratch)?;
    places.make_authority()?;
    add_hosts()?;
    let load_before = machine::load();
    let mut bench = Bench {
        plan: Plan {
            rounds: if arguments.small { 1 } else { arguments.rounds.max(1) },
            small: arguments.small,
            cases: arguments.cases.clone(),
        },
        contenders: contenders(arguments, &places)?,
        origin: Origin::start(&places)?,
        places,
        table: Table::new(!arguments.small),
    };
    if arguments.squid.is_none() {
        bench.table.note("squid is left out: it could not be fetched");
    }
    for (name, run) in scenario::ALL {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            note(format!("{name} (load {})", machine::load()));
            if let Err(error) = run(&mut bench) {
                let text = format!("{name} failed: {error}");
                note(&text);
                bench.table.note(text);
            }
        }
    }
    bench.origin.end()?;
    report(arguments, &bench.plan, &bench.table, &load_before)?;
    fs::remove_dir_all(scratch)
}

/// Who takes part, each with a number of its own.
fn contenders(arguments: &Arguments, places: &Places) -> io::Result<Vec<Contender>> {
    let mut all = vec![
        ("direct".to_owned(), Kind::Direct),
        (DFGET.to_owned(), Kind::Dfget(arguments.dfget.clone())),
        ("nginx".to_owned(), Kind::Nginx),
    ];
    if let Some(squid) = &arguments.squid {
        all.push(("squid".to_owned(), Kind::Squid(places.reachable("squid-program", squid)?)));
    }
    for (option, pairs) in [("--other", &arguments.other), ("--peer", &arguments.peer)] {
        for pair in pairs {
            let Some((name, what)) = pair.split_once('=') else {
                return Err(io::Error::other(format!("{option} takes NAME=…, not {pair}")));
            };
            let usable = !name.is_empty()
                && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
            if !usable || all.iter().any(|(taken, _)| taken == name) {
                return Err(io::Error::other(format!("{name} is no name for another contender")));
            }
            let kind =
                if option == "--peer" { Kind::Peer(what.to_owned()) } else { Kind::Dfget(what.into()) };
            all.push((name.to_owned(), kind));
        }
    }
    let numbered = (1_u8..).zip(all);
    Ok(numbered.map(|(number, (name, kind))| Contender::new(name, kind, number)).collect())
}

/// Lets the names of the origins be found; /etc is the namespace's own.
fn add_hosts() -> io::Result<()> {
    use dfget_bench::origin::{CAPPED_NAME, NAME};

    let mut hosts = fs::read_to_string("/etc/hosts")?;
    for (address, name) in [(Origin::address(), NAME), (Origin::capped_address(), CAPPED_NAME)] {
        hosts.push_str(&format!("{} {name}\n", address.ip()));
    }
    fs::write("/etc/hosts", hosts)
}

fn report(arguments: &Arguments, plan: &Plan, table: &Table, load_before: &str) -> io::Result<()> {
    let (rows, notes) = table.json();
    let result = json!({
        "version": 1,
        "dfget": env!("CARGO_PKG_VERSION"),
        "rounds": plan.rounds,
        "small": plan.small,
        "machine": machine::json(load_before),
        "rows": rows,
        "notes": notes,
    });
    let mut text = serde_json::to_string_pretty(&result).map_err(io::Error::other)?;
    text.push('\n');
    fs::write(&arguments.json, text)?;
    output(table.text())?;
    output(format!(
        "{} rounds on {} processors; load before {load_before}, after {}",
        plan.rounds,
        machine::processors(),
        machine::load()
    ))
}
