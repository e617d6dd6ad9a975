//! What the user wants, and what came of it.

use std::num::NonZeroU64;
use std::path::PathBuf;

use dfget_core::{ContentReference, Digest, RangeSpec};
use dfget_run::{ClusterWish, Sources};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::error::GetError;
use crate::manifest::Platform;
use crate::reference::Reference;

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Order {
    /// What to get.
    pub reference: Reference,
    /// Where to.
    pub output: Output,
    /// Replace what is there.
    pub replace: bool,
    /// What it must hash to: of an image the manifest, else the content.
    pub digest: Option<Digest>,
    /// Headers for the origin of a URL.
    pub headers: HeaderMap,
    /// The part of a URL's content that is wanted.
    pub range: Option<RangeSpec>,
    /// What a daemon is told beside the URL.
    pub hints: Hints,
    /// For which platform, where there are several.
    pub platform: Platform,
    /// Logins from this file alone.
    pub login_file: Option<PathBuf>,
    /// Bytes a second at most.
    pub rate: Option<NonZeroU64>,
    /// The nodes that feed each other.
    pub cluster: Option<ClusterWish>,
    /// Go without a daemon.
    pub direct: bool,
    /// Get also what a pull of the image asks for and the output has no use for, so that a daemon keeps it.
    pub everything: bool,
    /// Let a daemon that is started for this log at debug level.
    pub verbose: bool,
}

/// Where it goes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Output {
    /// To a file in the working directory, named by the reference.
    #[default]
    Named,
    /// To this file, or into this directory.
    Path(PathBuf),
    /// To standard output.
    Standard,
}

/// What a daemon is told by headers of a URL's content (`docs/headers.md`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hints {
    /// `X-Dragonfly-Tag`.
    pub tag: Option<String>,
    /// `X-Dragonfly-Application`.
    pub application: Option<String>,
    /// `X-Dragonfly-Filter`.
    pub filter: Option<String>,
    /// `X-Dragonfly-Priority`.
    pub priority: Option<u8>,
    /// `X-Dragonfly-Disable-Back-To-Source`: nothing is fetched, and nobody is asked but the daemon.
    pub stored_only: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The file or directory; `None` = standard output.
    pub output: Option<PathBuf>,
    /// Bytes of contents, those that were there before included.
    pub bytes: u64,
    /// The digest: of an image the manifest's, else the content's.
    pub digest: Option<Digest>,
    /// Bytes that were there from a try before.
    pub resumed: u64,
    /// Where the others came from.
    pub sources: Sources,
    /// No daemon had part in it to the end.
    pub direct: bool,
    /// The output was there before, and right.
    pub unchanged: bool,
    /// The contents that a registry was asked for by digest, without queries.
    pub contents: Vec<String>,
}

/// What the command line's own checks cannot see.
pub(crate) fn check(order: &Order) -> Result<(), GetError> {
    if matches!(order.reference, Reference::Url(_)) {
        if let (Reference::Url(url), Some(digest)) = (&order.reference, order.digest)
            && let Some(named) = ContentReference::of_path(url.path())
            && named.digest != digest
        {
            return Err(GetError::Usage("--digest is another than the one in the URL".to_owned()));
        }
        if order.digest.is_some() && order.range.is_some() {
            return Err(GetError::Usage(
                "--digest is of the whole and cannot be checked on a --range; leave one of them out"
                    .to_owned(),
            ));
        }
        return Ok(());
    }
    if order.range.is_some() {
        return Err(GetError::Usage("--range is for URLs; an image is got whole".to_owned()));
    }
    if !order.headers.is_empty() {
        return Err(GetError::Usage(
            "--header is for URLs; a registry is shown the login of `apptainer registry login`".to_owned(),
        ));
    }
    Ok(())
}

/// Headers for a daemon.
pub(crate) fn hints(hints: &Hints, digest: Option<Digest>, url: &Url) -> Result<HeaderMap, GetError> {
    let digest = digest.filter(|_| ContentReference::of_path(url.path()).is_none());
    let all = [
        ("tag", hints.tag.clone()),
        ("application", hints.application.clone()),
        ("filter", hints.filter.clone()),
        ("priority", hints.priority.map(|priority| priority.to_string())),
        ("digest", digest.map(|digest| digest.to_string())),
        ("disable-back-to-source", hints.stored_only.then(|| "true".to_owned())),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let value = HeaderValue::from_str(&value)
            .map_err(|_| GetError::Usage(format!("--{name} has letters that no header can have")))?;
        if let Ok(name) = HeaderName::try_from(format!("x-dragonfly-{name}")) {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_become_headers() {
        let url = Url::parse("https://h/x").unwrap();
        let all = Hints {
            tag: Some("t".into()),
            filter: Some("a&b".into()),
            priority: Some(3),
            ..Hints::default()
        };
        let headers = hints(&all, Some(Digest::sha256(b"")), &url).unwrap();
        assert_eq!(headers["x-dragonfly-filter"], "a&b");
        assert_eq!((headers.len(), headers["x-dragonfly-priority"].to_str().unwrap()), (4, "3"));
        let odd = Hints { tag: Some("a\nb".into()), ..Hints::default() };
        assert!(hints(&odd, None, &url).unwrap_err().to_string().contains("--tag"));
    }
}
