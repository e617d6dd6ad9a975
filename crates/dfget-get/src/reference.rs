//! What a user names: a URL, or an image in a registry.

use std::fmt;

use dfget_core::{Authority, Digest, Scheme};
use url::Url;

/// What is to be got.
#[derive(Clone, Eq, PartialEq)]
pub enum Reference {
    /// `http://…` or `https://…`.
    Url(Url),
    /// `oras://…`: one file in a registry.
    File(Image),
    /// `docker://…`: a container image.
    Image(Image),
}

/// An image, or another artifact, in a repository of a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    /// Host and port, as the user names the registry.
    pub host: String,
    /// The repository's name.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// The digest of the manifest. It counts before the tag.
    pub digest: Option<Digest>,
    /// Spoken to without TLS.
    pub plain: bool,
}

/// Why a text names nothing that can be got.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// There is nothing before `://`.
    #[error("{0}: no URL; write it as https://…, oras://… or docker://…")]
    NoScheme(String),
    /// Nothing is known of this scheme.
    #[error("{scheme}:// cannot be got{remedy}; https://, http://, oras:// and docker:// can")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The URL cannot be read.
    #[error("{0}: no URL that can be read: {1}")]
    Url(String, url::ParseError),
    /// No host in it.
    #[error("{0}: the host is no name, nor an address")]
    Host(String),
    /// No repository in it, or none that a registry could have.
    #[error("{0}: no repository; write it as {1}://HOST/REPOSITORY:TAG, in lower case")]
    Repository(String, &'static str),
    /// A tag that no registry could have.
    #[error("{0}: no tag can be so; letters, digits, `.`, `_` and `-` are")]
    Tag(String),
    /// A digest that is none.
    #[error("{0}: the digest is no sha256:… of 64 digits")]
    Digest(String),
}

/// Docker Hub, as references name it.
const HUB: &str = "docker.io";

/// Docker Hub, as it is connected to.
const HUB_REGISTRY: &str = "registry-1.docker.io";

// === impl Reference ===

impl Reference {
    /// Reads what a user has written. `plain`: registries are spoken to without TLS.
    ///
    /// # Errors
    /// [`ReferenceError`] by cause.
    pub fn parse(text: &str, plain: bool) -> Result<Self, ReferenceError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(ReferenceError::NoScheme(shown(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {
                let url = Url::parse(text).map_err(|error| ReferenceError::Url(shown(text), error))?;
                match Authority::of_url(&url) {
                    Some(_) => Ok(Self::Url(url)),
                    None => Err(ReferenceError::Host(shown(text))),
                }
            }
            "oras" => Image::parse(rest, plain, "oras").map(Self::File),
            "docker" => Image::parse(rest, plain, "docker").map(Self::Image),
            other => Err(ReferenceError::Scheme { scheme: shown(other), remedy: instead(other) }),
        }
    }

    /// The host, with the port where it is not the usual one, that connections are made to.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Url(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}{port}", url.host_str().unwrap_or_default())
            }
            Self::File(image) | Self::Image(image) => image.registry().to_owned(),
        }
    }
}

impl fmt::Debug for Reference {
    /// As it may be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Reference {
    /// Without a login, query or fragment: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&dfget_core::public_url(url)),
            Self::File(image) => write!(f, "oras://{image}"),
            Self::Image(image) => write!(f, "docker://{image}"),
        }
    }
}

// === impl Image ===

impl Image {
    fn parse(text: &str, plain: bool, scheme: &'static str) -> Result<Self, ReferenceError> {
        let whole = format!("{scheme}://{text}");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| ReferenceError::Digest(shown(&whole)))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash is that of a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if let Some(tag) = &tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag(shown(&whole)));
        }
        let first = name.split('/').next().unwrap_or_default();
        let on_hub = scheme == "docker" && !is_host(first);
        let (host, repository) = match name.split_once('/') {
            _ if on_hub => (HUB, name.to_owned()),
            Some((host, repository)) => (host, repository.to_owned()),
            None => return Err(ReferenceError::Repository(shown(&whole), scheme)),
        };
        let host = if matches!(host, "index.docker.io" | HUB_REGISTRY) { HUB } else { host };
        Authority::parse(Scheme::Https, host).map_err(|_| ReferenceError::Host(shown(&whole)))?;
        let official = host == HUB && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository };
        if !is_repository(&repository) {
            return Err(ReferenceError::Repository(shown(&whole), scheme));
        }
        Ok(Self { host: host.to_ascii_lowercase(), repository, tag, digest, plain })
    }

    /// Host and port that are connected to.
    #[must_use]
    pub fn registry(&self) -> &str {
        if self.host == HUB { HUB_REGISTRY } else { &self.host }
    }

    /// What the registry is asked for.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The URL of a manifest (`kind` = `manifests`) or a blob (`blobs`).
    ///
    /// # Errors
    /// [`ReferenceError::Url`]: never for what [`Reference::parse`] has let pass.
    pub fn url(&self, kind: &str, reference: &str) -> Result<Url, ReferenceError> {
        let scheme = if self.plain { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/{kind}/{reference}", self.registry(), self.repository);
        Url::parse(&text).map_err(|error| ReferenceError::Url(text, error))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, None) => f.write_str(":latest"),
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
        }
    }
}

