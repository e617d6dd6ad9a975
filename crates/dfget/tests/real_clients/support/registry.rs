//! The real registries, and what they say they were asked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::image::Image;
use super::namespace::{clients_dir, scripts_dir};
use super::process::{run, until};

/// One line of a registry's access log.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// GET, HEAD, …
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Status of the answer.
    pub(crate) status: u16,
    /// Bytes of the body that were sent.
    pub(crate) body_bytes: u64,
}

/// Running registries by their names in `tests/real-clients/registries`; they end with the namespaces.
#[derive(Debug)]
pub(crate) struct Registries;

impl Registries {
    /// Starts them; they answer when this returns.
    #[track_caller]
    pub(crate) fn start(names: &[&str]) -> Self {
        Self::call("start", names, &[]);
        Self
    }

    /// The slow one, with this many bytes a second on each connection (`4m`).
    #[track_caller]
    pub(crate) fn start_slow(rate: &str) -> Self {
        Self::call("start", &["slow"], &[("SLOW_RATE", rate)]);
        Self
    }

    /// The library, whose objects come at this many bytes a second on each connection (`4m`).
    #[track_caller]
    pub(crate) fn start_library(rate: &str) -> Self {
        Self::call("start", &["library"], &[("SLOW_RATE", rate)]);
        Self
    }

    /// Ends one; nobody answers at its address afterwards.
    #[track_caller]
    pub(crate) fn stop(&self, name: &str) {
        Self::call("stop", &[name], &[]);
    }

    /// Takes the password of `dev` away from the basic registry.
    pub(crate) fn revoke_dev(&self) {
        let file = "/tmp/registries/htpasswd";
        let accounts = fs::read_to_string(file).expect("the basic registry was started");
        fs::write(file, accounts.replace("dev:", "former:")).expect("/tmp is ours");
    }

    /// The URL of the registry.
    pub(crate) fn url(name: &str) -> String {
        format!("{}://{}", if name == "plain" { "http" } else { "https" }, Self::host(name))
    }

    /// The answers with a whole blob or a large part of one: neither configs nor the bytes that tell of a right.
    #[track_caller]
    pub(crate) fn blobs(&self, name: &str) -> Vec<Request> {
        let mut found = self.requests(if name == "redirect" { "files" } else { name });
        found.retain(|request| {
            let is_blob = request.path.contains("/blobs/sha256") && matches!(request.status, 200 | 206);
            request.method == "GET" && is_blob && request.body_bytes > 64 << 10
        });
        found
    }

    /// Host, and port where it is not 443, of the registry.
    pub(crate) fn host(name: &str) -> String {
        match name {
            "open" => "registry.test".to_owned(),
            "plain" => "plain.registry.test:5080".to_owned(),
            _ => format!("{name}.registry.test"),
        }
    }

    /// What the registry (or `files`, `auth`) was asked so far. What was answered before the call is in it.
    #[track_caller]
    pub(crate) fn requests(&self, name: &str) -> Vec<Request> {
        // A line is written after its answer was sent, so another request goes behind those that count.
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        run(Command::new("curl")
            .args(["--silent", "--output", "/dev/null", "--max-time", "10", "--cacert"])
            .arg(clients_dir().join("ca/origins.crt"))
            .arg(format!("{}/v2/?{mark}", Self::url(name))))
        .ok();
        let text = until(&format!("{mark} in the log of {name}"), || {
            Self::log(name).filter(|text| text.contains(&mark))
        });
        text.lines().filter(|line| !line.contains("?mark-")).filter_map(parse).collect()
    }

    /// The answers with bytes of this image's blob, whole or in part.
    #[track_caller]
    pub(crate) fn downloads(&self, name: &str, image: &Image) -> Vec<Request> {
        let mut found = self.requests(name);
        found.retain(|request| {
            request.method == "GET"
                && matches!(request.status, 200 | 206)
                && request.path.contains(&image.digest)
        });
        found
    }

    /// Panics unless the blob was sent exactly once.
    #[track_caller]
    pub(crate) fn assert_downloaded_once(&self, name: &str, image: &Image) {
        until("the registry to log the download", || (!self.downloads(name, image).is_empty()).then_some(()));
        let found = self.downloads(name, image);
        assert_eq!(found.len(), 1, "{name} should have sent the blob once: {found:#?}");
        assert_eq!(found[0].body_bytes, image.len_bytes, "{found:#?}");
    }

    fn log(name: &str) -> Option<String> {
        fs::read_to_string(PathBuf::from(format!("/tmp/registries/{name}.log"))).ok()
    }

    #[track_caller]
    fn call(what: &str, names: &[&str], environment: &[(&str, &str)]) {
        // Its output goes to a file, for the registries would keep a pipe open.
        let said = "/tmp/registries.said";
        let file = fs::File::create(said).expect("/tmp is ours");
        let errors = file.try_clone().expect("a file can be cloned");
        let status = Command::new(scripts_dir().join("registries"))
            .arg(clients_dir())
            .arg(what)
            .args(names)
            .envs(environment.iter().copied())
            .stdout(file)
            .stderr(errors)
            .status()
            .expect("the script can be run");
        assert!(
            status.success(),
            "registries {what} {names:?}: {}",
            fs::read_to_string(said).unwrap_or_default()
        );
    }
}

/// One line in the combined format: `ADDRESS - USER [DATE] "METHOD PATH VERSION" STATUS BYTES …`.
fn parse(line: &str) -> Option<Request> {
    let (_, rest) = line.split_once("] \"")?;
    let (asked, rest) = rest.split_once('"')?;
    let mut asked = asked.split(' ');
    let mut answer = rest.split_whitespace();
    Some(Request {
        method: asked.next()?.to_owned(),
        path: asked.next()?.to_owned(),
        status: answer.next()?.parse().ok()?,
        body_bytes: answer.next()?.parse().unwrap_or(0),
    })
}
