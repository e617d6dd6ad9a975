//! The authority of the hijack: the one that is named, or dfget's own.
//!
//! Nothing is made here; what is found out is whether it can be: an own authority is for the hosts
//! that the patterns spell, so where it does not exist yet each of them must spell one.

use std::path::Path;

use super::{Context, pem, proxy::missing};
use crate::{
    Code, HijackAuthority, OwnAuthority, PemFault, literal_host,
    places::LIMIT_BYTES,
    read::{Field, Section},
    yaml::Data,
};

/// From the section of `field`, whose `hosts` are these patterns. `None` after an error.
pub(super) fn authority(
    field: &Field<'_>,
    section: &Section<'_>,
    patterns: &[Field<'_>],
    own: OwnAuthority,
    context: &mut Context<'_>,
) -> Option<HijackAuthority> {
    let named = ["cert", "key"].map(|key| section.get(key).filter(|field| !is_unset(field)));
    match named {
        [Some(cert), Some(key)] if context.needs_authority => {
            let cert = pem::certificate(cert, context);
            let key = pem::private_key(key, "can impersonate any site", context);
            let (cert, key) = (cert?, key?);
            pem::check_authority(&cert, &key, context);
            Some(HijackAuthority::Named { cert: cert.source, key: key.source })
        }
        [Some(cert), Some(key)] => {
            let (cert, key) = (pem::place(cert, context), pem::place(key, context));
            Some(HijackAuthority::Named { cert: cert?, key: key? })
        }
        [None, None] => own_authority(field, patterns, own, context),
        [Some(_), None] => {
            missing(field, "key", "ca.key", context.report);
            None
        }
        [None, Some(_)] => {
            missing(field, "cert", "ca.crt", context.report);
            None
        }
    }
}

fn own_authority(
    field: &Field<'_>,
    patterns: &[Field<'_>],
    mut own: OwnAuthority,
    context: &mut Context<'_>,
) -> Option<HijackAuthority> {
    for pattern in patterns {
        let Data::Scalar { text, .. } = &pattern.node.data else { continue };
        match literal_host(text) {
            Some(host) if !own.hosts.contains(&host) => own.hosts.push(host),
            Some(_) => {}
            None if context.needs_authority && !own.exists => not_literal(pattern, &own, context),
            None => {}
        }
    }
    if context.needs_authority && !patterns.is_empty() {
        unreadable(field, &own, context);
        if own.exists {
            check(field, &own, context);
        }
    }
    Some(HijackAuthority::Own(own))
}

/// A pattern that an authority of our own cannot be bound to.
fn not_literal(pattern: &Field<'_>, own: &OwnAuthority, context: &mut Context<'_>) {
    let directory = own.cert.parent().unwrap_or(&own.cert).display();
    let problem = format!(
        "an authority of dfget's own is made for hosts that are spelled out, which this pattern does not (got {})",
        pattern.shown()
    );
    let remedy = format!(
        "spell the hosts out, or make one by `dfget ca create --dir {directory} --host HOST` (`--any-host` \
         for all), or name another by `cert` and `key`"
    );
    context.report.error(pattern.value(), Code::BadValue, problem, remedy);
}

/// Says that the pair beside the configuration is for somebody else.
fn unreadable(field: &Field<'_>, own: &OwnAuthority, context: &mut Context<'_>) {
    let Some(directory) = context.directories.first() else { return };
    let key = directory.join("ca.key");
    let files = &context.environment.files;
    if key != own.key && files.mode(&key).is_ok() && files.read(&key, LIMIT_BYTES).is_err() {
        let problem = format!("{} cannot be read, so {} is used instead", key.display(), own.key.display());
        let remedy = format!(
            "start the daemon as the owner of the file (`ls -l {}`), or let clients trust {}",
            key.display(),
            own.cert.display()
        );
        context.report.warn(field.key(), Code::Suspicious, problem, remedy);
    }
}

/// Whether the pair that is there is of use; says so when not.
fn check(field: &Field<'_>, own: &OwnAuthority, context: &mut Context<'_>) {
    let files = &context.environment.files;
    if let Ok(mode) = files.mode(&own.key)
        && mode & 0o007 != 0
    {
        let problem = format!("every user of this host can read {} (mode {mode:04o})", own.key.display());
        let remedy =
            format!("`chmod 600 {}` if nobody has used it, else `dfget ca rotate`", own.key.display());
        context.report.error(field.key(), Code::Exposed, problem, remedy);
        return;
    }
    let read = |path: &Path| files.read(path, LIMIT_BYTES);
    // Gone in between: the start will say so, or make one.
    let Ok(key) = read(&own.key) else { return };
    let pem = &context.environment.pem;
    // The file of the key holds the certificate too, and is the one that counts.
    let verdict = match read(&own.cert) {
        Ok(cert) => pem.authority(&cert, &key).or_else(|fault| pem.authority(&key, &key).map_err(|_| fault)),
        Err(_) if pem.authority(&key, &key).is_ok() => Ok(()),
        Err(_) => {
            let problem =
                format!("{} is there without its certificate {}", own.key.display(), own.cert.display());
            let remedy = "bring it back, or move the key away to have a new pair";
            context.report.error(field.key(), Code::MissingFile, problem, remedy);
            return;
        }
    };
    if let Err(PemFault { problem, remedy, .. }) = verdict {
        let problem = format!("{}, {}: {problem}", own.cert.display(), own.key.display());
        context.report.error(field.key(), Code::BadValue, problem, remedy);
    }
}

fn is_unset(field: &Field<'_>) -> bool {
    match &field.node.data {
        Data::Null => true,
        Data::Scalar { text, .. } => text.is_empty(),
        Data::List(_) | Data::Map(_) => false,
    }
}
