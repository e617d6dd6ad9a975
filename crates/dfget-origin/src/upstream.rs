//! The proxy of the site, which origins are reached through.

use std::fmt;
use std::io;

use dfget_core::{Authority, Scheme};
use http::header::{HeaderMap, HeaderValue, VIA};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ConnectError;
use crate::address::literal;
use crate::outgoing::Outgoing;

/// The longest head of an answer to CONNECT.
const LONGEST_HEAD: usize = 16 << 10;

/// Which proxy leads to which origin, as the variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`
/// say it.
pub struct Upstream {
    matcher: Matcher,
    /// Whether it leads to loopback too.
    everywhere: bool,
}

/// A value that names no proxy that can be used. It is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It has no host, or is no URL.
    #[error("it is no address of a proxy, such as http://proxy.example.org:3128")]
    NotAnAddress,
    /// It is to be spoken to by TLS or SOCKS.
    #[error("only proxies spoken to by plain HTTP (http://…) are supported")]
    Scheme,
}

/// The proxy for one origin.
#[derive(Clone)]
pub(crate) struct Via {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<HeaderValue>,
}

// === impl Upstream ===

impl Upstream {
    /// Reads the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; empty = unset. A value without
    /// a scheme means `http://`. `None` if there is no proxy in them.
    ///
    /// # Errors
    /// [`UpstreamError`] by cause.
    pub fn new(https: &str, http: &str, no: &str) -> Result<Option<Self>, UpstreamError> {
        if https.is_empty() && http.is_empty() {
            return Ok(None);
        }
        for value in [https, http].into_iter().filter(|value| !value.is_empty()) {
            check(value)?;
        }
        let matcher =
            Matcher::builder().https(https.to_owned()).http(http.to_owned()).no(no.to_owned()).build();
        Ok(Some(Self { matcher, everywhere: false }))
    }

    /// A proxy of this host that leads to all origins, those of this host included: a daemon's, for one
    /// process that holds a lease there.
    ///
    /// # Errors
    /// [`UpstreamError`] by cause.
    pub fn everywhere(value: &str) -> Result<Self, UpstreamError> {
        check(value)?;
        let matcher = Matcher::builder().all(value.to_owned()).build();
        Ok(Self { matcher, everywhere: true })
    }

    /// Host and port in the value of a variable.
    ///
    /// # Errors
    /// [`UpstreamError`] by cause.
    pub fn place(value: &str) -> Result<Authority, UpstreamError> {
        let uri = check(value)?;
        let host = uri.authority().map_or("", http::uri::Authority::as_str);
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Authority::parse(Scheme::Http, host).map_err(|_| UpstreamError::NotAnAddress)
    }

    /// Whether `NO_PROXY` keeps `authority` from the proxy, by its entries alone.
    #[must_use]
    pub fn excludes(&self, authority: &Authority) -> bool {
        self.matched(authority).is_none()
    }

    /// The proxy that leads to `authority`, if one does. Loopback is never somebody else's, but for a
    /// proxy that leads [everywhere](Self::everywhere).
    pub(crate) fn via(&self, authority: &Authority) -> Option<Via> {
        let loopback = literal(&authority.host).is_some_and(|address| address.is_loopback());
        if !self.everywhere && (loopback || authority.host == "localhost") {
            return None;
        }
        let found = self.matched(authority)?;
        Some(Via {
            host: found.uri().host()?.trim_matches(['[', ']']).to_owned(),
            port: found.uri().port_u16().unwrap_or(80),
            login: found.basic_auth().cloned(),
        })
    }

    fn matched(&self, authority: &Authority) -> Option<Intercept> {
        self.matcher.intercept(&authority.to_string().parse().ok()?)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

fn check(value: &str) -> Result<http::Uri, UpstreamError> {
    let uri: http::Uri = value.parse().map_err(|_| UpstreamError::NotAnAddress)?;
    match uri.scheme_str() {
        None | Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        None | Some("http") => Err(UpstreamError::NotAnAddress),
        Some(_) => Err(UpstreamError::Scheme),
    }
}

// === impl Via ===

impl fmt::Debug for Via {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({})", self.place())
    }
}

impl Via {
    /// Whether requests to this origin are given to the proxy as they are, instead of through a tunnel.
    pub(crate) fn takes_requests(authority: &Authority) -> bool {
        authority.scheme == Scheme::Http
    }

    /// Host and port, for messages.
    pub(crate) fn place(&self) -> String {
        Authority { scheme: Scheme::Http, host: self.host.clone(), port: self.port }.host_port()
    }

