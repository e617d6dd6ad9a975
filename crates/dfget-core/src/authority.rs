//! Where an origin is: scheme, host and port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// Scheme, host and port of an origin: what must be equal for a credential to go along
/// (the "origin" of RFC 6454).
///
/// The host is lower case, an IPv6 address without brackets; the port is always there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Authority {
    /// Plain text or TLS.
    pub scheme: Scheme,
    /// Host name or IP literal.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text names no host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// There is no host, or one with characters that no host name has.
    #[error("not a host name or an IP address")]
    Host,
    /// The part after the colon is no TCP port.
    #[error("not a TCP port (1 to 65535)")]
    Port,
}

// === impl AuthorityError ===

impl AuthorityError {
    /// Which part of an authority it is about, to be said before the error: `host` or `port`.
    #[must_use]
    pub const fn part(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
        }
    }
}

// === impl Scheme ===

impl Scheme {
    /// The port that goes without saying.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

// === impl Authority ===

impl Authority {
    /// Reads `host[:port]` as a CONNECT request or a `Host` header has it.
    ///
    /// # Errors
    /// [`AuthorityError`] if the text is no host with an optional port.
    pub fn parse(scheme: Scheme, text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(AuthorityError::Host)?;
                Ipv6Addr::from_str(host).map_err(|_| AuthorityError::Host)?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(AuthorityError::Port),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let ipv6 = text.starts_with('[');
        if host.is_empty() || host.len() > 253 || !(ipv6 || host.bytes().all(known)) {
            return Err(AuthorityError::Host);
        }
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|&port| port != 0).ok_or(AuthorityError::Port)?
            }
            Some(_) => return Err(AuthorityError::Port),
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// The authority of a URL; `None` for a scheme other than http and https, or no host.
    #[must_use]
    pub fn of_url(url: &url::Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let host = match url.host()? {
            url::Host::Domain(name) => name.to_ascii_lowercase(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        Some(Self { scheme, host, port: url.port_or_known_default()? })
    }

    /// The host as an address, where it is an IP literal.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host:port`, always with the port: the form that `hijackHTTPS.hosts[].regx` is
    /// searched in.
    #[must_use]
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    /// `host` or `host:port`, without the scheme's default port: the form of a `Host` header.
    #[must_use]
    pub fn host_header(&self) -> String {
        if self.port == self.scheme.default_port() { self.bracketed() } else { self.host_port() }
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host_header())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, AuthorityError> {
        Authority::parse(Scheme::Https, text).map(|authority| authority.host_port())
    }

    #[test]
    fn host_and_port_are_read() {
        assert_eq!(shown("Registry.Test:443"), Ok("registry.test:443".to_owned()));
        assert_eq!(shown("registry.test"), Ok("registry.test:443".to_owned()));
        assert_eq!(shown("registry.test:"), Ok("registry.test:443".to_owned()));
        assert_eq!(shown("10.0.0.1:5000"), Ok("10.0.0.1:5000".to_owned()));
        assert_eq!(shown("[::1]:5000"), Ok("[::1]:5000".to_owned()));
        assert_eq!(shown("[::1]"), Ok("[::1]:443".to_owned()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", ":443", "a b:1", "[::1", "[x]:1", "ho/st", "user@host", "ho\u{e9}st"] {
            assert_eq!(shown(bad), Err(AuthorityError::Host), "{bad}");
        }
        for bad in ["h:0", "h:65536", "h:+1", "h:1:2", "[::1]1"] {
            assert_eq!(shown(bad), Err(AuthorityError::Port), "{bad}");
        }
    }

    #[test]
    fn default_ports_go_without_saying() {
        let url = url::Url::parse("https://Registry.test/v2/").expect("a URL");
        let authority = Authority::of_url(&url).expect("an authority");
        assert_eq!(authority, Authority::parse(Scheme::Https, "registry.test:443").expect("the same"));
        assert_eq!(authority.to_string(), "https://registry.test");
        let other = Authority::parse(Scheme::Http, "registry.test:443").expect("an authority");
        assert_eq!(other.to_string(), "http://registry.test:443");
        assert_ne!(authority, other);
    }
}
