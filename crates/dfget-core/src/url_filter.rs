//! The canonical URL of a task: query parameters that only sign or route a request are left out.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The query parameters that are left out of a task's URL unless `defaultFilter` says otherwise:
/// the signatures of the usual object stores, and containerd's `ns`.
pub const DEFAULT_FILTER: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-User-Agent",
    "X-Goog-Algorithm",
    "X-Goog-Credential",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-SignedHeaders",
    "X-Goog-Signature",
    "OSSAccessKeyId",
    "Expires",
    "Signature",
    "SecurityToken",
    "AccessKeyId",
    "X-Obs-Date",
    "X-Obs-Security-Token",
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
    "x-cos-security-token",
    "ns",
];

/// What stays as it is in a re-encoded query: letters, digits and `-_.~`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// The query parameters that do not belong to a content's name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UrlFilter {
    keys: Vec<String>,
}

impl UrlFilter {
    /// A filter of exactly these keys; none at all leaves URLs untouched.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { keys: keys.into_iter().map(Into::into).filter(|key: &String| !key.is_empty()).collect() }
    }

    /// Reads `&`-separated keys, as `defaultFilter` and the `X-Dragonfly-Filter` header have them.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::new(text.split('&'))
    }

    /// The URL under which a content is known, as Dragonfly's clients (1.5.10) and schedulers
    /// compute it: filtered parameters dropped, the rest decoded, sorted by key and re-encoded.
    /// With an empty filter the text stays as it is, not even normalised.
    #[must_use]
    pub fn canonical(&self, url: &str) -> String {
        if self.keys.is_empty() {
            return url.to_owned();
        }
        let (rest, fragment) =
            url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
        let Some((base, query)) = rest.split_once('?') else { return url.to_owned() };
        let mut kept: Vec<_> = pairs(query).filter(|(key, _)| !self.drops(key)).collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = base.to_owned();
        for (index, (key, value)) in kept.iter().enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            out.push_str(&encode(key));
            out.push('=');
            out.push_str(&encode(value));
        }
        if let Some(fragment) = fragment {
            out.push('#');
            out.push_str(fragment);
        }
        out
    }

    /// The URL without its filtered parameters, everything else as it is written.
    #[must_use]
    pub fn without_dropped(&self, url: &str) -> String {
        let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
        let kept = query.split('&').filter(|segment| {
            let key = segment.split_once('=').map_or(*segment, |(key, _)| key);
            !self.drops(&decode(key))
        });
        let mut out = base.to_owned();
        for (index, segment) in kept.enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            out.push_str(segment);
        }
        out
    }

    /// The keys that are dropped, in the order they were given.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    fn drops(&self, key: &str) -> bool {
        self.keys.iter().any(|dropped| dropped == key)
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query
        .split('&')
        .filter(|segment| !segment.is_empty() && !segment.contains(';'))
        .map(|segment| segment.split_once('=').unwrap_or((segment, "")))
        .map(|(key, value)| (decode(key), decode(value)))
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_changes_nothing() {
        let url = "http://o.test?b=%7e&a=1&&c";
        assert_eq!(UrlFilter::default().canonical(url), url);
        assert_eq!(UrlFilter::parse("").canonical(url), url);
    }

    #[test]
    fn the_rest_is_sorted_and_encoded_the_go_way() {
        let filter = UrlFilter::parse("Expires&Signature&ns");
        let cases = [
            ("http://o.test/x?Expires=1&k=v&Signature=q&a=1", "http://o.test/x?a=1&k=v"),
            ("http://o.test/x?Expires=1", "http://o.test/x"),
            ("http://o.test/x", "http://o.test/x"),
            ("http://o.test?z=1;y&b=a%20b+c*~&expires=1#frag", "http://o.test?b=a+b+c%2A~&expires=1#frag"),
            ("http://o.test/?k=2&a&k=1", "http://o.test/?a=&k=2&k=1"),
        ];
        for (url, expected) in cases {
            assert_eq!(filter.canonical(url), expected);
        }
    }

    #[test]
    fn what_is_kept_can_stay_as_it_is_written() {
        let filter = UrlFilter::parse("Signature&ns");
        let url = "https://a.test/f?b=%7E&Signature=x;y&a=1;2&n%73=r";
        assert_eq!(filter.without_dropped(url), "https://a.test/f?b=%7E&a=1;2");
        assert_eq!(filter.without_dropped("https://a.test/f?ns=r"), "https://a.test/f");
    }
}
