//! What a client asks of this daemon by `X-Dragonfly-*` headers, of both generations: those of the
//! Go daemon 2.0.9 and those of the Rust client.
//!
//! Pure: headers in, wishes or the reason why not out. The headers themselves never reach an
//! origin. What a client may shape by them is how its own request is treated and under which name
//! the content is shared with those that ask in the same words; it cannot make another client's
//! request mean its own content (`ContentKey`), and it cannot open what is stored (`access.rs`).

use std::fmt;

use dfget_core::{Digest, MIN_PIECE_LENGTH, UrlFilter};
use http::header::{HeaderMap, HeaderName};

const FILTER: HeaderName = HeaderName::from_static("x-dragonfly-filter");
const FILTERED: HeaderName = HeaderName::from_static("x-dragonfly-filtered-query-params");
const TAG: HeaderName = HeaderName::from_static("x-dragonfly-tag");
const APPLICATION: HeaderName = HeaderName::from_static("x-dragonfly-application");
const PRIORITY: HeaderName = HeaderName::from_static("x-dragonfly-priority");
const USE_P2P: HeaderName = HeaderName::from_static("x-dragonfly-use-p2p");
const PREFETCH: HeaderName = HeaderName::from_static("x-dragonfly-prefetch");
const DIGEST: HeaderName = HeaderName::from_static("x-dragonfly-digest");
const PIECE_LENGTH: HeaderName = HeaderName::from_static("x-dragonfly-piece-length");
const CONTENT: HeaderName = HeaderName::from_static("x-dragonfly-content-for-calculating-task-id");
const BLOB_DIGEST: HeaderName = HeaderName::from_static("x-dragonfly-enable-task-id-based-blob-digest");
const STORED_ONLY: HeaderName = HeaderName::from_static("x-dragonfly-disable-back-to-source");

// These make the daemon write a file of its host's for the client. A proxy's client need not be a
// user of that host, and the daemon may be root.
const OUTPUT_PATH: HeaderName = HeaderName::from_static("x-dragonfly-output-path");
const HARD_LINK: HeaderName = HeaderName::from_static("x-dragonfly-force-hard-link");

/// The highest number of a priority.
const LAST_PRIORITY: u8 = 6;

/// What the headers of one request ask for; what they do not mention is `None` or false.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wishes {
    /// Query keys that are no part of the content's identity.
    pub(crate) filter: Option<UrlFilter>,
    pub(crate) tag: Option<String>,
    pub(crate) application: Option<String>,
    /// 0 to 6.
    pub(crate) priority: Option<u8>,
    /// A GET becomes a task although no rule matches.
    pub(crate) use_p2p: bool,
    /// Whether a request for a range starts the download of the whole.
    pub(crate) prefetch: Option<bool>,
    /// What the content must hash to.
    pub(crate) digest: Option<Digest>,
    /// Bytes of a piece, part of the task's id.
    pub(crate) piece_length: Option<u64>,
    /// What the task's id is computed from, in place of the URL.
    pub(crate) content: Option<String>,
    /// Whether the digest in a registry's URL is the task's id.
    pub(crate) blob_digest: Option<bool>,
    /// Only what is stored already is wanted.
    pub(crate) stored_only: bool,
}

/// Why a request is refused for its headers. Repeats no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// The value is not what the header takes.
    Value { header: &'static str, expected: &'static str },
    /// The header stands there twice, with different values.
    Twice { header: &'static str },
    /// The header names a file of the daemon's host.
    File { header: &'static str },
}

// === impl Wishes ===

impl Wishes {
    /// Reads the headers of a request. An empty value counts as none.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        if let Some(header) = [OUTPUT_PATH, HARD_LINK].iter().find(|&name| headers.contains_key(name)) {
            return Err(Refused::File { header: shown(header) });
        }
        let filtered = read(headers, &FILTERED, "query keys, split by `,`", filtered_keys)?;
        Ok(Self {
            filter: match filtered {
                None => {
                    read(headers, &FILTER, "query keys, split by `&`", |text| Some(UrlFilter::parse(text)))?
                }
                filtered => filtered,
            },
            tag: read(headers, &TAG, "text", owned)?,
            application: read(headers, &APPLICATION, "text", owned)?,
            priority: read(headers, &PRIORITY, "a number from 0 to 6", priority)?,
            use_p2p: read(headers, &USE_P2P, BOOLEAN, boolean)?.unwrap_or(false),
            prefetch: read(headers, &PREFETCH, BOOLEAN, boolean)?,
            digest: read(headers, &DIGEST, "`sha256:` or `sha512:` and hex digits", |text| {
                text.parse().ok()
            })?,
            piece_length: read(
                headers,
                &PIECE_LENGTH,
                "a length from 4mib on, such as `16mib`",
                piece_length,
            )?,
            content: read(headers, &CONTENT, "text", owned)?,
            blob_digest: read(headers, &BLOB_DIGEST, BOOLEAN, boolean)?,
            stored_only: read(headers, &STORED_ONLY, BOOLEAN, boolean)?.unwrap_or(false),
        })
    }
}

