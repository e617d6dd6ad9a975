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
fn snapshot_of_the_help_of_every_command() {
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

/// A flag of one name takes the same kind of value wherever it stands, and has one letter where it has any.
#[test]
fn a_flag_is_the_same_for_all_commands() {
    // `-O FILE` and `--output FILE` of 2.0.9, which `setup` has too; a size and a file that something goes `--to`.
    let differ = [("output", "dfget_get"), ("output", "dfget_setup"), ("to", "dfget_cache_gc")];
    let (mut values, mut letters) = (Kinds::new(), Kinds::new());
    for (name, command) in all() {
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(long) = flag.get_long().filter(|long| !differ.contains(&(long, name.as_str()))) else {
                continue;
            };
            let value = flag.get_value_names().filter(|_| flag.get_action().takes_values());
            let note = |kinds: &mut Kinds, kind: String| {
                kinds.entry(long.to_owned()).or_default().entry(kind).or_default().push(name.clone());
            };
            note(&mut values, format!("{value:?}"));
            if let Some(letter) = flag.get_short() {
                note(&mut letters, letter.to_string());
            }
        }
    }
    let different: Vec<_> = values.into_iter().chain(letters).filter(|(_, kinds)| kinds.len() > 1).collect();
    assert!(different.is_empty(), "{different:#?}");
}

/// Flags, each with its kinds, each with the commands that have it so.
type Kinds = BTreeMap<String, BTreeMap<String, Vec<String>>>;
