//! Logins at registries, from the files that `apptainer registry login`, `docker login` and
//! `podman login` write.
//!
//! The files are read once, and never written. A file that cannot be used is told by its name, and never
//! by its content. Programs that keep logins (`credsStore`, `credHelpers`) are not run; where one would
//! have been asked that is told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use dfget_run::Variables;
use serde::Deserialize;

/// A file longer than this holds no logins.
const LONGEST_FILE: u64 = 1 << 20;

/// What a registry is shown.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Login {
    /// Name and password.
    Account {
        /// The name; it has no colon.
        name: String,
        /// The password.
        password: String,
    },
    /// A token that tokens are given for (`identitytoken`).
    Identity(String),
    /// A token for the registry itself (`registrytoken`).
    Token(String),
}

/// All logins of the user.
#[derive(Debug, Default)]
pub struct Logins {
    /// `APPTAINER_DOCKER_USERNAME` and `…_PASSWORD`: for every registry.
    everywhere: Option<Login>,
    files: Vec<LoginFile>,
}

#[derive(Debug)]
struct LoginFile {
    path: PathBuf,
    /// By registry, with or without a part of the repository.
    logins: BTreeMap<String, Login>,
    /// The program that keeps the logins of a registry; of all others under "".
    keepers: BTreeMap<String, String>,
}

