//! Whether programs of this shell would trust what our authority signs. Each kind looks elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dfget_tls::{certificates_from_pem, system_bundle_path};
use rustls_pki_types::CertificateDer;

use crate::authority::Ours;
use crate::finding::{Area, Finding, Verdict};

/// Programs that find authorities in the same way.
struct Kind {
    /// Which they are.
    programs: &'static str,
    /// Variables that name a file, the first that is set wins.
    files: &'static [&'static str],
    /// They read directories besides it (`crypto/x509` of Go, root_unix.go).
    directories: bool,
    /// They look at the system's file where no variable is set.
    system: bool,
}

/// Go: `crypto/x509`; curl: curl(1); Python: `ssl` and the package `requests`.
const KINDS: [Kind; 4] = [
    Kind {
        programs: "Apptainer, oras, crane (Go)",
        files: &["SSL_CERT_FILE"],
        directories: true,
        system: true,
    },
    Kind { programs: "curl", files: &["CURL_CA_BUNDLE", "SSL_CERT_FILE"], directories: false, system: true },
    Kind { programs: "Python's urllib", files: &["SSL_CERT_FILE"], directories: false, system: true },
    Kind {
        programs: "Python's requests",
        files: &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
        directories: false,
        system: false,
    },
];
/// Where Go looks besides, unless `SSL_CERT_DIR` names others.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// More than the authorities of a site; the public ones are about 140.
const FEW: usize = 20;