    /// Asks the proxy for a tunnel to `authority` (RFC 9110, section 9.3.6); `trail`: by whom the wish
    /// has come (`Via`).
    pub(crate) async fn open(
        &self,
        stream: &mut Outgoing,
        authority: &Authority,
        trail: &HeaderMap,
    ) -> Result<(), ConnectError> {
        let answer = self.ask(stream, authority, trail).await;
        let status = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed(authority, error.to_string())),
        };
        match code(&status) {
            Some(b'2') => Ok(()),
            _ if status.split(' ').nth(1) == Some("508") => Err(ConnectError::Loop {
                host_port: authority.host_port(),
                through: format!(" through the site's proxy {}", self.place()),
            }),
            _ => Err(self.refused(authority, &status)),
        }
    }

    /// What to say of an answer by which the proxy refuses.
    pub(crate) fn refused(&self, authority: &Authority, status: &str) -> ConnectError {
        let shown: String = status.chars().filter(|c| !c.is_control()).take(120).collect();
        let remedy = match (status.split(' ').nth(1), &self.login) {
            (Some("407"), Some(_)) => {
                "; it refuses our login, mend it in HTTPS_PROXY or download.resourceClients"
            }
            (Some("407"), None) => {
                "; it asks for a login, add it to HTTPS_PROXY or download.resourceClients: http://USER:PASSWORD@HOST:PORT"
            }
            _ => "",
        };
        self.failed(authority, format!("it answers \"{shown}\"{remedy}"))
    }

    pub(crate) fn failed(&self, authority: &Authority, reason: String) -> ConnectError {
        ConnectError::SiteProxy { proxy: self.place(), host_port: authority.host_port(), reason }
    }

    /// The first line of the answer to CONNECT.
    async fn ask(
        &self,
        stream: &mut Outgoing,
        authority: &Authority,
        trail: &HeaderMap,
    ) -> io::Result<String> {
        let target = authority.host_port();
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        let login = self.login.iter().map(|login| ("Proxy-Authorization", login));
        for (name, value) in trail.get_all(VIA).iter().map(|hop| ("Via", hop)).chain(login) {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await?;
        let answer = read_head(stream).await?;
        let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

/// The first digit of the status of a line that is HTTP.
fn code(line: &str) -> Option<u8> {
    let code = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.as_bytes();
    code.first().copied().filter(|_| code.len() == 3)
}

/// Reads up to the empty line and no further: what follows is the origin's.
async fn read_head(stream: &mut Outgoing) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD {
            return Err(io::Error::other("the proxy's answer to CONNECT has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(upstream: &Upstream, scheme: Scheme, host: &str) -> Option<String> {
        let authority = Authority::parse(scheme, host).expect("an authority");
        upstream.via(&authority).map(|via| format!("{}:{}", via.host, via.port))
    }

    #[test]
    fn the_variables_decide_as_clients_read_them() {
        let upstream =
            Upstream::new("proxy.example:3128", "http://u:p%40@other.example", ".inside.example, 10.0.0.0/8");
        let upstream = upstream.expect("good values").expect("a proxy");
        let https = |host| via(&upstream, Scheme::Https, host);
        assert_eq!(https("registry.example").as_deref(), Some("proxy.example:3128"));
        assert_eq!(https("a.inside.example"), None);
        assert_eq!(https("10.1.2.3"), None);
        assert_eq!(https("127.0.0.1"), None);
        assert_eq!(https("127.1"), None);
        assert_eq!(https("localhost"), None);
        assert_eq!(via(&upstream, Scheme::Http, "registry.example").as_deref(), Some("other.example:80"));
        let excluded =
            |host| upstream.excludes(&Authority::parse(Scheme::Https, host).expect("an authority"));
        assert!(excluded("10.1.2.3") && !excluded("127.0.0.1"), "no entry keeps loopback from it");
        let plain = upstream.via(&Authority::parse(Scheme::Http, "x.example").expect("an authority"));
        assert_eq!(plain.and_then(|via| via.login).expect("a login"), "Basic dTpwQA==");
    }

    #[test]
    fn a_proxy_of_this_host_leads_to_loopback_too() {
        let ours = Upstream::everywhere("http://lease:secret@127.0.0.1:9").expect("a proxy");
        for (scheme, host) in
            [(Scheme::Https, "127.0.0.2:5000"), (Scheme::Http, "localhost"), (Scheme::Https, "x.example")]
        {
            let authority = Authority::parse(scheme, host).expect("an authority");
            let via = ours.via(&authority).expect("a way");
            assert_eq!((via.host.as_str(), via.port, via.login.is_some()), ("127.0.0.1", 9, true), "{host}");
        }
        assert_eq!(Upstream::everywhere("socks5://x").expect_err("SOCKS"), UpstreamError::Scheme);
    }

    #[test]
    fn a_wrong_value_is_told_without_being_shown() {
        assert!(Upstream::new("", "", "x").expect("nothing").is_none());
        let wrong = |value| Upstream::new(value, "", "").expect_err(value);
        assert_eq!(wrong("https://user:secret@proxy"), UpstreamError::Scheme);
        assert_eq!(wrong("socks5://proxy"), UpstreamError::Scheme);
        for value in ["http://", "::", "a b", "http://u:s@"] {
            assert_eq!(wrong(value), UpstreamError::NotAnAddress, "{value}");
        }
    }
}
