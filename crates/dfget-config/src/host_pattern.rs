//! Patterns that only spell a host: which one, and whether they match others too.

use std::net::Ipv4Addr;

/// The host that a pattern for `host:port` spells, such as `registry.example.com` for
/// `^registry\.example\.com:443$`; `None` for a pattern that does more.
///
/// A pattern is literal if it holds only letters, digits, `.`, `-`, `\.`, `^`, `$` and a port, and
/// the rest is a name or an IPv4 address. An unanchored one matches more hosts than it spells; one
/// that starts with a dot matches what lies below the name, and gives the name.
#[must_use]
pub fn literal_host(pattern: &str) -> Option<String> {
    let pattern = HostPattern::of(pattern)?;
    let host = if pattern.starts { &pattern.host } else { pattern.host.trim_start_matches('.') };
    is_host(host).then(|| host.to_owned())
}

fn is_host(text: &str) -> bool {
    let is_label =
        |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    let is_number = |label: &str| label.chars().all(|digit| digit.is_ascii_digit());
    let is_name =
        text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_none_or(is_number);
    is_name || text.parse::<Ipv4Addr>().is_ok()
}

/// A pattern that only spells a host: letters, digits, `.`, `-`, `\.`, `^`, `$` and a port.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct HostPattern {
    pub(crate) host: String,
    pub(crate) port: Option<String>,
    pub(crate) starts: bool,
    pub(crate) ends: bool,
}

// === impl HostPattern ===

impl HostPattern {
    /// `None` for a pattern that does more than spell a host.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (starts, rest) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let plain = rest.replace(r"\.", ".").replace(r"\-", "-");
        let (host, port) = match plain.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port.to_owned())),
            None => (plain, None),
        };
        let spells = host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
            && host.contains(|c: char| c.is_ascii_alphanumeric());
        let is_port = |port: &String| !port.is_empty() && port.chars().all(|digit| digit.is_ascii_digit());
        (spells && port.as_ref().is_none_or(is_port)).then_some(Self { host, port, starts, ends })
    }

    /// The pattern that matches this host and port only; without a port, that of HTTPS.
    pub(crate) fn strict(&self) -> String {
        format!("^{}:{}$", self.host.replace('.', r"\."), self.port())
    }

    pub(crate) fn port(&self) -> &str {
        self.port.as_deref().unwrap_or("443")
    }

    /// A host of somebody else that the pattern lets in.
    pub(crate) fn stranger(&self) -> String {
        let host = if self.starts { String::new() } else { "not-".to_owned() } + &self.host;
        match (&self.port, self.ends) {
            (Some(port), true) => format!("{host}:{port}"),
            (Some(port), false) => format!("{host}:{port}1"),
            (None, _) => format!("{host}.example.org:443"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_that_spell_a_host_are_judged() {
        for text in [
            "registry.example.com",
            r"registry\.example\.com",
            "^registry.example.com:5000$",
            "10.0.0.1",
            "a-b",
        ] {
            assert!(HostPattern::of(text).is_some(), "{text}");
        }
        for text in [r"^a\.b(:\d+)?$", ".*", "a|b", "", ".", ":443", "a:", "a:x", "a b", r"\d", "[::1]:443"] {
            assert_eq!(HostPattern::of(text), None, "{text}");
        }
    }

    #[test]
    fn the_strict_form_matches_the_host_and_no_stranger() {
        for text in
            ["registry.example.com", "^registry.example.com", "registry.example.com:443$", "r.io:5000"]
        {
            let pattern = HostPattern::of(text).unwrap();
            let strict = regex::Regex::new(&pattern.strict()).unwrap();
            let own = format!("{}:{}", pattern.host, pattern.port());
            assert!(strict.is_match(&own), "{text}");
            assert!(!strict.is_match(&pattern.stranger()), "{text}");
            assert!(regex::Regex::new(text).unwrap().is_match(&pattern.stranger()), "{text}");
        }
    }

    #[test]
    fn a_literal_pattern_names_its_host() {
        assert_eq!(literal_host(r"^registry\.example\.com:443$").as_deref(), Some("registry.example.com"));
        assert_eq!(literal_host("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(literal_host(r"\.example\.com:443$").as_deref(), Some("example.com"));
        for pattern in ["10.0.", "^10.0.0.1.2:443$", "a..b", "-a.b", r"^\.a\.b:443$", "7"] {
            assert_eq!(literal_host(pattern), None, "{pattern}");
        }
        assert_eq!(literal_host(r"^.*\.example\.com:443$"), None);
    }
}
