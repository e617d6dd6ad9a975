//! The URL of a registry that is served as a mirror: where requests sent to our own port go on to.

use std::fmt;

use url::Url;

use crate::{Authority, AuthorityError, Scheme};

/// The host under which images of `docker.io` are named, and the one that serves them.
const DOCKER_HUB: [&str; 2] = ["docker.io", "registry-1.docker.io"];

/// Scheme, host and port of a registry, and what stands before `/v2/` in its paths.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RegistryUrl {
    authority: Authority,
    /// Empty, or a path that begins with `/` and does not end with one.
    prefix: String,
}

/// Why a text is no URL of a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryUrlError {
    /// A scheme other than these.
    #[error("it begins with neither https:// nor http://")]
    Scheme,
    /// The host or port.
    #[error("its {part} is {0}", part = .0.part())]
    Host(#[from] AuthorityError),
    /// `user:password@`.
    #[error("it holds a user or a password, which only clients may send, as a header")]
    Login,
    /// `?` or `#`.
    #[error("it holds a `?` or a `#`")]
    Query,
    /// What [`PathError`] says of paths.
    #[error("its path cannot be used: {0}")]
    Path(#[from] PathError),
}

/// Why a path is not sent on: two servers might read it differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("it does not begin with `/`")]
    Start,
    /// A segment `.` or `..`, plain or encoded: it would lead out of where it seems to be.
    #[error("it holds a segment `.` or `..`")]
    Dots,
    /// Two `/` in a row.
    #[error("it holds an empty segment (`//`)")]
    Empty,
    /// `%2f`, `\` or `%5c`: for some servers a `/`, for others not.
    #[error("it holds an encoded `/`, or a `\\`")]
    Slash,
}

// === impl RegistryUrl ===

impl RegistryUrl {
    /// Reads `https://host[:port][/prefix]`; a bare `host[:port]` means `https`. The name
    /// `docker.io` means the host that serves it.
    ///
    /// # Errors
    /// [`RegistryUrlError`] if the text is no such URL.
    pub fn parse(text: &str) -> Result<Self, RegistryUrlError> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some(_) => return Err(RegistryUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(RegistryUrlError::Query);
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.contains('@') {
            return Err(RegistryUrlError::Login);
        }
        let mut authority = Authority::parse(scheme, host)?;
        if authority.host == DOCKER_HUB[0] {
            DOCKER_HUB[1].clone_into(&mut authority.host);
        }
        if !path.is_empty() {
            check_path(path)?;
        }
        let url = Self { authority, prefix: path.trim_end_matches('/').to_owned() };
        // What no URL can be made of names no host, or no path.
        url.join("/", None).ok_or(AuthorityError::Host)?;
        Ok(url)
    }

    /// Scheme, host and port.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What stands before the path of a request: empty, or `/some/path`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether `other` is at the same host and port; how it is spoken to is not looked at.
    #[must_use]
    pub fn is_at(&self, other: &Authority) -> bool {
        self.authority.host == other.host && self.authority.port == other.port
    }

    /// The URL of a request with this path, which begins with `/`, and query; `None` if it would be none.
    #[must_use]
    pub fn join(&self, path: &str, query: Option<&str>) -> Option<Url> {
        let mark = if query.is_some() { "?" } else { "" };
        let text = format!("{}{}{path}{mark}{}", self.authority, self.prefix, query.unwrap_or_default());
        let url = Url::parse(&text).ok()?;
        // An address may be spelled in ways that a name may not.
        (Authority::of_url(&url)? == self.authority).then_some(url)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.authority, self.prefix)
    }
}

/// Whether every server reads this path in the same way.
///
/// # Errors
/// [`PathError`] if not.
pub fn check_path(path: &str) -> Result<(), PathError> {
    let lower = path.to_ascii_lowercase();
    let rest = lower.strip_prefix('/').ok_or(PathError::Start)?;
    if ["%2f", "\\", "%5c"].iter().any(|slash| lower.contains(slash)) {
        return Err(PathError::Slash);
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.replace("%2e", ".").as_str() {
            "." | ".." => return Err(PathError::Dots),
            "" if !last => return Err(PathError::Empty),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, RegistryUrlError> {
        RegistryUrl::parse(text).map(|url| url.to_string())
    }

    #[test]
    fn a_bare_host_means_https() {
        for (text, meant) in [
            ("registry.example.com", "https://registry.example.com"),
            ("Registry.example.com:443", "https://registry.example.com"),
            ("registry.example.com:5000", "https://registry.example.com:5000"),
            ("HTTP://registry.example.com/", "http://registry.example.com"),
            ("https://h.example.com/docker/hub/", "https://h.example.com/docker/hub"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("docker.io", "https://registry-1.docker.io"),
            ("https://docker.io", "https://registry-1.docker.io"),
        ] {
            assert_eq!(shown(text), Ok(meant.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_names_no_registry_is_told() {
        use RegistryUrlError::{Host, Login, Path, Query, Scheme};
        for (text, error) in [
            ("", Host(AuthorityError::Host)),
            ("https://", Host(AuthorityError::Host)),
            ("https:///v2/", Host(AuthorityError::Host)),
            ("<your.private.registry>", Host(AuthorityError::Host)),
            ("a b", Host(AuthorityError::Host)),
            ("999.1.1.1", Host(AuthorityError::Host)),
            ("0x7f.1", Host(AuthorityError::Host)),
            ("host:0", Host(AuthorityError::Port)),
            ("ftp://host", Scheme),
            ("https://user:password@host", Login),
            ("https://host/?a=b", Query),
            ("host#x", Query),
            ("https://host/a/../b", Path(PathError::Dots)),
            ("https://host//", Path(PathError::Empty)),
        ] {
            assert_eq!(shown(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_path_is_put_behind_that_of_the_registry() {
        let join = |url: &str, path: &str, query| {
            let url = RegistryUrl::parse(url).expect("a URL").join(path, query).expect("a URL");
            url.to_string()
        };
        assert_eq!(join("https://r.test", "/v2/", None), "https://r.test/v2/");
        assert_eq!(join("https://r.test/hub/", "/v2/x", Some("a=b%20c")), "https://r.test/hub/v2/x?a=b%20c");
        assert_eq!(join("http://r.test:5000", "/v2/x", Some("")), "http://r.test:5000/v2/x?");
    }

    #[test]
    fn paths_that_can_be_read_in_two_ways_are_not_taken() {
        for good in [
            "/",
            "/v2/",
            "/v2/a/b/blobs/sha256:1",
            "/v2/a..b/.x/%2e%2e%2e",
            "/a%20b",
            "/v2/a/manifests/sha256%3A1",
        ] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("*", PathError::Start),
            ("/v2/../x", PathError::Dots),
            ("/v2/.", PathError::Dots),
            ("/v2/%2E%2e/x", PathError::Dots),
            ("/v2/.%2e", PathError::Dots),
            ("//host/v2/", PathError::Empty),
            ("/v2//x", PathError::Empty),
            ("/v2/..%2Fx", PathError::Slash),
            ("/v2/a\\b", PathError::Slash),
            ("/v2/a%5cb", PathError::Slash),
        ] {
            assert_eq!(check_path(bad), Err(error), "{bad}");
        }
    }
}
