//! `dfget cache ls`.

use std::process::ExitCode;
use std::time::SystemTime;

use dfget_config::Environment;
use dfget_console::{Order, Selection};
use dfget_core::unix_seconds;

use super::arguments::{LsArguments, Sort};
use super::failure::Failure;
use super::place::{Make, connect};
use super::shown::{sum, table, width};
use super::wanted::Wanted;
use crate::arguments::Output;
use crate::message;

/// Prints what is stored.
pub(super) fn run(arguments: &LsArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let wanted = Wanted::read(&arguments.wanted)?;
    let now = now();
    let selection = Selection {
        complete: arguments.partial.then_some(false),
        stored_since: arguments.since,
        unused_since: arguments.older_than.map(|age| now.saturating_sub(age.as_secs())),
        order: match arguments.sort {
            Sort::Used => Order::Used,
            Sort::Stored => Order::Stored,
            Sort::Size => Order::Size,
            Sort::Uses => Order::Uses,
            Sort::Origin => Order::Origin,
        },
        reverse: arguments.reverse,
        limit: arguments.limit,
        ..Selection::default()
    };
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let found = wanted.find(&mut client, selection)?;
    let text = match arguments.output {
        Output::Json => json(&found)?,
        Output::Text => {
            let mut text = table(&found.contents, now, width());
            text.push_str(&format!("\n{} on disk", sum(found.matched, found.matched_bytes)));
            let shown = found.contents.len() as u64;
            if shown < found.matched {
                text.push_str(&format!("; {shown} of them shown"));
            }
            text
        }
    };
    message::output(text).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    unix_seconds(SystemTime::now())
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}
