//! What a credential was accepted for, in a form that gives nothing away.

use std::fmt;

use aws_lc_rs::hmac;
use dfget_core::{Authority, Digest, TaskId, UrlFilter};
use dfget_origin::Identity;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use url::Url;

/// Names one permission: this credential, at this authority, for this content in this place.
///
/// It is an HMAC under a random key of this node, so that neither memory nor the index holds a
/// credential, and what one node remembers says nothing on another.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct Permission(pub(crate) [u8; 32]);

/// What a permission is for.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A digest in a repository: a right to one repository opens nothing of another.
    Named { repository: String, digest: Digest },
    /// A URL without a digest, at the version that its validators tell.
    Unnamed { id: TaskId, validator: String },
}

/// Makes permissions.
pub(crate) struct Permissions {
    key: hmac::Key,
}

// === impl Content ===

impl Content {
    pub(crate) fn unnamed(id: &TaskId, identity: &Identity) -> Self {
        let validator = identity.etag.clone().or_else(|| identity.last_modified.clone());
        Self::Unnamed { id: id.clone(), validator: validator.unwrap_or_default() }
    }
}

// === impl Permissions ===

impl Permissions {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The permission of a client that sent `headers` and asked for `url`. The credential is
    /// every `Authorization` and `Cookie`, and every query parameter that `filter` drops.
    pub(crate) fn of(
        &self,
        authority: &Authority,
        content: &Content,
        headers: &HeaderMap,
        url: &Url,
        filter: &UrlFilter,
    ) -> Permission {
        let mut fields = Fields::new(&self.key, "permission");
        fields.add(authority.to_string().as_bytes());
        match content {
            Content::Named { repository, digest } => {
                fields.add(b"named");
                fields.add(repository.as_bytes());
                fields.add(digest.to_string().as_bytes());
            }
            Content::Unnamed { id, validator } => {
                fields.add(b"unnamed");
                fields.add(id.as_str().as_bytes());
                fields.add(validator.as_bytes());
            }
        }
        for name in [AUTHORIZATION, COOKIE] {
            for value in headers.get_all(&name) {
                fields.add(name.as_str().as_bytes());
                fields.add(value.as_bytes());
            }
        }
        for (key, value) in filter.dropped(url.query().unwrap_or_default()) {
            fields.add(key.as_bytes());
            fields.add(value.as_bytes());
        }
        fields.finish()
    }

    /// Stands for "somebody was allowed something at this authority".
    pub(crate) fn any_at(&self, authority: &Authority) -> Permission {
        let mut fields = Fields::new(&self.key, "authority");
        fields.add(authority.to_string().as_bytes());
        fields.finish()
    }
}

/// A keyed hash over a list of fields; each is preceded by its length, so that no two different
/// lists hash the same text.
struct Fields {
    context: hmac::Context,
}

impl Fields {
    fn new(key: &hmac::Key, kind: &str) -> Self {
        let mut fields = Self { context: hmac::Context::with_key(key) };
        fields.add(kind.as_bytes());
        fields
    }

    fn add(&mut self, field: &[u8]) {
        self.context.update(&(field.len() as u64).to_be_bytes());
        self.context.update(field);
    }

    fn finish(self) -> Permission {
        let mut out = [0; 32];
        out.copy_from_slice(self.context.sign().as_ref());
        Permission(out)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permission(..)")
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;
    use http::HeaderValue;

    use super::*;

    fn made(
        authority: &str,
        repository: &str,
        content: &[u8],
        authorization: &str,
        query: &str,
    ) -> Permission {
        let permissions = Permissions::new(b"key");
        let authority = Authority::parse(Scheme::Https, authority).expect("an authority");
        let content = Content::Named { repository: repository.to_owned(), digest: Digest::sha256(content) };
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a value"));
        }
        headers.insert("user-agent", HeaderValue::from_static("any"));
        let url = Url::parse(&format!("https://r.test/x?{query}")).expect("a URL");
        permissions.of(&authority, &content, &headers, &url, &UrlFilter::parse("Signature"))
    }

    #[test]
    fn each_part_of_a_permission_counts() {
        let base = made("r.test", "a/b", b"1", "Bearer x", "Signature=s&k=v");
        assert_eq!(base, made("R.test:443", "a/b", b"1", "Bearer x", "k=w&Signature=s"));
        let others = [
            made("s.test", "a/b", b"1", "Bearer x", "Signature=s"),
            made("r.test", "a/c", b"1", "Bearer x", "Signature=s"),
            made("r.test", "a/b", b"2", "Bearer x", "Signature=s"),
            made("r.test", "a/b", b"1", "Bearer y", "Signature=s"),
            made("r.test", "a/b", b"1", "", "Signature=s"),
            made("r.test", "a/b", b"1", "Bearer x", "Signature=t"),
            made("r.test", "a/b", b"1", "Bearer x", ""),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "case {at}");
        }
    }

    #[test]
    fn nodes_with_other_keys_share_nothing() {
        let authority = Authority::parse(Scheme::Https, "r.test").expect("an authority");
        assert_ne!(Permissions::new(b"one").any_at(&authority), Permissions::new(b"two").any_at(&authority));
    }
}
