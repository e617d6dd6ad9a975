//! `dfget cache gc`.

use std::process::ExitCode;

use dfget_config::Environment;
use dfget_console::{Collected, Content, Gc};
use http::Method;

use super::arguments::GcArguments;
use super::failure::Failure;
use super::ls::{json, now};
use super::place::{Make, connect};
use super::shown::{size, sum, table, width};
use crate::arguments::Output;
use crate::message;

/// Drops what is too much.
pub(super) fn run(arguments: &GcArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let wanted = Gc { to_bytes: arguments.to, dry_run: arguments.dry_run };
    let collected: Collected = client.call(Method::POST, "/api/v1/gc", &wanted)?;
    let text = match arguments.output {
        Output::Text => to_text(&collected, arguments.dry_run),
        Output::Json => json(&collected)?,
    };
    message::output(text).map_err(Failure::Output)?;
    let enough = arguments.to.is_none() || collected.over_bytes == 0;
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn to_text(collected: &Collected, dry_run: bool) -> String {
    let mut text = String::new();
    if !collected.evicted.is_empty() {
        let contents: Vec<Content> =
            collected.evicted.iter().map(|evicted| evicted.content.clone()).collect();
        text = table(&contents, now(), width()) + "\n";
    }
    let gone = sum(collected.evicted.len() as u64, collected.bytes);
    let gone = if dry_run { format!("{gone} would go") } else { format!("dropped {gone}") };
    text.push_str(&format!("{gone}; {} stay", size(collected.left_bytes)));
    if collected.over_bytes > 0 {
        text.push_str(&format!(
            "\n{} more than was asked for: running downloads, or the image used last",
            size(collected.over_bytes)
        ));
    }
    text
}
