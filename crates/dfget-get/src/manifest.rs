//! What a registry says of an image (OCI image specification; Docker's manifests, version 2).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dfget_core::Digest;
use serde::{Deserialize, Serialize};

/// A manifest or an index longer than this is none.
pub(crate) const LONGEST: u64 = 4 << 20;

/// More contents than this no image has.
const MOST_LAYERS: usize = 10_000;

/// Everything that can be made use of.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Media types of SIF images; the second is how older programs spelt it.
const SIF: [&str; 2] = ["application/vnd.sylabs.sif.layer.v1.sif", "appliciation/vnd.sylabs.sif.layer.tar"];

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The annotation that names a file.
const TITLE: &str = "org.opencontainers.image.title";

/// A content, as a manifest names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Content {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) size: u64,
    media_type: String,
    title: Option<String>,
    platform: Option<Platform>,
}

/// What a reference leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Document {
    /// One image or artifact.
    Image(Box<Manifest>),
    /// Several, for different platforms.
    Index(Vec<Content>),
}

/// One image or artifact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manifest {
    /// Its media type.
    pub(crate) media_type: String,
    /// Its configuration.
    pub(crate) config: Content,
    /// What it consists of, in order.
    pub(crate) layers: Vec<Content>,
}

/// An operating system on a processor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<WrittenContent>,
    layers: Option<Vec<WrittenContent>>,
    manifests: Option<Vec<WrittenContent>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenContent {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<WrittenPlatform>,
}

#[derive(Deserialize)]
struct WrittenPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// One entry of the index of a layout.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutEntry<'a> {
    media_type: &'a str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'a str>,
}

// === impl Document ===

impl Document {
    /// Reads what a registry has answered.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| format!("the manifest cannot be read: {error}"))?;
        if let Some(manifests) = written.manifests {
            let contents = manifests.into_iter().take(MOST_LAYERS).filter_map(|one| Content::read(one).ok());
            return Ok(Self::Index(contents.collect()));
        }
        let (Some(config), Some(layers)) = (written.config, written.layers) else {
            return Err(match written.schema_version {
                Some(1) => "the manifest is of Docker's version 1, which nobody can check; ask for a newer \
                            image"
                    .to_owned(),
                _ => "the manifest names no contents".to_owned(),
            });
        };
        if layers.len() > MOST_LAYERS {
            return Err(format!("the manifest names {} contents", layers.len()));
        }
        Ok(Self::Image(Box::new(Manifest {
            media_type: written.media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned()),
            config: Content::read(config)?,
            layers: layers.into_iter().map(Content::read).collect::<Result<_, _>>()?,
        })))
    }

    /// The image for the platform, of several. Those that say no platform stand behind.
    ///
    /// # Errors
    /// Which ones there are.
    pub(crate) fn choose<'a>(contents: &'a [Content], wanted: &Platform) -> Result<&'a Content, String> {
        let of = |content: &&Content| content.platform.as_ref().is_some_and(|one| one.serves(wanted));
        let exact = |content: &&Content| content.platform.as_ref() == Some(wanted);
        let only = || (contents.len() == 1 && contents[0].platform.is_none()).then(|| &contents[0]);
        let found = contents.iter().find(exact).or_else(|| contents.iter().find(of)).or_else(only);
        found.ok_or_else(|| {
            let there = contents.iter().filter_map(|content| content.platform.as_ref());
            let there: Vec<_> =
                there.filter(|one| one.os != "unknown").take(20).map(ToString::to_string).collect();
            let there =
                if there.is_empty() { "none that says its platform".to_owned() } else { there.join(", ") };
            format!("there is none for {wanted}, but: {there}; choose one by --platform")
        })
    }
}

// === impl Manifest ===

impl Manifest {
    /// The one file that an `oras://` reference means: the SIF image, or the only layer.
    ///
    /// # Errors
    /// Why it is not one.
    pub(crate) fn file(&self) -> Result<&Content, String> {
        let mut images = self.layers.iter().filter(|layer| layer.is_sif());
        if let (Some(image), None) = (images.next(), images.next()) {
            return Ok(image);
        }
        match self.layers.as_slice() {
            [only] => Ok(only),
            [] => Err("there is no file in it".to_owned()),
            several => Err(format!(
                "there are {} files in it and not one; get all of them into a directory by docker://… -O DIR",
                several.len()
            )),
        }
    }

    /// Every content once, the configuration first.
    pub(crate) fn contents(&self) -> Vec<&Content> {
        let mut found: Vec<&Content> = Vec::new();
        for content in std::iter::once(&self.config).chain(&self.layers) {
            if !found.iter().any(|known| known.digest == content.digest) {
                found.push(content);
            }
        }
        found
    }
}

/// `index.json` of a layout with this manifest alone; `name` is what it is called there.
pub(crate) fn layout_index(manifest: &Manifest, bytes: &[u8], digest: &Digest, name: Option<&str>) -> String {
    let entry = LayoutEntry {
        media_type: &manifest.media_type,
        digest: digest.to_string(),
        size: bytes.len(),
        annotations: name.map(|name| ("org.opencontainers.image.ref.name", name)).into_iter().collect(),
    };
    let entry = serde_json::to_string(&entry).unwrap_or_default();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entry}]}}"#
    )
}

