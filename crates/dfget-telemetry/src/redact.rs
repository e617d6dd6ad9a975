//! URLs as they may be shown.
//!
//! Works on text and not on a parsed URL, since what fails to parse is shown too, in the error that
//! says so. In doubt it hides more.

/// `url` without what could be a credential: user and password are dropped, as is the fragment; of
/// the query only the keys stay, with `…` for each value, but for `ns`, `scope`, `service`, `arch`
/// and `digest`, which registries need and which name public things. Takes relative references and
/// bare authorities (`host:443`) as well.
pub fn redact_url(url: &str) -> String {
    let (rest, fragment) = split(url, '#');
    let (location, query) = split(rest, '?');
    let mut shown = without_userinfo(location);
    if let Some(query) = query {
        shown.push('?');
        let pairs: Vec<String> = query.split('&').map(redact_pair).collect();
        shown.push_str(&pairs.join("&"));
    }
    if fragment.is_some_and(|fragment| !fragment.is_empty()) {
        shown.push_str("#…");
    }
    shown
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn without_userinfo(location: &str) -> String {
    let start = authority_start(location);
    let (scheme, rest) = location.split_at(start);
    let end = rest.find(['/', '\\']).unwrap_or(rest.len());
    // A password with a slash in it ends the authority too early: what stands before the slash is
    // no host then, for its "port" is none. All up to the last @ goes.
    let end = if has_port_of_digits(&rest[..end]) { end } else { rest.len() };
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

/// Where the authority begins: after `scheme:` and any slashes, which lenient parsers all skip. A
/// path has none.
fn authority_start(location: &str) -> usize {
    let slashes = |text: &str| text.len() - text.trim_start_matches(['/', '\\']).len();
    if let Some((scheme, rest)) = location.split_once(':') {
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if is_scheme && slashes(rest) > 0 {
            return scheme.len() + 1 + slashes(rest);
        }
    }
    match slashes(location) {
        1 => location.len(),
        count => count,
    }
}

fn has_port_of_digits(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after_address.rsplit_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn redact_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((key, _)) if SHOWN_KEYS.contains(&key) => pair.to_owned(),
        Some((key, _)) if key.len() <= LONGEST_KEY => format!("{key}=…"),
        None if pair.is_empty() => String::new(),
        // Without a value, or with a key of that length, the key may be the signature itself.
        _ => "…".to_owned(),
    }
}

/// Keys whose values stay: where a mirror's request comes from, what a token is asked for, which
/// image is meant.
const SHOWN_KEYS: [&str; 5] = ["ns", "scope", "service", "arch", "digest"];
const LONGEST_KEY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_credential_stays() {
        for url in [
            "https://registry.example/v2/a/b/blobs/sha256:abc",
            "https://registry.example:5000/v2/?ns=docker.io",
            "http://[2001:db8::1]:5000/v2/",
            "https://auth.example/token?scope=repository%3Aa%3Apull&service=registry.example",
            "/v2/a/blobs/sha256:abc",
            "/v2/a@b/c",
            "https://registry.example/v2/a@b/c",
            "registry.example:443",
            "[2001:db8::1]:443",
            "",
        ] {
            assert_eq!(redact_url(url), url);
        }
    }

    #[test]
    fn user_and_password_are_dropped_from_every_form() {
        for (url, shown) in [
            ("https://user:secret@host.example/x", "https://host.example/x"),
            ("http://lease:secret@127.0.0.1:65001", "http://127.0.0.1:65001"),
            ("https://secret@host/x", "https://host/x"),
            ("https://us@er:secret@host/x", "https://host/x"),
            ("https://user:sec/ret@host/x", "https://host/x"),
            ("http:/user:secret@host/x", "http:/host/x"),
            ("http:\\\\user:secret@host/x", "http:\\\\host/x"),
            ("//user:secret@host/x", "//host/x"),
            ("user:secret@host:443", "host:443"),
            ("user:secret@[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }

    #[test]
    fn values_of_queries_are_hidden_but_for_the_public_ones() {
        for (query, shown) in [
            ("X-Amz-Signature=secret&digest=sha256:abc", "X-Amz-Signature=…&digest=sha256:abc"),
            ("sig=secret&se=2026&ns=docker.io", "sig=…&se=…&ns=docker.io"),
            ("secret", "…"),
            ("a=secret=secret&&b=", "a=…&&b=…"),
            ("NS=secret", "NS=…"),
            ("token=a?b=secret", "token=…"),
        ] {
            assert_eq!(redact_url(&format!("https://h/p?{query}")), format!("https://h/p?{shown}"));
        }
        let long = "secret".repeat(20);
        assert_eq!(redact_url(&format!("/p?{long}=x#{long}")), "/p?…#…");
    }
}
