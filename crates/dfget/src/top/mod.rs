//! `dfget top`: how the daemon of this node is, live on a terminal, once as text or JSON, or where its page is.
//!
//! The daemon is asked once a second by a thread of its own, so that keys are answered however long that takes.

mod live;
mod screen;
mod terminal;
mod words;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use dfget_console::{Live, PageAddress};

use self::screen::Colours;
use self::terminal::Room;
use crate::api::{CallError, Client, NoDaemon};
use crate::arguments::{Output, TopArguments};
use crate::message;

/// `EX_TEMPFAIL` of sysexits: there is no daemon now.
const TRY_AGAIN: u8 = 75;

/// `EX_NOPERM` of sysexits: the daemon is another user's.
const NOT_ALLOWED: u8 = 77;

/// Columns of text that goes to no terminal, unless `COLUMNS` says.
const COLUMNS: usize = 100;

/// Where everything is asked.
const LIVE: &str = "/api/v1/live";

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    NoDaemon(#[from] NoDaemon),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the terminal cannot be used: {0}; `dfget top --once` needs none")]
    Terminal(#[source] io::Error),
    #[error("{}", message::not_written(.0))]
    Output(#[source] io::Error),
}

/// Does what the command says.
pub(crate) fn run(arguments: &TopArguments) -> ExitCode {
    let done = if arguments.web {
        web()
    } else if arguments.once || arguments.output == Output::Json || !io::stdout().is_terminal() {
        once(arguments.output)
    } else {
        live::run(Client::find)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            message::error(&failure);
            failure.exit_code()
        }
    }
}

// === impl Failure ===

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoDaemon(NoDaemon::None) => ExitCode::from(TRY_AGAIN),
            Self::NoDaemon(NoDaemon::NotAllowed(_) | NoDaemon::Untrusted { .. }) => {
                ExitCode::from(NOT_ALLOWED)
            }
            Self::Call(CallError::Failed(failed)) if failed.status == 403 => ExitCode::from(NOT_ALLOWED),
            Self::NoDaemon(_) | Self::Call(_) | Self::Terminal(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

fn once(output: Output) -> Result<(), Failure> {
    let mut client = Client::find()?;
    let text = match output {
        // As the daemon says it, with what this program may not know of.
        Output::Json => {
            let live: serde_json::Value = client.get(LIVE)?;
            format!("{live:#}")
        }
        Output::Text => {
            let live: Live = client.get(LIVE)?;
            let lines = screen::lines(&live, columns());
            let text = |line| screen::to_text(line, colours()).trim_end().to_owned();
            lines.iter().map(text).collect::<Vec<_>>().join("\n")
        }
    };
    message::output(text).map_err(Failure::Output)
}

/// Prints where the page is; how to look at it from elsewhere is told beside it.
fn web() -> Result<(), Failure> {
    let page: PageAddress = Client::find()?.get("/api/v1/page")?;
    message::output(&page.address).map_err(Failure::Output)?;
    if io::stdout().is_terminal()
        && let Some(port) = port_of(&page.address)
    {
        message::note(format_args!(
            "Who has this address sees what the daemon does, until it is started again. From elsewhere:\n  \
             ssh -L {port}:127.0.0.1:{port} THIS-NODE     and open it there"
        ));
    }
    Ok(())
}

fn port_of(address: &str) -> Option<&str> {
    let place = address.strip_prefix("http://")?.split('/').next()?;
    place.rsplit_once(':').map(|(_, port)| port)
}

fn columns() -> usize {
    let said = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
    if io::stdout().is_terminal() { Room::of_output().columns } else { said().unwrap_or(COLUMNS) }
}

/// Colours where somebody sees them who has not asked for none (`NO_COLOR`, no-color.org).
fn colours() -> Colours {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    if unwanted || dumb || !io::stdout().is_terminal() { Colours::None } else { Colours::Ansi }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_the_address() {
        assert_eq!(port_of("http://127.0.0.1:40901/#token=ab:1"), Some("40901"));
        assert_eq!(port_of("http://[::1]:7/#token=x"), Some("7"));
        assert_eq!(port_of("nonsense"), None);
    }
}
