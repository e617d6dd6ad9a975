//! The form of a bundle: an OCI image layout (image specification 1.1, "Image Layout").
//!
//! `oci-layout` and `index.json` come first, then the blobs in the order of their digests; times, owners and
//! modes are always the same. The index lists each content, not only manifests, so that whoever
//! reads it knows what has to come; what a content is here stands in an annotation.

use std::collections::BTreeMap;

use dfget_console::Kind;
use dfget_core::Digest;
use serde::{Deserialize, Serialize};

/// What says that a directory is a layout, and of which version.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const OCI_LAYOUT_NAME: &str = "oci-layout";
pub(super) const INDEX_NAME: &str = "index.json";

/// Where blobs lie.
const BLOBS: &str = "blobs/sha256/";

/// Manifests larger than this are none (distribution specification, "Pushing Manifests").
pub(super) const LARGEST_MANIFEST: u64 = 4 << 20;

/// An index larger than this is none of ours.
pub(super) const LARGEST_INDEX: u64 = 256 << 20;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOB_TYPE: &str = "application/octet-stream";
const MANIFEST_TYPES: [&str; 4] = [
    INDEX_TYPE,
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// What a content is in the store: `blob`, `manifest`, or `blob,manifest`.
const KINDS: &str = "dev.dfget.kinds";
/// The tag of a manifest (image specification, "Annotations"), and its name in full, as containerd has it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// `index.json`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// One content of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What is in a bundle, or goes into it, by digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Item {
    pub(super) size: u64,
    pub(super) kinds: Vec<Kind>,
    /// Of a manifest.
    pub(super) media_type: Option<String>,
    /// The tags of a manifest, in full (`host/repository:tag`); what is read does not have them.
    pub(super) tags: Vec<String>,
}

/// `oci-layout` is of a version that is understood.
pub(super) fn is_layout(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    serde_json::from_slice(bytes).is_ok_and(|layout: Layout| layout.image_layout_version.starts_with("1."))
}

/// The name of a blob in a bundle.
pub(super) fn blob_name(digest: &str) -> String {
    format!("{BLOBS}{}", digest.strip_prefix("sha256:").unwrap_or(digest))
}

/// The digest that a file of a bundle is named by.
pub(super) fn digest_of(name: &str) -> Option<String> {
    let digest = format!("sha256:{}", name.strip_prefix(BLOBS)?);
    digest.parse::<Digest>().ok().map(|_| digest)
}

/// What a manifest says that it is.
pub(super) fn media_type(manifest: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        media_type: Option<String>,
        manifests: Option<Vec<serde_json::Value>>,
        layers: Option<Vec<serde_json::Value>>,
    }
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    let guessed = match (&manifest.manifests, &manifest.layers) {
        (Some(_), _) => Some(INDEX_TYPE),
        (None, Some(_)) => Some(MANIFEST_TYPE),
        (None, None) => None,
    };
    manifest.media_type.or_else(|| guessed.map(str::to_owned))
}

/// `index.json` of these contents. A manifest stands there once for each of its tags.
pub(super) fn index(items: &BTreeMap<String, Item>) -> serde_json::Result<Vec<u8>> {
    let mut short: BTreeMap<&str, usize> = BTreeMap::new();
    for tag in items.values().flat_map(|item| &item.tags) {
        *short.entry(tag_of(tag)).or_default() += 1;
    }
    let mut manifests = Vec::new();
    for (digest, item) in items {
        let mut kinds: Vec<_> = item.kinds.iter().map(|kind| word(*kind)).collect();
        kinds.sort_unstable();
        let descriptor = |annotations| Descriptor {
            media_type: item.media_type.clone().unwrap_or_else(|| BLOB_TYPE.to_owned()),
            digest: digest.clone(),
            size: item.size,
            annotations,
        };
        let kinds: BTreeMap<_, _> = [(KINDS.to_owned(), kinds.join(","))].into();
        for tag in &item.tags {
            // A tag that two images have says nothing without its repository.
            let name = if short.get(tag_of(tag)) == Some(&1) { tag_of(tag) } else { tag };
            let mut annotations = kinds.clone();
            annotations.insert(REF_NAME.to_owned(), name.to_owned());
            annotations.insert(FULL_NAME.to_owned(), tag.clone());
            manifests.push(descriptor(annotations));
        }
        if item.tags.is_empty() {
            manifests.push(descriptor(kinds));
        }
    }
    serde_json::to_vec(&Index { schema_version: 2, media_type: Some(INDEX_TYPE.to_owned()), manifests })
}

/// What follows the repository.
fn tag_of(full: &str) -> &str {
    full.rsplit_once(':').map_or(full, |(_, tag)| tag)
}

