//! An OCI registry: blobs and manifests by repository, rights that can be taken away, and every nuisance that real
//! registries have, each behind a switch.
//!
//! A right is the text of an `Authorization` header. A blob may be in several repositories, and a right to one opens
//! nothing of another. Whoever asks without a right gets a 401 with a challenge, known blob or not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::answer::{Answer, Framing, Reply};
use crate::ca::TestCa;
use crate::content::Blob;
use crate::network::Place;
use crate::origin::{Origin, Received};

/// A registry behind an [`Origin`].
#[derive(Debug)]
pub struct Registry {
    /// The listening end, with the journal.
    pub origin: Origin,
    state: Arc<Mutex<State>>,
}

/// Turns the answer to a GET of a blob into what really happens.
type Fault = Box<dyn FnOnce(Answer) -> Reply + Send>;

/// The same, again and again.
type LastingFault = Box<dyn Fn(Answer) -> Reply + Send>;

#[derive(Default)]
struct State {
    repositories: HashMap<String, Repository>,
    faults: VecDeque<Fault>,
    lasting_fault: Option<LastingFault>,
    refuses_head: bool,
    ignores_ranges: bool,
    outage: Option<(u16, Option<u32>)>,
    realm: Option<String>,
    redirect: Option<String>,
    framing: Option<Framing>,
    blob_headers: Vec<(String, String)>,
}

#[derive(Default)]
struct Repository {
    blobs: HashMap<String, Arc<[u8]>>,
    manifests: HashMap<String, Arc<[u8]>>,
    /// `None`: open to all.
    rights: Option<HashSet<String>>,
    upload: Vec<u8>,
}

// === impl Registry ===

impl Registry {
    /// An empty registry over TLS, its certificate signed by `ca`.
    #[must_use]
    pub fn https(ca: &TestCa) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        Self { origin: Origin::https(ca, move |request| lock(&shared).answer(request)), state }
    }

    /// The same at a place of a network.
    #[must_use]
    pub fn https_at(place: &Place, ca: &TestCa) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        Self { origin: Origin::https_at(place, ca, move |request| lock(&shared).answer(request)), state }
    }

    /// The same with a certificate for `name` alone, as one that only a site's proxy leads to.
    #[must_use]
    pub fn https_named(ca: &TestCa, name: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let handler = move |request: &Received| lock(&shared).answer(request);
        Self { origin: Origin::https_with(|_| ca.leaf(&[name]), handler), state }
    }

    /// An empty registry without TLS.
    #[must_use]
    pub fn plain() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        Self { origin: Origin::plain(move |request| lock(&shared).answer(request)), state }
    }

    /// Puts `blob` into `repository` (made open to all if new) and returns its URL.
    pub fn put(&self, repository: &str, blob: &Blob) -> String {
        self.put_as(repository, &blob.digest, &blob.bytes)
    }

    /// Serves `bytes` under `digest`, whether it is theirs or not, and returns the URL.
    pub fn put_as(&self, repository: &str, digest: &str, bytes: &Arc<[u8]>) -> String {
        self.state().repository(repository).blobs.insert(digest.to_owned(), Arc::clone(bytes));
        self.blob_url(repository, digest)
    }

    /// The URL of a blob, there or not.
    #[must_use]
    pub fn blob_url(&self, repository: &str, digest: &str) -> String {
        self.origin.url(&format!("/v2/{repository}/blobs/{digest}"))
    }

    /// Puts a manifest under a tag or digest and returns its URL.
    pub fn put_manifest(&self, repository: &str, reference: &str, bytes: &[u8]) -> String {
        self.state().repository(repository).manifests.insert(reference.to_owned(), bytes.into());
        self.origin.url(&format!("/v2/{repository}/manifests/{reference}"))
    }

    /// Lets only those in whose `Authorization` was [granted](Self::grant).
    pub fn close(&self, repository: &str) {
        self.state().repository(repository).rights.get_or_insert_default();
    }

    /// Closes `repository` to all but those with a right and gives one to this `Authorization`.
    pub fn grant(&self, repository: &str, authorization: &str) {
        let mut state = self.state();
        state.repository(repository).rights.get_or_insert_default().insert(authorization.to_owned());
    }

    /// Takes a right away.
    pub fn revoke(&self, repository: &str, authorization: &str) {
        if let Some(rights) = &mut self.state().repository(repository).rights {
            rights.remove(authorization);
        }
    }

    /// Lets the next GET of a blob that would succeed end in `fault`; several wait in a line.
    pub fn next_blob(&self, fault: impl FnOnce(Answer) -> Reply + Send + 'static) {
        self.state().faults.push_back(Box::new(fault));
    }

    /// Lets every GET of a blob that would succeed end in `fault`, until [`Registry::heal`].
    pub fn every_blob(&self, fault: impl Fn(Answer) -> Reply + Send + 'static) {
        self.state().lasting_fault = Some(Box::new(fault));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.lasting_fault = None;
    }

    /// Answers every HEAD with 405.
    pub fn refuse_head(&self) {
        self.state().refuses_head = true;
    }

    /// Answers every range with 200 and the whole.
    pub fn ignore_ranges(&self) {
        self.state().ignores_ranges = true;
    }

    /// Answers everything with this status; `None` ends the outage.
    pub fn set_outage(&self, status: Option<u16>) {
        self.state().outage = status.map(|status| (status, None));
    }

    /// Answers everything with this status and these seconds in `Retry-After`.
    pub fn set_outage_for(&self, status: u16, seconds: u32) {
        self.state().outage = Some((status, Some(seconds)));
    }

    /// Names this URL as where its tokens are from, instead of one that leads nowhere; `/v2/` asks for one too.
    pub fn set_realm(&self, realm: &str) {
        self.state().realm = Some(realm.to_owned());
    }

    /// Answers allowed requests for blobs with a 307 to `base` and the path of the request; `None` ends that.
    pub fn redirect_blobs_to(&self, base: Option<String>) {
        self.state().redirect = base;
    }

    /// Marks the end of blobs in this way.
    pub fn set_framing(&self, framing: Framing) {
        self.state().framing = Some(framing);
    }

    /// Sends this header field with every blob.
    pub fn add_blob_header(&self, name: &str, value: &str) {
        self.state().blob_headers.push((name.to_owned(), value.to_owned()));
    }

    /// How many GETs there were whose target contains `part`, ranged ones of the access check not counted.
    #[must_use]
    pub fn downloads(&self, part: &str) -> usize {
        let probe = Some("bytes=0-0");
        self.origin.asked("GET", part).iter().filter(|entry| entry.range() != probe).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

// === impl State ===

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("outage", &self.outage).finish_non_exhaustive()
    }
}