/// The file `oci-layout` of a layout.
pub(crate) const LAYOUT_MARK: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

// === impl Content ===

impl Content {
    fn read(written: WrittenContent) -> Result<Self, String> {
        let digest = written.digest.parse();
        let digest = digest.map_err(|error| format!("the manifest names a content badly: {error}"))?;
        let platform = written.platform.map(|platform| Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant.filter(|variant| !variant.is_empty()),
        });
        let title = written.annotations.unwrap_or_default().remove(TITLE);
        Ok(Self { digest, size: written.size, media_type: written.media_type, title, platform })
    }

    /// Whether it is a SIF image.
    pub(crate) fn is_sif(&self) -> bool {
        SIF.contains(&self.media_type.as_str())
    }

    /// What the file is called, by whoever pushed it.
    pub(crate) fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }
}

// === impl Platform ===

impl Platform {
    /// That of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for this platform is one for `wanted`.
    fn serves(&self, wanted: &Self) -> bool {
        let same = self.os == wanted.os && self.architecture == wanted.architecture;
        same && wanted.variant.as_ref().is_none_or(|variant| self.variant.as_ref() == Some(variant))
    }
}

impl FromStr for Platform {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<_> = text.split('/').collect();
        match *parts.as_slice() {
            [os, architecture] if good(os) && good(architecture) => {
                Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None })
            }
            [os, architecture, variant] if good(os) && good(architecture) && good(variant) => Ok(Self {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: Some(variant.to_owned()),
            }),
            _ => Err("write it as OS/ARCHITECTURE, such as linux/arm64"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digest(of: &str) -> String {
        Digest::sha256(of.as_bytes()).to_string()
    }

    fn layer(name: &str, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": digest(name), "size": 5, "annotations": {TITLE: name}})
    }

    fn image(layers: &[serde_json::Value]) -> Manifest {
        let config = json!({"mediaType": "x", "digest": digest("{}"), "size": 2});
        let text = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        match Document::parse(text.as_bytes()).unwrap() {
            Document::Image(manifest) => *manifest,
            Document::Index(_) => panic!("an image"),
        }
    }

    #[test]
    fn the_file_is_the_sif_or_the_only_one() {
        let (sif, old, text) = (layer("a.sif", SIF[0]), layer("b.sif", SIF[1]), layer("c.txt", "text/plain"));
        assert_eq!(image(&[text.clone(), sif.clone()]).file().unwrap().title(), Some("a.sif"));
        assert_eq!(image(std::slice::from_ref(&old)).file().unwrap().title(), Some("b.sif"));
        assert_eq!(image(std::slice::from_ref(&text)).file().unwrap().title(), Some("c.txt"));
        assert!(image(&[text.clone(), text]).file().unwrap_err().contains("2 files"));
        assert!(image(&[sif, old]).file().unwrap_err().contains("docker://… -O DIR"));
        assert!(image(&[]).file().unwrap_err().contains("no file"));
    }

    #[test]
    fn each_content_is_wanted_once() {
        let manifest = image(&[layer("a", "x"), layer("a", "x"), layer("{}", "x"), layer("b", "x")]);
        let found: Vec<_> = manifest.contents().iter().map(|content| content.digest.to_string()).collect();
        assert_eq!(found, [digest("{}"), digest("a"), digest("b")]);
    }

    #[test]
    fn the_platform_decides_among_several() {
        let one = |os: &str, architecture: &str, variant: Option<&str>| {
            json!({"mediaType": OCI_MANIFEST, "digest": digest(&format!("{os}{architecture}{variant:?}")), "size": 1,
                "platform": {"os": os, "architecture": architecture, "variant": variant}})
        };
        let manifests = [
            one("linux", "arm", Some("v6")),
            one("linux", "arm", Some("v7")),
            one("linux", "amd64", None),
            one("unknown", "unknown", None),
        ];
        let text = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let Document::Index(contents) = Document::parse(text.as_bytes()).unwrap() else { panic!("an index") };
        let chosen = |platform: &str| Document::choose(&contents, &platform.parse().unwrap());
        let digest_of = |index: usize| contents[index].digest;
        assert_eq!(chosen("linux/amd64").unwrap().digest, digest_of(2));
        assert_eq!(chosen("linux/arm/v7").unwrap().digest, digest_of(1));
        assert_eq!(chosen("linux/arm").unwrap().digest, digest_of(0));
        let none = chosen("linux/s390x").unwrap_err();
        assert_eq!(
            none,
            "there is none for linux/s390x, but: linux/arm/v6, linux/arm/v7, linux/amd64; choose one by --platform"
        );
        for wrong in ["linux", "", "/", "linux/", "a/b/c/d", "a b/c"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused_in_words() {
        let told = |text: &str| Document::parse(text.as_bytes()).unwrap_err();
        assert!(told(r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("version 1"));
        assert!(told(r#"{"schemaVersion":2}"#).contains("names no contents"));
        assert!(told("<html>").contains("cannot be read"));
        let bad = json!({"config": {"digest": "sha256:../x", "size": 1}, "layers": []}).to_string();
        assert!(told(&bad).contains("names a content badly"));
        let negative = json!({"config": {"digest": digest(""), "size": -1}, "layers": []}).to_string();
        assert!(told(&negative).contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&bytes);
        }
    }
}
