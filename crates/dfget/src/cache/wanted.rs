//! Which contents a command line means.

use dfget_console::{Content, Contents, Selection};

use super::arguments::WantedArguments;
use super::failure::Failure;
use crate::api::Client;

/// Digits by which a digest may be named.
const LEAST_DIGITS: usize = 6;

/// Contents by digest or by where they are from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// Any of these; none = all.
    any: Vec<Selection>,
    registry: Option<String>,
}

// === impl Wanted ===

impl Wanted {
    /// Reads it.
    pub(super) fn read(arguments: &WantedArguments) -> Result<Self, Failure> {
        let any = arguments.wanted.iter().map(|text| one(text)).collect::<Result<_, _>>();
        Ok(Self { any: any.map_err(Failure::Usage)?, registry: arguments.registry.clone() })
    }

    /// Whether everything is meant.
    pub(super) fn is_all(&self) -> bool {
        self.any.is_empty() && self.registry.is_none()
    }

    /// Whether this content is meant.
    pub(super) fn admits(&self, content: &Content) -> bool {
        self.any.is_empty() || self.any.iter().any(|selection| selection.admits(content))
    }

    /// What of this is stored, in the order and with the further filters of `selection`.
    pub(super) fn find(&self, client: &mut Client, selection: Selection) -> Result<Contents, Failure> {
        let limit = if self.any.is_empty() { selection.limit } else { None };
        let asked = Selection { registry: self.registry.clone(), limit, ..selection };
        let mut found: Contents = client.get(&format!("/api/v1/contents?{}", asked.to_query()))?;
        if self.any.is_empty() {
            return Ok(found);
        }
        found.contents.retain(|content| self.admits(content));
        for named in self.any.iter().filter_map(|selection| selection.digest.as_ref()) {
            let digests = found.contents.iter().filter_map(|content| content.digest.as_ref());
            let mut meant: Vec<_> = digests.filter(|digest| hex(digest).starts_with(hex(named))).collect();
            meant.sort_unstable();
            meant.dedup();
            if meant.len() > 1 {
                let meant = meant.iter().map(|digest| digest.as_str()).collect::<Vec<_>>().join(" and ");
                return Err(Failure::Usage(format!("{named} may be {meant}: write more of its digits")));
            }
        }
        found.matched = found.contents.len() as u64;
        found.matched_bytes = found.contents.iter().map(|content| content.stored_bytes).sum();
        found.contents.truncate(selection.limit.unwrap_or(usize::MAX));
        Ok(found)
    }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// A digest, or a place.
fn one(text: &str) -> Result<Selection, String> {
    if let Some(digest) = digest(text) {
        return Ok(Selection { digest: Some(digest), ..Selection::default() });
    }
    if text.starts_with("sha256:") {
        return Err(format!("{text} is no digest: write sha256: and up to 64 of the digits 0-9a-f"));
    }
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let rest = rest.trim_start_matches('/');
    let (named, digest_text) =
        rest.split_once('@').map_or((rest, None), |(named, digest)| (named, Some(digest)));
    let (host, path) = named.split_once('/').unwrap_or((named, ""));
    let is_host = host.contains('.') || host.contains(':') || host == "localhost";
    if host.is_empty() || (!is_host && scheme != Some("docker")) {
        return Err(format!(
            "{text} is neither a digest nor a reference: write 6 or more digits of a sha256, or HOST[/REPOSITORY]"
        ));
    }
    let is_url = matches!(scheme, Some("https" | "http"));
    if !is_url && path.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        let untagged = named.rsplit_once(':').map_or(named, |(untagged, _)| untagged);
        return Err(format!(
            "{text}: the store knows digests and repositories and no tags; write {untagged} for all of it, or a digest"
        ));
    }
    let digest = match digest_text {
        None => None,
        Some(digest_text) => {
            Some(digest(digest_text).ok_or_else(|| format!("{text}: what follows @ is no digest"))?)
        }
    };
    let (registry, repository) = match (scheme, is_host) {
        // Docker Hub, by the name that clients connect to.
        (_, false) => ("registry-1.docker.io".to_owned(), hub(named)),
        (_, true) if host == "docker.io" => ("registry-1.docker.io".to_owned(), hub(path)),
        (Some("http"), true) => (format!("http://{host}"), path.to_owned()),
        (Some("https"), true) => (format!("https://{host}"), path.to_owned()),
        (_, true) => (host.to_owned(), path.to_owned()),
    };
    let repository = Some(repository).filter(|repository| !repository.is_empty());
    Ok(Selection { digest, registry: Some(registry), repository, ..Selection::default() })
}

/// A repository of Docker Hub, in full.
fn hub(name: &str) -> String {
    if name.contains('/') || name.is_empty() { name.to_owned() } else { format!("library/{name}") }
}

/// A digest or enough of it, without its `sha256:`.
fn digest(text: &str) -> Option<String> {
    let digits = hex(text);
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ((LEAST_DIGITS..=64).contains(&digits.len()) && is_hex).then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(registry: &str, repository: &str) -> Result<Selection, String> {
        let repository = Some(repository.to_owned()).filter(|repository| !repository.is_empty());
        Ok(Selection { registry: Some(registry.to_owned()), repository, ..Selection::default() })
    }

    #[test]
    fn digests_and_references_are_told_apart() {
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let by_digest =
            |digest: &str| Ok(Selection { digest: Some(digest.to_owned()), ..Selection::default() });
        assert_eq!(one(digest), by_digest(digest));
        assert_eq!(one(&format!("sha256:{digest}")), by_digest(digest));
        assert_eq!(one("44136f"), by_digest("44136f"));
        assert_eq!(one("r.test"), place("r.test", ""));
        assert_eq!(one("oras://r.test:5000/lab/image"), place("r.test:5000", "lab/image"));
        assert_eq!(one("https://f.test/a/b:c.sif"), place("https://f.test", "a/b:c.sif"));
        assert_eq!(one("docker://alpine"), place("registry-1.docker.io", "library/alpine"));
        assert_eq!(one("docker://docker.io/a/b"), place("registry-1.docker.io", "a/b"));
        assert_eq!(one("docker://ghcr.io/a/b"), place("ghcr.io", "a/b"));
        let both = Selection { digest: Some(digest.to_owned()), ..place("r.test", "a").unwrap() };
        assert_eq!(one(&format!("r.test/a@sha256:{digest}")), Ok(both));
        for wrong in ["", "4413", "44136G", "sha256:xyz", "alpine", "r.test/a:1", "r.test/a@1", "oras://a/b"]
        {
            assert!(one(wrong).is_err(), "{wrong}");
        }
        assert!(one("r.test:5000/a:1").unwrap_err().contains("write r.test:5000/a for all of it"));
    }
}
