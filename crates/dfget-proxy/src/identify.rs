//! What a request would be taken for, without its being sent.

use dfget_core::{Authority, ContentKey, Digest, TaskId};
use dfget_storage::Store;
use http::{HeaderMap, Request};
use url::Url;

use crate::accelerated::Accelerated;
use crate::handler::{Proxy, ProxyOptions};
use crate::mirror::Led;
use crate::permission::Permissions;
use crate::wishes::Wishes;

/// The names of a content.
#[derive(Clone, Debug)]
pub struct Identified {
    /// In the cluster and in the log.
    pub id: TaskId,
    /// On this node.
    pub key: ContentKey,
    /// Where it is fetched from.
    pub authority: Authority,
    /// What it must hash to, where the URL says so.
    pub digest: Option<Digest>,
    /// The repository, where the URL names one and a digest.
    pub repository: Option<String>,
    /// The URL that the task id is made of.
    pub canonical: String,
}

/// What a GET for `url` with these headers is taken for, if a rule makes it a task; `None` if the
/// URL names no origin, or a header says something that is refused. With `led`, it came by a mirror.
#[must_use]
pub fn identify(
    options: &ProxyOptions,
    url: &Url,
    headers: &HeaderMap,
    led: Option<&Led>,
) -> Option<Identified> {
    let permissions = Permissions::new(&options.secret);
    let wishes = Wishes::read(headers).ok()?;
    let canonical = wishes.filter.as_ref().unwrap_or(&options.filter).canonical(url.as_str());
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    if let Some(led) = led {
        request.extensions_mut().insert(led.mirrored.clone());
    }
    let read = Accelerated::read(options, &permissions, url.clone(), wishes, &request).ok()?;
    Some(Identified {
        id: read.task.id,
        key: read.task.key,
        authority: read.task.authority,
        digest: read.task.digest,
        repository: read.reference.map(|reference| reference.repository),
        canonical,
    })
}

/// Why a request with these headers is answered `400`, if it is (`X-Dragonfly-*`).
#[must_use]
pub fn refused_headers(headers: &HeaderMap) -> Option<String> {
    Wishes::read(headers).err().map(|refused| refused.to_string())
}

/// Whether a client with these headers makes a task of a GET that no rule matches.
#[must_use]
pub fn asks_for_a_task(headers: &HeaderMap) -> bool {
    Wishes::read(headers).is_ok_and(|wishes| wishes.use_p2p || wishes.stored_only)
}

impl Proxy {
    /// Where contents are stored, if anywhere.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.inner.tasks.store()
    }
}
