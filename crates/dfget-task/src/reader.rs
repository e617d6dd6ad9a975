//! The bytes of one response: from the store, from a running task, or straight from the origin.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use dfget_core::{ByteRange, Digest, Hasher};
use dfget_origin::{ContentStream, Identity};
use dfget_storage::{Entry, FilePart, ReadError};
use http::HeaderMap;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::content::read_range;
use crate::direct::Direct;
use crate::error::ContentError;
use crate::gate::{HOLD_WHOLE, release_limit};
use crate::prefix::PrefixHasher;
use crate::request::TaskRequest;
use crate::task::{Outcome, Snapshot, Task};
use crate::tasks::Tasks;

/// The bytes of one response, in order. It keeps its place over whatever happens below: a
/// download that is interrupted, a store that breaks, a block that rotted.
#[derive(Debug)]
pub struct Reader {
    tasks: Tasks,
    request: TaskRequest,
    source: Source,
    /// The first byte of the response.
    start: u64,
    /// The next byte to hand out.
    next: u64,
    /// The first bytes from `next` on, read before the head of the response went out.
    ready: Option<Bytes>,
    /// Just past the last byte, once known.
    end: Option<u64>,
    /// The response is the whole content.
    whole: bool,
    /// A range was asked for, even if it turned out to be the whole.
    ranged: bool,
    /// The content's length as the head of the response tells it, or will.
    promised: Option<u64>,
    /// The content's headers, where the ones known at first turned out to be another's.
    headers: Option<HeaderMap>,
    leads: bool,
    from_store: bool,
    /// Bytes that peers have sent of the running task that it follows, or followed.
    from_peers: Option<Arc<AtomicU64>>,
    /// What is read is to be sent without being read the next time.
    notes: bool,
    /// The block that was fetched again last: a disk that spoils it at once is not tried twice.
    mended: Option<u64>,
}

/// A part of a response.
#[derive(Debug)]
pub enum Part {
    /// The bytes themselves.
    Bytes(Bytes),
    /// Where they lie, for the kernel to send.
    File(FilePart),
}

#[derive(Debug)]
enum Source {
    Stored { entry: Arc<Entry>, identity: Identity },
    Following(Following),
    Direct(Box<Direct>),
}

#[derive(Debug)]
struct Following {
    task: Arc<Task>,
    id: u64,
    entry: Arc<Entry>,
    generation: u32,
    progress: watch::Receiver<()>,
}

/// What a look at a running task led to.
enum Look {
    Bytes(Bytes),
    End,
    Wait,
    Again,
}

impl Reader {
    pub(crate) fn stored(
        tasks: Tasks,
        request: TaskRequest,
        entry: Arc<Entry>,
        identity: Identity,
        range: Option<ByteRange>,
    ) -> Self {
        let end = range.map_or_else(|| entry.total(), |range| Some(range.end));
        let source = Source::Stored { entry, identity };
        let mut reader = Self::new(tasks, request, source, range, false);
        (reader.end, reader.from_store) = (end, true);
        reader
    }

    pub(crate) fn following(
        task: Arc<Task>,
        id: u64,
        request: TaskRequest,
        range: Option<ByteRange>,
        leads: bool,
    ) -> Self {
        let snapshot = task.snapshot();
        let tasks = task.tasks.clone();
        let progress = task.progress();
        let (entry, generation) = (snapshot.entry, snapshot.generation);
        let ranged = range.is_some();
        // A range that is all of the content is held to the digest like a request without one.
        let range = range.filter(|range| range.start > 0 || Some(range.end) != entry.total());
        let promised = entry.total();
        let from_peers = Some(Arc::clone(&task.from_peers));
        let following = Following { task, id, entry, generation, progress };
        Self {
            promised,
            ranged,
            from_peers,
            ..Self::new(tasks, request, Source::Following(following), range, leads)
        }
    }

