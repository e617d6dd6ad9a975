//! `dfget cache import`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read, stdin};
use std::process::ExitCode;
use std::rc::Rc;

use dfget_config::Environment;
use dfget_console::{Content, Contents, Import, Kept, Kind};
use http::Method;
use serde::Serialize;

use super::arguments::ImportArguments;
use super::failure::Failure;
use super::layout::{
    INDEX_NAME, Item, LARGEST_INDEX, LARGEST_MANIFEST, OCI_LAYOUT_NAME, digest_of, is_index, is_layout,
    listed,
};
use super::ls::json;
use super::place::{Make, connect};
use super::progress::Progress;
use super::shown::{size, sum};
use crate::api::{CallError, Client, UploadError};
use crate::arguments::Output;
use crate::message;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;
/// Bytes of manifests that are remembered until it is known that they are some.
const REMEMBERED: usize = 64 << 20;
/// Wrong contents that are named.
const NAMED: usize = 8;

/// The bytes of a bundle; tells when they have ended.
struct Bundle {
    bytes: Chain<Cursor<Vec<u8>>, BufReader<Box<dyn Read>>>,
    ended: Rc<Cell<bool>>,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Contents that were stored.
    imported: u64,
    /// Bytes of these.
    bytes: u64,
    /// Contents that were there already.
    present: u64,
    /// Contents that are not what their names say.
    wrong: Vec<String>,
    /// Contents that the index names and that did not come.
    missing: Vec<String>,
    /// What else is wrong with the bundle, in a line.
    problem: Option<String>,
}

/// A bundle that is being stored.
struct Importing<'a> {
    client: &'a mut Client,
    /// Names in the store that are whole.
    here: BTreeSet<String>,
    /// What the index says.
    listed: Option<BTreeMap<String, Item>>,
    is_layout: bool,
    /// Digests that have come.
    came: BTreeSet<String>,
    /// What may turn out to be a manifest.
    small: HashMap<String, Vec<u8>>,
    remembered: usize,
    report: Report,
    progress: Progress,
}

/// Why nothing more is read.
enum Stop {
    /// The bundle is at fault.
    Bundle(String),
    /// The store, or the daemon, is.
    Failure(Failure),
}

/// Stores what is in a bundle.
pub(super) fn run(arguments: &ImportArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let name = arguments.file.display().to_string();
    let input: Box<dyn Read> = if name == "-" {
        Box::new(stdin())
    } else {
        let file = File::open(environment.working_directory.join(&arguments.file));
        Box::new(file.map_err(|error| Failure::Failed(format!("{name} cannot be read: {error}")))?)
    };
    let bundle = begun(input).map_err(|problem| Failure::Failed(format!("{name}: {problem}")))?;
    let mut client = connect(&arguments.place, environment, Make::Yes)?;
    let here: Contents = client.get("/api/v1/contents?complete=true")?;
    let mut importing = Importing {
        client: &mut client,
        here: here.contents.into_iter().map(|content: Content| content.key).collect(),
        listed: None,
        is_layout: false,
        came: BTreeSet::new(),
        small: HashMap::new(),
        remembered: 0,
        report: Report::default(),
        progress: Progress::new(),
    };
    let stopped = importing.all(bundle);
    importing.progress.clear();
    let mut report = importing.report;
    // What is told is to be so after a crash, too.
    let flushed = client.call::<serde_json::Value>(Method::POST, "/api/v1/flush", &());
    let failure = match stopped {
        Ok(()) => None,
        Err(Stop::Bundle(problem)) => {
            report.problem = Some(problem);
            None
        }
        Err(Stop::Failure(failure)) => Some(failure),
    };
    let failure = failure.or_else(|| flushed.err().map(Failure::from));
    let text = match arguments.output {
        Output::Text => to_text(&report),
        Output::Json => json(&report)?,
    };
    message::output(text).map_err(Failure::Output)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let Some(complaint) = complaint(&name, &report) {
        return Err(Failure::Failed(complaint));
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at the first bytes for what people may take for a bundle.
fn begun(input: Box<dyn Read>) -> Result<Bundle, String> {
    let mut first = Vec::new();
    let mut input = BufReader::with_capacity(BUFFER, input);
    input.by_ref().take(4).read_to_end(&mut first).map_err(|error| format!("it cannot be read: {error}"))?;
    match first.as_slice() {
        [] => Err("it is empty: copy the bundle again".to_owned()),
        [0x1f, 0x8b, ..] => Err("it is compressed: `gunzip` it first".to_owned()),
        [0x28, 0xb5, 0x2f, 0xfd] => Err("it is compressed: `unzstd` it first".to_owned()),
        _ => Ok(Bundle { bytes: Cursor::new(first).chain(input), ended: Rc::default() }),
    }
}

// === impl Bundle ===

impl Read for Bundle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(read)
    }
}

