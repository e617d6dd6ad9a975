//! The whole way from a file's text to a configuration or to what is said about it.

mod authority;
mod cluster;
mod defaults;
mod egress;
mod errors;
mod every_key;
mod hostile;
mod mirror;
mod page;
mod scheduler;
mod settings;
mod tracing;
mod values;
mod warnings;

use crate::{
    ConfigErrors, LoadOptions, Loaded, load,
    testing::{FakeFiles, environment},
};

const CERT: &str = "-----BEGIN CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\n";

/// A machine with `/etc/dragonfly/{ca.crt,ca.key}` and `/site/here.crt`.
fn machine() -> FakeFiles {
    FakeFiles::default()
        .writable("/")
        .with("/etc/dragonfly/ca.crt", CERT)
        .with("/etc/dragonfly/ca.key", KEY)
        .with("/site/here.crt", CERT)
}

/// Loads this text as `/etc/dragonfly/dfget.yaml`.
fn load_text(text: impl AsRef<[u8]>) -> Result<Loaded, ConfigErrors> {
    load_files(machine().with("/etc/dragonfly/dfget.yaml", text))
}

fn load_files(files: FakeFiles) -> Result<Loaded, ConfigErrors> {
    load(&LoadOptions::default(), &environment(files, &[]))
}

/// Everything said, errors first, without the name of the main file.
fn said(result: Result<Loaded, ConfigErrors>) -> Vec<String> {
    let (errors, warnings) = match result {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(failed) => (failed.errors, failed.warnings),
    };
    let line = |diagnostic: &crate::Diagnostic| {
        let text = diagnostic.to_string();
        match text.strip_prefix("/etc/dragonfly/dfget.yaml:") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest.to_owned(),
            _ => text,
        }
    };
    errors.iter().chain(&warnings).map(line).collect()
}

/// A proxy that nothing is wrong with, to which a test adds its own lines.
const GOOD: &str = r"proxies: [{regx: blobs/sha256.*}]
hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r\.example:443$'}]}
";

/// [`GOOD`] and these lines, which start in line 3.
fn good_and(lines: &str) -> Vec<String> {
    said(load_text(format!("{GOOD}{lines}")))
}