impl State {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    fn answer(&mut self, request: &Received) -> Reply {
        if let Some((status, seconds)) = self.outage {
            let answer = problem(status, "UNAVAILABLE", "come back later");
            return match seconds {
                Some(seconds) => answer.header("Retry-After", seconds.to_string()).into(),
                None => answer.into(),
            };
        }
        let path = request.target.split('?').next().unwrap_or_default();
        if path == "/v2/" {
            return match &self.realm {
                Some(realm) if request.headers.get("authorization").is_none() => {
                    challenge(realm, "service=\"r\"")
                }
                _ => Answer::new(200)
                    .header("Docker-Distribution-Api-Version", "registry/2.0")
                    .body(b"{}".to_vec())
                    .into(),
            };
        }
        let Some((name, kind, reference)) = parse(path) else {
            return problem(404, "NAME_UNKNOWN", "there is nothing here").into();
        };
        let repository = self.repositories.get(name);
        if repository.is_none() && matches!(request.method.as_str(), "GET" | "HEAD") {
            return problem(404, "NAME_UNKNOWN", "no such repository").into();
        }
        if let Some(rights) = repository.and_then(|repository| repository.rights.as_ref()) {
            let shown = request.headers.get("authorization");
            if !shown.is_some_and(|shown| rights.contains(shown)) {
                let realm = self.realm.as_deref().unwrap_or("https://auth.test/token");
                return challenge(realm, &format!("scope=\"repository:{name}:pull\""));
            }
        }
        if self.refuses_head && request.method == "HEAD" {
            return problem(405, "UNSUPPORTED", "no HEAD here").into();
        }
        match (request.method.as_str(), kind) {
            ("GET" | "HEAD", "blobs") => self.blob(request, name, reference),
            ("GET" | "HEAD", "manifests") => self.manifest(name, reference),
            _ => self.push(request, name, kind, reference),
        }
    }

