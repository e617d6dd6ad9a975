//! Conditional requests (RFC 9110, section 13), judged by what is known of a stored content.
//!
//! Nothing here asks anybody: the conditions of a request and the headers that describe a content
//! go in, and out comes whether the content is to be given.

use std::time::SystemTime;

use dfget_origin::headers::text;
use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, VARY,
};

/// In the order in which they are looked at (section 13.2.2).
const CONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE];

/// What of a content's description goes into a 304 (section 15.4.5); the date is added by the server.
const OF_NOT_MODIFIED: [HeaderName; 5] = [CACHE_CONTROL, CONTENT_LOCATION, ETAG, EXPIRES, VARY];

/// The conditions of a GET or HEAD, as the client wrote them. `If-Range` is none of them: it says only
/// whether a range counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions(HeaderMap);

/// What the conditions say of a content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// The answer is what it would be without them.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// It is not the one that the client means: 412.
    Failed,
}

/// An entity tag (section 8.8.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

// === impl Conditions ===

impl Conditions {
    /// Takes the conditions out of a request's headers.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        let mut taken = HeaderMap::new();
        for name in CONDITIONS {
            for value in headers.get_all(&name) {
                taken.append(name.clone(), value.clone());
            }
            headers.remove(&name);
        }
        Self(taken)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers to ask the origin with on the client's own behalf. Lists over several lines are
    /// joined (section 5.3).
    pub(crate) fn to_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let joined = |name: &HeaderName| {
            let values: Vec<_> = self.0.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&values.join(&b", "[..])).ok()
        };
        self.0.keys().filter_map(|name| Some((name.clone(), joined(name)?))).collect()
    }

    /// Judges a content that is described by `content` (section 13.2.2).
    pub(crate) fn judge(&self, content: &HeaderMap) -> Judgement {
        let modified = date(content, &LAST_MODIFIED);
        let since = |name| Some((date(&self.0, name)?, modified?));
        if self.0.contains_key(IF_MATCH) {
            if !self.names(&IF_MATCH, content, |own, tag| own.is_same(tag)) {
                return Judgement::Failed;
            }
        } else if since(&IF_UNMODIFIED_SINCE).is_some_and(|(limit, modified)| modified > limit) {
            return Judgement::Failed;
        }
        let known = if self.0.contains_key(IF_NONE_MATCH) {
            self.names(&IF_NONE_MATCH, content, |own, tag| own.is_alike(tag))
        } else {
            since(&IF_MODIFIED_SINCE).is_some_and(|(limit, modified)| modified <= limit)
        };
        if known { Judgement::NotModified } else { Judgement::Proceed }
    }

    /// Whether a condition of this name holds `*`, or a tag that agrees with the content's.
    fn names(
        &self,
        name: &HeaderName,
        content: &HeaderMap,
        agree: impl Fn(Tag<'_>, Tag<'_>) -> bool,
    ) -> bool {
        let own = content.get(ETAG).and_then(|value| Tag::only(value.as_bytes()));
        self.0.get_all(name).iter().map(HeaderValue::as_bytes).any(|list| {
            list.trim_ascii() == b"*" || own.is_some_and(|own| tags(list).any(|tag| agree(own, tag)))
        })
    }
}

/// Whether the condition of `If-Range` holds for a content that is described by `content`
/// (section 13.1.5): the same strong tag, or the very date of its last change.
pub(crate) fn range_counts(if_range: &HeaderValue, content: &HeaderMap) -> bool {
    if let Some(tag) = Tag::only(if_range.as_bytes()) {
        let own = content.get(ETAG).and_then(|value| Tag::only(value.as_bytes()));
        return own.is_some_and(|own| own.is_same(tag));
    }
    let wanted = if_range.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok());
    wanted.is_some() && wanted == date(content, &LAST_MODIFIED)
}

/// The headers of a 304 for a content that is described by `content`.
pub(crate) fn not_modified_headers(content: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in OF_NOT_MODIFIED {
        for value in content.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let (false, Some(modified)) = (headers.contains_key(ETAG), content.get(LAST_MODIFIED)) {
        headers.insert(LAST_MODIFIED, modified.clone());
    }
    headers
}

/// The date in a header; `None` if there is none or more than one, or it is no date (sections 13.1.3
/// and 13.1.4: such a condition is ignored).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let (Some(_), None) = (values.next(), values.next()) else { return None };
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// The tags of a list, up to the first thing that is none.
fn tags(mut list: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        let (tag, rest) = Tag::read(list)?;
        list = rest;
        Some(tag)
    })
}

// === impl Tag ===