const BOOLEAN: &str = "`true` or `false`";

/// The value of a header that may stand there once, or several times alike.
fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Refused> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) {
        return Err(Refused::Twice { header: shown(name) });
    }
    let wrong = Refused::Value { header: shown(name), expected };
    let text = first.to_str().map_err(|_| wrong)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).ok_or(wrong)
}

#[expect(clippy::unnecessary_wraps, reason = "one of the readers, which may fail")]
fn owned(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn filtered_keys(text: &str) -> Option<UrlFilter> {
    Some(UrlFilter::new(text.split(',').map(str::trim)))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn priority(text: &str) -> Option<u8> {
    text.parse().ok().filter(|&priority| priority <= LAST_PRIORITY)
}

/// Bytes, or a number with a unit: `kb` is 1000 bytes, `kib` is 1024, and so on.
fn piece_length(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|&length| length >= MIN_PIECE_LENGTH)
}

/// A header as its documentation writes it.
fn shown(name: &HeaderName) -> &'static str {
    const NAMES: [(HeaderName, &str); 14] = [
        (FILTER, "X-Dragonfly-Filter"),
        (FILTERED, "X-Dragonfly-Filtered-Query-Params"),
        (TAG, "X-Dragonfly-Tag"),
        (APPLICATION, "X-Dragonfly-Application"),
        (PRIORITY, "X-Dragonfly-Priority"),
        (USE_P2P, "X-Dragonfly-Use-P2P"),
        (PREFETCH, "X-Dragonfly-Prefetch"),
        (DIGEST, "X-Dragonfly-Digest"),
        (PIECE_LENGTH, "X-Dragonfly-Piece-Length"),
        (CONTENT, "X-Dragonfly-Content-For-Calculating-Task-ID"),
        (BLOB_DIGEST, "X-Dragonfly-Enable-Task-ID-Based-Blob-Digest"),
        (STORED_ONLY, "X-Dragonfly-Disable-Back-To-Source"),
        (OUTPUT_PATH, "X-Dragonfly-Output-Path"),
        (HARD_LINK, "X-Dragonfly-Force-Hard-Link"),
    ];
    NAMES.iter().find(|(known, _)| known == name).map_or("an X-Dragonfly header", |(_, shown)| shown)
}