    fn blob(&mut self, request: &Received, name: &str, digest: &str) -> Reply {
        let Some(bytes) = self.repositories.get(name).and_then(|repository| repository.blobs.get(digest))
        else {
            return problem(404, "BLOB_UNKNOWN", "no such blob").into();
        };
        if let Some(base) = &self.redirect {
            return Answer::new(307).header("Location", format!("{base}{}", request.target)).into();
        }
        let etag = format!("\"{digest}\"");
        if request.headers.get("if-none-match") == Some(&etag) {
            return Answer::new(304).header("ETag", etag).into();
        }
        let mut answer = Answer::new(200)
            .body(Arc::clone(bytes))
            .header("Content-Type", "application/octet-stream")
            .header("Docker-Content-Digest", digest)
            .header("Docker-Distribution-Api-Version", "registry/2.0")
            .header("ETag", &etag)
            .header("Cache-Control", "max-age=31536000");
        for (field, value) in &self.blob_headers {
            answer = answer.header(field, value);
        }
        if let Some(framing) = self.framing {
            answer = answer.framing(framing);
        }
        if !self.ignores_ranges {
            let current = request.headers.get("if-range").is_none_or(|validator| validator == etag);
            let range = request.headers.get("range").filter(|_| current);
            answer = ranged(answer.header("Accept-Ranges", "bytes"), range, bytes.len());
        }
        let downloads = request.method == "GET" && request.headers.get("range") != Some("bytes=0-0");
        if !downloads {
            return answer.into();
        }
        match (self.faults.pop_front(), &self.lasting_fault) {
            (Some(fault), _) => fault(answer),
            (None, Some(fault)) => fault(answer),
            (None, None) => answer.into(),
        }
    }

    fn manifest(&self, name: &str, reference: &str) -> Reply {
        let manifests = self.repositories.get(name).map(|repository| &repository.manifests);
        let Some(bytes) = manifests.and_then(|manifests| manifests.get(reference)) else {
            return problem(404, "MANIFEST_UNKNOWN", "no such manifest").into();
        };
        Answer::new(200)
            .body(Arc::clone(bytes))
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .header("Docker-Content-Digest", crate::content::sha256(bytes))
            .into()
    }

    /// The three steps of a blob's upload, and a manifest's.
    fn push(&mut self, request: &Received, name: &str, kind: &str, reference: &str) -> Reply {
        let repository = self.repository(name);
        match (request.method.as_str(), kind) {
            ("POST", "blobs") => {
                repository.upload.clear();
                let location = format!("/v2/{name}/blobs/uploads/1");
                Answer::new(202).header("Location", location).into()
            }
            ("PATCH", "blobs") => {
                repository.upload.extend_from_slice(&request.body);
                let range = format!("0-{}", repository.upload.len().saturating_sub(1));
                Answer::new(202).header("Range", range).into()
            }
            ("PUT", "blobs") => {
                repository.upload.extend_from_slice(&request.body);
                let blob = Blob::of(std::mem::take(&mut repository.upload));
                let asked = format!("digest={}", blob.digest);
                if !request.target.ends_with(&asked) {
                    return problem(400, "DIGEST_INVALID", "the bytes have another digest").into();
                }
                let location = format!("/v2/{name}/blobs/{}", blob.digest);
                repository.blobs.insert(blob.digest, blob.bytes);
                Answer::new(201).header("Location", location).into()
            }
            ("PUT", "manifests") => {
                repository.manifests.insert(reference.to_owned(), request.body.clone().into());
                Answer::new(201).into()
            }
            _ => problem(405, "UNSUPPORTED", "not this method").into(),
        }
    }
}

/// An error as registries send it: JSON that clients print.
fn problem(status: u16, code: &str, message: &str) -> Answer {
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}");
    Answer::new(status).header("Content-Type", "application/json").body(body.into_bytes())
}

fn challenge(realm: &str, parameter: &str) -> Reply {
    let challenge = format!("Bearer realm=\"{realm}\",{parameter}");
    problem(401, "UNAUTHORIZED", "show a token").header("WWW-Authenticate", challenge).into()
}

/// Repository, `blobs` or `manifests`, and what follows it.
fn parse(path: &str) -> Option<(&str, &str, &str)> {
    let rest = path.strip_prefix("/v2/")?;
    ["blobs", "manifests"].into_iter().find_map(|kind| {
        let (name, reference) = rest.split_once(&format!("/{kind}/"))?;
        Some((name, kind, reference))
    })
}

/// Applies a single range to a 200 (RFC 9110, 14.1.2); what is no single range of bytes is ignored.
fn ranged(answer: Answer, range: Option<&str>, len: usize) -> Answer {
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return answer;
    };
    let part = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(len),
        (Ok(first), Err(_)) if last.is_empty() => first..len,
        (Err(_), Ok(suffix)) if first.is_empty() => len.saturating_sub(suffix)..len,
        _ => return answer,
    };
    if part.start >= part.end {
        return problem(416, "RANGE_INVALID", "no such bytes")
            .header("Content-Range", format!("bytes */{len}"));
    }
    let content_range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
    answer.turned_partial().header("Content-Range", content_range).part(part)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
