//! Where an answer's `Location` leads, and what may go along (RFC 9110, section 15.4).

use dfget_core::{Authority, Scheme};
use http::StatusCode;
use http::header::HeaderMap;
use url::Url;

use crate::headers::is_impersonal;

/// How many redirects are followed for one request.
const MOST_HOPS: usize = 10;

/// Why a redirect is not followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// A `Location` that is missing or no http(s) URL.
    #[error("{from} redirects, but names no place that can be followed")]
    NoPlace {
        /// Who redirects.
        from: String,
    },
    /// From TLS to plain text.
    #[error(
        "{from} redirects from https to http ({to}): a content is not fetched in plain text that was asked for by TLS, unless download.redirects.downgrade is true"
    )]
    Downgrade {
        /// Who redirects.
        from: String,
        /// Whereto.
        to: String,
    },
    /// The same URL again.
    #[error("{from} redirects in a loop")]
    Loop {
        /// Who redirects.
        from: String,
    },
    /// No end in sight.
    #[error("{from} is the {MOST_HOPS}th to redirect")]
    TooMany {
        /// The last one that redirects.
        from: String,
    },
}

/// Whether a status is a redirect that a GET follows without being changed.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The URL that a redirect of the last of `visited` leads to; with `downgrade` also from https to http.
///
/// # Errors
/// [`RedirectError`] if it must not or cannot be followed.
pub(crate) fn next_hop(
    visited: &[Url],
    location: Option<&str>,
    downgrade: bool,
) -> Result<Url, RedirectError> {
    let Some(current) = visited.last() else {
        return Err(RedirectError::NoPlace { from: "nobody".to_owned() });
    };
    let from = place(current);
    let next = location.and_then(|location| current.join(location).ok());
    let Some((mut next, authority)) =
        next.and_then(|url| Authority::of_url(&url).map(|authority| (url, authority)))
    else {
        return Err(RedirectError::NoPlace { from });
    };
    if current.scheme() == "https" && authority.scheme == Scheme::Http && !downgrade {
        return Err(RedirectError::Downgrade { from, to: authority.to_string() });
    }
    // A login in a Location is the registry's to the place; it would only end up in logs.
    let _ = (next.set_username(""), next.set_password(None));
    if visited.contains(&next) {
        return Err(RedirectError::Loop { from });
    }
    if visited.len() >= MOST_HOPS {
        return Err(RedirectError::TooMany { from });
    }
    Ok(next)
}

/// Takes what may be meant for `from` alone out of the headers, unless `to` is the same authority.
pub(crate) fn drop_credentials(headers: &mut HeaderMap, from: &Url, to: &Url) {
    if Authority::of_url(from) != Authority::of_url(to) {
        *headers = headers
            .iter()
            .filter(|(name, _)| is_impersonal(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
    }
}

/// Scheme and authority only: a redirect's query is often a signature.
fn place(url: &Url) -> String {
    Authority::of_url(url).map_or_else(|| url.scheme().to_owned(), |authority| authority.to_string())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{AUTHORIZATION, COOKIE, USER_AGENT};

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn hop(from: &str, location: &str) -> Result<String, RedirectError> {
        next_hop(&[url(from)], Some(location), false).map(Into::into)
    }

    #[test]
    fn relative_and_absolute_places_are_found() {
        let from = "https://r.test/v2/x/blobs/sha256:1?a=b";
        assert_eq!(hop(from, "/data/1"), Ok("https://r.test/data/1".to_owned()));
        assert_eq!(hop(from, "./sha256:2"), Ok("https://r.test/v2/x/blobs/sha256:2".to_owned()));
        assert_eq!(hop(from, "https://key:secret@cdn.test/1"), Ok("https://cdn.test/1".to_owned()));
        assert_eq!(hop(from, "//cdn.test/1?s=q"), Ok("https://cdn.test/1?s=q".to_owned()));
        assert_eq!(hop("http://r.test/", "https://cdn.test/"), Ok("https://cdn.test/".to_owned()));
    }

    #[test]
    fn what_must_not_be_followed_is_not() {
        let from = || "https://r.test".to_owned();
        assert_eq!(hop("https://r.test/", "ftp://x/"), Err(RedirectError::NoPlace { from: from() }));
        assert_eq!(hop("https://r.test/", "http://"), Err(RedirectError::NoPlace { from: from() }));
        assert_eq!(
            next_hop(&[url("https://r.test/")], None, false),
            Err(RedirectError::NoPlace { from: from() })
        );
        let down = RedirectError::Downgrade { from: from(), to: "http://r.test".to_owned() };
        assert_eq!(hop("https://r.test/", "http://r.test/x?sig=secret"), Err(down));
        let allowed = next_hop(&[url("https://r.test/")], Some("http://r.test/x"), true);
        assert_eq!(allowed.map(String::from), Ok("http://r.test/x".to_owned()));
        let visited = [url("https://r.test/a"), url("https://r.test/b")];
        assert_eq!(next_hop(&visited, Some("/a"), false), Err(RedirectError::Loop { from: from() }));
        let many: Vec<_> = (0..MOST_HOPS).map(|hop| url(&format!("https://r.test/{hop}"))).collect();
        assert_eq!(next_hop(&many, Some("/new"), false), Err(RedirectError::TooMany { from: from() }));
    }

    #[test]
    fn credentials_go_only_to_the_same_scheme_host_and_port() {
        let kept = |from: &str, to: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            headers.insert(COOKIE, HeaderValue::from_static("a=b"));
            headers.insert("private-token", HeaderValue::from_static("x"));
            headers.insert(USER_AGENT, HeaderValue::from_static("x"));
            drop_credentials(&mut headers, &url(from), &url(to));
            headers.len()
        };
        assert_eq!(kept("https://r.test/a", "https://R.test:443/b"), 4);
        for other in ["https://r.test:444/", "https://s.test/", "http://r.test:443/", "https://a.r.test/"] {
            assert_eq!(kept("https://r.test/a", other), 1, "{other}: the user agent");
        }
    }
}