// === impl Importing ===

impl Importing<'_> {
    fn all(&mut self, bundle: Bundle) -> Result<(), Stop> {
        let ended = Rc::clone(&bundle.ended);
        let mut archive = tar::Archive::new(bundle);
        // Where the bundle has ended, that is what is wrong, whatever the reader of the tar makes of it.
        let broken = |error: io::Error| if ended.get() { cut_short() } else { broken(&error) };
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let (name, size) = (entry.path_bytes().into_owned(), entry.size());
            let name = String::from_utf8_lossy(&name);
            let name = name.strip_prefix("./").unwrap_or(&name);
            match name {
                OCI_LAYOUT_NAME => {
                    self.is_layout = is_layout(&small(&mut entry, size, 4096)?);
                    if !self.is_layout {
                        return Err(Stop::Bundle(
                            "its oci-layout is of a version that is not known here".to_owned(),
                        ));
                    }
                }
                INDEX_NAME => {
                    let index = listed(&small(&mut entry, size, LARGEST_INDEX)?);
                    let index = index.ok_or_else(|| Stop::Bundle("its index.json is damaged".to_owned()))?;
                    self.listed = Some(index);
                }
                name => {
                    if let Some(digest) = digest_of(name) {
                        self.blob(&digest, size, &mut entry)?;
                    }
                }
            }
        }
        self.manifests()?;
        self.ended()
    }

    /// Stores a blob under the names that the index has for it.
    fn blob(&mut self, digest: &str, size: u64, reader: &mut dyn Read) -> Result<(), Stop> {
        if !self.came.insert(digest.to_owned()) {
            return Ok(());
        }
        let item = self.listed.as_ref().and_then(|listed| listed.get(digest));
        let kinds = item.map_or_else(|| vec![Kind::Blob], |item| item.kinds.clone());
        if size > LARGEST_MANIFEST {
            // What is large is no manifest, whatever the index says.
            return self.store(digest, Kind::Blob, size, reader);
        }
        let bytes = small(reader, size, LARGEST_MANIFEST)?;
        for kind in kinds {
            self.store(digest, kind, size, &mut bytes.as_slice())?;
        }
        if bytes.starts_with(b"{") && self.remembered + bytes.len() <= REMEMBERED {
            self.remembered += bytes.len();
            self.small.insert(digest.to_owned(), bytes);
        }
        Ok(())
    }

    fn store(&mut self, digest: &str, kind: Kind, bytes: u64, reader: &mut dyn Read) -> Result<(), Stop> {
        let key = format!("{}:{digest}", if kind == Kind::Manifest { "manifest" } else { "blob" });
        if self.here.contains(&key) {
            self.report.present += 1;
            return Ok(());
        }
        let done = sum(self.report.imported, self.report.bytes);
        self.progress.show(&format!("{done} stored; now one of {}", size(bytes)));
        let import = Import { digest: digest.to_owned(), kind, size: bytes };
        let path = format!("/api/v1/import?{}", import.to_query());
        match self.client.upload::<Kept>(&path, bytes, reader) {
            Ok(Kept { present: true }) => self.report.present += 1,
            Ok(Kept { present: false }) => {
                self.report.imported += 1;
                self.report.bytes += bytes;
            }
            Err(UploadError::Read(error)) => return Err(broken(&error)),
            Err(UploadError::Call(CallError::Failed(failed))) if failed.status == 422 => {
                self.report.wrong.push(failed.error);
                return Ok(());
            }
            Err(UploadError::Call(CallError::Failed(failed))) if failed.status == 507 => {
                let full =
                    format!("{}: make room by `dfget cache gc --to SIZE`, then import again", failed.error);
                return Err(Stop::Failure(Failure::Failed(full)));
            }
            Err(UploadError::Call(error)) => return Err(Stop::Failure(error.into())),
        }
        self.here.insert(key);
        Ok(())
    }

    /// Stores as manifests what turned out to be some only when the index, or another manifest, had come.
    fn manifests(&mut self) -> Result<(), Stop> {
        let mut looked = BTreeSet::new();
        let mut next: Vec<_> =
            self.listed.iter().flatten().map(|(digest, item)| (digest.clone(), item.clone())).collect();
        while let Some((digest, item)) = next.pop() {
            let Some(bytes) = self.small.get(&digest).cloned() else { continue };
            if item.media_type.is_none() || !looked.insert(digest.clone()) {
                continue;
            }
            if is_index(item.media_type.as_deref()) {
                next.extend(listed(&bytes).into_iter().flatten());
            }
            if !item.kinds.contains(&Kind::Manifest) || self.here.contains(&format!("manifest:{digest}")) {
                continue;
            }
            self.store(&digest, Kind::Manifest, bytes.len() as u64, &mut bytes.as_slice())?;
        }
        Ok(())
    }

    /// Whether all has come that should.
    fn ended(&mut self) -> Result<(), Stop> {
        let Some(listed) = &self.listed else {
            return Err(Stop::Bundle(
                "it has no index.json: it is cut short, or no OCI image layout".to_owned(),
            ));
        };
        if !self.is_layout {
            return Err(Stop::Bundle("it has no oci-layout: it is no OCI image layout".to_owned()));
        }
        let missing = listed.keys().filter(|digest| !self.came.contains(*digest));
        self.report.missing = missing.cloned().collect();
        Ok(())
    }
}

