//! Files of PEM text: found, readable, and of use, before the daemon starts.
//!
//! A relative name is looked for next to the file that names it, then in the working directory.
//! The content is looked at here only so far as to tell PEM text from anything else; what it is, and
//! whether a key fits it, says the [`PemCheck`](crate::PemCheck) of the environment. A content lives
//! as long as the load, and is in no message.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use super::Context;
use crate::{
    Code, PemFault, PemHalf, PemSource, Secret,
    read::{Field, PEM},
};

/// PEM text, and the field that names it.
pub(super) struct Pem<'f, 'a> {
    field: &'f Field<'a>,
    pub(super) source: PemSource,
    content: Vec<u8>,
}

/// The certificates of an origin that the field names; `None` after an error, or when it is empty.
pub(super) fn roots(field: &Field<'_>, context: &mut Context<'_>) -> Option<PemSource> {
    let pem = read(field, context)?;
    match context.environment.pem.roots(&pem.content) {
        Ok(()) => Some(pem.source),
        Err(fault) => {
            refuse(&pem, fault, context);
            None
        }
    }
}

/// The certificate of an authority; whether it is one is found out with its key.
pub(super) fn certificate<'f, 'a>(field: &'f Field<'a>, context: &mut Context<'_>) -> Option<Pem<'f, 'a>> {
    read(field, context)
}

/// A private key: others must not be able to read it. `harm` is what who has it can do.
pub(super) fn private_key<'f, 'a>(
    field: &'f Field<'a>,
    harm: &str,
    context: &mut Context<'_>,
) -> Option<Pem<'f, 'a>> {
    let pem = read(field, context)?;
    if let PemSource::File(path) = &pem.source
        && let Ok(mode) = context.environment.files.mode(path)
        && mode & 0o007 != 0
    {
        let problem = format!("every user of this host can read {} (mode {mode:04o})", path.display());
        let remedy = format!("`chmod 600 {}`: who has this key {harm}", path.display());
        context.report.warn(field.value(), Code::Exposed, problem, remedy);
    }
    Some(pem)
}

/// What the field names, whether it is there or not; `None` after an error.
pub(super) fn place(field: &Field<'_>, context: &mut Context<'_>) -> Option<PemSource> {
    let text = field.text(context.report, PEM)?;
    if text.trim_start().starts_with(BEGIN) {
        return Some(PemSource::Inline(Secret::new(text.to_owned())));
    }
    let places = places(field, text, context);
    let there = places.iter().find(|path| context.environment.files.mode(path).is_ok());
    there.or_else(|| places.first()).cloned().map(PemSource::File)
}

/// Whether certificate and key make an authority; says so when not.
pub(super) fn check_authority(cert: &Pem<'_, '_>, key: &Pem<'_, '_>, context: &mut Context<'_>) {
    if let Err(fault) = context.environment.pem.authority(&cert.content, &key.content) {
        let pem = match fault.half {
            PemHalf::Certificate => cert,
            PemHalf::Key => key,
        };
        refuse(pem, fault, context);
    }
}

/// Whether a listener can speak TLS with certificate and key; says so when not.
pub(super) fn check_listener(cert: &Pem<'_, '_>, key: &Pem<'_, '_>, context: &mut Context<'_>) {
    if let Err(fault) = context.environment.pem.listener(&cert.content, &key.content) {
        let pem = match fault.half {
            PemHalf::Certificate => cert,
            PemHalf::Key => key,
        };
        refuse(pem, fault, context);
    }
}

fn refuse(pem: &Pem<'_, '_>, fault: PemFault, context: &mut Context<'_>) {
    let problem = match &pem.source {
        PemSource::File(path) => format!("{}: {}", path.display(), fault.problem),
        PemSource::Inline(_) => fault.problem,
    };
    context.report.error(pem.field.value(), Code::BadValue, problem, fault.remedy);
}

/// The file or text that the field names; `None` after an error, or when it is empty.
fn read<'f, 'a>(field: &'f Field<'a>, context: &mut Context<'_>) -> Option<Pem<'f, 'a>> {
    let text = field.text(context.report, PEM)?;
    if text.is_empty() {
        return None;
    }
    if text.trim_start().starts_with(BEGIN) {
        let source = PemSource::Inline(Secret::new(text.to_owned()));
        return Some(Pem { field, source, content: text.as_bytes().to_vec() });
    }
    if text.contains(['\n', '\0']) || text.contains("PRIVATE KEY") {
        let problem = format!("neither the name of a file nor PEM text (got {})", field.shown());
        let remedy = format!("start the text with `{BEGIN}…`, or write {}", field.line(PEM.example));
        context.report.error(field.value(), Code::BadValue, problem, remedy);
        return None;
    }
    let places = places(field, text, context);
    for path in &places {
        match context.environment.files.read(path, LIMIT_BYTES) {
            Ok(content) if is_pem(&content) => {
                return Some(Pem { field, source: PemSource::File(path.clone()), content });
            }
            Ok(_) => {
                no_pem(field, path, context);
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", path.display());
                context.report.error(field.value(), Code::MissingFile, problem, unreadable(path, &error));
                return None;
            }
        }
    }
    no_file(field, text, &places, context);
    None
}

fn no_file(field: &Field<'_>, text: &str, places: &[PathBuf], context: &mut Context<'_>) {
    let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    let problem = format!("there is no such file (looked for {})", looked.join(", then "));
    let name = Path::new(text).file_name().and_then(OsStr::to_str).unwrap_or(PEM.example);
    let example = field.line(&format!("/etc/dragonfly/{name}"));
    let remedy = format!("put the file there, or write its absolute name, for example {example}");
    context.report.error(field.value(), Code::MissingFile, problem, remedy);
}

fn places(field: &Field<'_>, text: &str, context: &Context<'_>) -> Vec<PathBuf> {
    let beside = context.directories.get(field.node.mark.file).map(|directory| directory.join(text));
    let here = context.environment.working_directory.join(text);
    let mut places: Vec<_> = beside.into_iter().chain([here]).collect();
    places.dedup();
    places
}

fn is_pem(content: &[u8]) -> bool {
    content.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
}

fn no_pem(field: &Field<'_>, path: &Path, context: &mut Context<'_>) {
    let problem = format!("{} holds no PEM text", path.display());
    let remedy = format!(
        "convert it, for example with `openssl x509 -inform DER -in {0} -out {0}.pem`",
        path.display()
    );
    context.report.error(field.value(), Code::BadValue, problem, remedy);
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("start the daemon as the owner of the file: `ls -l {}` shows who that is", path.display())
        }
        io::ErrorKind::FileTooLarge => "name a file of PEM text".to_owned(),
        _ => "name a readable file".to_owned(),
    }
}

const BEGIN: &str = "-----BEGIN ";

/// A bundle of all public authorities takes a quarter of a MiB.
const LIMIT_BYTES: u64 = 8 << 20;
