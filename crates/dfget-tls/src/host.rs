//! The one name a leaf is made for.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::DnsName;

use crate::error::LeafError;

/// A host in the form certificates compare: a lower-case DNS name without a final dot, or an
/// address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum HostName {
    Dns(String),
    Ip(IpAddr),
}

impl HostName {
    /// `host` as in a CONNECT target without its port; IPv6 with or without brackets.
    pub(crate) fn parse(host: &str) -> Result<Self, LeafError> {
        let invalid = |reason| LeafError::InvalidHost { host: host.to_owned(), reason };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse() {
            return Ok(Self::Ip(address));
        }
        let has_port = |(host, port): (&str, &str)| {
            !host.contains(':') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        };
        if host.split_once(':').is_some_and(has_port) {
            return Err(invalid("it must be given without a port"));
        }
        if bare.is_some() || host.contains(':') {
            return Err(invalid("it is no IPv6 address (a zone such as %eth0 cannot be named)"));
        }
        if !host.is_ascii() {
            return Err(invalid("it must be given in its ASCII form (xn--)"));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if name.is_empty() || name.ends_with('.') || DnsName::try_from(name.as_str()).is_err() {
            return Err(invalid("it is neither a DNS name nor an IP address"));
        }
        Ok(Self::Dns(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => formatter.write_str(name),
            Self::Ip(address) => address.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(host: &str) -> String {
        HostName::parse(host).expect(host).to_string()
    }

    #[test]
    fn one_host_has_one_form() {
        assert_eq!(parsed("Registry.Example.ORG."), "registry.example.org");
        assert_eq!(parsed("[2001:DB8::1]"), "2001:db8::1");
        assert_eq!(parsed("2001:db8:0::1"), "2001:db8::1");
        assert_eq!(parsed("192.0.2.7"), "192.0.2.7");
        assert_eq!(parsed("localhost"), "localhost");
        assert_eq!(parsed("xn--bcher-kva.example"), "xn--bcher-kva.example");
    }

    #[test]
    fn what_no_certificate_can_name_is_refused() {
        let long = "a.".repeat(150);
        for host in [
            "",
            ".",
            "a..b",
            "-",
            "*.example.org",
            "bücher.example",
            "a b",
            "a\nb",
            "[::1",
            "::g",
            "fe80::1%eth0",
            "[192.0.2.7:80]",
            "[registry.example]",
            "host:443",
            &long,
        ] {
            assert!(
                matches!(HostName::parse(host), Err(LeafError::InvalidHost { .. })),
                "{host:?} was accepted"
            );
        }
    }
}
