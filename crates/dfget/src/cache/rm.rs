//! `dfget cache rm`.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::process::ExitCode;

use dfget_config::Environment;
use dfget_console::{Keys, Removed, Selection};
use http::Method;

use super::arguments::RmArguments;
use super::failure::Failure;
use super::ls::{json, now};
use super::place::{Make, connect};
use super::shown::{sum, table, width};
use super::wanted::Wanted;
use crate::arguments::Output;
use crate::message;

/// Contents that are shown before it is asked.
const SHOWN: usize = 20;

/// Removes what is meant.
pub(super) fn run(arguments: &RmArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let wanted = Wanted::read(&arguments.wanted)?;
    if wanted.is_all() && arguments.older_than.is_none() && !arguments.all {
        return Err(Failure::Usage(
            "say what is to be removed: DIGEST, HOST[/REPOSITORY], --registry HOST, --older-than AGE or --all".to_owned(),
        ));
    }
    let now = now();
    let unused_since = arguments.older_than.map(|age| now.saturating_sub(age.as_secs()));
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let found = wanted.find(&mut client, Selection { unused_since, ..Selection::default() })?;
    if found.contents.is_empty() {
        return Err(Failure::Failed("nothing that is stored is meant; see `dfget cache ls`".to_owned()));
    }
    let sum = sum(found.matched, found.matched_bytes);
    if arguments.dry_run {
        let text = match arguments.output {
            Output::Text => format!("{}\n{sum} would go", table(&found.contents, now, width())),
            Output::Json => json(&found)?,
        };
        message::output(text).map_err(Failure::Output)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes {
        if !(stdin().is_terminal() && stderr().is_terminal()) {
            return Err(Failure::Usage(format!("{sum} would go; say --yes where nobody can be asked")));
        }
        let shown = found.contents.get(..SHOWN).unwrap_or(&found.contents);
        message::note(table(shown, now, width()));
        if shown.len() < found.contents.len() {
            message::note(format_args!("and {} more", found.contents.len() - shown.len()));
        }
        if !agreed(&sum) {
            message::note("nothing was removed");
            return Ok(ExitCode::FAILURE);
        }
    }
    let keys = Keys { keys: found.contents.iter().map(|content| content.key.clone()).collect() };
    let removed: Removed = client.call(Method::DELETE, "/api/v1/contents", &keys)?;
    let text = match arguments.output {
        Output::Text => to_text(&removed),
        Output::Json => json(&removed)?,
    };
    message::output(text).map_err(Failure::Output)?;
    Ok(if removed.busy.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn agreed(sum: &str) -> bool {
    let mut stderr = stderr().lock();
    let _ = write!(stderr, "{sum}: remove? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn to_text(removed: &Removed) -> String {
    let mut text = format!("removed {}", sum(removed.contents, removed.bytes));
    if removed.missing > 0 {
        text.push_str(&format!("; {} had left by then", removed.missing));
    }
    if !removed.busy.is_empty() {
        text.push_str(&format!("; {} stay, for they are being downloaded now", removed.busy.len()));
    }
    text
}