/// A part of the bundle that is held in memory.
fn small(reader: &mut dyn Read, size: u64, most: u64) -> Result<Vec<u8>, Stop> {
    if size > most {
        return Err(Stop::Bundle(format!("a part that should be small has {size} bytes")));
    }
    let mut bytes = Vec::new();
    reader.take(size).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    if (bytes.len() as u64) < size {
        return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn broken(error: &io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_short(),
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            Stop::Bundle("it is damaged, or no tar".to_owned())
        }
        _ => Stop::Bundle(format!("it cannot be read: {error}")),
    }
}

fn cut_short() -> Stop {
    Stop::Bundle("it is cut short".to_owned())
}

fn to_text(report: &Report) -> String {
    let mut text = format!("imported {}", sum(report.imported, report.bytes));
    if report.present > 0 {
        text.push_str(&format!("; {} were here already", report.present));
    }
    text
}

/// What is wrong with the bundle, and what to do.
fn complaint(name: &str, report: &Report) -> Option<String> {
    let mut wrong = Vec::new();
    if let Some(problem) = &report.problem {
        wrong.push(problem.clone());
    }
    if let Some(first) = report.missing.first() {
        wrong.push(format!(
            "it is cut short: {} of what its index names did not come, such as {first}",
            report.missing.len()
        ));
    }
    wrong.extend(report.wrong.iter().take(NAMED).cloned());
    if report.wrong.len() > NAMED {
        wrong.push(format!("and {} more", report.wrong.len() - NAMED));
    }
    if wrong.is_empty() {
        return None;
    }
    Some(format!(
        "{name}: {}; what was whole and right is stored, nothing else is: copy the bundle again, and import it again",
        wrong.join("; ")
    ))
}