/// What a kind of programs trusts.
#[derive(Debug, Eq, PartialEq)]
enum Trust {
    /// This authority, from that file or directory.
    Ours { place: PathBuf, only_few: bool },
    /// Others.
    Others { place: PathBuf },
    /// What a variable names cannot be read.
    Unreadable { variable: &'static str, place: PathBuf, reason: String },
    /// A list of their own, which nobody can add to.
    OwnList,
}

pub(crate) fn findings(variables: &BTreeMap<String, String>, ours: &Ours) -> Vec<Finding> {
    let remedy = remedy(ours);
    KINDS.iter().map(|kind| judge(kind, &trust(kind, variables, ours.certificate.der()), &remedy)).collect()
}

fn remedy(ours: &Ours) -> String {
    let file = ours.file.as_deref().unwrap_or_else(|| Path::new("ca.crt"));
    format!(
        "as root `dfget ca install`; or `dfget ca bundle -O FILE` and SSL_CERT_FILE=FILE (it holds {} and the \
         system's); `dfget run` does so by itself",
        file.display()
    )
}

fn judge(kind: &Kind, trust: &Trust, remedy: &str) -> Finding {
    let Kind { programs, files, .. } = kind;
    match trust {
        Trust::Ours { place, only_few: false } => {
            Finding::good(Area::Trust, format!("{programs}: by {}", place.display()))
        }
        Trust::Ours { place, only_few: true } => Finding::new(
            Area::Trust,
            Verdict::Warning,
            format!("{programs}: by {}, and then hardly any other authority", place.display()),
            "`dfget ca bundle -O FILE` makes a file with the system's authorities, too",
        ),
        Trust::Others { place } => Finding::new(
            Area::Trust,
            Verdict::Warning,
            format!(
                "{programs}: {} does not hold the authority, so hijacked hosts are refused",
                place.display()
            ),
            remedy,
        ),
        Trust::Unreadable { variable, place, reason } => Finding::new(
            Area::Trust,
            Verdict::Bad,
            format!("{programs}: {variable} names {}: {reason}", place.display()),
            "name a file that is there, or unset the variable",
        ),
        Trust::OwnList => Finding::new(
            Area::Trust,
            Verdict::Note,
            format!("{programs}: has a list of its own as long as {} is not set", files[0]),
            format!("{}=FILE with the file of `dfget ca bundle -O FILE`", files[0]),
        ),
    }
}

fn trust(kind: &Kind, variables: &BTreeMap<String, String>, ours: &CertificateDer<'_>) -> Trust {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let named = kind.files.iter().find_map(|name| Some((*name, PathBuf::from(set(name)?))));
    let file = match (&named, kind.system) {
        (Some((_, file)), _) => Some(file.clone()),
        (None, true) => system_bundle_path(),
        (None, false) => return Trust::OwnList,
    };
    let mut directories: Vec<PathBuf> = Vec::new();
    if kind.directories {
        match set("SSL_CERT_DIR") {
            Some(list) => directories.extend(list.split(':').map(PathBuf::from)),
            None => directories.extend(DIRECTORIES.map(PathBuf::from)),
        }
    }
    if let Some(file) = &file {
        match certificates(file) {
            Ok(found) if found.iter().any(|one| one == ours) => {
                let only_few = found.len() < FEW && !directories.iter().any(|dir| is_populated(dir));
                return Trust::Ours { place: file.clone(), only_few };
            }
            Ok(_) => {}
            Err(reason) => {
                if let Some((variable, place)) = named {
                    return Trust::Unreadable { variable, place, reason };
                }
            }
        }
    }
    if let Some(dir) = directories.iter().find(|dir| holds(dir, ours)) {
        return Trust::Ours { place: dir.clone(), only_few: false };
    }
    Trust::Others { place: file.unwrap_or_else(|| PathBuf::from(DIRECTORIES[0])) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    certificates_from_pem(&text).map_err(|error| error.to_string())
}

fn holds(dir: &Path, ours: &CertificateDer<'_>) -> bool {
    files_of(dir).any(|file| certificates(&file).is_ok_and(|found| found.iter().any(|one| one == ours)))
}

fn is_populated(dir: &Path) -> bool {
    files_of(dir).nth(FEW).is_some()
        || files_of(dir).any(|file| certificates(&file).is_ok_and(|all| all.len() >= FEW))
}

fn files_of(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use dfget_tls::{AuthorityCertificate, NewAuthority, Scope};

    use super::*;

    fn ours() -> AuthorityCertificate {
        let made = NewAuthority::new(Scope::any_host(), "ours").make(std::time::SystemTime::now()).unwrap();
        AuthorityCertificate::from_pem(made.cert_pem.as_bytes()).unwrap()
    }

    fn kind(programs: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.programs.contains(programs)).unwrap()
    }

    #[test]
    fn a_file_that_a_variable_names_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (ours(), ours());
        let write = |name: &str, text: String| {
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        let alone = write("alone", own.to_pem());
        let without = write("without", other.to_pem());
        let many = write("many", own.to_pem() + &other.to_pem().repeat(FEW));
        let of = |program: &str, set: &[(&str, &str)]| {
            let empty = dir.path().join("empty").display().to_string();
            let mut variables = BTreeMap::from([("SSL_CERT_DIR".to_owned(), empty)]);
            variables.extend(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            trust(kind(program), &variables, own.der())
        };
        let by = |file: &str, only_few| Trust::Ours { place: file.into(), only_few };
        assert_eq!(of("curl", &[("CURL_CA_BUNDLE", &many), ("SSL_CERT_FILE", &without)]), by(&many, false));
        assert_eq!(of("curl", &[("SSL_CERT_FILE", &alone)]), by(&alone, true));
        assert_eq!(of("Go", &[("SSL_CERT_FILE", &without)]), Trust::Others { place: without.clone().into() });
        assert_eq!(of("requests", &[("SSL_CERT_FILE", &many)]), Trust::OwnList);
        assert_eq!(of("requests", &[("REQUESTS_CA_BUNDLE", &many)]), by(&many, false));
        assert!(matches!(of("urllib", &[("SSL_CERT_FILE", "/nowhere")]), Trust::Unreadable { .. }));
        let directory = dir.path().display().to_string();
        let found = of("Go", &[("SSL_CERT_FILE", &without), ("SSL_CERT_DIR", &directory)]);
        assert_eq!(found, by(&directory, false), "Go reads directories besides");
    }

    #[test]
    fn each_state_has_a_verdict() {
        let place = PathBuf::from("/f");
        let verdict = |trust| judge(&KINDS[0], &trust, "do").verdict;
        assert_eq!(verdict(Trust::Ours { place: place.clone(), only_few: false }), Verdict::Good);
        assert_eq!(verdict(Trust::Others { place: place.clone() }), Verdict::Warning);
        assert_eq!(verdict(Trust::OwnList), Verdict::Note);
        let unreadable = Trust::Unreadable { variable: "V", place, reason: "no".to_owned() };
        assert_eq!(verdict(unreadable), Verdict::Bad);
    }
}
