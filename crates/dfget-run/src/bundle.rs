//! The bundle of each trust variable: what it named before, and our authorities.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dfget_core::Digest;
use dfget_tls::{merged_bundle, system_bundle};
use rustix::process::geteuid;
use rustls_pki_types::CertificateDer;

use crate::variables::{TRUST, Variables};

/// Bundles that no command has touched for so long are removed.
const STALE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Texts of bundles by the files that they are to be in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundles {
    /// The file for each variable.
    pub(crate) files: BTreeMap<&'static str, String>,
    texts: BTreeMap<PathBuf, String>,
}

// === impl Bundles ===

impl Bundles {
    /// Makes them for `dir`, unwritten. Each variable's is what that names now, else what its programs
    /// read instead, else the system's store, and `authorities` (PEM). `note` hears of what could not
    /// be read.
    pub(crate) fn plan(
        dir: &Path,
        original: &Variables,
        authorities: &[String],
        note: &mut dyn FnMut(String),
    ) -> Self {
        let ours = certificates(authorities);
        let mut system = None;
        let mut bundles = Self::default();
        for name in TRUST {
            let set = |name: &str| original.get(name).filter(|value| !value.is_empty());
            let before =
                read_by_programs_of(name).into_iter().find_map(|source| Some((source, set(source)?)));
            let named = before.and_then(|(source, file)| match fs::read(file) {
                Ok(text) => Some(text),
                Err(error) => {
                    // Once for each variable that is wrong, not for each that comes to stand on it.
                    if source == name {
                        note(format!(
                            "{name}={file} cannot be read ({error}); the system's store is taken instead"
                        ));
                    }
                    None
                }
            });
            let base = named.unwrap_or_else(|| system.get_or_insert_with(|| of_system(note)).clone());
            let text = merged_bundle(&base, &ours);
            // A name by content: commands that need the same bundle share it.
            let digest = Digest::sha256(text.as_bytes()).hex();
            let file = dir.join(format!("bundle-{}.pem", &digest[..16]));
            bundles.files.insert(name, file.display().to_string());
            bundles.texts.insert(file, text);
        }
        bundles
    }

    /// Writes what is not there. A reader never sees half a file.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn write(&self) -> io::Result<()> {
        for (file, text) in &self.texts {
            if fs::metadata(file).is_ok_and(|found| found.len() == text.len() as u64) {
                continue;
            }
            let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
            let written = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)
                .and_then(|mut new| new.write_all(text.as_bytes()))
                .and_then(|()| fs::rename(&temporary, file));
            if let Err(error) = written {
                let _ = fs::remove_file(&temporary);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Marks them as used, and writes again what has vanished.
    pub(crate) fn refresh(&self, now: SystemTime) {
        for file in self.texts.keys() {
            let _ = fs::File::open(file).and_then(|file| file.set_modified(now));
        }
        let _ = self.write();
    }
}

/// The variables that the programs of `name` read, in this order, before they turn to the system's
/// store: curl takes `SSL_CERT_FILE` too, and Python's requests what curl takes.
fn read_by_programs_of(name: &'static str) -> Vec<&'static str> {
    let next = match name {
        "CURL_CA_BUNDLE" => Some("SSL_CERT_FILE"),
        "REQUESTS_CA_BUNDLE" => Some("CURL_CA_BUNDLE"),
        _ => None,
    };
    [name].into_iter().chain(next).collect()
}

/// The directory that bundles are to be in, unmade, as far as can be told without making it.
pub(crate) fn likely_directory(home: Option<&Path>) -> PathBuf {
    let [tmp, in_home] = candidates(home);
    let usable = |dir: &PathBuf| dfget_lease::could_be_private(dir).is_ok();
    tmp.clone().filter(usable).or_else(|| in_home.filter(usable)).or(tmp).unwrap_or_default()
}

fn candidates(home: Option<&Path>) -> [Option<PathBuf>; 2] {
    let own = format!("dfget-{}", geteuid().as_raw());
    [Some(Path::new("/tmp").join(own)), home.map(|home| home.join(".cache/dragonfly/bundles"))]
}

/// A directory for bundles: one that containers have too, `/tmp` or `$HOME`.
///
/// # Errors
/// What is wrong with each, and what to do.
pub(crate) fn directory(home: Option<&Path>) -> Result<PathBuf, String> {
    let mut tried = Vec::new();
    for dir in candidates(home).into_iter().flatten() {
        let made =
            dir.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| dfget_lease::make_private(&dir));
        match made.and_then(|()| probe(&dir)) {
            Ok(()) => return Ok(dir),
            Err(error) => tried.push(format!("{}: {error}", dir.display())),
        }
    }
    Err(format!(
        "no place for the bundle of authorities: {}; make room in /tmp or set HOME",
        tried.join(", ")
    ))
}

/// Removes bundles that are used no more.
pub(crate) fn clean(dir: &Path, now: SystemTime) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("bundle-"));
        let age = entry
            .metadata()
            .and_then(|found| found.modified())
            .ok()
            .and_then(|at| now.duration_since(at).ok());
        if ours && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a few bytes can be written: a full disk or a spent quota shows only then.
fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("probe-{}", std::process::id()));
    let written = fs::write(&path, [0; 4096]);
    let _ = fs::remove_file(&path);
    written
}

fn of_system(note: &mut dyn FnMut(String)) -> Vec<u8> {
    match system_bundle() {
        Ok((_, text)) => text,
        Err(error) => {
            note(format!("{error}; programs will trust the hijacked hosts only"));
            Vec::new()
        }
    }
}

fn certificates(authorities: &[String]) -> Vec<CertificateDer<'static>> {
    let texts = authorities.iter().filter_map(|pem| dfget_tls::certificates_from_pem(pem.as_bytes()).ok());
    texts.flatten().collect()
}

#[cfg(test)]
mod tests {
    use dfget_tls::{NewAuthority, Scope};

    use super::*;

    fn authority(host: &str) -> String {
        let new = NewAuthority::of_this_host(Scope::of_hosts([host]).unwrap());
        new.make(SystemTime::now()).unwrap().cert_pem
    }

    #[test]
    fn each_variable_keeps_what_it_named() {
        let dir = tempfile::tempdir().unwrap();
        let (site, ours) = (authority("site.example"), authority("r.example"));
        let file = dir.path().join("site.pem");
        fs::write(&file, &site).unwrap();
        let original: Variables = [
            ("CURL_CA_BUNDLE".to_owned(), file.display().to_string()),
            ("GIT_SSL_CAINFO".to_owned(), dir.path().join("gone").display().to_string()),
        ]
        .into();
        let mut notes = Vec::new();
        let bundles =
            Bundles::plan(dir.path(), &original, std::slice::from_ref(&ours), &mut |note| notes.push(note));
        bundles.write().unwrap();
        let read = |name: &str| fs::read_to_string(&bundles.files[name]).unwrap();
        assert!(read("CURL_CA_BUNDLE").contains(site.trim()) && read("CURL_CA_BUNDLE").contains(ours.trim()));
        assert!(!read("SSL_CERT_FILE").contains(site.trim()) && read("SSL_CERT_FILE").contains(ours.trim()));
        assert_eq!(bundles.files["SSL_CERT_FILE"], bundles.files["GIT_SSL_CAINFO"]);
        assert!(
            notes.iter().any(|note| note.contains("GIT_SSL_CAINFO=") && note.contains("gone")),
            "{notes:?}"
        );
    }

    #[test]
    fn an_unset_variable_is_what_its_programs_would_read_instead() {
        let dir = tempfile::tempdir().unwrap();
        let (site, ours) = (authority("site.example"), authority("r.example"));
        let file = dir.path().join("site.pem");
        fs::write(&file, &site).unwrap();
        let of = |name: &str| {
            let original = Variables::from([(name.to_owned(), file.display().to_string())]);
            let bundles = Bundles::plan(dir.path(), &original, std::slice::from_ref(&ours), &mut |_| {});
            let same = bundles.files[name].clone();
            let with = bundles.files.into_iter().filter(|(_, file)| *file == same);
            with.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(of("SSL_CERT_FILE"), ["CURL_CA_BUNDLE", "SSL_CERT_FILE"]);
        assert_eq!(of("CURL_CA_BUNDLE"), ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]);
        assert_eq!(of("GIT_SSL_CAINFO"), ["GIT_SSL_CAINFO"]);
    }

    #[test]
    fn a_bundle_that_vanished_comes_back_and_an_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let bundles = Bundles::plan(dir.path(), &Variables::new(), &[authority("r.example")], &mut |_| {});
        bundles.write().unwrap();
        let file = bundles.files["SSL_CERT_FILE"].clone();
        let before = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        bundles.refresh(SystemTime::now());
        assert_eq!(fs::read(&file).unwrap(), before);
        clean(dir.path(), SystemTime::now());
        assert!(Path::new(&file).exists());
        clean(dir.path(), SystemTime::now() + STALE * 2);
        assert!(!Path::new(&file).exists());
    }
}