impl<'a> Tag<'a> {
    /// Reads a tag that stands alone.
    fn only(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::read(value.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    fn read(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        let inside = text.strip_prefix(b"\"")?;
        let end = inside.iter().position(|&byte| byte == b'"')?;
        let etagc = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        let (opaque, rest) = text.split_at(end + 2);
        inside[..end].iter().all(etagc).then_some((Self { weak, opaque }, rest))
    }

    /// Strong comparison (section 8.8.3.2): byte for byte the same content.
    fn is_same(self, other: Tag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Weak comparison: as good as the same.
    fn is_alike(self, other: Tag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
    const BEFORE: &str = "Sat, 29 Oct 1994 19:43:30 GMT";
    const AFTER: &str = "Sat, 29 Oct 1994 19:43:32 GMT";

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn judged(content: &[(&str, &str)], request: &[(&str, &str)]) -> Judgement {
        let mut request = map(request);
        let conditions = Conditions::take(&mut request);
        assert!(request.is_empty());
        conditions.judge(&map(content))
    }

    #[test]
    fn tags_are_compared_as_each_condition_says() {
        use Judgement::{Failed, NotModified, Proceed};
        let strong = [("etag", "\"a\"")];
        let weak = [("etag", "W/\"a\"")];
        let cases: [(&str, Judgement, Judgement, Judgement, Judgement); 11] = [
            // The list, then what If-None-Match and If-Match say of a strong tag, and of a weak one.
            ("\"a\"", NotModified, Proceed, NotModified, Failed),
            ("W/\"a\"", NotModified, Failed, NotModified, Failed),
            ("\"b\"", Proceed, Failed, Proceed, Failed),
            ("*", NotModified, Proceed, NotModified, Proceed),
            (" * ", NotModified, Proceed, NotModified, Proceed),
            ("\"b\", \"a\"", NotModified, Proceed, NotModified, Failed),
            (",, \"b\" ,W/\"c\",\t\"a\"", NotModified, Proceed, NotModified, Failed),
            ("\"b,\", \"a\"", NotModified, Proceed, NotModified, Failed),
            ("a", Proceed, Failed, Proceed, Failed),
            ("\"A\"", Proceed, Failed, Proceed, Failed),
            ("w/\"a\"", Proceed, Failed, Proceed, Failed),
        ];
        for (list, none_strong, match_strong, none_weak, match_weak) in cases {
            assert_eq!(judged(&strong, &[("if-none-match", list)]), none_strong, "{list}");
            assert_eq!(judged(&strong, &[("if-match", list)]), match_strong, "{list}");
            assert_eq!(judged(&weak, &[("if-none-match", list)]), none_weak, "{list}");
            assert_eq!(judged(&weak, &[("if-match", list)]), match_weak, "{list}");
        }
        assert_eq!(judged(&[], &[("if-none-match", "\"a\"")]), Proceed);
        assert_eq!(judged(&[], &[("if-none-match", "*")]), NotModified);
        assert_eq!(judged(&[], &[("if-match", "\"a\"")]), Failed);
        assert_eq!(judged(&strong, &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")]), NotModified);
    }

    #[test]
    fn dates_are_compared_to_the_second() {
        use Judgement::{Failed, NotModified, Proceed};
        let content = [("last-modified", MODIFIED)];
        for (date, since, unless) in
            [(BEFORE, Proceed, Failed), (MODIFIED, NotModified, Proceed), (AFTER, NotModified, Proceed)]
        {
            assert_eq!(judged(&content, &[("if-modified-since", date)]), since, "{date}");
            assert_eq!(judged(&content, &[("if-unmodified-since", date)]), unless, "{date}");
            assert_eq!(judged(&[], &[("if-modified-since", date)]), Proceed, "no date to compare with");
            assert_eq!(judged(&[], &[("if-unmodified-since", date)]), Proceed, "no date to compare with");
        }
        let old_forms = ["Saturday, 29-Oct-94 19:43:31 GMT", "Sat Oct 29 19:43:31 1994"];
        for date in old_forms {
            assert_eq!(judged(&content, &[("if-modified-since", date)]), NotModified, "{date}");
        }
        for date in ["yesterday", "", "0"] {
            assert_eq!(judged(&content, &[("if-modified-since", date)]), Proceed, "{date}");
            assert_eq!(judged(&content, &[("if-unmodified-since", date)]), Proceed, "{date}");
        }
        let twice = [("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)];
        assert_eq!(judged(&content, &twice), Proceed, "no list is allowed");
    }

    #[test]
    fn tags_come_before_dates() {
        let content = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        let judged = |request: &[(&str, &str)]| judged(&content, request);
        assert_eq!(
            judged(&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)]),
            Judgement::Proceed,
            "If-Modified-Since does not count beside If-None-Match"
        );
        assert_eq!(
            judged(&[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)]),
            Judgement::Proceed,
            "If-Unmodified-Since does not count beside If-Match"
        );
        assert_eq!(judged(&[("if-match", "\"b\""), ("if-none-match", "\"a\"")]), Judgement::Failed);
        assert_eq!(judged(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")]), Judgement::NotModified);
        assert_eq!(judged(&[("if-unmodified-since", BEFORE), ("if-none-match", "\"a\"")]), Judgement::Failed);
    }

    #[test]
    fn a_range_counts_for_the_very_same_content() {
        let counts = |content: &[(&str, &str)], value: &'static str| {
            range_counts(&HeaderValue::from_static(value), &map(content))
        };
        let content = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        assert!(counts(&content, "\"a\"") && counts(&content, MODIFIED));
        for other in ["\"b\"", "W/\"a\"", BEFORE, AFTER, "a", "", "\"a\", \"a\"", "*"] {
            assert!(!counts(&content, other), "{other}");
        }
        assert!(!counts(&[("etag", "W/\"a\"")], "W/\"a\"") && !counts(&[("etag", "W/\"a\"")], "\"a\""));
        assert!(!counts(&[], MODIFIED) && !counts(&[], "\"a\""));
    }

    #[test]
    fn a_304_tells_what_a_cache_must_know() {
        let content = map(&[
            ("etag", "\"a\""),
            ("last-modified", MODIFIED),
            ("cache-control", "max-age=1"),
            ("content-location", "/x"),
            ("content-type", "text/plain"),
        ]);
        let headers = not_modified_headers(&content);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "content-location", "etag"]);
        assert!(not_modified_headers(&map(&[("last-modified", MODIFIED)])).contains_key(LAST_MODIFIED));
    }

    #[test]
    fn what_is_sent_on_is_what_the_client_said() {
        let mut request = map(&[
            ("if-none-match", "\"a\""),
            ("if-none-match", "\"b\""),
            ("if-modified-since", BEFORE),
            ("accept", "*/*"),
        ]);
        let conditions = Conditions::take(&mut request);
        assert_eq!(request, map(&[("accept", "*/*")]));
        let sent: HeaderMap = conditions.to_headers().into_iter().collect();
        assert_eq!(sent, map(&[("if-none-match", "\"a\", \"b\""), ("if-modified-since", BEFORE)]));
    }

    /// Tags without and with every kind of byte that may be in one.
    fn tag() -> impl Strategy<Value = String> {
        ("(W/)?", "[!#-~]{0,4}").prop_map(|(weak, inside)| format!("{weak}\"{inside}\""))
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_panic(values in proptest::collection::vec("\\PC{0,30}", 4), etag in "\\PC{0,9}") {
            let mut request = HeaderMap::new();
            for (name, value) in CONDITIONS.iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    let _ = range_counts(&value, &HeaderMap::new());
                    request.insert(name, value);
                }
            }
            let mut content = HeaderMap::new();
            if let Ok(etag) = HeaderValue::from_bytes(etag.as_bytes()) {
                content.insert(ETAG, etag);
            }
            let _ = Conditions::take(&mut request).judge(&content);
        }

        #[test]
        fn a_tag_is_found_in_any_list_that_has_it(
            before in proptest::collection::vec(tag(), 0..4), own in tag(), after in proptest::collection::vec(tag(), 0..4)
        ) {
            let list = [before.clone(), vec![own.clone()], after.clone()].concat().join(", ");
            let content = [("etag", own.as_str())];
            prop_assert_eq!(judged(&content, &[("if-none-match", &list)]), Judgement::NotModified);
            let others = [before, after].concat();
            let there = |alike: fn(&str) -> &str| others.iter().any(|tag| alike(tag) == alike(&own));
            let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
            let alike = others.iter().any(|tag| opaque(tag) == opaque(&own));
            let expected = if alike { Judgement::NotModified } else { Judgement::Proceed };
            prop_assert_eq!(judged(&content, &[("if-none-match", &others.join(", "))]), expected);
            let same = !own.starts_with("W/") && there(|tag| tag);
            let expected = if same { Judgement::Proceed } else { Judgement::Failed };
            let list = if others.is_empty() { "\"\u{e9}\"".to_owned() } else { others.join(",") };
            prop_assert_eq!(judged(&content, &[("if-match", &list)]), expected);
        }

        #[test]
        fn the_two_date_conditions_are_opposites(modified: u32, limit: u32) {
            let date = |seconds: u32| {
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into()))
            };
            let (modified, limit) = (date(modified), date(limit));
            let content = [("last-modified", modified.as_str())];
            let changed = judged(&content, &[("if-modified-since", &limit)]) == Judgement::Proceed;
            let failed = judged(&content, &[("if-unmodified-since", &limit)]) == Judgement::Failed;
            prop_assert_eq!(changed, failed);
        }
    }
}
