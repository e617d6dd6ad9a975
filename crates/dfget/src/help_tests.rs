//! The help of every command, as files to read: `tests/snapshots/help/`. A new command is found by itself.

use std::collections::BTreeMap;

use clap::{Command, CommandFactory as _};
use dfget_testkit::Snapshots;

use crate::arguments::Arguments;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/help");

/// Every command below this one, itself first, with the words that lead to it.
fn commands(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    found.push((path.to_owned(), command.clone()));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        commands(below, &format!("{path}_{}", below.get_name()), found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut command = Arguments::command();
    command.build();
    let mut found = Vec::new();
    commands(&command, "dfget", &mut found);
    assert!(found.len() > 25, "{} commands", found.len());
    found
}

/// What `--help`, or `-h`, prints behind the words that lead to a command.
fn help(name: &str, flag: &str) -> String {
    let words = name.split('_').chain([flag]);
    let told = Arguments::command().try_get_matches_from(words).expect_err("help is no match");
    assert_eq!(told.kind(), clap::error::ErrorKind::DisplayHelp, "{told}");
    told.to_string()
}

#[test]
fn the_help_of_every_command_is_its_snapshot() {
    let mut snapshots = Snapshots::of(DIRECTORY);
    for (name, _) in all() {
        let (short, long) = (help(&name, "-h"), help(&name, "--help"));
        assert_eq!(short, long, "{name}: one help is enough, whichever flag is typed");
        snapshots.check(&format!("{}.txt", name.replace('_', "-")), &long);
    }
    snapshots.end();
}

#[test]
fn every_help_fits_a_terminal_and_shows_an_example() {
    let mut wrong = Vec::new();
    for (name, command) in all() {
        let help = help(&name, "--help");
        let wide = help.lines().filter(|line| line.chars().count() > 80);
        wrong.extend(wide.map(|line| format!("{name}: {line}")));
        let leads_on = command.has_subcommands() || command.is_hide_set();
        if !leads_on && !help.contains("\nExamples:\n") {
            wrong.push(format!("{name}: no example"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A flag of one name takes the same kind of value, and has the same letter, wherever it stands.
#[test]
fn a_flag_is_the_same_for_all_commands() {
    let mut flags = BTreeMap::<String, BTreeMap<String, Vec<String>>>::new();
    for (name, command) in all() {
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(long) = flag.get_long() else { continue };
            // `-O FILE` and `--output FILE` are of 2.0.9, and `setup` writes a file too.
            if long == "output" && matches!(name.as_str(), "dfget_get" | "dfget_setup") {
                continue;
            }
            let values = if flag.get_action().takes_values() { flag.get_value_names() } else { None };
            let said = format!("{:?} {:?}", flag.get_short(), values);
            flags.entry(long.to_owned()).or_default().entry(said).or_default().push(name.clone());
        }
    }
    let letters = |said: &BTreeMap<String, Vec<String>>| said.len() > 1;
    let different: Vec<_> = flags.into_iter().filter(|(_, said)| letters(said)).collect();
    assert!(different.is_empty(), "{different:#?}");
}
