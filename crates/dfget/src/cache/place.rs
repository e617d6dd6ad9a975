//! Which store is meant, and who is asked about it.

use std::path::{Path, PathBuf};

use dfget_config::{Config, Environment, LoadOptions, load_without_authority};
use dfget_console::Node;
use dfget_daemon::{admin_sockets, offline};
use dfget_run::Variables;

use super::arguments::PlaceArguments;
use super::failure::Failure;
use crate::api::{Client, NoDaemon};
use crate::message;

/// Whether a store is made where there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Make {
    /// It is.
    Yes,
    /// Then there is nothing to do.
    No,
}

/// Somebody to ask about the store that is meant.
pub(super) fn connect(
    place: &PlaceArguments,
    environment: &Environment,
    make: Make,
) -> Result<Client, Failure> {
    if let Some(socket) = &place.socket {
        return Client::connect(socket).map_err(|error| match error {
            NoDaemon::None => Failure::TryAgain(format!("nobody serves an API at {}", socket.display())),
            other => other.into(),
        });
    }
    let named = place.store.is_some() || place.config.is_some();
    let refused = match Client::find() {
        Ok(client) if !named => return Ok(client),
        Err(NoDaemon::None) | Ok(_) => None,
        Err(other) => Some(other),
    };
    let (config, dir) = store(place, environment)?;
    if named && let Some(client) = daemon_of(&dir) {
        return Ok(client);
    }
    match offline(config.as_ref(), &dir, make == Make::Yes) {
        Ok(store) => {
            store.notes.iter().for_each(message::warning);
            Client::of(store.api, &dir).map_err(|error| {
                Failure::Failed(format!("the store in {} cannot be served: {error}", dir.display()))
            })
        }
        // The store that a daemon of somebody else keeps may be just what was meant.
        Err(error) => Err(refused.map_or_else(|| error.into(), Failure::from)),
    }
}

/// The daemon that keeps the store in `dir`, if there is one that answers.
fn daemon_of(dir: &Path) -> Option<Client> {
    let dir = dir.canonicalize().ok()?;
    admin_sockets().iter().find_map(|socket| {
        let mut client = Client::connect(socket).ok()?;
        let node: Node = client.get("/api/v1/node").ok()?;
        let place = Path::new(&node.store?.place).canonicalize().ok()?;
        (place == dir).then_some(client)
    })
}

/// The directory that is meant, and the configuration that it is from.
fn store(place: &PlaceArguments, environment: &Environment) -> Result<(Option<Config>, PathBuf), Failure> {
    if let Some(dir) = &place.store {
        return Ok((None, environment.working_directory.join(dir)));
    }
    let options = LoadOptions { config: place.config.clone(), ..LoadOptions::default() };
    match load_without_authority(&options, environment) {
        Ok(loaded) => {
            let dir = loaded.config.paths.data_dir.clone();
            Ok((Some(loaded.config), dir))
        }
        // Without a file there may still be what `dfget run` has left.
        Err(failed) if failed.source.is_none() => match left_by_run() {
            Some(dir) => Ok((None, dir)),
            None => Err(Failure::TryAgain(
                "no daemon runs here, and there is no configuration that names a store: say --config FILE or \
                 --store DIR"
                    .to_owned(),
            )),
        },
        Err(failed) => Err(Failure::Config(failed)),
    }
}

fn left_by_run() -> Option<PathBuf> {
    let variables = crate::variables::variables::<Variables>();
    dfget_run::stores(&variables).into_iter().next()
}
