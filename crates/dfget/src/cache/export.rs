//! `dfget cache export`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal as _, Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use dfget_config::Environment;
use dfget_console::{Content, Kind, Origin, Selection};
use dfget_core::Hasher;
use tempfile::NamedTempFile;

use super::arguments::ExportArguments;
use super::failure::Failure;
use super::layout::{
    INDEX_NAME, Item, LARGEST_MANIFEST, OCI_LAYOUT, OCI_LAYOUT_NAME, blob_name, index, media_type,
};
use super::place::{Make, connect};
use super::progress::Progress;
use super::shown::{size, sum};
use super::wanted::Wanted;
use crate::api::{CallError, Client};
use crate::message;

/// The unit of a tar.
const RECORD: usize = 512;
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// What goes into a bundle.
struct Packing {
    /// By digest.
    items: BTreeMap<String, Item>,
    /// Their names in the store.
    keys: BTreeMap<String, String>,
}

/// Why a bundle is not written to its end.
enum Broken {
    Call(CallError),
    Write(io::Error),
}

/// Writes a bundle.
pub(super) fn run(arguments: &ExportArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let wanted = Wanted::read(&arguments.wanted)?;
    let to_stdout = arguments.file.as_os_str() == "-";
    if to_stdout && stdout().is_terminal() {
        return Err(Failure::Usage(
            "a bundle is nothing for a terminal: say a FILE, or redirect it".to_owned(),
        ));
    }
    let path = environment.working_directory.join(&arguments.file);
    if !to_stdout && path.exists() && !arguments.force {
        return Err(Failure::Failed(format!(
            "{} is there already: say --force to replace it",
            path.display()
        )));
    }
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let selection = Selection { complete: Some(true), stored_since: arguments.since, ..Selection::default() };
    let found = wanted.find(&mut client, selection)?;
    let packing = pack(&mut client, &found.contents)?;
    if packing.items.is_empty() {
        let unnamed = found.contents.len();
        let why =
            if unnamed == 0 { String::new() } else { format!("; {unnamed} have no sha256 to be known by") };
        return Err(Failure::Failed(format!("nothing that is stored is meant{why}; see `dfget cache ls`")));
    }
    let bytes = packing.items.values().map(|item| item.size).sum();
    if to_stdout {
        write(&mut client, &packing, &mut stdout().lock()).map_err(|broken| broken.told(Path::new("-")))?;
    } else {
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        let file = NamedTempFile::new_in(dir).map_err(|error| unwritable(&path, &error))?;
        write(&mut client, &packing, &mut file.as_file()).map_err(|broken| broken.told(&path))?;
        file.as_file().sync_all().map_err(|error| unwritable(&path, &error))?;
        let kept = if arguments.force { file.persist(&path) } else { file.persist_noclobber(&path) };
        kept.map_err(|error| unwritable(&path, &error.error))?;
    }
    let left = found.contents.iter().filter(|content| item_digest(content).is_none()).count();
    let left = if left == 0 { String::new() } else { format!("; {left} without a sha256 are left out") };
    message::note(format_args!("packed {}{left}", sum(packing.items.len() as u64, bytes)));
    Ok(ExitCode::SUCCESS)
}

/// The sha256 of a content that can be packed.
fn item_digest(content: &Content) -> Option<&String> {
    let digest = content.digest.as_ref().filter(|digest| digest.starts_with("sha256:"))?;
    (content.kind != Kind::Url && content.complete && content.size.is_some()).then_some(digest)
}

fn pack(client: &mut Client, contents: &[Content]) -> Result<Packing, Failure> {
    let mut packing = Packing { items: BTreeMap::new(), keys: BTreeMap::new() };
    for content in contents {
        let (Some(digest), Some(size)) = (item_digest(content), content.size) else { continue };
        let fresh = || Item { size, kinds: Vec::new(), media_type: None, tags: Vec::new() };
        let item = packing.items.entry(digest.clone()).or_insert_with(fresh);
        item.kinds.push(content.kind);
        item.kinds.sort_unstable();
        packing.keys.insert(digest.clone(), content.key.clone());
        if content.kind == Kind::Manifest && size <= LARGEST_MANIFEST {
            let mut manifest = Vec::new();
            client.bytes(&bytes_path(&content.key), |part| {
                manifest.extend_from_slice(part);
                Ok::<_, CallError>(())
            })?;
            item.media_type = media_type(&manifest);
            item.tags = tags(content);
        }
    }
    Ok(packing)
}

/// The tags of a manifest, in full.
fn tags(content: &Content) -> Vec<String> {
    let of = |origin: &Origin| {
        let host = origin.authority.split_once("://").map_or(origin.authority.as_str(), |(_, host)| host);
        origin.tags.keys().map(|tag| format!("{host}/{tag}")).collect::<Vec<_>>()
    };
    let mut tags: Vec<_> = content.origins.iter().flat_map(of).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

fn bytes_path(key: &str) -> String {
    // A key of a content with a digest has no character that a query would mean otherwise.
    format!("/api/v1/bytes?key={key}")
}

fn write(client: &mut Client, packing: &Packing, out: &mut dyn Write) -> Result<(), Broken> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let index = index(&packing.items).map_err(io::Error::other)?;
    file(&mut out, OCI_LAYOUT_NAME, OCI_LAYOUT)?;
    file(&mut out, INDEX_NAME, &index)?;
    let mut progress = Progress::new();
    let all: u64 = packing.items.values().map(|item| item.size).sum();
    let mut done = 0;
    for ((digest, item), key) in packing.items.iter().zip(packing.keys.values()) {
        head(&mut out, &blob_name(digest), item.size)?;
        let (mut hasher, mut came) = (Hasher::sha256(), 0);
        client.bytes(&bytes_path(key), |part| {
            hasher.update(part);
            came += part.len() as u64;
            progress.show(&format!("{} of {}", size(done + came), size(all)));
            out.write_all(part).map_err(Broken::Write)
        })?;
        let actual = hasher.finish().to_string();
        if came != item.size || actual != *digest {
            let rotten = format!("{digest} is rotten: run `dfget cache verify {digest}`, then export again");
            return Err(Broken::Write(io::Error::other(rotten)));
        }
        pad(&mut out, item.size)?;
        done += came;
    }
    out.write_all(&[0; 2 * RECORD])?;
    out.flush()?;
    Ok(())
}

/// A small file of the bundle.
fn file(out: &mut dyn Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    head(out, name, bytes.len() as u64)?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

/// The head of a file, the same for all times and users.
fn head(out: &mut dyn Write, name: &str, size: u64) -> io::Result<()> {
    let mut head = tar::Header::new_gnu();
    head.set_path(name)?;
    head.set_size(size);
    head.set_mode(0o644);
    head.set_uid(0);
    head.set_gid(0);
    head.set_mtime(0);
    head.set_entry_type(tar::EntryType::Regular);
    head.set_cksum();
    out.write_all(head.as_bytes())
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % RECORD as u64).unwrap_or(0);
    let zeros = [0; RECORD];
    out.write_all(if over == 0 { &[] } else { &zeros[over..] })
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{} cannot be written: {error}", path.display()))
}

// === impl Broken ===

impl Broken {
    fn told(self, path: &Path) -> Failure {
        match self {
            Self::Call(error) => Failure::Failed(format!(
                "a content cannot be read, it is rotten or has left the store ({error}): run `dfget cache verify`, \
                 then export again"
            )),
            Self::Write(error) if error.kind() == io::ErrorKind::Other => Failure::Failed(error.to_string()),
            Self::Write(error) => unwritable(path, &error),
        }
    }
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
