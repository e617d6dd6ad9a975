//! `dfget man`: a page of the manual for each command, made of the same words as its help.

use std::fs;
use std::io;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::arguments::{Arguments, ManArguments};
use crate::message;

/// Writes all pages into the directory.
pub(crate) fn run(arguments: &ManArguments) -> ExitCode {
    for (name, page) in pages() {
        let path = arguments.dir.join(name);
        if let Err(error) = fs::write(&path, page) {
            message::error(format_args!("{} cannot be written: {error}", path.display()));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// File names and pages, of all commands that `--help` shows.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, &[], &mut pages);
    pages
}

/// `parents` are the names of the pages above, the root first.
fn add(command: &Command, parents: &[String], pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    // Nothing but a lack of memory keeps bytes from a vector.
    let Ok(page) = page(command, &name, parents) else { return };
    pages.push((format!("{name}.1"), page));
    let parents = [parents, &[name]].concat();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add(command, &parents, pages);
    }
}

fn page(command: &Command, name: &str, parents: &[String]) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        // Pages have no date, so that they are the same whenever they are made.
        .date(concat!("dfget ", env!("CARGO_PKG_VERSION")))
        .source("dfget")
        .manual("Manual of dfget");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    let subcommands: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let mut roff = Roff::default();
    if !subcommands.is_empty() {
        roff.control("SH", ["COMMANDS"]);
        for command in &subcommands {
            roff.control("TP", []);
            roff.text([bold(command.get_name().to_owned())]);
            roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
        }
    }
    if let Some(after) = command.get_after_help() {
        sections(&after.to_string(), &mut roff);
    }
    let below = subcommands.iter().map(|command| command.get_display_name().unwrap_or_default().to_owned());
    see_also(parents.iter().cloned().chain(below), &mut roff);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// What stands below the options: `Examples:` and indented lines are shown as they are, a paragraph that
/// begins with a name and a colon has a section of its own.
fn sections(text: &str, roff: &mut Roff) {
    for paragraph in text.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            verbatim(examples, roff);
            continue;
        }
        let words = match paragraph.split_once(": ").filter(|(name, _)| HEADINGS.contains(name)) {
            Some((name, words)) => {
                roff.control("SH", [name.to_uppercase().as_str()]);
                words
            }
            None => {
                roff.control("PP", []);
                paragraph
            }
        };
        // A line that ends with a colon introduces lines that are shown as they are.
        match words.split_once(":\n  ") {
            Some((before, shown)) => {
                roff.text([roman(format!("{before}:"))]);
                verbatim(shown, roff);
            }
            None => {
                roff.text([roman(words.to_owned())]);
            }
        }
    }
}

/// Names that begin a section.
const HEADINGS: [&str; 2] = ["Exit status", "Configuration"];

/// Lines as they are.
fn verbatim(text: &str, roff: &mut Roff) {
    roff.control("RS", ["4"]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line).to_owned())]);
    }
    roff.control("fi", []);
    roff.control("RE", []);
}

fn see_also(names: impl Iterator<Item = String>, roff: &mut Roff) {
    let mut inlines = Vec::new();
    for name in names {
        if !inlines.is_empty() {
            inlines.push(roman(", "));
        }
        inlines.push(bold(name));
        inlines.push(roman("(1)"));
    }
    if !inlines.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text(inlines);
    }
}
