//! From what a user types to the requests that its clients send for it.

use dfget_core::Authority;
use url::Url;

/// One request, or one of a kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) url: Url,
    /// What it is about.
    pub(super) about: String,
    /// Whether the bytes of the image come by it.
    pub(super) is_content: bool,
    /// It stands for all digests: the one in the URL is made up.
    pub(super) any_digest: bool,
    /// A manifest by a name that may mean another content tomorrow.
    pub(super) by_tag: bool,
}

/// Stands for a digest that only the registry knows.
pub(super) const ANY: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The requests of a reference.
///
/// # Errors
/// What it should look like.
pub(super) fn requests(reference: &str) -> Result<Vec<Asked>, String> {
    match reference.split_once("://") {
        Some(("http" | "https", _)) => file(reference),
        Some(("oras", rest)) => image(rest),
        Some(("docker", rest)) => image(&on_docker_hub(rest)),
        Some(("library", rest)) => library(rest),
        Some((scheme, _)) => Err(format!(
            "{scheme}:// is not pulled through a proxy; write https://…, oras://…, docker://… or library://…"
        )),
        None => image(reference),
    }
}

fn file(text: &str) -> Result<Vec<Asked>, String> {
    let url = Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    if Authority::of_url(&url).is_none() {
        return Err("the URL names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds a user or a password; send them as a header instead (-H)".to_owned());
    }
    let about = "the URL itself".to_owned();
    Ok(vec![Asked { url, about, is_content: true, any_digest: false, by_tag: false }])
}

/// `host[:port]/path[:tag][@digest]`.
fn image(rest: &str) -> Result<Vec<Asked>, String> {
    const FORM: &str = "an image is written HOST/PATH:TAG or HOST/PATH@sha256:…";
    let (host, path) = rest.split_once('/').ok_or(FORM)?;
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (path, None),
    };
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let plain = !path.is_empty() && path.split('/').all(|part| !part.is_empty());
    if !plain || path.contains([' ', '?', '#']) || tag.is_some_and(str::is_empty) {
        return Err(FORM.to_owned());
    }
    let url = |rest: &str| {
        let url = Url::parse(&format!("https://{host}/v2/{path}/{rest}")).ok();
        url.filter(|url| Authority::of_url(url).is_some()).ok_or(FORM)
    };
    let blob = Asked {
        url: url(&format!("blobs/{ANY}"))?,
        about: "each blob, by its digest".to_owned(),
        is_content: true,
        any_digest: true,
        by_tag: false,
    };
    let manifest = match digest {
        Some(digest) => {
            if digest.parse::<dfget_core::Digest>().is_err() {
                return Err("the digest is none: write sha256: and 64 hex digits".to_owned());
            }
            let url = url(&format!("manifests/{digest}"))?;
            let about = "the manifest, by its digest".to_owned();
            Asked { url, about, is_content: false, any_digest: false, by_tag: false }
        }
        None => {
            let url = url(&format!("manifests/{}", tag.unwrap_or("latest")))?;
            let about = "the manifest, by its tag".to_owned();
            Asked { url, about, is_content: false, any_digest: false, by_tag: true }
        }
    };
    Ok(vec![manifest, blob])
}

/// A first part that is no host means Docker Hub, where images without a user are `library`'s.
fn on_docker_hub(rest: &str) -> String {
    const HUB: &str = "registry-1.docker.io";
    match rest.split_once('/') {
        Some(("docker.io" | "index.docker.io", path)) if path.contains('/') => format!("{HUB}/{path}"),
        Some(("docker.io" | "index.docker.io", path)) => format!("{HUB}/library/{path}"),
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => rest.to_owned(),
        Some(_) => format!("{HUB}/{rest}"),
        None => format!("{HUB}/library/{rest}"),
    }
}

/// `[host/][entity/[collection/]]container[:tag]`.
fn library(rest: &str) -> Result<Vec<Asked>, String> {
    const FORM: &str = "a library image is written library://ENTITY/COLLECTION/IMAGE:TAG";
    let parts: Vec<&str> = rest.split('/').collect();
    if rest.contains([' ', '?', '#']) || parts.iter().any(|part| part.is_empty()) {
        return Err(FORM.to_owned());
    }
    let (host, parts) = match parts.as_slice() {
        [host, rest @ ..] if host.contains('.') && !rest.is_empty() => (*host, rest),
        all => ("library.sylabs.io", all),
    };
    let mut path = match parts {
        [image] => format!("library/default/{image}"),
        [collection, image] => format!("library/{collection}/{image}"),
        [entity, collection, image] => format!("{entity}/{collection}/{image}"),
        _ => return Err(FORM.to_owned()),
    };
    if !path.rsplit('/').next().is_some_and(|image| image.contains(':')) {
        path.push_str(":latest");
    }
    let url = |kind: &str| {
        let url = Url::parse(&format!("https://{host}/v1/{kind}/{path}?arch=amd64"));
        url.map_err(|_| FORM.to_owned())
    };
    let about = "what the library knows of the image".to_owned();
    let known = Asked { url: url("images")?, about, is_content: false, any_digest: false, by_tag: false };
    let about = "the image, to which the answer may redirect".to_owned();
    let file = Asked { url: url("imagefile")?, about, is_content: true, any_digest: false, by_tag: false };
    Ok(vec![known, file])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(reference: &str) -> Vec<String> {
        requests(reference).expect(reference).iter().map(|asked| asked.url.to_string()).collect()
    }

    #[test]
    fn each_scheme_has_its_requests() {
        let blob = |before: &str| format!("https://{before}/blobs/{ANY}");
        assert_eq!(
            urls("oras://r.test:5000/a/b:1"),
            ["https://r.test:5000/v2/a/b/manifests/1".to_owned(), blob("r.test:5000/v2/a/b")]
        );
        assert_eq!(
            urls("r.test/a"),
            ["https://r.test/v2/a/manifests/latest".to_owned(), blob("r.test/v2/a")]
        );
        let hub = "registry-1.docker.io/v2";
        assert_eq!(urls("docker://alpine")[0], format!("https://{hub}/library/alpine/manifests/latest"));
        assert_eq!(urls("docker://u/x:1")[0], format!("https://{hub}/u/x/manifests/1"));
        assert_eq!(urls("docker://docker.io/x")[0], format!("https://{hub}/library/x/manifests/latest"));
        assert_eq!(urls("docker://ghcr.io/a/b:c")[0], "https://ghcr.io/v2/a/b/manifests/c");
        assert_eq!(
            urls("library://lib.test/e/c/i:t"),
            [
                "https://lib.test/v1/images/e/c/i:t?arch=amd64",
                "https://lib.test/v1/imagefile/e/c/i:t?arch=amd64"
            ]
        );
        assert_eq!(
            urls("library://alpine")[0],
            "https://library.sylabs.io/v1/images/library/default/alpine:latest?arch=amd64"
        );
        assert_eq!(urls("https://f.test/x.sif?y=1"), ["https://f.test/x.sif?y=1"]);
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_form_it_should_have() {
        for wrong in [
            "alpine",
            "ftp://x/y",
            "https://",
            "https://u:p@h.test/x",
            "oras://h.test",
            "oras://h.test/",
            "h.test/a:",
            "h.test/a b",
            "h.test/a@sha256:xyz",
            "library://a/b/c/d",
            "library://",
            "",
        ] {
            assert!(requests(wrong).is_err(), "{wrong}");
        }
    }
}
