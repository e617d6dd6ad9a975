//! The identity of a task, the same on every node (Dragonfly v2, "Task ID").

use std::fmt;

use crate::digest::to_hex;
use crate::{ContentReference, Digest, Hasher, UrlFilter};

/// Names one content across all nodes: 64 lower-case hex digits.
///
/// For a blob or manifest asked by its sha256 it is that digest itself, so that one content is
/// one task whatever registry or repository it comes from. A sha512 would not fit the piece
/// protocol's 64 bytes, so such a content is named by its URL like any other.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TaskId(String);

/// What a task's id is computed from, beside the URL.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskParts<'a> {
    /// `tag` of the request, or "".
    pub tag: &'a str,
    /// `application` of the request, or "".
    pub application: &'a str,
    /// `revision` of the request, or "".
    pub revision: &'a str,
    /// The piece length in bytes, only where the request itself fixes one.
    pub piece_length: Option<u64>,
}

impl TaskId {
    /// The id of the content that `url` names.
    ///
    /// `reference` is what the URL's path says of its content, where that is to count (as it
    /// does for everything that comes through the proxy).
    #[must_use]
    pub fn of(
        url: &str,
        filter: &UrlFilter,
        parts: TaskParts<'_>,
        reference: Option<&ContentReference>,
    ) -> Self {
        if let Some(ContentReference { digest: digest @ Digest::Sha256(_), .. }) = reference {
            return Self(digest.hex());
        }
        let mut hasher = Hasher::sha256();
        hasher.update(filter.canonical(url).as_bytes());
        for part in [parts.tag, parts.application, parts.revision] {
            hasher.update(part.as_bytes());
        }
        if let Some(length) = parts.piece_length {
            hasher.update(length.to_string().as_bytes());
        }
        hasher.update(b"STANDARD");
        Self(to_hex(hasher.finish().bytes()))
    }

    /// The id of the content with this digest; `None` for a digest that names no task.
    #[must_use]
    pub fn of_digest(digest: &Digest) -> Option<Self> {
        matches!(digest, Digest::Sha256(_)).then(|| Self(digest.hex()))
    }

    /// The id that a client chooses by the text it is computed from
    /// (`X-Dragonfly-Content-For-Calculating-Task-ID`). Contents are shared on this node by
    /// [`ContentKey`](crate::ContentKey) and not by this.
    #[must_use]
    pub fn of_content(content: &str) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(content.as_bytes());
        Self(to_hex(hasher.finish().bytes()))
    }

    /// The hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_FILTER;

    #[test]
    fn ids_of_urls_match_the_cluster() {
        let none = UrlFilter::default();
        let hpc = TaskParts {
            tag: "hpc",
            application: "apptainer",
            piece_length: Some(8_388_608),
            ..TaskParts::default()
        };
        let all = TaskParts { tag: "foo", application: "bar", revision: "v1.0", piece_length: Some(1024) };
        let plain = TaskParts::default();
        let signed = "http://origin.test/data/big.sif?Expires=1&k=v&Signature=q&a=1";
        let cases = [
            (
                "http://origin.test/data/big.sif",
                &none,
                plain,
                "b400307f5b20b752cfdbba2faf852ffe1d53e9f0e2c725e140510487687f12ee",
            ),
            (
                signed,
                &UrlFilter::parse("Expires&Signature"),
                plain,
                "a1c881ed9300a3e47371d6a88ed430da9f97bd2442b6e5efd531c156c78f4fe1",
            ),
            (
                "http://origin.test/data/big.sif",
                &none,
                hpc,
                "8c541fbce0ba97ce37dc1b68b5856baa4a9c595f793d87056d4dd2a081e7d976",
            ),
            (
                "https://example.com",
                &none,
                all,
                "5844f27a257287e9b734256bb25603d8005422ced8c0377f15063ec11963b25f",
            ),
            (
                "https://example.com",
                &none,
                plain,
                "457b4328cde278e422c9e243f7bfd1e97f511fec43a80f535cf6b0ef6b086776",
            ),
        ];
        for (url, filter, parts, expected) in cases {
            assert_eq!(TaskId::of(url, filter, parts, None).as_str(), expected, "{url}");
        }
    }

    #[test]
    fn one_content_is_one_task_from_any_registry() {
        let hex = Digest::sha256(b"{}").hex();
        let filter = UrlFilter::new(DEFAULT_FILTER.iter().copied());
        for host in ["a.test", "b.test:5000"] {
            let path = format!("/v2/any/name/blobs/sha256:{hex}");
            let reference = ContentReference::of_path(&path).expect("content");
            let id = TaskId::of(
                &format!("https://{host}{path}?ns=x"),
                &filter,
                TaskParts::default(),
                Some(&reference),
            );
            assert_eq!(id.as_str(), hex);
        }
    }

    #[test]
    fn an_id_can_be_computed_from_a_text_of_the_clients() {
        assert_eq!(TaskId::of_content("{}").as_str(), Digest::sha256(b"{}").hex());
    }

    #[test]
    fn a_sha512_content_is_named_by_its_url() {
        let path = format!("/v2/x/blobs/sha512:{}", "ab".repeat(64));
        let reference = ContentReference::of_path(&path).expect("content");
        let id = TaskId::of(
            &format!("https://a.test{path}"),
            &UrlFilter::default(),
            TaskParts::default(),
            Some(&reference),
        );
        assert_eq!(id.as_str().len(), 64);
    }
}
