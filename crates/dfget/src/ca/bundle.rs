//! `dfget ca bundle`.

use std::path::PathBuf;

use dfget_config::Environment;
use dfget_tls::{merged_bundle, system_bundle, write_certificates};

use super::{Failure, arguments::BundleArguments, site::certificate};
use crate::message;

/// Puts the system's authorities and ours into one text.
pub(crate) fn run(arguments: BundleArguments, environment: &Environment) -> Result<(), Failure> {
    let BundleArguments { file, to, config } = arguments;
    let (_, ours) = certificate(file, config.config, environment)?;
    let (path, base) = base()?;
    if merged_bundle(&base, &[]).is_empty() {
        return Err(Failure::Failed(format!(
            "{} holds no certificate; name another by SSL_CERT_FILE",
            path.display()
        )));
    }
    let bundle = merged_bundle(&base, std::slice::from_ref(ours.der()));
    match to {
        None => message::output(bundle.trim_end())?,
        Some(to) => write_certificates(&to, &bundle).map_err(|error| {
            Failure::Failed(format!("{} cannot be written: {error}; name another by -O", to.display()))
        })?,
    }
    Ok(())
}

/// What programs of this shell trust without us.
fn base() -> Result<(PathBuf, Vec<u8>), Failure> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) else {
        return Ok(system_bundle()?);
    };
    let path = PathBuf::from(path);
    match std::fs::read(&path) {
        Ok(content) => Ok((path, content)),
        Err(error) => Err(Failure::Failed(format!(
            "SSL_CERT_FILE={} cannot be read: {error}; set it to a file, or unset it",
            path.display()
        ))),
    }
}
