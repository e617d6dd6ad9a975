//! What a credential was accepted for, in a form that gives nothing away.

use std::fmt;

use aws_lc_rs::hmac;
use dfget_core::{Authority, ContentKey};
use dfget_origin::Identity;
use dfget_origin::headers::is_impersonal;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_LANGUAGE};
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
    /// A digest in a repository: a right to one repository opens nothing of another. The length
    /// counts too: a yes for a login page under the digest's name says nothing of the content.
    Named { repository: String, key: ContentKey, total: Option<u64> },
    /// A URL without a digest, at the version that its validators tell.
    Unnamed { key: ContentKey, validator: String },
}

/// Makes permissions.
pub(crate) struct Permissions {
    key: hmac::Key,
}

// === impl Content ===

impl Content {
    pub(crate) fn unnamed(key: ContentKey, identity: &Identity) -> Self {
        let validator = identity.etag.clone().or_else(|| identity.last_modified.clone());
        Self::Unnamed { key, validator: validator.unwrap_or_default() }
    }
}

// === impl Permissions ===

impl Permissions {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The permission of a client that sent `headers` (of a request for a content) and `url`.
    pub(crate) fn of(
        &self,
        authority: &Authority,
        content: &Content,
        headers: &HeaderMap,
        url: &Url,
    ) -> Permission {
        let mut fields = Fields::new(&self.key, "permission");
        fields.add(authority.to_string().as_bytes());
        match content {
            Content::Named { repository, key, total } => {
                fields.add(b"named");
                fields.add(repository.as_bytes());
                fields.add(key.as_str().as_bytes());
                fields.add(&total.map(u64::to_be_bytes).unwrap_or_default());
                fields.add(&[u8::from(total.is_some())]);
            }
            Content::Unnamed { key, validator } => {
                fields.add(b"unnamed");
                fields.add(key.as_str().as_bytes());
                fields.add(validator.as_bytes());
            }
        }
        add_credential(&mut fields, headers, url);
        fields.finish()
    }

    /// Stands for the credential alone.
    pub(crate) fn credential(&self, headers: &HeaderMap, url: &Url) -> Permission {
        let mut fields = Fields::new(&self.key, "credential");
        add_credential(&mut fields, headers, url);
        fields.finish()
    }

    /// Stands for what a request asks: two with the same name are asked alike, by the same credential.
    pub(crate) fn question(
        &self,
        authority: &Authority,
        headers: &HeaderMap,
        url: &Url,
        head: bool,
    ) -> Permission {
        let mut fields = Fields::new(&self.key, "question");
        fields.add(authority.to_string().as_bytes());
        fields.add(url.path().as_bytes());
        fields.add(&[u8::from(head)]);
        // All of it: an origin that is itself a mirror goes by `ns`.
        fields.add(url.query().unwrap_or_default().as_bytes());
        for name in [ACCEPT, ACCEPT_LANGUAGE] {
            for value in headers.get_all(&name) {
                fields.add(name.as_str().as_bytes());
                fields.add(value.as_bytes());
            }
        }
        add_credential(&mut fields, headers, url);
        fields.finish()
    }

    /// Stands for "somebody was allowed something at this authority".
    pub(crate) fn any_at(&self, authority: &Authority) -> Permission {
        let mut fields = Fields::new(&self.key, "authority");
        fields.add(authority.to_string().as_bytes());
        fields.finish()
    }
}

/// Whatever may say who asks: every header that is not known to be impersonal, and the whole
/// query, where pre-signed URLs and many registries have their tokens. Only containerd's `ns` is
/// left out: it names the registry, which the authority does as well.
fn add_credential(fields: &mut Fields, headers: &HeaderMap, url: &Url) {
    let mut personal: Vec<_> = headers.iter().filter(|(name, _)| !is_impersonal(name)).collect();
    personal.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in personal {
        fields.add(name.as_str().as_bytes());
        fields.add(value.as_bytes());
    }
    let query = url.query().unwrap_or_default();
    for segment in query.split('&').filter(|segment| !segment.is_empty() && !segment.starts_with("ns=")) {
        fields.add(b"?");
        fields.add(segment.as_bytes());
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

impl Permission {
    /// As text, for what is kept beside a content.
    pub(crate) fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibbles = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::{Digest, ReferenceKind, Scheme};
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    fn made(
        authority: &str,
        repository: &str,
        content: &[u8],
        header: (&'static str, &str),
        query: &str,
    ) -> Permission {
        let permissions = Permissions::new(b"key");
        let authority = Authority::parse(Scheme::Https, authority).expect("an authority");
        let key = ContentKey::named(ReferenceKind::Blob, &Digest::sha256(content));
        let content =
            Content::Named { repository: repository.to_owned(), key, total: Some(content.len() as u64) };
        let mut headers = HeaderMap::new();
        if !header.1.is_empty() {
            headers.insert(header.0, HeaderValue::from_str(header.1).expect("a value"));
        }
        headers.insert("user-agent", HeaderValue::from_static("any"));
        let url = Url::parse(&format!("https://r.test/x?{query}")).expect("a URL");
        permissions.of(&authority, &content, &headers, &url)
    }

    #[test]
    fn each_part_of_a_permission_counts() {
        let bearer = ("authorization", "Bearer x");
        let base = made("r.test", "a/b", b"1", bearer, "sig=s");
        assert_eq!(base, made("R.test:443", "a/b", b"1", bearer, "sig=s&ns=r.test"));
        let others = [
            made("s.test", "a/b", b"1", bearer, "sig=s"),
            made("r.test", "a/c", b"1", bearer, "sig=s"),
            made("r.test", "a/b", b"2", bearer, "sig=s"),
            made("r.test", "a/b", b"1", ("authorization", "Bearer y"), "sig=s"),
            made("r.test", "a/b", b"1", ("authorization", ""), "sig=s"),
            made("r.test", "a/b", b"1", ("cookie", "Bearer x"), "sig=s"),
            made("r.test", "a/b", b"1", ("private-token", "Bearer x"), "sig=s"),
            made("r.test", "a/b", b"1", bearer, "sig=t"),
            made("r.test", "a/b", b"1", bearer, ""),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "case {at}");
        }
    }

    #[test]
    fn what_says_nothing_of_the_client_does_not_count() {
        let permissions = Permissions::new(b"key");
        let url = Url::parse("https://r.test/x").expect("a URL");
        let with = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            headers.insert(name, HeaderValue::from_static("1"));
            permissions.credential(&headers, &url)
        };
        assert_eq!(with("accept"), with("traceparent"));
        assert_ne!(with("accept"), with("x-auth-token"));
    }

    #[test]
    fn nodes_with_other_keys_share_nothing() {
        let authority = Authority::parse(Scheme::Https, "r.test").expect("an authority");
        assert_ne!(Permissions::new(b"one").any_at(&authority), Permissions::new(b"two").any_at(&authority));
    }
}
