//! What becomes of a request: the `proxies` rules.

use regex::Regex;
use url::Url;

use crate::Authority;

/// One entry of `proxies`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Searched, not anchored, in the whole URL: `https://host[:port]/path?query`.
    pub regx: Regex,
    /// Reach the origin by `https` whatever the request says (`useHTTPS`).
    pub use_https: bool,
    /// Forward, make no task of it (`direct`).
    pub direct: bool,
    /// Go to another place than the URL says (`redirect`).
    pub redirect: Option<Redirect>,
}

/// Where a rule sends its requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Redirect {
    /// `host` or `host:port` in place of the URL's own; the file's value holds no `/`.
    Host(String),
    /// Replacement for every match of the rule's pattern in the URL, with `$1`, `${1}` and `$$`
    /// as in [`Regex::replace_all`].
    Replace(String),
}

/// How a request is to be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// Where to, after the rule's rewriting.
    pub url: Url,
    /// Whether it becomes a task; else it is forwarded as it is.
    pub task: bool,
    /// The rule that matched, counted from 0.
    pub rule: Option<usize>,
}

/// A rule's `redirect` that makes no URL of the one it was given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rule {rule} of `proxies` rewrites the URL to something that is none; mend its `redirect`")]
pub struct RewriteError {
    /// The rule, counted from 1 as a reader of the file does.
    pub rule: usize,
}

/// Finds the first rule that matches `url` and does what it says. Only what `reads` (GET, and HEAD of what is
/// stored) is for a task.
///
/// # Errors
/// [`RewriteError`] if the rule's rewriting fails for this URL.
pub fn decide(rules: &[Rule], reads: bool, url: &Url) -> Result<Decision, RewriteError> {
    let Some(index) = rules.iter().position(|rule| rule.regx.is_match(url.as_str())) else {
        return Ok(Decision { url: url.clone(), task: false, rule: None });
    };
    let rule = &rules[index];
    let url = rule.rewrite(url).ok_or(RewriteError { rule: index + 1 })?;
    Ok(Decision { url, task: reads && !rule.direct, rule: Some(index) })
}

impl Rule {
    /// Whether the rule itself spells this place, so that whoever wrote it has allowed it.
    #[must_use]
    pub fn names(&self, place: &Authority) -> bool {
        self.destination().is_some_and(|spelled| {
            let host = spelled.split_once("://").map_or(spelled, |(_, host)| host);
            Authority::parse(place.scheme, host).as_ref() == Ok(place)
        })
    }

    /// `[scheme://]host[:port]` as the rule spells it; `None` where it depends on the request.
    #[must_use]
    pub fn destination(&self) -> Option<&str> {
        match self.redirect.as_ref()? {
            Redirect::Host(place) => Some(place),
            Redirect::Replace(by) => {
                let start = by.find("://").map_or(0, |at| at + 3);
                let end = by[start..].find('/').map_or(by.len(), |at| start + at);
                by.get(..end).filter(|spelled| end < by.len() && end > start && !spelled.contains('$'))
            }
        }
    }

    fn rewrite(&self, url: &Url) -> Option<Url> {
        let mut url = url.clone();
        if self.use_https {
            url.set_scheme("https").ok()?;
        }
        match &self.redirect {
            None => Some(url),
            Some(Redirect::Host(place)) => {
                // Parsed apart, so that a place without a port takes the scheme's.
                let other = Url::parse(&format!("{}://{place}/", url.scheme())).ok()?;
                url.set_host(other.host_str()).ok()?;
                url.set_port(other.port()).ok()?;
                Some(url)
            }
            Some(Redirect::Replace(by)) => {
                let text = self.regx.replace_all(url.as_str(), by.as_str());
                Url::parse(&text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(regx: &str) -> Rule {
        Rule { regx: Regex::new(regx).expect("a pattern"), use_https: false, direct: false, redirect: None }
    }

    fn decided(rules: &[Rule], get: bool, url: &str) -> (String, bool, Option<usize>) {
        let decision = decide(rules, get, &Url::parse(url).expect("a URL")).expect("a decision");
        (decision.url.into(), decision.task, decision.rule)
    }

    const BLOB: &str = "https://r.test/v2/x/blobs/sha256:1";

    #[test]
    fn a_rule_names_the_place_that_it_spells_and_no_other() {
        let names = |redirect: Redirect, place: &str| {
            let rule = Rule { redirect: Some(redirect), ..rule("x") };
            rule.names(&Authority::parse(crate::Scheme::Https, place).expect("a place"))
        };
        let host = |text: &str| Redirect::Host(text.to_owned());
        let replace = |text: &str| Redirect::Replace(text.to_owned());
        assert!(names(host("M.test"), "m.test") && names(host("m.test:5000"), "m.test:5000"));
        assert!(!names(host("m.test"), "other.test") && !names(host("m.test"), "m.test:5000"));
        assert!(names(replace("https://m.test/a/$1"), "m.test") && names(replace("m.test/x"), "m.test"));
        assert!(!names(replace("https://$1/m.test"), "m.test") && !names(replace("/m.test/"), "m.test"));
        assert!(
            !names(replace("https://$1.m.test/"), "m.test") && !names(replace("https://m.test"), "m.test")
        );
        assert!(!rule("x").names(&Authority::parse(crate::Scheme::Https, "m.test").expect("a place")));
    }

    #[test]
    fn the_first_match_wins() {
        let rules = [Rule { direct: true, ..rule("blobs/sha256:1") }, rule("blobs/sha256.*")];
        assert_eq!(decided(&rules, true, BLOB), (BLOB.to_owned(), false, Some(0)));
        assert_eq!(decided(&rules, true, "https://r.test/blobs/sha256:2").2, Some(1));
        assert_eq!(
            decided(&rules, true, "https://r.test/v2/"),
            ("https://r.test/v2/".to_owned(), false, None)
        );
    }

    #[test]
    fn only_what_reads_becomes_a_task() {
        assert!(decided(&[rule("blobs/sha256.*")], true, BLOB).1);
        assert!(!decided(&[rule("blobs/sha256.*")], false, BLOB).1);
    }

    #[test]
    fn the_scheme_host_and_query_are_searched_too() {
        assert!(decided(&[rule("^https://r\\.test/")], true, BLOB).1);
        assert!(decided(&[rule("sig=q$")], true, "http://r.test:81/x?sig=q").1);
    }

    #[test]
    fn rewriting_changes_scheme_host_or_all() {
        let https = Rule { use_https: true, ..rule("x") };
        assert_eq!(decided(&[https], false, "http://r.test/x").0, "https://r.test/x");
        let host = |place: &str| Rule { redirect: Some(Redirect::Host(place.to_owned())), ..rule("x") };
        assert_eq!(decided(&[host("s.test:81")], true, "http://r.test/x?a=b").0, "http://s.test:81/x?a=b");
        assert_eq!(decided(&[host("s.test")], true, "http://r.test:81/x").0, "http://s.test/x");
        let by = Redirect::Replace("https://s.test/$1".to_owned());
        let replace = Rule { redirect: Some(by), ..rule("^https?://r\\.test/(.*)$") };
        assert_eq!(decided(&[replace], true, BLOB).0, "https://s.test/v2/x/blobs/sha256:1");
    }

    #[test]
    fn a_rewriting_that_makes_no_url_is_an_error() {
        let replace = Rule { redirect: Some(Redirect::Replace("/nowhere".to_owned())), ..rule("^.*$") };
        let url = Url::parse(BLOB).expect("a URL");
        assert_eq!(decide(&[rule("never"), replace], true, &url), Err(RewriteError { rule: 2 }));
    }
}
