//! The environment of the command: what its programs read of proxies and trust.
//!
//! Pure: from the variables as they are, and what is known of the lease, to those of the child.

use std::collections::{BTreeMap, BTreeSet};

use dfget_core::{Authority, Scheme};
use dfget_origin::{Upstream, UpstreamError};

/// Variables by name, as far as they are text.
pub type Variables = BTreeMap<String, String>;

/// Variables that name a file of authorities in PEM.
pub(crate) const TRUST: [&str; 5] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"];

/// Where a command finds what the variables were before another `dfget run` around it changed them.
pub(crate) const SAVED: &str = "DFGET_RUN_SAVED";

const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const NO: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxies that were set before: how origins are reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Way {
    /// `HTTPS_PROXY`; empty = none.
    pub https: String,
    /// `HTTP_PROXY`; empty = none.
    pub http: String,
    /// `NO_PROXY`; empty = none.
    pub no: String,
}

/// What is hijacked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hijacked<'a> {
    /// These, `host` or `host:port`.
    Hosts(&'a [String]),
    /// Everything.
    All,
}

// === impl Way ===

impl Way {
    /// Reads the variables as Go does: the upper case counts first.
    #[must_use]
    pub fn of(variables: &Variables) -> Self {
        let first = |names: [&str; 2]| {
            let set = names.iter().filter_map(|name| variables.get(*name)).find(|value| !value.is_empty());
            set.cloned().unwrap_or_default()
        };
        Self { https: first(HTTPS), http: first(HTTP), no: first(NO) }
    }

    /// Whether there is no proxy on the way.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.https.is_empty() && self.http.is_empty()
    }

    /// The proxy that origins are reached through.
    ///
    /// # Errors
    /// [`UpstreamError`]: a variable is set to no proxy that can be used.
    pub fn upstream(&self) -> Result<Option<Upstream>, UpstreamError> {
        Upstream::new(&self.https, &self.http, &self.no)
    }
}

/// The variables as they were before any `dfget run` around this one, and the names of those that
/// such a one has changed.
#[must_use]
pub(crate) fn original(mut variables: Variables) -> (Variables, BTreeSet<String>) {
    let saved = variables
        .remove(SAVED)
        .and_then(|text| serde_json::from_str::<BTreeMap<String, Option<String>>>(&text).ok())
        .unwrap_or_default();
    let names = saved.keys().cloned().collect();
    for (name, value) in saved {
        match value {
            Some(value) => variables.insert(name, value),
            None => variables.remove(&name),
        };
    }
    (variables, names)
}

/// What the child's environment has in place of `original`: every variable that differs.
/// `around`: the names of those that a `dfget run` around this one has changed.
/// `plain`: something is asked for without TLS too. `bundles` has the file for each of [`TRUST`].
#[must_use]
pub(crate) fn for_child(
    original: &Variables,
    around: &BTreeSet<String>,
    proxy: &str,
    hijacked: Hijacked<'_>,
    plain: bool,
    bundles: &BTreeMap<&'static str, String>,
) -> Variables {
    let mut changed = Variables::new();
    let proxies = if plain { [HTTPS, HTTP].concat() } else { HTTPS.to_vec() };
    for name in proxies {
        changed.insert(name.to_owned(), proxy.to_owned());
    }
    for name in NO {
        if let Some(value) = original.get(name) {
            changed.insert(name.to_owned(), without(value, hijacked));
        }
    }
    for (name, file) in bundles {
        changed.insert((*name).to_owned(), file.clone());
    }
    let saved: BTreeMap<&String, Option<&String>> =
        changed.keys().chain(around).map(|name| (name, original.get(name))).collect();
    if let Ok(saved) = serde_json::to_string(&saved) {
        changed.insert(SAVED.to_owned(), saved);
    }
    changed
}

/// `NO_PROXY` without the entries that cover what is hijacked. Of everything, loopback stays out.
fn without(value: &str, hijacked: Hijacked<'_>) -> String {
    let kept =
        value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).filter(|entry| match hijacked {
            Hijacked::All => is_loopback(entry),
            Hijacked::Hosts(hosts) => !hosts.iter().any(|host| covers(entry, host)),
        });
    kept.collect::<Vec<_>>().join(",")
}

