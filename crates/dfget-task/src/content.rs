//! A content that is whole and verified in the store.

use std::sync::Arc;
use std::time::SystemTime;

use dfget_core::{Authority, ByteRange};
use dfget_origin::Identity;
use dfget_storage::{Entry, ReadError};
use http::HeaderMap;

use crate::ContentError;
use crate::meta::TaskMeta;
use crate::proof::prove;
use crate::reader::Reader;
use crate::request::TaskRequest;
use crate::tasks::Tasks;

/// A stored content. The entry stays readable while this or a reader of it exists, even if it
/// is evicted meanwhile.
#[derive(Debug)]
pub struct Stored {
    tasks: Tasks,
    entry: Arc<Entry>,
    meta: Arc<TaskMeta>,
    total: u64,
}

impl Stored {
    /// `None` if the entry's facts cannot be read: then it is as good as absent.
    pub(crate) fn new(tasks: Tasks, entry: Arc<Entry>) -> Option<Self> {
        let meta = TaskMeta::of(&entry)?;
        let total = entry.total()?;
        Some(Self { tasks, entry, meta, total })
    }

    /// Length in bytes.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The headers that describe the content at `authority`.
    #[must_use]
    pub fn headers(&self, authority: &Authority) -> HeaderMap {
        self.meta.headers(authority)
    }

    /// What tells this content from another.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.meta.identity(Some(self.total))
    }

    /// Whether the credential of `request` may be asked about at all.
    #[must_use]
    pub fn admits(&self, request: &TaskRequest) -> bool {
        self.meta.admits(request)
    }

    /// Whether `authority` has delivered this content to this node, or proved to have it.
    #[must_use]
    pub fn is_known_to(&self, authority: &Authority) -> bool {
        self.meta.is_known_to(authority)
    }

    /// Lets the request's authority prove, to the request's credential, that it has this very
    /// content: random parts of it must equal the stored bytes.
    ///
    /// # Errors
    /// [`ContentError`] if the authority or the store cannot be read; a wrong answer is `false`.
    pub async fn prove(&mut self, request: &TaskRequest) -> Result<bool, ContentError> {
        let Some(headers) = prove(self.tasks.origin(), request, &self.entry, self.total).await? else {
            return Ok(false);
        };
        let mut meta =
            TaskMeta::from_bytes(&self.entry.meta()).unwrap_or_else(|| TaskMeta::clone(&self.meta));
        meta.add_origin(&request.authority, &headers);
        self.entry.set_meta(meta.to_bytes());
        // What it is described by is told to this client, too.
        self.meta = Arc::new(meta);
        Ok(true)
    }

    /// Forgets the content; readers that follow it go on.
    pub fn forget(&self) {
        if let Some(store) = self.tasks.store() {
            store.remove(&self.entry);
        }
    }

    /// Notes from where the content is asked for, for whoever looks at the store.
    fn note_place(&self, request: &TaskRequest) {
        if self.meta.lacks_place(request)
            && let Some(mut newest) = TaskMeta::from_bytes(&self.entry.meta())
        {
            newest.add_place(request);
            self.entry.set_meta(newest.to_bytes());
        }
    }

    /// A reader of the content, or of a part of it.
    #[must_use]
    pub fn reader(&self, request: &TaskRequest, range: Option<ByteRange>) -> Reader {
        if let Some(store) = self.tasks.store() {
            store.touch(&self.entry, SystemTime::now());
        }
        self.note_place(request);
        Reader::stored(self.tasks.clone(), request.clone(), Arc::clone(&self.entry), self.identity(), range)
    }
}

/// The stored bytes of `range`, all of which must be there. Blocking.
pub(crate) fn read_range(entry: &Entry, range: ByteRange) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::with_capacity(usize::try_from(range.len()).unwrap_or(0));
    let mut next = range.start;
    while next < range.end {
        let bytes = entry.read(next, false)?;
        let wanted = usize::try_from(range.end - next).unwrap_or(usize::MAX).min(bytes.len());
        out.extend_from_slice(&bytes[..wanted]);
        next += wanted as u64;
    }
    Ok(out)
}
