//! Whether a client sends a request to its proxy at all, as programs in Go decide it
//! (`golang.org/x/net/http/httpproxy`): Apptainer, Singularity, oras, crane, skopeo.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Authority, Scheme};

/// The proxy variables of a client.
#[derive(Clone, Debug, Default)]
pub struct ClientVariables {
    https: Option<(&'static str, String)>,
    http: Option<(&'static str, String)>,
    no: Option<(&'static str, String)>,
    /// The lower case one holds something, too.
    no_is_set_twice: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Passage {
    /// No variable names a proxy; this is the one that would.
    Unset(&'static str),
    /// To the proxy that the variable names.
    Proxied {
        /// The variable.
        variable: &'static str,
        /// Host and port as they are written, without scheme and login.
        proxy: String,
    },
    /// Never to a proxy.
    Loopback,
    /// An entry of a variable keeps it from the proxy.
    Excluded {
        /// The variable.
        variable: &'static str,
        /// The entry.
        entry: String,
        /// The variable is set in lower case, too.
        both: bool,
    },
}

// === impl ClientVariables ===

impl ClientVariables {
    /// The upper case counts first; what is empty counts as unset.
    #[must_use]
    pub fn of(variables: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| value(name).map(|value| (name, value)))
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            no: first(["NO_PROXY", "no_proxy"]),
            no_is_set_twice: value("NO_PROXY").is_some() && value("no_proxy").is_some(),
        }
    }

    /// What becomes of a request to `target`.
    #[must_use]
    pub fn passage(&self, target: &Authority) -> Passage {
        if target.host == "localhost" || target.ip().is_some_and(|ip| ip.is_loopback()) {
            return Passage::Loopback;
        }
        if let Some((variable, list)) = &self.no
            && let Some(entry) = list.split(',').find(|entry| excludes(entry, target))
        {
            let entry = entry.trim().to_owned();
            return Passage::Excluded { variable, entry, both: self.no_is_set_twice };
        }
        let (way, name) = match target.scheme {
            Scheme::Https => (&self.https, "HTTPS_PROXY"),
            Scheme::Http => (&self.http, "HTTP_PROXY"),
        };
        match way {
            None => Passage::Unset(name),
            Some((variable, value)) => {
                let shown = value.rsplit_once('@').map_or(value.as_str(), |(_, host)| host);
                let shown = shown.split_once("://").map_or(shown, |(_, host)| host);
                Passage::Proxied { variable, proxy: shown.trim_end_matches('/').to_owned() }
            }
        }
    }
}

/// Whether an entry of `NO_PROXY` names the target: `*`, an address, a network, a domain (its
/// subdomains too, with a dot before it only those); each but a network may have a port.
fn excludes(entry: &str, target: &Authority) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return match (network.parse(), bits.parse(), target.ip()) {
            (Ok(network), Ok(bits), Some(ip)) => in_network(ip, network, bits),
            _ => false,
        };
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (entry.as_str(), None),
    };
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() || port.is_some_and(|port| port != target.port.to_string()) {
        return false;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return target.ip() == Some(address);
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        Some(domain) => below(&target.host, domain),
        None => target.host == host || below(&target.host, host),
    }
}

fn below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
}

fn in_network(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let shift = 32 - bits;
            u32::from(ip).checked_shr(shift).unwrap_or(0)
                == u32::from(network).checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let shift = 128 - bits;
            u128::from(ip).checked_shr(shift).unwrap_or(0)
                == u128::from(network).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(variables: &[(&str, &str)], target: &str) -> Passage {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let target = Authority::parse(Scheme::Https, target).expect("an authority");
        ClientVariables::of(&variables).passage(&target)
    }

    #[test]
    fn entries_are_read_as_go_reads_them() {
        let excluded = |entry: &str, target: &str| {
            matches!(passage(&[("NO_PROXY", entry)], target), Passage::Excluded { .. })
        };
        for (entry, target) in [
            ("*", "r.test"),
            ("r.test", "r.test"),
            ("r.test", "a.r.test:5000"),
            (".r.test", "a.r.test"),
            ("*.r.test", "a.r.test"),
            (" R.TEST ", "r.test"),
            ("r.test:5000", "r.test:5000"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3:5000"),
            ("x,y, r.test", "r.test"),
            ("2001:db8::/32", "[2001:db8::7]"),
        ] {
            assert!(excluded(entry, target), "{entry} {target}");
        }
        for (entry, target) in [
            (".r.test", "r.test"),
            ("r.test", "other.test"),
            ("r.test", "xr.test"),
            ("r.test:5000", "r.test"),
            ("10.0.0.0/8", "11.1.2.3"),
            ("10.0.0.0/8", "r.test"),
            ("", "r.test"),
            ("/", "r.test"),
        ] {
            assert!(!excluded(entry, target), "{entry} {target}");
        }
    }

    #[test]
    fn the_upper_case_counts_first_and_what_is_empty_is_unset() {
        let https = ("HTTPS_PROXY", "http://u:secret@127.0.0.1:65001/");
        let proxied = Passage::Proxied { variable: "HTTPS_PROXY", proxy: "127.0.0.1:65001".to_owned() };
        assert_eq!(passage(&[https], "r.test"), proxied);
        assert_eq!(passage(&[https, ("NO_PROXY", ""), ("no_proxy", "")], "r.test"), proxied);
        let excluded = |variable, both| Passage::Excluded { variable, entry: "r.test".to_owned(), both };
        assert_eq!(
            passage(&[https, ("NO_PROXY", "r.test"), ("no_proxy", "")], "r.test"),
            excluded("NO_PROXY", false)
        );
        assert_eq!(
            passage(&[https, ("NO_PROXY", "r.test"), ("no_proxy", "x")], "r.test"),
            excluded("NO_PROXY", true)
        );
        assert_eq!(passage(&[("no_proxy", "r.test")], "r.test"), excluded("no_proxy", false));
        assert_eq!(passage(&[], "r.test"), Passage::Unset("HTTPS_PROXY"));
        assert_eq!(passage(&[https], "127.7.7.7:5000"), Passage::Loopback);
        assert_eq!(passage(&[https], "localhost"), Passage::Loopback);
    }
}
