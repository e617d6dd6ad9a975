//! What a registry's URL names (OCI distribution specification, "Endpoints").

use crate::Digest;

/// The two kinds of content that a registry serves by digest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ReferenceKind {
    /// `/v2/<name>/blobs/<digest>`.
    Blob,
    /// `/v2/<name>/manifests/<digest>`.
    Manifest,
}

/// A content named by digest in a repository of a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentReference {
    /// The repository's name, as it stands in the path.
    pub repository: String,
    /// Blob or manifest.
    pub kind: ReferenceKind,
    /// What the content must hash to.
    pub digest: Digest,
}

impl ContentReference {
    /// Reads the path of a URL (no query); `None` if it names no content by digest.
    ///
    /// Only the exact form counts: no trailing segment, no empty repository, digest in its
    /// canonical text or with a percent-encoded colon.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        let (before, digest) = rest.rsplit_once('/')?;
        let (repository, kind) = before.rsplit_once('/')?;
        let kind = match kind {
            "blobs" => ReferenceKind::Blob,
            "manifests" => ReferenceKind::Manifest,
            _ => return None,
        };
        if repository.is_empty() {
            return None;
        }
        let digest = digest.replacen("%3A", ":", 1).replacen("%3a", ":", 1).parse().ok()?;
        Some(Self { repository: repository.to_owned(), kind, digest })
    }
}

/// What a path asks of a registry beside blobs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegistryPath {
    /// `/v2/`: whether it is a registry, and how it asks for a login.
    Ping,
    /// `/v2/<name>/manifests/<tag or digest>`.
    Manifest {
        /// The repository's name, as it stands in the path.
        repository: String,
        /// What the manifest must hash to, where it is named by digest.
        digest: Option<Digest>,
    },
}

// === impl RegistryPath ===

impl RegistryPath {
    /// Reads the path of a URL (no query); `None` if it is neither.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        if matches!(path, "/v2/" | "/v2") {
            return Some(Self::Ping);
        }
        if let Some(ContentReference { repository, kind, digest }) = ContentReference::of_path(path) {
            let manifest = Self::Manifest { repository, digest: Some(digest) };
            return (kind == ReferenceKind::Manifest).then_some(manifest);
        }
        let (before, tag) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
        let repository = before.strip_suffix("/manifests").filter(|name| !name.is_empty())?;
        is_tag(tag).then(|| Self::Manifest { repository: repository.to_owned(), digest: None })
    }
}

/// Whether a text is a tag (OCI distribution specification, "Pulling manifests").
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    (1..=128).contains(&text.len()) && word(text.as_bytes()[0]) && text.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn blobs_and_manifests_by_digest_are_content() {
        let blob = ContentReference::of_path(&format!("/v2/a/b/c/blobs/sha256:{HEX}")).expect("content");
        assert_eq!((blob.repository.as_str(), blob.kind), ("a/b/c", ReferenceKind::Blob));
        assert_eq!(blob.digest, Digest::sha256(b"{}"));
        let manifest =
            ContentReference::of_path(&format!("/v2/x/manifests/sha256%3A{HEX}")).expect("content");
        assert_eq!(manifest.kind, ReferenceKind::Manifest);
    }

    #[test]
    fn other_paths_are_not() {
        for path in [
            "/v2/".to_owned(),
            "/v2/x/manifests/latest".to_owned(),
            format!("/v2/blobs/sha256:{HEX}"),
            format!("/v2/x/blobs/sha256:{HEX}/"),
            format!("/v2/x/blobs/uploads/sha256:{HEX}"),
            format!("/v1/x/blobs/sha256:{HEX}"),
            format!("/v2/x/blobs/sha256:{}", &HEX[2..]),
            format!("/v2//blobs/{HEX}"),
        ] {
            assert_eq!(ContentReference::of_path(&path), None, "{path}");
        }
    }

    #[test]
    fn pings_and_manifests_are_told_from_the_rest() {
        assert_eq!(RegistryPath::of_path("/v2/"), Some(RegistryPath::Ping));
        let manifest = |path: &str| match RegistryPath::of_path(path)? {
            RegistryPath::Manifest { repository, digest } => Some((repository, digest.is_some())),
            RegistryPath::Ping => None,
        };
        assert_eq!(manifest("/v2/a/b/manifests/v1.0-x_y"), Some(("a/b".to_owned(), false)));
        assert_eq!(manifest(&format!("/v2/a/manifests/sha256:{HEX}")), Some(("a".to_owned(), true)));
        for path in [
            "/v2/a",
            "/v2/a/blobs/latest",
            "/v2/manifests/latest",
            "/v2//manifests/latest",
            "/v2/a/manifests/",
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/a%2fb",
            "/v2/a/manifests/sha256:12",
            "/v2/a/tags/list",
            "/v1/a/manifests/latest",
        ] {
            assert_eq!(RegistryPath::of_path(path), None, "{path}");
        }
        assert_eq!(RegistryPath::of_path(&format!("/v2/a/manifests/{}", "x".repeat(129))), None);
        assert_eq!(RegistryPath::of_path(&format!("/v2/a/blobs/sha256:{HEX}")), None);
    }
}