    fn new(
        tasks: Tasks,
        request: TaskRequest,
        source: Source,
        range: Option<ByteRange>,
        leads: bool,
    ) -> Self {
        let start = range.map_or(0, |range| range.start);
        Self {
            tasks,
            request,
            source,
            start,
            next: start,
            ready: None,
            end: range.map(|range| range.end),
            whole: range.is_none(),
            ranged: range.is_some(),
            promised: None,
            headers: None,
            leads,
            from_store: false,
            from_peers: None,
            notes: false,
            mended: None,
        }
    }

    /// Whether the response's bytes were all in the store when it began.
    #[must_use]
    pub const fn is_from_store(&self) -> bool {
        self.from_store
    }

    /// Whether the bytes were not fetched for this response: stored before, or fetched for another.
    #[must_use]
    pub const fn is_spared(&self) -> bool {
        self.from_store || (!self.leads && !matches!(self.source, Source::Direct(_)))
    }

    /// The count of bytes that peers have sent of the task that the response follows; it grows while
    /// the task runs. `None`: there is no task.
    #[must_use]
    pub fn sent_by_peers(&self) -> Option<Arc<AtomicU64>> {
        self.from_peers.clone()
    }

    /// Whether the end of the response is told in the log already: by the download, for the
    /// request that it was begun with.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        self.leads && matches!(self.source, Source::Stored { .. })
    }

    /// The content's headers, where those known when the reader was made turned out to be wrong.
    #[must_use]
    pub const fn take_headers(&mut self) -> Option<HeaderMap> {
        self.headers.take()
    }

    /// The content's length, once known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        match &self.source {
            Source::Stored { identity, .. } => identity.total,
            Source::Following(following) => following.entry.total(),
            Source::Direct(_) => self.end.filter(|_| self.whole),
        }
    }

    /// Waits for what must be known before the head of the response goes out: that a short
    /// content is verified, or that the content is not short; and for the first bytes, since a
    /// response whose body fails at once breaks off without a head.
    ///
    /// # Errors
    /// [`ContentError`] if the content cannot be had; the response can still be an error then.
    pub async fn prime(&mut self) -> Result<(), ContentError> {
        self.wait_to_begin().await?;
        self.ready = self.read_next().await?;
        Ok(())
    }

    async fn wait_to_begin(&mut self) -> Result<(), ContentError> {
        loop {
            let Source::Following(following) = &mut self.source else { return Ok(()) };
            following.progress.borrow_and_update();
            let now = following.task.snapshot();
            match now.outcome {
                Some(Outcome::Failed(error)) => return Err(ContentError::Shared(error)),
                Some(Outcome::Unstored | Outcome::Retired) => {
                    Box::pin(self.go_direct()).await?;
                    if let Source::Direct(direct) = &mut self.source {
                        direct.prime().await?;
                    }
                    return Ok(());
                }
                Some(Outcome::Verified) => return self.settle_on(now),
                None if now.generation == following.generation && self.may_begin() => {
                    self.promised = self.total();
                    return Ok(());
                }
                None => {}
            }
            let Source::Following(following) = &mut self.source else { return Ok(()) };
            if following.progress.changed().await.is_err() {
                return Err(ContentError::Closing);
            }
        }
    }

    /// Takes the content as it was verified for what the response is about: nothing has left yet.
    fn settle_on(&mut self, now: Snapshot) -> Result<(), ContentError> {
        let Source::Following(following) = &mut self.source else { return Ok(()) };
        if now.generation != following.generation {
            if self.ranged && now.entry.total() != self.promised {
                return Err(ContentError::Sent);
            }
            self.headers = Some(following.task.headers());
            (following.entry, following.generation) = (now.entry, now.generation);
        }
        self.promised = following.entry.total();
        Ok(())
    }

    /// Whether enough is here, and may leave, for the head of the response to go out: a failing
    /// origin could not be told by a status any more.
    fn may_begin(&self) -> bool {
        let Source::Following(following) = &self.source else { return true };
        if !self.whole && following.task.is_unproven() {
            return false;
        }
        let total = following.entry.total();
        let mut present = following.entry.contiguous_from(self.next);
        if self.whole && self.request.digest.is_some() {
            if total.is_none_or(|total| total <= HOLD_WHOLE) && release_limit(present, total) == 0 {
                return false;
            }
            present = following.entry.contiguous_from(0);
        }
        present > self.next
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ContentError`]; the response must then break.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        let next = match self.ready.take() {
            Some(ready) => Some(ready),
            None => self.read_next().await?,
        };
        self.next += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(next)
    }

    /// As [`Self::next`], for whoever can send parts of files: of a stored content that was read and found right a
    /// moment ago, as long a part as there is, up to `most` bytes.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_part(&mut self, most: u64) -> Result<Option<Part>, ContentError> {
        self.notes = true;
        if self.ready.is_none()
            && let Source::Stored { entry, .. } = &self.source
            && let Some(left) = self.end.map(|end| end - self.next).filter(|left| *left > 0)
            && let Some(part) = entry.sendable(self.next, left.min(most), Instant::now())
        {
            self.next += part.len();
            self.tasks.metrics().sent_by_kernel(part.len());
            return Ok(Some(Part::File(part)));
        }
        Ok(self.next().await?.map(Part::Bytes))
    }

    async fn read_next(&mut self) -> Result<Option<Bytes>, ContentError> {
        loop {
            if self.end == Some(self.next) && !matches!(self.source, Source::Direct(_)) {
                return Ok(None);
            }
            let look = match &mut self.source {
                Source::Direct(direct) => match Box::pin(direct.next()).await? {
                    Some(bytes) => Look::Bytes(bytes),
                    None => Look::End,
                },
                Source::Stored { .. } => self.read_stored().await?,
                Source::Following(_) => self.follow().await?,
            };
            match look {
                Look::Bytes(bytes) => return Ok(Some(bytes)),
                Look::End => return Ok(None),
                Look::Again => {}
                Look::Wait => {
                    if let Source::Following(following) = &mut self.source
                        && following.progress.changed().await.is_err()
                    {
                        return Err(ContentError::Closing);
                    }
                }
            }
        }
    }

    async fn follow(&mut self) -> Result<Look, ContentError> {
        let Source::Following(following) = &mut self.source else { return Ok(Look::Again) };
        following.progress.borrow_and_update();
        let now = following.task.snapshot();
        let verified = match now.outcome {
            None => false,
            Some(Outcome::Failed(error)) => return Err(ContentError::Shared(error)),
            Some(Outcome::Unstored | Outcome::Retired) => {
                Box::pin(self.go_direct()).await?;
                return Ok(Look::Again);
            }
            Some(Outcome::Verified) => true,
        };
        if now.generation != following.generation {
            if !verified {
                return Ok(Look::Wait);
            }
            // What has left already must be the start of what turned out to be right, and the
            // head must have told its length.
            if self.promised.is_some() && self.promised != now.entry.total() {
                return Err(ContentError::Sent);
            }
            let sent = ByteRange { start: self.start, end: self.next };
            if !Box::pin(equal(Arc::clone(&following.entry), Arc::clone(&now.entry), sent)).await? {
                return Err(ContentError::Sent);
            }
            (following.entry, following.generation) = (now.entry, now.generation);
            self.headers = Some(following.task.headers());
            if self.whole {
                // The end was that of the wrong content.
                self.end = None;
            }
        }
        if verified {
            let identity = following.task.identity();
            let entry = Arc::clone(&following.entry);
            self.end = self.end.or_else(|| entry.total());
            self.source = Source::Stored { entry, identity };
            return Ok(Look::Again);
        }
        let total = following.entry.total();
        self.end = self.end.or(total);
        let mut present = following.entry.contiguous_from(self.next);
        if self.whole && self.request.digest.is_some() {
            present = release_limit(present, total);
        }
        // After that look: no byte of a peer is there that this would not see.
        if present <= self.next || (!self.whole && following.task.is_unproven()) {
            return Ok(Look::Wait);
        }
        // Who keeps up with the download is given its bytes from memory.
        let recent = following.task.recent.lock().get(&following.entry, self.next);
        if let Some(bytes) = recent {
            return Ok(Look::Bytes(self.clip(bytes, present)));
        }
        match read(&following.entry, self.next, false).await {
            Ok(bytes) => Ok(Look::Bytes(self.clip(bytes, present))),
            Err(ReadError::Rotten { block }) if self.mended.replace(block.start) != Some(block.start) => {
                self.tasks.metrics().rotten_block();
                warn!(
                    task = %self.request.id,
                    "stored bytes from {} on changed on disk; fetching them again",
                    block.start
                );
                following.task.refetch(&following.entry, block.start);
                Ok(Look::Again)
            }
            Err(ReadError::Absent) => Ok(Look::Again),
            Err(error) => {
                warn!(task = %self.request.id, "streaming on without the store: {error}");
                Box::pin(self.go_direct()).await?;
                Ok(Look::Again)
            }
        }
    }

    /// Reads from a whole content; what rotted is fetched again, for this and all later readers.
    async fn read_stored(&mut self) -> Result<Look, ContentError> {
        let Source::Stored { entry, identity } = &self.source else { return Ok(Look::Again) };
        let entry = Arc::clone(entry);
        let failed = match read(&entry, self.next, self.notes).await {
            Ok(bytes) => return Ok(Look::Bytes(self.clip(bytes, u64::MAX))),
            Err(ReadError::Rotten { block }) if self.mended.replace(block.start) != Some(block.start) => {
                let fresh = Box::pin(self.fetch_block(identity.clone(), block.start, block.end)).await?;
                match Box::pin(repair(Arc::clone(&entry), self.request.digest, block.start, fresh)).await? {
                    Ok(()) => {
                        info!(task = %self.request.id, "bytes {} to {} are repaired", block.start, block.end);
                        return Ok(Look::Again);
                    }
                    Err(reason) => reason,
                }
            }
            Err(error) if !error.is_lasting() => {
                warn!(task = %self.request.id, "this once without the stored content: {error}");
                Box::pin(self.go_direct()).await?;
                return Ok(Look::Again);
            }
            Err(error) => error.to_string(),
        };
        // What cannot be read or repaired is of no use to anyone: the next client fetches it anew.
        warn!(task = %self.request.id, "streaming on without the stored content: {failed}");
        if let Some(store) = self.tasks.store() {
            store.remove(&entry);
        }
        Box::pin(self.go_direct()).await?;
        Ok(Look::Again)
    }

    async fn fetch_block(&self, identity: Identity, start: u64, end: u64) -> Result<Vec<u8>, ContentError> {
        self.tasks.metrics().rotten_block();
        warn!(task = %self.request.id, "stored bytes {start} to {end} changed on disk; fetching them again");
        let origin = self.tasks.origin().clone();
        let mut stream = ContentStream::lazy(origin, self.request.fetch.clone(), start, Some(end), identity);
        let mut fresh = Vec::new();
        while let Some(bytes) =
            stream.next().await.map_err(|error| ContentError::Rotten(error.to_string()))?
        {
            fresh.extend_from_slice(&bytes);
        }
        Ok(fresh)
    }

    /// Leaves the store behind and goes on with a stream of this client's own.
    async fn go_direct(&mut self) -> Result<(), ContentError> {
        let (entry, identity) = match &self.source {
            Source::Stored { entry, identity } => (Arc::clone(entry), identity.clone()),
            Source::Following(following) => {
                let superseded = following.task.snapshot().generation != following.generation;
                if superseded && !self.whole && self.next > self.start {
                    // What has left is of a wrong content, and no digest will tell.
                    return Err(ContentError::Sent);
                }
                (Arc::clone(&following.entry), following.task.identity())
            }
            Source::Direct(_) => return Ok(()),
        };
        let end = self.end.or(identity.total);
        let origin = self.request.authority.to_string();
        let (client, fetch) = (self.tasks.origin().clone(), self.request.fetch.clone());
        let stream = ContentStream::lazy(client, fetch, self.next, end, identity);
        let direct = match self.request.digest.filter(|_| self.whole) {
            Some(digest) => {
                Direct::continuing(stream, origin, digest, hash_sent(entry, self.next, digest).await?)
            }
            None => Direct::new(stream, origin, None),
        };
        self.end = end;
        self.source = Source::Direct(Box::new(direct));
        Ok(())
    }

    fn clip(&self, mut bytes: Bytes, limit: u64) -> Bytes {
        let end = self.end.unwrap_or(u64::MAX).min(limit);
        bytes.truncate(usize::try_from(end - self.next).unwrap_or(usize::MAX));
        bytes
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.leave(self.id);
    }
}

/// Reads at `offset`: at once if the bytes are in memory, else on a thread that may block.
async fn read(entry: &Arc<Entry>, offset: u64, note: bool) -> Result<Bytes, ReadError> {
    let read = move |entry: &Entry, nowait| match note {
        true => entry.read_noting(offset, nowait, Instant::now()),
        false => entry.read(offset, nowait),
    };
    match read(entry, true) {
        Err(ReadError::WouldBlock) => {
            let entry = Arc::clone(entry);
            let read = tokio::task::spawn_blocking(move || read(&entry, false)).await;
            read.unwrap_or_else(|panicked| Err(ReadError::Io(std::io::Error::other(panicked))))
        }
        read => read,
    }
}

/// The hash of the bytes that a client has received.
async fn hash_sent(entry: Arc<Entry>, until: u64, digest: Digest) -> Result<Hasher, ContentError> {
    let hash = move || {
        let mut prefix = PrefixHasher::like(&digest);
        prefix.catch_up(&entry, until).map(|()| prefix)
    };
    let prefix = blocking(hash).await??;
    if prefix.hashed() < until {
        return Err(ContentError::Sent);
    }
    Ok(prefix.into_hasher())
}

/// Puts a block that was fetched again in its place, if the content is right with it.
///
/// The block's own check is against accidents only, and the bytes came from whomever this client
/// asks: the whole must agree before any of them is written, let alone handed on.
async fn repair(
    entry: Arc<Entry>,
    digest: Option<Digest>,
    start: u64,
    fresh: Vec<u8>,
) -> Result<Result<(), String>, ContentError> {
    blocking(move || {
        let told = |error: ReadError| error.to_string();
        if let Some(digest) = digest {
            let mut hasher = Hasher::like(&digest);
            let (total, end) = (entry.total().unwrap_or(0), start + fresh.len() as u64);
            let mut next = 0;
            while next < total {
                if next == start {
                    hasher.update(&fresh);
                    next = end;
                    continue;
                }
                let bytes = entry.read(next, false).map_err(told)?;
                next += bytes.len() as u64;
                hasher.update(&bytes);
            }
            if hasher.finish() != digest {
                return Err("with the repaired block it has another digest".to_owned());
            }
        }
        entry.repair(start, &fresh).map_err(|error| error.to_string())
    })
    .await
}

/// Whether two entries hold the same bytes in `range`.
async fn equal(one: Arc<Entry>, other: Arc<Entry>, range: ByteRange) -> Result<bool, ContentError> {
    const STEP: u64 = 1 << 20;
    let compare = move || {
        let mut start = range.start;
        while start < range.end {
            let part = ByteRange { start, end: range.end.min(start + STEP) };
            if read_range(&one, part)? != read_range(&other, part)? {
                return Ok(false);
            }
            start = part.end;
        }
        Ok::<_, ReadError>(true)
    };
    Ok(blocking(compare).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ContentError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ContentError::Internal(error.to_string()))
}
