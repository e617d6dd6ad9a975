//! What of a URL others may know.

use url::Url;

/// The URL without what may be secret: name and password, query, fragment.
#[must_use]
pub fn public_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        let url = Url::parse("https://user:pw@r.test:5000/v2/a/blobs/x?sig=secret#also").expect("a URL");
        assert_eq!(public_url(&url), "https://r.test:5000/v2/a/blobs/x");
    }
}
