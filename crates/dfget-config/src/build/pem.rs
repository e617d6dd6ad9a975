//! Files of PEM text: found, readable, and of the right kind, before the daemon starts.
//!
//! A relative name is looked for next to the file that names it, then in the working directory.
//! The content is looked at only so far as to tell PEM text from anything else; whether it is a
//! certificate, and whether a key fits it, is found out by the room that uses it.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use super::Context;
use crate::{
    Code, PemSource, Secret,
    read::{Field, PEM},
};

/// The file or text that the field names; `None` after an error, or when it is empty.
pub(super) fn source(field: &Field<'_>, context: &mut Context<'_>) -> Option<PemSource> {
    let text = field.text(context.report, PEM)?;
    if text.is_empty() {
        return None;
    }
    if text.trim_start().starts_with(BEGIN) {
        return Some(PemSource::Inline(Secret::new(text.to_owned())));
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
            Ok(content) => {
                check_content(field, path, &content, context);
                return Some(PemSource::File(path.clone()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", path.display());
                context.report.error(field.value(), Code::MissingFile, problem, unreadable(path, &error));
                return None;
            }
        }
    }
    let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    let problem = format!("there is no such file (looked for {})", looked.join(", then "));
    let name = Path::new(text).file_name().and_then(OsStr::to_str).unwrap_or(PEM.example);
    let example = field.line(&format!("/etc/dragonfly/{name}"));
    let remedy = format!("put the file there, or write its absolute name, for example {example}");
    context.report.error(field.value(), Code::MissingFile, problem, remedy);
    None
}

/// As [`source`], for a private key: others must not be able to read it.
pub(super) fn private_key(field: &Field<'_>, context: &mut Context<'_>) -> Option<PemSource> {
    let source = source(field, context)?;
    if let PemSource::File(path) = &source
        && let Ok(mode) = context.environment.files.mode(path)
        && mode & 0o007 != 0
    {
        let problem = format!("every user of this host can read {} (mode {mode:04o})", path.display());
        let remedy = format!("`chmod 600 {}`: who has this key can impersonate any site", path.display());
        context.report.warn(field.value(), Code::Exposed, problem, remedy);
    }
    Some(source)
}

fn places(field: &Field<'_>, text: &str, context: &Context<'_>) -> Vec<PathBuf> {
    let beside = context.directories.get(field.node.mark.file).map(|directory| directory.join(text));
    let here = context.environment.working_directory.join(text);
    let mut places: Vec<_> = beside.into_iter().chain([here]).collect();
    places.dedup();
    places
}

fn check_content(field: &Field<'_>, path: &Path, content: &[u8], context: &mut Context<'_>) {
    if !content.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes()) {
        let problem = format!("{} holds no PEM text", path.display());
        let remedy = format!(
            "convert it, for example with `openssl x509 -inform DER -in {0} -out {0}.pem`",
            path.display()
        );
        context.report.error(field.value(), Code::BadValue, problem, remedy);
    }
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
