//! What is asked for, and the names under which it is kept.

use std::sync::Arc;

use dfget_core::{Authority, ContentKey, Digest, RangeHeader, TaskId};
use dfget_origin::FetchRequest;
use dfget_storage::EntryKey;
use http::header::{AUTHORIZATION, COOKIE};

/// What a client asks for, as far as a task is concerned.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// The content's name in the cluster and in the log.
    pub id: TaskId,
    /// The content's name on this node.
    pub key: ContentKey,
    /// What the content must hash to, where the URL or the client says so.
    pub digest: Option<Digest>,
    /// Whether the URL itself names the content by that digest. What only a client says of it is
    /// checked, and opens nothing: whose content it is, its URL and its validators tell.
    pub named: bool,
    /// Where the client wants it from.
    pub authority: Authority,
    /// URL and the client's own headers: what the origin is asked with on its behalf.
    pub fetch: FetchRequest,
    /// Stands for the client's credential, and tells nothing of it.
    pub credential: Arc<str>,
    /// The part wanted.
    pub range: RangeHeader,
    /// Whether a request for a part starts the download of the whole; `None` = as
    /// `download.prefetch` says.
    pub prefetch: Option<bool>,
    /// 0 to 6, for the cluster and the log; on one node all are equal.
    pub priority: u8,
    /// This attempt's name in the log.
    pub peer: Arc<str>,
    /// It is no client's: another node wants the content to be here. No origin is asked for it.
    pub ordered: bool,
}

impl TaskRequest {
    /// Whether peers may feed each other this content: they can check it, and call it the same.
    #[must_use]
    pub(crate) fn is_shared(&self) -> bool {
        let id = self.digest.as_ref().filter(|_| self.named).and_then(TaskId::of_digest);
        id.is_some_and(|id| id == self.id)
    }

    /// Whether it carries what opens a content that not everybody may have.
    #[must_use]
    pub(crate) fn is_private(&self) -> bool {
        let headers = &self.fetch.headers;
        headers.contains_key(AUTHORIZATION)
            || headers.contains_key(COOKIE)
            || self.fetch.url.query().is_some()
    }
}

/// A content is fetched once for each authority that it is asked from: until its digest is
/// verified, what one authority sends is nothing that another's clients should get.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct RunKey {
    pub(crate) key: ContentKey,
    pub(crate) authority: Authority,
}

/// The names of a content in the store: whole and verified, and as it is fetched from `authority`.
#[must_use]
pub fn entry_names(key: &ContentKey, authority: &Authority) -> [EntryKey; 2] {
    let run = RunKey { key: key.clone(), authority: authority.clone() };
    [final_key(key), partial_key(&run)]
}

/// The key of a verified content.
pub(crate) fn final_key(key: &ContentKey) -> EntryKey {
    EntryKey::new(key.as_str())
}

/// The key of a content that is being fetched from one authority.
pub(crate) fn partial_key(key: &RunKey) -> EntryKey {
    EntryKey::new(format!("{}@{}", key.key, key.authority))
}
