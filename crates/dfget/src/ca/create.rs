//! `dfget ca create`.

use std::time::SystemTime;

use dfget_config::Environment;
use dfget_tls::{AuthorityCertificate, NewAuthority, PairFiles};

use super::{
    Failure,
    arguments::CreateArguments,
    site::{Site, asked_scope},
};
use crate::message;

/// Makes a pair, and says what it is and what comes next.
pub(crate) fn run(arguments: CreateArguments, environment: &Environment) -> Result<(), Failure> {
    let CreateArguments { hosts, pair, force, config } = arguments;
    let asked = asked_scope(&hosts)?;
    let (site, scope) = match (pair.dir, asked) {
        (Some(dir), Some(scope)) => (Site::of_directory(&dir, environment), scope),
        (Some(dir), None) => {
            let scope = Site::of_config(config.config, environment)?.scope()?;
            (Site::of_directory(&dir, environment), scope)
        }
        (None, asked) => {
            let site = Site::of_config(config.config, environment)?;
            let scope = asked.map_or_else(|| site.scope(), Ok)?;
            (site, scope)
        }
    };
    site.prepare()?;
    let new = NewAuthority::of_this_host(scope).living_days(pair.days);
    let now = SystemTime::now();
    if force {
        site.files.replace(&new, now)?;
    } else {
        site.files.create(&new, now)?;
    }
    let made = AuthorityCertificate::read(&site.files.cert)?;
    message::output(format_args!(
        "{}\nnext: {}",
        summary(&site.files, &made),
        next(&site.files, site.is_known_to_daemon)
    ))?;
    Ok(())
}

/// What was made, in a few lines.
pub(crate) fn summary(files: &PairFiles, made: &AuthorityCertificate) -> String {
    format!(
        "made {} and {}\n  subject      {}\n  fingerprint  {}\n  for          {}\n  expires      {}",
        files.cert.display(),
        files.key.display(),
        made.subject(),
        made.fingerprint(),
        made.scope(),
        made.not_after_text()
    )
}

fn next(files: &PairFiles, is_known_to_daemon: bool) -> String {
    let cert = files.cert.display();
    let trust =
        format!("let clients trust it, by SSL_CERT_FILE={cert} or by `dfget ca install {cert}` as root");
    if is_known_to_daemon {
        format!("start `dfget daemon`, and {trust}")
    } else {
        format!(
            "write `cert: {cert}` and `key: {}` below hijackHTTPS in dfget.yaml, start `dfget daemon`, and {trust}",
            files.key.display()
        )
    }
}