// === impl Refused ===

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { header, expected } => write!(f, "the header {header} takes {expected}"),
            Self::Twice { header } => {
                write!(f, "the header {header} stands there twice with different values; send it once")
            }
            Self::File { header } => write!(
                f,
                "{header} would make this daemon write a file on its own host for whoever can reach the \
                 proxy, so it is not supported; leave it out and save the body where you want it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wishes(pairs: &[(&'static str, &str)]) -> Result<Wishes, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        Wishes::read(&headers).map_err(|refused| refused.to_string())
    }

    #[test]
    fn without_headers_nothing_is_wished() {
        assert_eq!(wishes(&[("authorization", "x"), ("x-dragonfly-tag", " ")]), Ok(Wishes::default()));
    }

    #[test]
    fn every_header_is_read() {
        let digest = Digest::sha256(b"x");
        let read = wishes(&[
            ("x-dragonfly-filter", "a&b"),
            ("x-dragonfly-tag", "t"),
            ("x-dragonfly-application", "app"),
            ("x-dragonfly-priority", "6"),
            ("x-dragonfly-use-p2p", "True"),
            ("x-dragonfly-prefetch", "false"),
            ("x-dragonfly-digest", &digest.to_string()),
            ("x-dragonfly-piece-length", "16MiB"),
            ("x-dragonfly-content-for-calculating-task-id", "one"),
            ("x-dragonfly-enable-task-id-based-blob-digest", "false"),
            ("x-dragonfly-disable-back-to-source", "true"),
        ]);
        let expected = Wishes {
            filter: Some(UrlFilter::parse("a&b")),
            tag: Some("t".to_owned()),
            application: Some("app".to_owned()),
            priority: Some(6),
            use_p2p: true,
            prefetch: Some(false),
            digest: Some(digest),
            piece_length: Some(16 << 20),
            content: Some("one".to_owned()),
            blob_digest: Some(false),
            stored_only: true,
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn the_later_generations_filter_is_split_by_commas_and_wins() {
        let both = wishes(&[("x-dragonfly-filter", "a"), ("x-dragonfly-filtered-query-params", "b, c&d")]);
        let filter = both.expect("a filter").filter.expect("a filter");
        assert_eq!(filter.keys().collect::<Vec<_>>(), ["b", "c&d"]);
    }

    #[test]
    fn wrong_values_are_refused_by_the_headers_name_and_never_repeated() {
        let wrong = [
            ("x-dragonfly-priority", "7"),
            ("x-dragonfly-priority", "-1"),
            ("x-dragonfly-priority", "high"),
            ("x-dragonfly-use-p2p", "yes"),
            ("x-dragonfly-prefetch", "1"),
            ("x-dragonfly-digest", "sha256:12"),
            ("x-dragonfly-digest", "md5:d41d8cd98f00b204e9800998ecf8427e"),
            ("x-dragonfly-piece-length", "1mib"),
            ("x-dragonfly-piece-length", "99999999999gib"),
            ("x-dragonfly-piece-length", "four"),
            ("x-dragonfly-tag", "\u{fc}"),
            ("x-dragonfly-disable-back-to-source", "0"),
        ];
        for (name, value) in wrong {
            let said = wishes(&[(name, value)]).expect_err(value);
            assert!(said.to_ascii_lowercase().contains(name), "{said}");
            assert!(!said.contains(value) || value.len() < 3, "{said}");
        }
    }

    #[test]
    fn one_header_has_one_value() {
        assert!(wishes(&[("x-dragonfly-tag", "a"), ("x-dragonfly-tag", "a")]).is_ok());
        let said = wishes(&[("x-dragonfly-tag", "a"), ("x-dragonfly-tag", "b")]);
        assert!(said.expect_err("two tags").contains("X-Dragonfly-Tag stands there twice"));
    }

    #[test]
    fn no_header_makes_the_daemon_write_a_file() {
        for (name, value) in
            [("x-dragonfly-output-path", "/etc/passwd"), ("x-dragonfly-force-hard-link", "false")]
        {
            let said = wishes(&[(name, value)]).expect_err(name);
            assert!(said.to_ascii_lowercase().starts_with(name) && said.contains("leave it out"), "{said}");
            assert!(!said.contains("passwd"), "{said}");
        }
    }

    #[test]
    fn lengths_have_units_of_thousands_and_of_1024() {
        let lengths = [
            ("4mib", 4 << 20),
            ("5mb", 5_000_000),
            ("1 GiB", 1 << 30),
            ("8388608", 8 << 20),
            ("1gb", 1_000_000_000),
        ];
        for (text, bytes) in lengths {
            assert_eq!(piece_length(text), Some(bytes), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_too_strange_to_be_judged(name in 0..14_usize, value in prop::collection::vec(32..=255_u8, 0..40)) {
            let names = [FILTER, FILTERED, TAG, APPLICATION, PRIORITY, USE_P2P, PREFETCH, DIGEST, PIECE_LENGTH,
                         CONTENT, BLOB_DIGEST, STORED_ONLY, OUTPUT_PATH, HARD_LINK];
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(names[name].clone(), value)]);
                if let Err(refused) = Wishes::read(&headers) {
                    prop_assert!(refused.to_string().contains("X-Dragonfly-"));
                }
            }
        }
    }
}
