//! The name of a content on this node.

use std::fmt;
use std::sync::Arc;

use crate::digest::to_hex;
use crate::{Digest, Hasher, ReferenceKind, TaskParts, UrlFilter};

/// Names one content in this node's store: two requests with the same key ask for the same.
///
/// It is not the task id. That one is computed as the cluster does it, from parts joined without
/// separators, some of which the client chooses; two different URLs can be given the same id on
/// purpose. What decides whose bytes a client is handed must not be the client's to shape.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ContentKey(Arc<str>);

impl ContentKey {
    /// A content named by digest. A blob and a manifest of one digest are the same bytes, but
    /// registries describe them differently.
    #[must_use]
    pub fn named(kind: ReferenceKind, digest: &Digest) -> Self {
        let kind = match kind {
            ReferenceKind::Blob => "blob",
            ReferenceKind::Manifest => "manifest",
        };
        Self(format!("{kind}:{digest}").into())
    }

    /// A content that only its URL names. Parameters that `filter` drops are left out; all else
    /// counts as it is written, and each part is hashed with its length.
    #[must_use]
    pub fn unnamed(url: &str, filter: &UrlFilter, parts: TaskParts<'_>) -> Self {
        let mut hasher = Hasher::sha256();
        let mut add = |part: &str| {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        };
        add(&filter.without_dropped(url));
        filter.keys().for_each(&mut add);
        for part in ["", parts.tag, parts.application, parts.revision] {
            add(part);
        }
        Self(format!("url:{}", to_hex(hasher.finish().bytes())).into())
    }

    /// The same content where clients say more of it than its URL: each of `claims` makes another
    /// key, so that what one client says counts only for those that say the same of the same URL.
    #[must_use]
    pub fn claimed<'a>(&self, claims: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut key = self.clone();
        for (kind, text) in claims {
            let mut hasher = Hasher::sha256();
            for part in [key.as_str(), kind, text] {
                hasher.update(&(part.len() as u64).to_be_bytes());
                hasher.update(part.as_bytes());
            }
            key = Self(format!("url:{}", to_hex(hasher.finish().bytes())).into());
        }
        key
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskId;

    #[test]
    fn what_shares_a_task_id_need_not_share_a_content() {
        let secret = ("https://files.test/private/a.sif", UrlFilter::parse("x"), TaskParts::default());
        let tag = TaskParts { tag: "private/a.sif", ..TaskParts::default() };
        let aimed = ("https://files.test/?x=.sif", UrlFilter::parse("x"), tag);
        let id =
            |(url, filter, parts): &(&str, UrlFilter, TaskParts<'_>)| TaskId::of(url, filter, *parts, None);
        let key = |(url, filter, parts): &(&str, UrlFilter, TaskParts<'_>)| {
            ContentKey::unnamed(url, filter, *parts)
        };
        assert_eq!(id(&secret), id(&aimed), "the cluster's recipe cannot tell them apart");
        assert_ne!(key(&secret), key(&aimed));
    }

    #[test]
    fn only_dropped_parameters_are_left_out() {
        let key = |url: &str, filter: &str| {
            ContentKey::unnamed(url, &UrlFilter::parse(filter), TaskParts::default())
        };
        assert_eq!(key("https://a.test/f?s=1&k=v", "s"), key("https://a.test/f?k=v&s=2", "s"));
        assert_ne!(key("https://a.test/f?f=a;1", "s"), key("https://a.test/f?f=b;2", "s"));
        assert_ne!(key("https://a.test/f?s=1", "s"), key("https://a.test/f?s=1", "s&t"), "another filter");
        assert_ne!(key("https://a.test/f?k=1", "s"), key("http://a.test/f?k=1", "s"));
    }

    #[test]
    fn what_a_client_claims_joins_only_those_that_claim_the_same_of_the_same() {
        let key = |url: &str, claims: &[(&str, &str)]| {
            let key = ContentKey::unnamed(url, &UrlFilter::default(), TaskParts::default());
            key.claimed(claims.iter().copied())
        };
        let (one, other) = ("https://a.test/f", "https://b.test/f");
        let claims = [("digest", "sha256:1"), ("content", "x")];
        assert_eq!(key(one, &claims), key(one, &claims));
        assert_ne!(key(one, &claims), key(other, &claims), "no claim joins two URLs");
        let others: [&[(&str, &str)]; 4] = [
            &[],
            &claims[..1],
            &[("digest", "sha256:2"), ("content", "x")],
            &[("content", "x"), ("digest", "sha256:1")],
        ];
        for claims in others {
            assert_ne!(key(one, claims), key(one, &[("digest", "sha256:1"), ("content", "x")]), "{claims:?}");
        }
    }

    #[test]
    fn a_blob_is_not_the_manifest_of_its_digest() {
        let digest = Digest::sha256(b"{}");
        assert_ne!(
            ContentKey::named(ReferenceKind::Blob, &digest),
            ContentKey::named(ReferenceKind::Manifest, &digest)
        );
    }
}
