//! `dfget ca install`.

use std::path::Path;

use dfget_config::Environment;
use dfget_tls::AuthorityCertificate;

use super::{
    Failure,
    arguments::InstallArguments,
    site::certificate,
    store::{Store, is_root},
};
use crate::message;

/// Puts the authority into the system's store, or takes it away.
pub(crate) fn run(arguments: InstallArguments, environment: &Environment) -> Result<(), Failure> {
    let InstallArguments { file, remove, config } = arguments;
    if remove {
        return take_away();
    }
    let (files, certificate) = certificate(file, config.config, environment)?;
    warn_of_scope(&files.cert, &certificate);
    let Some(store) = Store::find() else { return Err(no_store(&files.cert)) };
    if !is_root() {
        return Err(not_root(&store.install_by_hand(&files.cert)));
    }
    store.install(&certificate)?;
    message::output(format_args!(
        "installed {} as {}: programs that use the system's store trust it for {}",
        files.cert.display(),
        store.file().display(),
        certificate.scope()
    ))?;
    Ok(())
}

fn take_away() -> Result<(), Failure> {
    let Some(store) = Store::find() else {
        return Err(Failure::failed("this system has no store that dfget knows, so nothing is installed"));
    };
    if !is_root() {
        return Err(not_root(&store.remove_by_hand()));
    }
    let file = store.file();
    if store.remove()? {
        message::output(format_args!("removed {}", file.display()))?;
    } else {
        message::output(format_args!("nothing to remove: there is no {}", file.display()))?;
    }
    Ok(())
}

/// Who trusts an unbounded authority trusts its key's holder for everything.
fn warn_of_scope(cert: &Path, certificate: &AuthorityCertificate) {
    if certificate.scope().is_any_host() {
        message::warning(format_args!(
            "{} is for any host: whoever gets its key can impersonate every site to all programs of this \
             machine; `dfget ca rotate --host HOST` makes one for your registries only",
            cert.display()
        ));
    }
}

fn not_root(by_hand: &str) -> Failure {
    Failure::NotAllowed(format!("only root may change the system's store; type: sudo sh -c '{by_hand}'"))
}

fn no_store(cert: &Path) -> Failure {
    let cert = cert.display();
    Failure::Failed(format!(
        "this system has no store that dfget knows; let clients trust the certificate by \
         `export SSL_CERT_FILE={cert}`, or beside the public authorities by `dfget ca bundle {cert} -O FILE` \
         and `export SSL_CERT_FILE=FILE`"
    ))
}
