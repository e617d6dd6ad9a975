//! `dfget ca rotate`.

use std::time::SystemTime;

use dfget_config::Environment;
use dfget_tls::{AuthorityCertificate, NewAuthority};

use super::{
    Failure,
    arguments::RotateArguments,
    create::summary,
    site::{Site, asked_scope},
    store::{Store, is_root},
};
use crate::message;

/// Makes a new pair in place of the old one, and says who has to know.
pub(crate) fn run(arguments: RotateArguments, environment: &Environment) -> Result<(), Failure> {
    let RotateArguments { hosts, pair, config } = arguments;
    let asked = asked_scope(&hosts)?;
    let files = match &pair.dir {
        Some(dir) => Site::of_directory(dir, environment).files,
        None => Site::of_config(config.config, environment)?.files,
    };
    let there = files.cert.exists() || files.key.exists();
    if !there {
        return Err(Failure::Failed(format!(
            "there is no {} to replace; make one by `dfget ca create`",
            files.cert.display()
        )));
    }
    let (scope, old) = match (asked, AuthorityCertificate::read(&files.cert)) {
        (Some(scope), old) => (scope, old.ok()),
        (None, Ok(old)) => (old.scope().clone(), Some(old)),
        (None, Err(error)) => {
            return Err(Failure::Failed(format!(
                "{error}; or name the hosts of the new one by `--host HOST`"
            )));
        }
    };
    let new = NewAuthority::of_this_host(scope).living_days(pair.days);
    files.replace(&new, SystemTime::now())?;
    let made = AuthorityCertificate::read(&files.cert)?;
    let mut lines = vec![summary(&files, &made)];
    if old.is_some() {
        lines.push(format!("  old one      {}; its key is destroyed", files.kept().display()));
    }
    let cert = files.cert.display();
    lines.push(format!(
        "next: restart `dfget daemon`, and give {cert} to all clients that trust the old one: those with \
         SSL_CERT_FILE set to a copy or a bundle, and machines where it is installed"
    ));
    message::output(lines.join("\n"))?;
    match old {
        Some(old) => reinstall(&old, &made, &files.cert),
        None => Ok(()),
    }
}

/// Where the old one is in the system's store, the new one takes its place.
fn reinstall(
    old: &AuthorityCertificate,
    made: &AuthorityCertificate,
    cert: &std::path::Path,
) -> Result<(), Failure> {
    let Some(store) = Store::find() else { return Ok(()) };
    if store.installed().is_none_or(|installed| installed.der() != old.der()) {
        return Ok(());
    }
    if !is_root() {
        message::warning(format_args!(
            "this machine still trusts the old one; type: sudo sh -c '{}'",
            store.install_by_hand(cert)
        ));
        return Ok(());
    }
    store.install(made)?;
    message::output(format_args!("installed it as {} in place of the old one", store.file().display()))?;
    Ok(())
}
