//! Contents that another node of the cluster wants this one to have, before a client asks for them.
//!
//! No client has shown a credential, so no origin is asked: all bytes come from peers, and the digest proves them.
//! Who ordered a content tells which authority has delivered it, and the swarm is that authority's: it counts as
//! delivered by it, as any content from that swarm does. A client gets it only after the authority has accepted
//! its own credential, here as everywhere. One that comes while it is being fetched brings a credential, and then
//! the origin may be asked with that.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_core::{Authority, ContentKey, ContentReference, Digest, RangeHeader, ReferenceKind, TaskId};
use dfget_origin::FetchRequest;
use dfget_storage::Store;
use http::header::{ACCEPT_RANGES, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep};
use tracing::info;
use url::Url;

use crate::error::ContentError;
use crate::meta::TaskMeta;
use crate::request::{TaskRequest, final_key};
use crate::task::{Outcome, State, Task};
use crate::tasks::{Found, Tasks};

/// A content that is to be here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TakeOrder {
    /// What it hashes to: a SHA-256.
    pub digest: Digest,
    /// Blob or manifest.
    pub kind: ReferenceKind,
    /// Length in bytes.
    pub total: u64,
    /// Where it is at its origin: without query, login and fragment.
    pub url: Url,
    /// It was fetched with a credential.
    pub private: bool,
    /// What a manifest is.
    pub media_type: Option<String>,
}

/// Why a content is not here.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The order contradicts itself.
    #[error("the order names no content of a registry by its sha256")]
    Order,
    /// This node keeps nothing.
    #[error("it keeps no contents: its store cannot be used, or storage.multiplex is off")]
    NoStore,
    /// There are no peers.
    #[error("it belongs to no cluster")]
    Alone,
    /// What is in use would have to leave for it.
    #[error("its store has no room: {total} bytes are wanted, and {busy} of {quota} are in use")]
    NoRoom {
        /// Length of the content in bytes.
        total: u64,
        /// Bytes that were used lately, or are being written.
        busy: u64,
        /// Bytes that the store may take.
        quota: u64,
    },
    /// It cannot be stored.
    #[error("it cannot be stored: {0}")]
    Store(String),
    /// It cannot be had.
    #[error("{0}")]
    Failed(Arc<ContentError>),
    /// Nothing comes any more.
    #[error("nothing has come for {} s", STALL.as_secs())]
    Stalled,
    /// It came, and was not kept.
    #[error("its download ended without it")]
    NotKept,
}

/// Why a content of this node cannot be told to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It has no name by which others could check it.
    #[error("its URL names no content by its sha256, and nodes share nothing else")]
    Unnamed,
    /// It is not in the store, or not from there.
    #[error("it is not in the store of this node")]
    Absent,
}

/// What was used since then is in use: nothing of it leaves for an order.
const IN_USE: Duration = Duration::from_mins(10);

/// How often is told how much has come.
const TELL: Duration = Duration::from_millis(250);

/// For so long nothing need come.
const STALL: Duration = Duration::from_secs(90);

/// Downloads of clients that may end without the content until it is given up.
const TRIES: u32 = 3;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

// === impl TakeOrder ===

impl TakeOrder {
    fn request(&self, peer: &str) -> Option<TaskRequest> {
        Some(TaskRequest {
            id: TaskId::of_digest(&self.digest)?,
            key: ContentKey::named(self.kind, &self.digest),
            digest: Some(self.digest),
            named: true,
            authority: Authority::of_url(&self.url)?,
            fetch: FetchRequest { url: self.url.clone(), headers: HeaderMap::new(), clients_choice: false },
            credential: Arc::from(""),
            range: RangeHeader::Whole,
            prefetch: None,
            priority: 0,
            peer: Arc::from(peer),
            ordered: true,
        })
    }

    fn meta(&self, request: &TaskRequest) -> TaskMeta {
        let mut meta =
            TaskMeta { digest: Some(self.digest.to_string()), private: self.private, ..TaskMeta::default() };
        meta.add_origin(&request.authority, &self.headers());
        meta.add_place(request);
        meta
    }

    /// What registries say of such a content (OCI distribution, "pulling blobs", "pulling manifests").
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let blob = || HeaderValue::from_static("application/octet-stream");
        let named = self.media_type.as_ref().and_then(|text| HeaderValue::from_str(text).ok());
        headers.insert(CONTENT_TYPE, named.unwrap_or_else(blob));
        if self.kind == ReferenceKind::Blob {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if let Ok(digest) = HeaderValue::from_str(&self.digest.to_string()) {
            headers.insert(DOCKER_CONTENT_DIGEST, digest);
        }
        headers
    }
}

// === impl Tasks ===

