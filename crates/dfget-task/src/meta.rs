//! What the store keeps beside the bytes of a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dfget_core::{Authority, ContentReference};
use dfget_origin::Identity;
use dfget_origin::headers::representation;
use dfget_storage::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::request::TaskRequest;

/// Places that are kept of each authority: the `{}` of all images lies in many.
pub(crate) const MOST_PLACES: usize = 16;

/// Facts about a stored content. Holds no credential and no query of a URL.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TaskMeta {
    /// `algorithm:hex`, for a content whose URL names it by digest.
    pub digest: Option<String>,
    /// The strong `ETag` under which an unnamed content was fetched.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
    /// The only credential that may have this content again: one of which no strong validator
    /// tells whether another credential would be given the same.
    #[serde(default)]
    pub owner: Option<String>,
    /// It was fetched with a credential, or by a URL that may hold one.
    #[serde(default)]
    pub private: bool,
    /// Some of it came from peers, and nothing has proved it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// The authorities that have delivered this content, or proved to have it, each with the
    /// headers that it describes the content by.
    pub origins: BTreeMap<String, Vec<(String, String)>>,
    /// Where clients that were let in asked for it, by authority: a repository, or the path of a URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, BTreeSet<String>>,
    /// The tags (`repository:tag`) that it was given for, by authority, and when that was last found
    /// out, in seconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, BTreeMap<String, u64>>,
    /// It is here for its tags' sake: nobody has asked for it by digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noted: bool,
    /// It was imported: no authority has delivered it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

impl TaskMeta {
    /// Reads what [`Self::to_bytes`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The facts about an entry, read once for as long as they stay the same; `None` if they cannot be read.
    #[must_use]
    pub(crate) fn of(entry: &Entry) -> Option<Arc<Self>> {
        entry.read_meta(Self::from_bytes)
    }

    /// JSON, for the store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What an answer says of the content that `request` asks for.
    #[must_use]
    pub(crate) fn describing(request: &TaskRequest, headers: &HeaderMap, identity: &Identity) -> Self {
        let shared = request.named || identity.etag.is_some();
        let mut meta = Self {
            digest: request.digest.filter(|_| request.named).map(|digest| digest.to_string()),
            etag: identity.etag.clone(),
            last_modified: identity.last_modified.clone(),
            private: request.is_private(),
            owner: (!shared).then(|| request.credential.as_ref().to_owned()),
            ..Self::default()
        };
        meta.add_origin(&request.authority, &representation(headers));
        meta.add_place(request);
        meta
    }

    /// The same of a content that was verified.
    #[must_use]
    pub(crate) fn proven(&self) -> Self {
        Self { unproven: false, ..self.clone() }
    }

    /// Whether the credential of `request` may be asked about at all.
    #[must_use]
    pub fn admits(&self, request: &TaskRequest) -> bool {
        self.owner.as_deref().is_none_or(|owner| owner == &*request.credential)
    }

    /// Notes that `authority` has this content and describes it by `headers`.
    pub fn add_origin(&mut self, authority: &Authority, headers: &HeaderMap) {
        let text = |value: &HeaderValue| value.to_str().ok().map(ToOwned::to_owned);
        let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        self.origins.insert(authority.to_string(), pairs.collect());
    }

    /// Whether it is news, and worth keeping, from where `request` asks for the content.
    pub(crate) fn lacks_place(&self, request: &TaskRequest) -> bool {
        let places = self.places.get(&request.authority.to_string());
        places.is_none_or(|places| places.len() < MOST_PLACES && !places.contains(&place_of(request)))
    }

    /// Notes from where `request` asks for the content.
    pub(crate) fn add_place(&mut self, request: &TaskRequest) {
        if self.lacks_place(request) {
            self.places.entry(request.authority.to_string()).or_default().insert(place_of(request));
        }
    }

    /// Whether `authority` has delivered the content or proved to have it.
    #[must_use]
    pub fn is_known_to(&self, authority: &Authority) -> bool {
        self.origins.contains_key(&authority.to_string())
    }

    /// The headers by which `authority` describes the content, else another that has it.
    #[must_use]
    pub fn headers(&self, authority: &Authority) -> HeaderMap {
        let pairs = self.origins.get(&authority.to_string()).or_else(|| self.origins.values().next());
        let header = |(name, value): &(String, String)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        };
        pairs.into_iter().flatten().filter_map(header).collect()
    }

    /// What tells this content, of `total` bytes, from another.
    #[must_use]
    pub fn identity(&self, total: Option<u64>) -> Identity {
        Identity {
            named: self.digest.is_some(),
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
            total,
        }
    }
}

/// The repository that is asked, or the path of a URL that names none.
fn place_of(request: &TaskRequest) -> String {
    let path = request.fetch.url.path();
    ContentReference::of_path(path).map_or_else(|| path.to_owned(), |named| named.repository)
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;

    use super::*;

    #[test]
    fn facts_survive_the_store() {
        let authority = Authority::parse(Scheme::Https, "a.test").expect("an authority");
        let other = Authority::parse(Scheme::Https, "b.test").expect("an authority");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let mut meta = TaskMeta { digest: Some("sha256:x".to_owned()), ..TaskMeta::default() };
        meta.add_origin(&authority, &headers);
        let read = TaskMeta::from_bytes(&meta.to_bytes()).expect("JSON");
        assert_eq!(read, meta);
        assert!(read.is_known_to(&authority) && !read.is_known_to(&other));
        assert_eq!(read.headers(&other)["content-type"], "text/plain");
        assert!(read.identity(None).named);
        assert_eq!(TaskMeta::from_bytes(b"not JSON"), None);
    }

    #[test]
    fn facts_are_read_once_and_anew_when_an_origin_is_added() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = dfget_storage::Options {
            dir: dir.path().join("store"),
            quota_bytes: None,
            disk_percent: None,
            expire: None,
        };
        let (store, _) = dfget_storage::Store::open(options, std::time::SystemTime::now()).expect("a store");
        let mut meta = TaskMeta { private: true, ..TaskMeta::default() };
        let now = std::time::SystemTime::now();
        let entry = store.create("a".into(), meta.to_bytes(), Some(1), now).expect("an entry");
        let read = TaskMeta::of(&entry).expect("facts");
        assert!(read.private && Arc::ptr_eq(&read, &TaskMeta::of(&entry).expect("facts")));
        let authority = Authority::parse(Scheme::Https, "a.test").expect("an authority");
        meta.private = false;
        meta.add_origin(&authority, &HeaderMap::new());
        entry.set_meta(meta.to_bytes());
        let read = TaskMeta::of(&entry).expect("facts");
        assert!(!read.private && read.is_known_to(&authority));
        entry.set_meta(b"not JSON".to_vec());
        assert_eq!(TaskMeta::of(&entry), None);
    }
}