/// Text of a user's in an error: without a login, and not endless.
fn shown(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host = match host.rsplit_once('@') {
        // `@sha256:…` of an image stands behind a slash.
        Some((_, host)) => host,
        None => host,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    let all = format!("{scheme}{separator}{host}{path}");
    all.chars().filter(|c| !c.is_control()).take(LONGEST_SHOWN).collect()
}

/// Whether the first part of a `docker://` reference is a host rather than a name.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

/// OCI distribution specification, "Pulling manifests".
fn is_repository(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(|byte| word(*byte)))
            && bytes.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    name.len() <= 255 && name.split('/').all(part)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len())
        && word(bytes[0])
        && bytes.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn instead(scheme: &str) -> &'static str {
    match scheme {
        "library" | "shub" => " (run `dfget run -- apptainer pull library://…`)",
        "s3" | "oss" | "obs" | "hdfs" => " (ask its server for a https:// address of the file)",
        _ => "",
    }
}

const LONGEST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn image(text: &str) -> Image {
        match Reference::parse(text, false) {
            Ok(Reference::File(image) | Reference::Image(image)) => image,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn images_are_read_as_other_tools_read_them() {
        let cases = [
            ("oras://r.example/a/b:1", "r.example", "a/b", "1"),
            ("oras://r.example:5000/a", "r.example:5000", "a", "latest"),
            ("docker://alpine", "registry-1.docker.io", "library/alpine", "latest"),
            ("docker://alpine:3.20", "registry-1.docker.io", "library/alpine", "3.20"),
            ("docker://biocontainers/fastqc:v1", "registry-1.docker.io", "biocontainers/fastqc", "v1"),
            ("docker://docker.io/x/y", "registry-1.docker.io", "x/y", "latest"),
            ("docker://localhost/x", "localhost", "x", "latest"),
            ("docker://Ghcr.io/a/b__c-d.e:T", "ghcr.io", "a/b__c-d.e", "T"),
        ];
        for (text, registry, repository, tag) in cases {
            let image = image(text);
            assert_eq!((image.registry(), image.repository.as_str()), (registry, repository), "{text}");
            assert_eq!(image.selector(), tag, "{text}");
        }
        let by_digest = image(&format!("oras://r.example/a:1@sha256:{HEX}"));
        assert_eq!(by_digest.selector(), format!("sha256:{HEX}"));
        assert_eq!(by_digest.to_string(), format!("r.example/a:1@sha256:{HEX}"));
        let url = by_digest.url("blobs", "sha256:00").unwrap();
        assert_eq!(url.as_str(), "https://r.example/v2/a/blobs/sha256:00");
        let plain = Reference::parse("oras://r.example:5000/a", true).unwrap();
        assert_eq!(plain.host(), "r.example:5000");
        let Reference::File(plain) = plain else { panic!("a file") };
        assert_eq!(plain.url("manifests", "1").unwrap().as_str(), "http://r.example:5000/v2/a/manifests/1");
    }

    #[test]
    fn what_names_nothing_is_told_with_what_to_write() {
        let wrong = |text: &str| Reference::parse(text, false).unwrap_err().to_string();
        assert!(wrong("alpine:3").contains("write it as https://…"));
        assert!(wrong("library://a/b/c").contains("dfget run -- apptainer pull"));
        assert!(wrong("s3://bucket/key").contains("https://, http://, oras:// and docker:// can"));
        assert!(wrong("oras://r.example").contains("no repository"));
        assert!(wrong("oras://r.example/A").contains("in lower case"));
        assert!(wrong("oras://r.example/a/../b").contains("no repository"));
        assert!(wrong("oras://r.example/a:b c").contains("no tag"));
        assert!(wrong("oras://r.example/a@sha256:12").contains("no sha256"));
        assert!(wrong("oras://r .example/a").contains("host"));
        assert!(wrong("https://").contains("no URL"));
    }

    #[test]
    fn no_login_stands_in_an_error_or_a_name() {
        for text in ["https://user:canary@h:x/y", "ftp://user:canary@h/y?canary", "user:canary@host"] {
            let told = Reference::parse(text, false).unwrap_err().to_string();
            assert!(!told.contains("canary"), "{told}");
        }
        let url = Reference::parse("https://user:canary@h.example/y?sig=canary", false).unwrap();
        assert_eq!(url.to_string(), "https://h.example/y");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(oras|docker|https)://.{0,60}") {
            if let Ok(Reference::File(image) | Reference::Image(image)) = Reference::parse(&text, false) {
                let url = image.url("manifests", &image.selector()).expect("a URL");
                prop_assert!(url.path().starts_with("/v2/"));
                prop_assert!(!url.path().contains(".."));
            }
        }
    }
}