/// What `index.json`, or a manifest that lists others, says is there. What has no sha256 is passed over.
pub(super) fn listed(index: &[u8]) -> Option<BTreeMap<String, Item>> {
    let index: Index = serde_json::from_slice(index).ok()?;
    let item = |descriptor: Descriptor| {
        let Ok(Digest::Sha256(_)) = descriptor.digest.parse() else { return None };
        let is_manifest = MANIFEST_TYPES.contains(&descriptor.media_type.as_str());
        let kinds = match descriptor.annotations.get(KINDS) {
            Some(words) => words.split(',').filter_map(kind).collect(),
            None if is_manifest => vec![Kind::Manifest],
            None => vec![Kind::Blob],
        };
        let media_type = is_manifest.then_some(descriptor.media_type);
        Some((descriptor.digest, Item { size: descriptor.size, kinds, media_type, tags: Vec::new() }))
    };
    Some(index.manifests.into_iter().filter_map(item).collect())
}

/// Whether this is a list of manifests.
pub(super) fn is_index(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|name| name == MANIFEST_TYPES[0] || name == MANIFEST_TYPES[3])
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Manifest => "manifest",
        Kind::Blob | Kind::Url => "blob",
    }
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "blob" => Some(Kind::Blob),
        "manifest" => Some(Kind::Manifest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_back_and_is_the_same_each_time() {
        let digest = |text: &[u8]| Digest::sha256(text).to_string();
        let blob = Item { size: 3, kinds: vec![Kind::Blob], media_type: None, tags: Vec::new() };
        let kinds = vec![Kind::Blob, Kind::Manifest];
        let media_type = Some(MANIFEST_TYPE.to_owned());
        let manifest = Item { size: 9, kinds, media_type, tags: Vec::new() };
        let items: BTreeMap<_, _> = [(digest(b"b"), manifest), (digest(b"a"), blob)].into();
        let text = index(&items).unwrap();
        assert_eq!(listed(&text).unwrap(), items);
        assert_eq!(index(&items).unwrap(), text);
        assert!(
            text.starts_with(br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json""#)
        );
    }

    #[test]
    fn a_manifest_stands_in_the_index_under_each_of_its_tags() {
        let item = |tags: &[&str]| Item {
            size: 1,
            kinds: vec![Kind::Manifest],
            media_type: Some(MANIFEST_TYPE.to_owned()),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        };
        let digest = |text: &[u8]| Digest::sha256(text).to_string();
        let items: BTreeMap<_, _> = [
            (digest(b"a"), item(&["r.test/lab/a:1", "r.test/lab/a:latest"])),
            (digest(b"b"), item(&["r.test/lab/b:latest"])),
        ]
        .into();
        let index: Index = serde_json::from_slice(&index(&items).unwrap()).unwrap();
        let mut names: Vec<_> =
            index.manifests.iter().map(|one| one.annotations[REF_NAME].as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["1", "r.test/lab/a:latest", "r.test/lab/b:latest"]);
    }

    #[test]
    fn an_index_of_others_is_understood() {
        let digest = Digest::sha256(b"m").to_string();
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"mediaType":"{MANIFEST_TYPE}","digest":"{digest}","size":7,"platform":{{"os":"linux"}}}},
                {{"mediaType":"x","digest":"sha512:1","size":7}}]}}"#
        );
        let items = listed(text.as_bytes()).unwrap();
        assert_eq!(items.keys().collect::<Vec<_>>(), [&digest]);
        assert_eq!(items[&digest].kinds, [Kind::Manifest]);
        for wrong in ["", "{}", "[]", r#"{"schemaVersion":2,"manifests":7}"#] {
            assert!(listed(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn files_are_named_by_digests_and_nothing_else() {
        let digest = Digest::sha256(b"x").to_string();
        assert_eq!(digest_of(&blob_name(&digest)), Some(digest));
        for wrong in ["blobs/sha256/", "blobs/sha256/../../etc/passwd", "blobs/sha512/aa", "aa"] {
            assert_eq!(digest_of(wrong), None, "{wrong}");
        }
        assert!(is_layout(OCI_LAYOUT) && !is_layout(b"{}") && !is_layout(br#"{"imageLayoutVersion":"2.0"}"#));
    }

    #[test]
    fn a_manifest_says_what_it_is() {
        assert_eq!(media_type(br#"{"mediaType":"a/b","layers":[]}"#).as_deref(), Some("a/b"));
        assert_eq!(media_type(br#"{"layers":[]}"#).as_deref(), Some(MANIFEST_TYPE));
        assert_eq!(media_type(br#"{"manifests":[]}"#).as_deref(), Some(INDEX_TYPE));
        assert_eq!(media_type(b"{}"), None);
        assert_eq!(media_type(b"nonsense"), None);
    }
}