/// What is known for a registry.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// The login, and where it is from.
    pub(crate) login: Option<(&'a Login, String)>,
    /// What would have been asked for it, for the user.
    pub(crate) hint: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    auths: BTreeMap<String, Option<Entry>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account { .. } => "Account(…)",
            Self::Identity(_) => "Identity(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

// === impl Logins ===

impl Logins {
    /// Reads what there is: `named` (`--authfile`), else `REGISTRY_AUTH_FILE`, and then the usual files. `warn` hears
    /// of each file that is there and cannot be used.
    ///
    /// # Errors
    /// What is wrong with `named`.
    pub fn read(
        variables: &Variables,
        named: Option<&Path>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, String> {
        let mut logins = Self { everywhere: everywhere(variables), files: Vec::new() };
        if let Some(path) = named {
            match LoginFile::read(path) {
                Ok(Some(file)) => logins.files.push(file),
                Ok(None) => return Err(format!("{}: there is no such file of logins", path.display())),
                Err(wrong) => return Err(format!("{}: {wrong}", path.display())),
            }
            return Ok(logins);
        }
        for (path, must_be) in usual(variables) {
            match LoginFile::read(&path) {
                Ok(Some(file)) => logins.files.push(file),
                Ok(None) if must_be => {
                    warn(format!("REGISTRY_AUTH_FILE={}: there is no such file", path.display()));
                }
                Ok(None) => {}
                Err(wrong) => warn(format!("no login is taken from {}: {wrong}", path.display())),
            }
        }
        Ok(logins)
    }

    /// The login for a repository of a registry, both as the user names them; the most special first.
    pub(crate) fn of(&self, host: &str, repository: &str) -> Known<'_> {
        if let Some(login) = &self.everywhere {
            return Known { login: Some((login, "APPTAINER_DOCKER_USERNAME".to_owned())), hint: None };
        }
        let mut hint = None;
        for file in &self.files {
            let from = || file.path.display().to_string();
            if let Some(login) = places(host, repository).iter().find_map(|place| file.logins.get(place)) {
                return Known { login: Some((login, from())), hint: None };
            }
            let keeper = aliases(host).iter().find_map(|name| file.keepers.get(*name));
            if let (None, Some(keeper)) = (&hint, keeper.or_else(|| file.keepers.get(""))) {
                hint = Some(format!(
                    "{} leaves the login of {host} to docker-credential-{keeper}, which dfget does not run: use \
                     `apptainer registry login`, or set APPTAINER_DOCKER_USERNAME and APPTAINER_DOCKER_PASSWORD",
                    file.path.display()
                ));
            }
        }
        Known { login: None, hint }
    }
}

/// Files by their order, and whether each was asked for by name.
fn usual(variables: &Variables) -> Vec<(PathBuf, bool)> {
    let directory = |name: &str| variables.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = directory("HOME");
    let at_home = |below: &str| home.as_ref().map(|home| (home.join(below), false));
    let named = variables.get("REGISTRY_AUTH_FILE").filter(|path| !path.is_empty());
    let docker = directory("DOCKER_CONFIG").map(|dir| (dir.join("config.json"), false));
    let files = [
        named.map(|path| (PathBuf::from(path), true)),
        at_home(".apptainer/docker-config.json"),
        at_home(".singularity/docker-config.json"),
        docker.or_else(|| at_home(".docker/config.json")),
        directory("XDG_RUNTIME_DIR").map(|dir| (dir.join("containers/auth.json"), false)),
    ];
    files.into_iter().flatten().collect()
}

fn everywhere(variables: &Variables) -> Option<Login> {
    ["APPTAINER", "SINGULARITY"].iter().find_map(|program| {
        let name = variables.get(&format!("{program}_DOCKER_USERNAME")).filter(|name| !name.is_empty())?;
        let password = variables.get(&format!("{program}_DOCKER_PASSWORD"))?;
        Some(Login::Account { name: name.clone(), password: password.clone() })
    })
}

/// The names under which a file may have a login, the most special first.
fn places(host: &str, repository: &str) -> Vec<String> {
    let mut found = Vec::new();
    for host in aliases(host) {
        let mut path = repository;
        loop {
            found.push(format!("{host}/{path}"));
            match path.rsplit_once('/') {
                Some((shorter, _)) => path = shorter,
                None => break,
            }
        }
        found.push(host.to_owned());
    }
    found.sort_by_key(|place| std::cmp::Reverse(place.matches('/').count()));
    found
}

fn aliases(host: &str) -> Vec<&str> {
    const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    if HUB.contains(&host) { HUB.to_vec() } else { vec![host] }
}

// === impl LoginFile ===

impl LoginFile {
    /// `Ok(None)`: it is not there.
    fn read(path: &Path) -> Result<Option<Self>, String> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // A file where a directory should be is no login either.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(format!("it cannot be read ({error}); look at its owner and mode")),
        };
        let mut text = Vec::new();
        file.take(LONGEST_FILE + 1)
            .read_to_end(&mut text)
            .map_err(|error| format!("it cannot be read ({error})"))?;
        if text.len() as u64 > LONGEST_FILE {
            return Err("it is too long for a file of logins".to_owned());
        }
        Self::parse(path, &text).map(Some)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, String> {
        let empty = text.iter().all(u8::is_ascii_whitespace);
        // The library's own words would show the value that is wrong, which may be a password.
        let written: Written = if empty {
            Written { auths: BTreeMap::new(), store: None, helpers: BTreeMap::new() }
        } else {
            serde_json::from_slice(text).map_err(|error| {
                format!(
                    "it is no file of logins (line {}, column {}); repair it, or move it away and log in again",
                    error.line(),
                    error.column()
                )
            })?
        };
        let mut file = Self { path: path.to_owned(), logins: BTreeMap::new(), keepers: BTreeMap::new() };
        for (place, entry) in written.auths {
            if let Some(login) = entry.and_then(Entry::login) {
                file.logins.insert(normal(&place), login);
            }
        }
        let helpers = written.helpers.into_iter().map(|(place, keeper)| (normal(&place), keeper));
        file.keepers = helpers.chain(written.store.map(|store| (String::new(), store))).collect();
        file.keepers.retain(|_, keeper| {
            !keeper.is_empty()
                && keeper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
        Ok(file)
    }
}

/// A registry as files name it (`https://index.docker.io/v1/`), as it is looked up.
fn normal(place: &str) -> String {
    let place = place.split_once("://").map_or(place, |(_, rest)| rest).trim_end_matches('/');
    let place = ["/v1", "/v2"].iter().find_map(|end| place.strip_suffix(end)).unwrap_or(place);
    let (host, path) = place.split_once('/').map_or((place, ""), |(host, path)| (host, path));
    let slash = if path.is_empty() { "" } else { "/" };
    format!("{}{slash}{path}", host.to_ascii_lowercase())
}

// === impl Entry ===

impl Entry {
    fn login(self) -> Option<Login> {
        if !self.registrytoken.is_empty() {
            return Some(Login::Token(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Some(Login::Identity(self.identitytoken));
        }
        if !self.auth.is_empty() {
            let lenient =
                GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let decoded = GeneralPurpose::new(&STANDARD, lenient).decode(self.auth.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (name, password) = text.split_once(':')?;
            let password = password.trim_end_matches('\0');
            return Some(Login::Account { name: name.to_owned(), password: password.to_owned() });
        }
        let named = !self.username.is_empty() && !self.username.contains(':');
        named.then_some(Login::Account { name: self.username, password: self.password })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn account(name: &str, password: &str) -> Login {
        Login::Account { name: name.to_owned(), password: password.to_owned() }
    }

    fn file(text: &str) -> LoginFile {
        LoginFile::parse(Path::new("f"), text.as_bytes()).unwrap()
    }

    fn found(text: &str, host: &str, repository: &str) -> Option<Login> {
        let logins = Logins { everywhere: None, files: vec![file(text)] };
        logins.of(host, repository).login.map(|(login, _)| login.clone())
    }

    #[test]
    fn a_login_is_found_under_all_names_of_its_registry() {
        let one = |place: &str| format!(r#"{{"auths":{{"{place}":{{"auth":"ZGV2OnNlY3JldA=="}}}}}}"#);
        for place in ["r.example:5000", "https://R.example:5000/", "http://r.example:5000/v2/"] {
            assert_eq!(
                found(&one(place), "r.example:5000", "a/b"),
                Some(account("dev", "secret")),
                "{place}"
            );
        }
        for place in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
            assert!(found(&one(place), "docker.io", "library/alpine").is_some(), "{place}");
        }
        assert_eq!(found(&one("r.example"), "r.example:5000", "a"), None, "another port is another registry");
        assert_eq!(found(&one("r.example"), "other.example", "a"), None);
    }

    #[test]
    fn the_login_of_a_part_of_the_registry_counts_first() {
        let text = r#"{"auths":{"r.example":{"username":"all","password":"1"},
            "r.example/team":{"username":"team","password":"2"},"r.example/team/x":{"username":"x","password":"3"}}}"#;
        let name = |repository| match found(text, "r.example", repository) {
            Some(Login::Account { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(["team/x", "team/x/y", "team/z", "teammate"].map(name), ["x", "x", "team", "all"]);
    }

    #[test]
    fn all_forms_of_an_entry_are_read() {
        let of = |entry: &str| found(&format!(r#"{{"auths":{{"r":{{{entry}}}}},"x":1}}"#), "r", "a");
        assert_eq!(of(r#""auth":"ZGV2OnNlY3JldA""#), Some(account("dev", "secret")));
        assert_eq!(of(r#""auth":"ZGV2OmE6Yg==""#), Some(account("dev", "a:b")));
        assert_eq!(of(r#""identitytoken":"t","auth":"ZGV2Og==""#), Some(Login::Identity("t".to_owned())));
        assert_eq!(of(r#""registrytoken":"t""#), Some(Login::Token("t".to_owned())));
        for none in ["", r#""auth":"%%""#, r#""auth":"ZGV2""#] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(found("", "r", "a"), None);
        assert_eq!(found(r#"{"auths":{"r":null}}"#, "r", "a"), None);
    }

    #[test]
    fn a_program_that_keeps_logins_is_named() {
        let logins = Logins {
            everywhere: None,
            files: vec![file(
                r#"{"auths":{"r.example":{}},"credsStore":"desktop","credHelpers":{"ecr.example":"ecr-login"}}"#,
            )],
        };
        let hint = |host| logins.of(host, "a").hint.unwrap();
        assert!(hint("r.example").contains("docker-credential-desktop, which dfget does not run"));
        assert!(hint("ecr.example").contains("docker-credential-ecr-login"));
    }

    #[test]
    fn files_count_in_their_order() {
        let home = tempfile::tempdir().unwrap();
        let write = |below: &str, name: &str| {
            let path = home.path().join(below);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!(r#"{{"auths":{{"r":{{"username":"{name}","password":"p"}}}}}}"#);
            fs::write(path, text).unwrap();
        };
        let mut variables = Variables::from([("HOME".to_owned(), home.path().display().to_string())]);
        let who = |variables: &Variables| {
            let logins = Logins::read(variables, None, &mut |warning| panic!("{warning}")).unwrap();
            match logins.of("r", "a").login {
                Some((Login::Account { name, .. }, _)) => name.clone(),
                _ => "nobody".to_owned(),
            }
        };
        assert_eq!(who(&variables), "nobody");
        let order = [
            (".docker/config.json", "docker"),
            (".singularity/docker-config.json", "singularity"),
            (".apptainer/docker-config.json", "apptainer"),
        ];
        for (below, name) in order {
            write(below, name);
            assert_eq!(who(&variables), name);
        }
        write("named.json", "named");
        let named = home.path().join("named.json");
        variables.insert("REGISTRY_AUTH_FILE".to_owned(), named.display().to_string());
        assert_eq!(who(&variables), "named");
        variables.insert("APPTAINER_DOCKER_USERNAME".to_owned(), "variable".to_owned());
        variables.insert("APPTAINER_DOCKER_PASSWORD".to_owned(), "p".to_owned());
        assert_eq!(who(&variables), "variable");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".docker/config.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let variables = Variables::from([
            ("HOME".to_owned(), home.path().display().to_string()),
            ("REGISTRY_AUTH_FILE".to_owned(), "/no/such/file".to_owned()),
        ]);
        for text in [r#"{"auths":"canary"}"#, r#"{"auths":{"r":{"auth":["canary"]}}}"#, "canary", "[1"] {
            fs::write(&path, text).unwrap();
            let mut warnings = Vec::new();
            Logins::read(&variables, None, &mut |warning| warnings.push(warning)).unwrap();
            let told = warnings.join("\n");
            assert!(told.contains("/.docker/config.json: it is no file of logins (line "), "{told}");
            assert!(told.contains("REGISTRY_AUTH_FILE=/no/such/file") && !told.contains("canary"), "{told}");
            let named = Logins::read(&variables, Some(&path), &mut |_| {}).unwrap_err();
            assert!(named.contains("config.json") && !named.contains("canary"), "{named}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let mut warnings = Vec::new();
        Logins::read(&variables, None, &mut |warning| warnings.push(warning)).unwrap();
        assert!(warnings.iter().any(|warning| warning.contains("it cannot be read")), "{warnings:?}");
    }

    #[test]
    fn a_login_is_never_shown() {
        let shown =
            format!("{:?}", file(r#"{"auths":{"r":{"username":"u","password":"canary","auth":""}}}"#));
        assert!(!shown.contains("canary"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_file_is_survived(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = LoginFile::parse(Path::new("f"), &text);
        }
    }
}
