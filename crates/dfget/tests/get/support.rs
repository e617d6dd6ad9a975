//! A server of files, and `dfget get` in a session.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use dfget_testkit::{Answer, Blob, Ended, Origin, Reply, Session};

/// The binary under test.
pub(crate) const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// Flags for each way to the origin.
pub(crate) const WAYS: [&[&str]; 2] = [&["--direct"], &[]];

/// A session with an empty registry.
pub(crate) fn session() -> Session {
    Session::new(DFGET)
}

/// `dfget` with these arguments.
pub(crate) fn dfget(session: &Session, arguments: &[&str]) -> Command {
    let mut command = session.program(DFGET);
    command.args(arguments);
    command
}

/// Runs `dfget` with these arguments, and those of the way, to its end.
pub(crate) fn get(session: &Session, way: &[&str], arguments: &[&str]) -> Ended {
    Ended::of(&mut dfget(session, &[arguments, way].concat()))
}

/// The same, which must end well.
pub(crate) fn got(session: &Session, way: &[&str], arguments: &[&str]) {
    let _ = get(session, way, arguments).ok();
}

/// Runs it with `--output json` too, and returns the object that it prints.
pub(crate) fn get_json(session: &Session, way: &[&str], arguments: &[&str]) -> serde_json::Value {
    let ended = get(session, way, &[arguments, &["--output", "json"]].concat());
    let lines = ended.stdout.lines().count();
    assert_eq!(lines, 1, "one object: {}{}", ended.stdout, ended.stderr);
    let object: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(object["version"], 1);
    assert_eq!(object["ok"], ended.code == 0, "{object}");
    object
}

/// A file in the home of the session.
pub(crate) fn home(session: &Session, name: &str) -> PathBuf {
    session.path("home").join(name)
}

/// All names in the home, but for what a daemon has there.
pub(crate) fn names(session: &Session) -> Vec<String> {
    let entries = fs::read_dir(session.path("home")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| !matches!(name.as_str(), ".cache" | ".config" | ".local")).collect();
    names.sort();
    names
}

/// How the next answer goes wrong.
type Fault = Box<dyn FnOnce(Answer) -> Reply + Send>;

/// A web server with one file.
pub(crate) struct Files {
    pub(crate) origin: Origin,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    blob: Blob,
    etag: Option<String>,
    ranges: bool,
    faults: Vec<Fault>,
}

impl Files {
    /// One over TLS that serves `blob` under every path, with a tag and with ranges.
    pub(crate) fn https(session: &Session, blob: &Blob) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            blob: blob.clone(),
            etag: Some(format!("\"{}\"", blob.digest)),
            ranges: true,
            faults: Vec::new(),
        }));
        let state = Arc::clone(&shared);
        let origin = Origin::https(&session.ca, move |request| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut answer = Answer::new(200).body(Arc::clone(&state.blob.bytes));
            if request.target.starts_with("/v2/") {
                return Answer::new(404).into();
            }
            if let Some(etag) = &state.etag {
                answer = answer.header("ETag", etag.clone());
            }
            let current = match (request.headers.get("if-range"), &state.etag) {
                (Some(asked), Some(etag)) => asked == etag,
                (Some(_), None) => false,
                (None, _) => true,
            };
            let range = request.headers.get("range").filter(|_| state.ranges && current);
            if let Some(range) = range {
                answer = part(answer, range, state.blob.len());
            }
            // The check of a right is no download.
            if request.method == "GET"
                && request.headers.get("range") != Some("bytes=0-0")
                && !state.faults.is_empty()
            {
                let fault = state.faults.remove(0);
                drop(state);
                return fault(answer);
            }
            answer.into()
        });
        Self { origin, shared }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        self.origin.url(&format!("/{name}"))
    }

    /// Lets the next answer with a body end so; several wait in a line.
    pub(crate) fn fault(&self, fault: impl FnOnce(Answer) -> Reply + Send + 'static) {
        self.state(|state| state.faults.push(Box::new(fault)));
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.state(|state| state.faults.clear());
    }

    /// Serves another file from now on.
    pub(crate) fn change(&self, blob: &Blob) {
        self.state(|state| {
            state.blob = blob.clone();
            state.etag = Some(format!("\"{}\"", blob.digest));
        });
    }

    pub(crate) fn without_tag(&self) {
        self.state(|state| state.etag = None);
    }

    pub(crate) fn without_ranges(&self) {
        self.state(|state| state.ranges = false);
    }

    fn state(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A range as a server understands it.
fn part(answer: Answer, range: &str, total: usize) -> Answer {
    let (first, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, (last + 1).min(total)),
        (Ok(first), Err(_)) => (first, total),
        (Err(_), Ok(length)) => (total.saturating_sub(length), total),
        (Err(_), Err(_)) => (0, total),
    };
    if start >= total {
        return Answer::new(416).header("Content-Range", format!("bytes */{total}"));
    }
    let told = format!("bytes {start}-{}/{total}", end - 1);
    answer.turned_partial().part(start..end).header("Content-Range", told)
}
