//! The web page on the admin port, and what it asks there.
//!
//! The page itself is the same for everybody and tells nothing. What it shows it asks of `/api/v1`, and that is told
//! only to whoever has the token: random, made anew at each start, handed out by the unix socket alone. The token
//! stands behind the `#` of the page's address, which no browser sends anywhere, and then in a header; so it is
//! in no log and no `Referer`, and other ports of this machine, which would be sent a cookie, never see it.
//!
//! A name of another site that was made to lead here (DNS rebinding) is refused: the `Host` must be a name of the
//! loopback or the address that the port listens at. Nothing is loaded from elsewhere, and nothing can be changed.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use dfget_core::{Authority, Scheme};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use tower_service::Service as _;

use crate::api::{Api, Failed};

/// What the page consists of: path, media type, text.
const ASSETS: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/draw.js", SCRIPT, include_str!("page/draw.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What is asked by the page stands below this.
const API: &str = "/api/v1/";

/// Scripts, styles and questions of this port only; nothing in frames, no form, no base.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The page of one daemon. Clones are the same.
#[derive(Clone)]
pub struct Page {
    shared: Arc<Shared>,
}

struct Shared {
    views: Router,
    token: String,
    listen: SocketAddr,
}

/// Where the page is, with its token (`GET /api/v1/page` on the socket).
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageAddress {
    /// To be opened in a browser on this machine. Who has it sees all that the page shows.
    pub address: String,
}

/// The address of this machine that a connection came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CameTo(pub(crate) SocketAddr);

// === impl Page ===

impl Page {
    /// A page with a new token, on a port that listens at `listen`, that shows what `api` only tells.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new(api: &Api, listen: SocketAddr) -> io::Result<Self> {
        let shared = Shared { views: api.views(), token: new_token()?, listen };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> PageAddress {
        let Shared { listen, token, .. } = &*self.shared;
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let place = SocketAddr::new(ip, listen.port());
        PageAddress { address: format!("http://{place}/#token={token}") }
    }

    /// The answer to a request that is for the page; `None` for every other.
    pub(crate) async fn answer(&self, request: Request) -> Option<Response> {
        let path = request.uri().path();
        let asset = ASSETS.iter().find(|(own, ..)| *own == path);
        if asset.is_none() && !path.starts_with(API) {
            return None;
        }
        let mut response = if !matches!(*request.method(), Method::GET | Method::HEAD) {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")], "405 method not allowed\n")
                .into_response()
        } else if !self.is_meant(&request) {
            let reason = "the Host is no name of this machine's loopback, nor the address of this port; open the \
                          address that `dfget top --web` prints";
            Failed::new(421, reason).into_response()
        } else if let Some((_, media, text)) = asset {
            ([(CONTENT_TYPE, *media)], *text).into_response()
        } else if self.is_let_in(request.headers()) {
            self.shared.views.clone().call(request).await.into_response()
        } else {
            let reason = "no valid token: `dfget top --web` prints the address with it";
            ([(WWW_AUTHENTICATE, "Bearer")], Failed::new(401, reason).into_response()).into_response()
        };
        protect(response.headers_mut());
        Some(response)
    }

    /// Whether the browser means this machine, and was not led here by a name of somebody else's.
    fn is_meant(&self, request: &Request<Body>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let came_to = request.extensions().get::<CameTo>().map(|came_to| came_to.0.ip());
        host.to_str().is_ok_and(|host| is_own_name(host, self.shared.listen.ip(), came_to))
    }

    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, token)) = given.to_str().ok().and_then(|given| given.split_once(' ')) else {
            return false;
        };
        let own = self.shared.token.as_bytes();
        scheme.eq_ignore_ascii_case("bearer") && verify_slices_are_equal(token.as_bytes(), own).is_ok()
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("listen", &self.shared.listen).finish_non_exhaustive()
    }
}

// === impl PageAddress ===

impl fmt::Debug for PageAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.address.split('#').next().unwrap_or_default();
        f.debug_struct("PageAddress").field("address", &shown).finish()
    }
}

/// Whether a `Host` names this machine: by the loopback, or by the address that the port listens at, which for
/// one that listens everywhere is the one that the connection came to.
fn is_own_name(host: &str, listen: IpAddr, came_to: Option<IpAddr>) -> bool {
    let Ok(authority) = Authority::parse(Scheme::Http, host) else { return false };
    if authority.host == "localhost" {
        return true;
    }
    let Ok(ip) = authority.host.parse::<IpAddr>() else { return false };
    let own = if listen.is_unspecified() { came_to } else { Some(listen) };
    ip == Ipv4Addr::LOCALHOST
        || ip == Ipv6Addr::LOCALHOST
        || own.is_some_and(|own| own.to_canonical() == ip.to_canonical())
}

fn protect(headers: &mut HeaderMap) {
    const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER, "same-origin"),
        (RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// 256 random bits in hex.
fn new_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if filled != bytes.len() {
        return Err(io::Error::other("the system gave too few random bytes"));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn names_of_this_machine_are_taken_and_all_others_refused() {
        for host in
            ["localhost", "LOCALHOST:40901", "127.0.0.1:40901", "127.0.0.1", "[::1]:8080", "localhost:1"]
        {
            assert!(is_own_name(host, LOOPBACK, None), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:40901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "127.0.0.2",
            "localhost:x",
            "127.0.0.1:40901@evil.example",
            "[::1",
            "0.0.0.0",
            "xlocalhost",
            "localhost.",
        ] {
            assert!(!is_own_name(host, LOOPBACK, Some(LOOPBACK)), "{host}");
        }
    }

    #[test]
    fn an_address_that_is_listened_at_is_a_name_too() {
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(is_own_name("10.0.0.1:40901", own, None));
        assert!(!is_own_name("10.0.0.2:40901", own, Some("10.0.0.2".parse().unwrap())));
        let everywhere: IpAddr = "::".parse().unwrap();
        let came_to = Some("::ffff:10.0.0.1".parse().unwrap());
        assert!(is_own_name("10.0.0.1", everywhere, came_to));
        assert!(!is_own_name("10.0.0.2", everywhere, came_to));
        assert!(!is_own_name("10.0.0.1", everywhere, None));
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere() {
        for (path, _, text) in ASSETS {
            let named = text.replace("http://www.w3.org/", "");
            for elsewhere in ["http://", "https://", "//cdn", "@import", "innerHTML", "eval("] {
                assert!(!named.contains(elsewhere), "{path} has {elsewhere}");
            }
            assert!(!text.contains("style=\"") && !text.contains(" onclick"), "{path} breaks the policy");
        }
    }

    #[test]
    fn each_token_is_another() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!((one.len(), other.len()), (64, 64));
        assert_ne!(one, other);
    }
}
