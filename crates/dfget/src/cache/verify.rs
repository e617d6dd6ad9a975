//! `dfget cache verify`.

use std::process::ExitCode;

use dfget_config::Environment;
use dfget_console::{Selection, Verified, Verify};

use super::arguments::VerifyArguments;
use super::failure::Failure;
use super::ls::json;
use super::place::{Make, connect};
use super::progress::Progress;
use super::shown::{name, size, sum};
use super::wanted::Wanted;
use crate::arguments::Output;
use crate::message;

/// Checks what is meant.
pub(super) fn run(arguments: &VerifyArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let wanted = Wanted::read(&arguments.wanted)?;
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let keys = if wanted.is_all() {
        None
    } else {
        let found = wanted.find(&mut client, Selection::default())?;
        if found.contents.is_empty() {
            return Err(Failure::Failed("nothing that is stored is meant; see `dfget cache ls`".to_owned()));
        }
        Some(found.contents.into_iter().map(|content| content.key).collect())
    };
    let ask = Verify { keys, keep: arguments.keep };
    let mut progress = Progress::new();
    let (mut printed, mut right) = (Ok(()), None);
    client.lines("/api/v1/verify", &ask, |verified: Verified| {
        if let Verified::Progress { contents, of_contents, bytes, of_bytes } = verified {
            progress.show(&format!(
                "{contents} of {of_contents} contents, {} of {}",
                size(bytes),
                size(of_bytes)
            ));
        } else {
            progress.clear();
        }
        if let Verified::Done { rotten, unreadable, .. } = verified {
            right = Some(rotten == 0 && unreadable == 0);
        }
        let text = match arguments.output {
            Output::Text => to_text(&verified).map(Ok),
            Output::Json if matches!(verified, Verified::Progress { .. }) => None,
            Output::Json => Some(json(&verified)),
        };
        if let (Some(text), Ok(())) = (text, &printed) {
            printed = text.and_then(|text| message::output(text).map_err(Failure::Output));
        }
    })?;
    progress.clear();
    printed?;
    match right {
        Some(true) => Ok(ExitCode::SUCCESS),
        Some(false) => Ok(ExitCode::FAILURE),
        None => Err(Failure::TryAgain("the daemon ended before all was checked; try again".to_owned())),
    }
}

fn to_text(verified: &Verified) -> Option<String> {
    match verified {
        Verified::Progress { .. } => None,
        Verified::Rotten { content, reason, dropped } => {
            let then = match (dropped, content.complete) {
                (true, _) => "dropped, and fetched again for the next client",
                (false, true) => "left as it is",
                (false, false) => "left to its download, which fetches it again",
            };
            Some(format!("rotten: {}: {reason}; {then}", name(content)))
        }
        Verified::Done { contents, bytes, rotten, unreadable, gone } => {
            let mut text = format!("checked {}: ", sum(*contents, *bytes));
            match rotten {
                0 if *unreadable == 0 => text.push_str("all is right"),
                rotten => text.push_str(&format!("{rotten} rotten")),
            }
            if *unreadable > 0 {
                text.push_str(&format!("; {unreadable} more cannot be read, the daemon's log says why"));
            }
            if *gone > 0 {
                text.push_str(&format!("; {gone} left the store meanwhile"));
            }
            Some(text)
        }
    }
}
