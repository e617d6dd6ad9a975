//! `dfget daemon`.

use std::process::ExitCode;

use dfget_config::{ConfigErrors, Environment, LoadOptions, load};
use dfget_daemon::ConfigOrigin;

use crate::{arguments::DaemonArguments, message};

/// Loads the configuration, says what is to be said about it, and runs the daemon to its end.
pub(crate) fn run(arguments: DaemonArguments, environment: &Environment) -> ExitCode {
    let DaemonArguments { config, console, verbose, cluster, cluster_port, scheduler } = arguments;
    let options = LoadOptions { config, console, verbose, cluster, cluster_port, scheduler };
    let origin = match ConfigOrigin::new(options.clone(), environment.clone()) {
        Ok(origin) => origin,
        Err(error) => {
            message::error(format_args!("signals cannot be handled: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let loaded = match load(&options, environment) {
        Ok(loaded) => loaded,
        Err(failed) => {
            message::diagnostics(failed.errors.iter().chain(&failed.warnings));
            return ExitCode::from(ConfigErrors::EXIT_CODE);
        }
    };
    message::diagnostics(&loaded.warnings);
    match dfget_daemon::run(loaded, origin, &|line| message::note(line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            message::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
