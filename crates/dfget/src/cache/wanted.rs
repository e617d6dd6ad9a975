//! Which contents a command line means.

use std::collections::BTreeSet;

use dfget_console::{Content, Contents, Kind, Selection};
use dfget_core::Digest;
use serde_json::Value;

use super::arguments::WantedArguments;
use super::failure::Failure;
use super::layout::LARGEST_MANIFEST;
use crate::api::{CallError, Client};

/// Digits by which a digest may be named.
const LEAST_DIGITS: usize = 6;

/// Manifests that are looked into for one tag.
const MOST_MANIFESTS: usize = 1024;

/// Contents by digest, by tag, or by where they are from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// Any of these; none = all.
    any: Vec<Named>,
    registry: Option<String>,
}

/// One word of the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Named {
    /// What this admits.
    Selection(Selection),
    /// The image that a tag means, and all that belongs to it.
    Tag {
        registry: String,
        /// `repository:tag`.
        name: String,
        /// As it was written.
        text: String,
    },
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

    /// What of this is stored, in the order and with the further filters of `selection`.
    pub(super) fn find(&self, client: &mut Client, selection: Selection) -> Result<Contents, Failure> {
        let any = self.resolved(client)?;
        let limit = if any.is_empty() { selection.limit } else { None };
        let asked = Selection { registry: self.registry.clone(), limit, ..selection };
        let mut found: Contents = client.get(&format!("/api/v1/contents?{}", asked.to_query()))?;
        if any.is_empty() {
            return Ok(found);
        }
        found.contents.retain(|content| any.iter().any(|selection| selection.admits(content)));
        for named in any.iter().filter_map(|selection| selection.digest.as_ref()) {
            let digests = found.contents.iter().filter_map(|content| content.digest.as_ref());
            let mut meant: Vec<_> = digests.filter(|digest| hex(digest).starts_with(named)).collect();
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

    /// With digests in the place of tags.
    fn resolved(&self, client: &mut Client) -> Result<Vec<Selection>, Failure> {
        let mut resolved = Vec::new();
        for named in &self.any {
            match named {
                Named::Selection(selection) => resolved.push(selection.clone()),
                Named::Tag { registry, name, text } => {
                    let by_digest =
                        |digest: String| Selection { digest: Some(digest), ..Selection::default() };
                    resolved.extend(image(client, registry, name, text)?.into_iter().map(by_digest));
                }
            }
        }
        Ok(resolved)
    }
}

/// The digests of all that belongs to the image that the tag meant last, without their `sha256:`.
fn image(client: &mut Client, registry: &str, name: &str, text: &str) -> Result<BTreeSet<String>, Failure> {
    let whole = Selection { complete: Some(true), ..Selection::default() };
    let stored: Contents = client.get(&format!("/api/v1/contents?{}", whole.to_query()))?;
    let manifests: Vec<&Content> =
        stored.contents.iter().filter(|content| content.kind == Kind::Manifest).collect();
    let seen = |content: &Content| {
        let origins = content.origins.iter().filter(|origin| origin.is_at(registry));
        origins.filter_map(|origin| origin.tags.get(name).copied()).max()
    };
    let newest = manifests.iter().filter_map(|content| Some((seen(content)?, *content)));
    let Some((_, first)) = newest.max_by_key(|(seen, content)| (*seen, content.stored_at)) else {
        let place = text.rsplit_once(':').map_or(text, |(place, _)| place);
        return Err(Failure::Failed(format!(
            "{text}: no pull of this tag has passed by here; write {place} for all that is stored of it, or a digest"
        )));
    };
    let (mut all, mut next, mut looked) = (BTreeSet::new(), vec![first], 0);
    while let Some(manifest) = next.pop() {
        let Some(digest) = &manifest.digest else { continue };
        looked += 1;
        let small = manifest.size.is_some_and(|size| size <= LARGEST_MANIFEST);
        if !all.insert(hex(digest).to_owned()) || !small || looked > MOST_MANIFESTS {
            continue;
        }
        let mut bytes = Vec::new();
        client.bytes(&format!("/api/v1/bytes?key={}", manifest.key), |part| {
            bytes.extend_from_slice(part);
            Ok::<_, CallError>(())
        })?;
        for named in digests_in(&serde_json::from_slice(&bytes).unwrap_or_default()) {
            let child = manifests.iter().find(|content| content.digest.as_deref().map(hex) == Some(&named));
            match child {
                Some(child) => next.push(child),
                None => drop(all.insert(named)),
            }
        }
    }
    Ok(all)
}

/// The sha256 that a manifest names as its parts, without their `sha256:`.
fn digests_in(manifest: &Value) -> Vec<String> {
    let lists =
        ["layers", "manifests", "blobs"].into_iter().filter_map(|name| manifest.get(name)?.as_array());
    let descriptors = lists.flatten().chain(manifest.get("config"));
    let digests = descriptors.filter_map(|descriptor| descriptor.get("digest")?.as_str());
    digests
        .filter(|digest| matches!(digest.parse(), Ok(Digest::Sha256(_))))
        .map(|digest| hex(digest).to_owned())
        .collect()
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// A digest, or a place.
fn one(text: &str) -> Result<Named, String> {
    if let Some(digest) = digest(text) {
        return Ok(Named::Selection(Selection { digest: Some(digest), ..Selection::default() }));
    }
    if text.starts_with("sha256:") {
        return Err(format!("{text} is no digest: write sha256: and up to 64 of the digits 0-9a-f"));
    }
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let rest = rest.trim_start_matches('/');
    let (named, digest_text) =
        rest.split_once('@').map_or((rest, None), |(named, digest)| (named, Some(digest)));
    let (host, path) = named.split_once('/').unwrap_or((named, ""));
    // On Docker Hub a name may stand alone.
    let alone = scheme == Some("docker") && !named.contains('/');
    let is_host = !alone && (host.contains('.') || host.contains(':') || host == "localhost");
    if host.is_empty() || (!is_host && scheme != Some("docker")) {
        return Err(format!(
            "{text} is neither a digest nor a reference: write 6 or more digits of a sha256, or HOST[/REPOSITORY]"
        ));
    }
    let is_url = matches!(scheme, Some("https" | "http"));
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
    let last = repository.rsplit('/').next().unwrap_or_default();
    if !is_url && last.contains(':') {
        if digest.is_none() {
            return Ok(Named::Tag { registry, name: repository, text: text.to_owned() });
        }
        // Of both, the digest counts, as for every client.
        let untagged = repository.rsplit_once(':').map(|(untagged, _)| untagged.to_owned());
        let place =
            Selection { digest, registry: Some(registry), repository: untagged, ..Selection::default() };
        return Ok(Named::Selection(place));
    }
    let repository = Some(repository).filter(|repository| !repository.is_empty());
    Ok(Named::Selection(Selection { digest, registry: Some(registry), repository, ..Selection::default() }))
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

    fn place(registry: &str, repository: &str) -> Selection {
        let repository = Some(repository.to_owned()).filter(|repository| !repository.is_empty());
        Selection { registry: Some(registry.to_owned()), repository, ..Selection::default() }
    }

    #[test]
    fn digests_and_references_are_told_apart() {
        let one = |text: &str| match one(text) {
            Ok(Named::Selection(selection)) => Ok(selection),
            Ok(Named::Tag { registry, name, .. }) => Err(format!("{registry} {name}")),
            Err(error) => Err(error),
        };
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let by_digest =
            |digest: &str| Ok(Selection { digest: Some(digest.to_owned()), ..Selection::default() });
        assert_eq!(one(digest), by_digest(digest));
        assert_eq!(one(&format!("sha256:{digest}")), by_digest(digest));
        assert_eq!(one("44136f"), by_digest("44136f"));
        assert_eq!(one("r.test"), Ok(place("r.test", "")));
        assert_eq!(one("oras://r.test:5000/lab/image"), Ok(place("r.test:5000", "lab/image")));
        assert_eq!(one("https://f.test/a/b:c.sif"), Ok(place("https://f.test", "a/b:c.sif")));
        assert_eq!(one("docker://alpine"), Ok(place("registry-1.docker.io", "library/alpine")));
        assert_eq!(one("docker://docker.io/a/b"), Ok(place("registry-1.docker.io", "a/b")));
        assert_eq!(one("docker://ghcr.io/a/b"), Ok(place("ghcr.io", "a/b")));
        let both = Selection { digest: Some(digest.to_owned()), ..place("r.test", "a") };
        assert_eq!(one(&format!("r.test/a@sha256:{digest}")), Ok(both.clone()));
        assert_eq!(one(&format!("r.test/a:1@sha256:{digest}")), Ok(both));
        assert_eq!(one("oras://r.test:5000/a/b:1"), Err("r.test:5000 a/b:1".to_owned()));
        assert_eq!(one("docker://alpine:3"), Err("registry-1.docker.io library/alpine:3".to_owned()));
        for wrong in ["", "4413", "44136G", "sha256:xyz", "alpine", "r.test/a@1", "oras://a/b"] {
            assert!(
                one(wrong).is_err_and(|error| error.contains("is no") || error.contains("is neither")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_manifest_names_its_parts() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| Digest::sha256(text).to_string());
        let manifest = serde_json::json!({
            "config": {"digest": a},
            "layers": [{"digest": b}, {"digest": "sha512:00"}, {}],
            "subject": {"digest": c},
        });
        assert_eq!(digests_in(&manifest), [hex(&b), hex(&a)]);
        assert_eq!(digests_in(&serde_json::json!({"manifests": [{"digest": c}]})), [hex(&c)]);
        assert!(digests_in(&serde_json::json!([1])).is_empty());
    }
}