impl Tasks {
    /// What other nodes have to know to have the content that lies at `url`, if it is whole here and came from there.
    ///
    /// # Errors
    /// [`OfferError`]
    pub fn offer(&self, url: &Url) -> Result<TakeOrder, OfferError> {
        let mut url = url.clone();
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        let named = ContentReference::of_path(url.path()).ok_or(OfferError::Unnamed)?;
        let authority = Authority::of_url(&url).ok_or(OfferError::Unnamed)?;
        let Digest::Sha256(_) = named.digest else { return Err(OfferError::Unnamed) };
        let store = self.store().ok_or(OfferError::Absent)?;
        let entry = store.get(&final_key(&ContentKey::named(named.kind, &named.digest)));
        let entry = entry.filter(|entry| entry.is_complete()).ok_or(OfferError::Absent)?;
        let (total, meta) = entry.total().zip(TaskMeta::of(&entry)).ok_or(OfferError::Absent)?;
        if !meta.is_known_to(&authority) {
            return Err(OfferError::Absent);
        }
        let headers = meta.headers(&authority);
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.filter(|_| named.kind == ReferenceKind::Manifest).map(ToOwned::to_owned);
        let (digest, kind) = (named.digest, named.kind);
        Ok(TakeOrder { digest, kind, total, url, private: meta.private, media_type })
    }

    /// Has a content come from peers alone, and returns when it is whole and verified here. `told` hears now and then
    /// how many bytes are here.
    ///
    /// # Errors
    /// [`TakeError`]
    ///
    /// # Cancel safety
    /// Dropped, the download ends, unless a client wants it too. What has come stays, and the next one goes on.
    pub async fn take(&self, order: &TakeOrder, told: &(dyn Fn(u64) + Send + Sync)) -> Result<(), TakeError> {
        let network = self.network().ok_or(TakeError::Alone)?;
        let request = order.request(&network.peer_id()).ok_or(TakeError::Order)?;
        let store = self.store().filter(|_| self.options().reuse).ok_or(TakeError::NoStore)?.clone();
        for _ in 0..TRIES {
            let seat = match self.find(&request).await {
                Found::Stored(_) => {
                    if let Some(entry) = store.get(&final_key(&request.key)) {
                        store.touch(&entry, SystemTime::now());
                    }
                    return Ok(());
                }
                Found::Running(seat) => seat,
                Found::Unanswered => continue,
                Found::Absent(lead) => {
                    let (room, total) = (store.clone(), order.total);
                    let room = tokio::task::spawn_blocking(move || check_room(&room, total)).await;
                    room.map_err(|error| TakeError::Store(error.to_string()))??;
                    info!(task = %request.id, "another node wants this content to be here: it comes from peers");
                    let begun = lead.begin_by_order(&store, &request, order.meta(&request), order.total);
                    begun.await.map_err(TakeError::Store)?
                }
            };
            if seat.can_swarm() {
                seat.begin_swarm(None);
            }
            seat.advance();
            match seat.follow(told).await? {
                Outcome::Verified if self.stored(&request).is_some() => return Ok(()),
                Outcome::Failed(error) if seat.first.ordered => {
                    if seat.present() == 0 {
                        // The order may have named another length than the content has.
                        store.remove(&seat.state.lock().entry);
                    }
                    return Err(TakeError::Failed(error));
                }
                // It was a client's; or its store has failed.
                _ => {}
            }
        }
        Err(TakeError::NotKept)
    }
}

impl Task {
    /// Why the origin is not to be asked: nobody has come yet by whose credential it could be.
    pub(crate) fn unasked_origin(&self, state: &State) -> Option<Arc<ContentError>> {
        (self.first.ordered && state.sources.is_empty()).then(|| Arc::new(ContentError::NoPeers))
    }

    /// The request that the origin may be asked with for everything anew.
    pub(crate) fn asked_with(&self) -> Option<TaskRequest> {
        if !self.first.ordered {
            return Some(self.first.clone());
        }
        let fetch = self.state.lock().sources.last().cloned()?;
        Some(TaskRequest { fetch, ..self.first.clone() })
    }

    /// Waits for the end, and tells how far it is.
    async fn follow(self: &Arc<Self>, told: &(dyn Fn(u64) + Send + Sync)) -> Result<Outcome, TakeError> {
        let mut moved = (Instant::now(), None);
        loop {
            let (outcome, settling) = {
                let state = self.state.lock();
                (state.outcome.clone(), state.settling)
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            let present = self.present();
            if moved.1 != Some(present) || settling {
                moved = (Instant::now(), Some(present));
                told(present);
            } else if moved.0.elapsed() > STALL {
                return Err(TakeError::Stalled);
            }
            tokio::select! {
                () = self.ended() => {}
                () = sleep(TELL) => {}
            }
        }
    }
}

/// Whether `total` bytes find room without anything leaving that is in use. Waits for the file system.
fn check_room(store: &Store, total: u64) -> Result<(), TakeError> {
    let Some(quota) = store.space().quota_bytes else { return Ok(()) };
    let now = SystemTime::now();
    let in_use = |accessed: SystemTime| now.duration_since(accessed).map_or(true, |age| age < IN_USE);
    let entries = store.entries();
    let used = entries.iter().filter(|entry| entry.is_pinned() || in_use(entry.accessed()));
    let expected = |entry: &dfget_storage::Entry| {
        entry.total().filter(|_| entry.is_pinned()).unwrap_or(0).max(entry.allocated_bytes())
    };
    let busy = used.fold(0_u64, |sum, entry| sum.saturating_add(expected(entry)));
    if total > quota.saturating_sub(busy) {
        return Err(TakeError::NoRoom { total, busy, quota });
    }
    Ok(())
}
