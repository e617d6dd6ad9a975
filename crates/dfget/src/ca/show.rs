//! `dfget ca show`.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::SystemTime};

use dfget_config::Environment;
use dfget_tls::{AuthorityCertificate, PairFiles};
use serde_json::{Value, json};

use super::{Failure, arguments::ShowArguments, site::certificate};
use crate::{arguments::Output, message};

/// Prints what a certificate says, and what is weak about it.
pub(crate) fn run(arguments: ShowArguments, environment: &Environment) -> Result<(), Failure> {
    let ShowArguments { file, output, config } = arguments;
    let (files, certificate) = certificate(file, config.config, environment)?;
    let now = SystemTime::now();
    match output {
        Output::Text => message::output(text(&files, &certificate, now))?,
        Output::Json => message::output(object(&files, &certificate, now))?,
    }
    Ok(())
}

fn text(files: &PairFiles, certificate: &AuthorityCertificate, now: SystemTime) -> String {
    let expired = if certificate.is_expired(now) { " (it has expired; `dfget ca rotate`)" } else { "" };
    let mut text = format!(
        "{}\n  subject      {}\n  fingerprint  {}\n  for          {}\n  valid        {}\n  until        {}{expired}\n  key          {}",
        files.cert.display(),
        certificate.subject(),
        certificate.fingerprint(),
        certificate.scope(),
        certificate.not_before_text(),
        certificate.not_after_text(),
        certificate.key_kind(),
    );
    if let Some(mode) = mode(&files.key) {
        text.push_str(&format!(", in {} (mode {mode:04o})", files.key.display()));
    }
    for weakness in weaknesses(files, certificate, now) {
        text.push_str(&format!("\n  weak: {weakness}"));
    }
    text
}

/// The same for programs. `version` grows when a field changes its meaning or goes.
fn object(files: &PairFiles, certificate: &AuthorityCertificate, now: SystemTime) -> Value {
    let scope = certificate.scope();
    json!({
        "version": 1,
        "file": files.cert.display().to_string(),
        "subject": certificate.subject(),
        "fingerprint": certificate.fingerprint(),
        "anyHost": scope.is_any_host(),
        "names": scope.names().collect::<Vec<_>>(),
        "addresses": scope.addresses().collect::<Vec<_>>(),
        "notBefore": rfc3339(&certificate.not_before_text()),
        "notAfter": rfc3339(&certificate.not_after_text()),
        "expired": certificate.is_expired(now),
        "key": certificate.key_kind(),
        "keyFile": mode(&files.key).map(|mode| json!({
            "file": files.key.display().to_string(),
            "mode": format!("{mode:04o}"),
        })),
        "weaknesses": weaknesses(files, certificate, now),
    })
}

fn weaknesses(files: &PairFiles, certificate: &AuthorityCertificate, now: SystemTime) -> Vec<String> {
    let mut found: Vec<String> = certificate.weaknesses(now).iter().map(ToString::to_string).collect();
    if let Some(mode) = mode(&files.key)
        && mode & 0o007 != 0
    {
        found.push(format!("every user of this host can read its key; `chmod 600 {}`", files.key.display()));
    }
    found
}

fn mode(key: &Path) -> Option<u32> {
    std::fs::metadata(key).ok().map(|about| about.permissions().mode() & 0o7777)
}

/// `2026-11-23 08:15:00 UTC` as `2026-11-23T08:15:00Z`.
fn rfc3339(text: &str) -> String {
    text.replace(" UTC", "Z").replacen(' ', "T", 1)
}