/// Whether an entry of `NO_PROXY` keeps a host from the proxy, by the most generous reading among
/// the clients: `*`, the host, a domain with or without its dot, an address or a network; each
/// may have a port.
fn covers(entry: &str, host: &str) -> bool {
    let Ok(authority) = Authority::parse(Scheme::Https, host) else { return false };
    let bare =
        entry.rsplit_once(':').filter(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok());
    let entry = bare.map_or(entry, |(name, _)| name).trim_start_matches('*');
    if entry.is_empty() {
        return true;
    }
    // Any proxy will do: what matters is whether the entry keeps the host from it.
    let probe = Upstream::new("http://proxy.invalid", "", &entry.to_ascii_lowercase());
    let Ok(Some(probe)) = probe else { return false };
    probe.excludes(&authority)
}

fn is_loopback(entry: &str) -> bool {
    entry == "localhost" || entry.starts_with("127.") || entry.trim_matches(['[', ']']) == "::1"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn of_no_proxy_goes_only_what_covers_a_hijacked_host() {
        let names = hosts(&["registry.example.org", "r.test:5000", "192.0.2.7"]);
        let cut = |value: &str| without(value, Hijacked::Hosts(&names));
        assert_eq!(cut("localhost, .example.com,10.0.0.0/8"), "localhost,.example.com,10.0.0.0/8");
        for covering in [
            "*",
            "registry.example.org",
            "REGISTRY.example.org",
            ".example.org",
            "example.org",
            "org",
            "*.example.org",
            "registry.example.org:443",
            "r.test",
            "192.0.2.0/24",
            "192.0.2.7",
        ] {
            assert_eq!(cut(&format!("a.b,{covering},c.d")), "a.b,c.d", "{covering}");
        }
        assert_eq!(cut("y.example.org,ample.org"), "y.example.org,ample.org");
        assert_eq!(cut(""), "");
        let local = hosts(&["127.0.0.1:5000"]);
        assert_eq!(without("localhost,127.0.0.1,x.y", Hijacked::Hosts(&local)), "localhost,x.y");
        assert_eq!(
            without("localhost,127.0.0.1,::1,*.site,10.0.0.0/8", Hijacked::All),
            "localhost,127.0.0.1,::1"
        );
    }

    #[test]
    fn the_child_gets_both_cases_and_no_more_than_it_needs() {
        let original = variables(&[("NO_PROXY", "r.test,x"), ("HOME", "/h"), ("HTTPS_PROXY", "up:3128")]);
        let bundles = BTreeMap::from([("SSL_CERT_FILE", "/b".to_owned())]);
        let changed = for_child(
            &original,
            &BTreeSet::new(),
            "http://p",
            Hijacked::Hosts(&hosts(&["r.test"])),
            false,
            &bundles,
        );
        let names: Vec<_> = changed.keys().map(String::as_str).collect();
        assert_eq!(names, ["DFGET_RUN_SAVED", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "https_proxy"]);
        assert_eq!((changed["NO_PROXY"].as_str(), changed["https_proxy"].as_str()), ("x", "http://p"));
        let plain = for_child(&original, &BTreeSet::new(), "http://p", Hijacked::All, true, &bundles);
        assert_eq!((plain["HTTP_PROXY"].as_str(), plain["http_proxy"].as_str()), ("http://p", "http://p"));
    }

    #[test]
    fn a_run_within_a_run_starts_from_what_was_before_both() {
        let before = variables(&[("HTTPS_PROXY", "up:3128"), ("SSL_CERT_FILE", "/site"), ("HOME", "/h")]);
        let bundles =
            BTreeMap::from([("SSL_CERT_FILE", "/b".to_owned()), ("CURL_CA_BUNDLE", "/b".to_owned())]);
        let mut inside = before.clone();
        let proxy = "http://lease:x@127.0.0.1:1";
        inside.extend(for_child(&before, &BTreeSet::new(), proxy, Hijacked::All, true, &bundles));
        let (found, around) = original(inside.clone());
        assert_eq!(found, before);
        // The next one changes less, and knows what the first has changed.
        inside.extend(for_child(&found, &around, proxy, Hijacked::All, false, &bundles));
        assert_eq!(original(inside).0, before);
        assert_eq!(original(variables(&[(SAVED, "nonsense"), ("A", "b")])).0, variables(&[("A", "b")]));
    }

    #[test]
    fn the_way_to_origins_is_read_as_go_reads_it() {
        let set =
            variables(&[("https_proxy", "low"), ("HTTPS_PROXY", "UP"), ("no_proxy", "n"), ("NO_PROXY", "")]);
        assert_eq!(Way::of(&set), Way { https: "UP".into(), http: String::new(), no: "n".into() });
        assert!(Way::of(&variables(&[])).upstream().unwrap().is_none());
        assert!(Way::of(&variables(&[("HTTPS_PROXY", "socks5://x")])).upstream().is_err());
    }
}
