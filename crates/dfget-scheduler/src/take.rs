//! The order to have a content, as it comes over the wire.

use std::pin::Pin;
use std::sync::Arc;

use dfget_core::{ContentReference, Digest, ReferenceKind};
use dfget_proto::messages::dfget::v1::{TakeReply, TakeRequest};
use futures_util::Stream;
use tonic::Status;
use url::Url;

use crate::{limits, words};

/// A content that another node wants this one to have. What it says of itself agrees; whether it is true, the bytes
/// will show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taking {
    /// Its task.
    pub task: Arc<str>,
    /// What it hashes to.
    pub digest: Digest,
    /// Blob or manifest.
    pub kind: ReferenceKind,
    /// Length in bytes.
    pub total: u64,
    /// Where it is at its origin: without query, login and fragment.
    pub url: Url,
    /// It was fetched with a credential.
    pub private: bool,
    /// What a manifest is; one of those that registries know.
    pub media_type: Option<&'static str>,
}

/// How a content comes, until it is there or not to be had.
pub type Takes = Pin<Box<dyn Stream<Item = Result<TakeReply, Status>> + Send>>;

/// What manifests are (OCI image specification; Docker's manifests, version 2).
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A URL longer than this names no content.
const LONGEST_URL: usize = 4096;

/// The media type of a manifest, if registries know it: another would be handed to clients.
#[must_use]
pub fn manifest_type(text: &str) -> Option<&'static str> {
    MANIFESTS.into_iter().find(|known| *known == text)
}

// === impl Taking ===

impl Taking {
    /// Reads an order.
    ///
    /// # Errors
    /// Which field is wrong, and why.
    pub(crate) fn read(request: &TakeRequest) -> Result<Self, Status> {
        let task = words::task(&request.task_id)?;
        let total = words::checked_total(request.total)?;
        let (url, named) = content_url(&request.url).map_err(|why| words::invalid("url", why))?;
        let Digest::Sha256(_) = named.digest else {
            return Err(words::invalid("url", "names no content by its sha256"));
        };
        if named.digest.hex() != *task {
            return Err(words::invalid("url", "names another content than task_id"));
        }
        let media_type = match named.kind {
            ReferenceKind::Blob if request.media_type.is_empty() => None,
            ReferenceKind::Blob => return Err(words::invalid("media_type", "is for manifests alone")),
            ReferenceKind::Manifest => {
                let known = manifest_type(&request.media_type);
                Some(known.ok_or_else(|| words::invalid("media_type", "is none of a manifest"))?)
            }
        };
        let (digest, kind) = (named.digest, named.kind);
        Ok(Self { task, digest, kind, total, url, private: request.private, media_type })
    }
}

/// The URL of a content, and what it names.
fn content_url(text: &str) -> Result<(Url, ContentReference), &'static str> {
    if text.len() > LONGEST_URL {
        return Err("is too long");
    }
    let url: Url = text.parse().map_err(|_| "is no absolute URL")?;
    let bare = url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err("has a query, a fragment or a login");
    }
    if !matches!(url.scheme(), "http" | "https")
        || url.host_str().is_none_or(|host| host.len() > limits::NAME)
    {
        return Err("is of no registry");
    }
    let named = ContentReference::of_path(url.path()).ok_or("names no content by its digest")?;
    Ok((url, named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: &str) -> TakeRequest {
        let task = "a".repeat(64);
        TakeRequest {
            url: format!("https://r.test/v2/p/a/{kind}/sha256:{task}"),
            task_id: task,
            total: 5,
            ..TakeRequest::default()
        }
    }

    #[test]
    fn an_order_is_read() {
        let read = Taking::read(&TakeRequest { private: true, ..request("blobs") }).unwrap();
        assert_eq!((read.total, read.private, read.kind), (5, true, ReferenceKind::Blob));
        let index = MANIFESTS[1].to_owned();
        let read = Taking::read(&TakeRequest { media_type: index, ..request("manifests") }).unwrap();
        assert_eq!((read.kind, read.media_type), (ReferenceKind::Manifest, Some(MANIFESTS[1])));
    }

    #[test]
    fn what_contradicts_itself_or_could_do_harm_is_refused() {
        let good = request("blobs");
        let task = &good.task_id;
        let urls = [
            String::new(),
            "file:///v2/p/blobs/x".to_owned(),
            format!("https://r.test/v2/p/a/blobs/sha256:{}", "b".repeat(64)),
            format!("https://r.test/v2/p/a/blobs/sha256:{task}?token=x"),
            format!("https://u:p@r.test/v2/p/a/blobs/sha256:{task}"),
            format!("https://r.test/{}/v2/p/a/blobs/sha256:{task}", "x".repeat(5000)),
            format!("ftp://r.test/v2/p/a/blobs/sha256:{task}"),
            "https://r.test/v2/p/a/manifests/latest".to_owned(),
        ];
        for url in urls {
            let refused = Taking::read(&TakeRequest { url: url.clone(), ..good.clone() });
            assert!(refused.is_err_and(|status| status.message().starts_with("url ")), "{url}");
        }
        let page = TakeRequest { media_type: "text/html".to_owned(), ..request("manifests") };
        for bad in [
            page.clone(),
            TakeRequest { media_type: MANIFESTS[0].to_owned(), ..good.clone() },
            TakeRequest { total: u64::MAX, ..good.clone() },
            TakeRequest { task_id: "A".repeat(64), ..good },
        ] {
            assert!(Taking::read(&bad).is_err(), "{bad:?}");
        }
    }
}
