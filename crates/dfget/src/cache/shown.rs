//! Contents as lines of a table.

use std::io::{IsTerminal as _, stdout};

use dfget_console::{Content, Kind};
use rustix::termios::tcgetwinsize;

pub(super) use crate::cluster::{age, size};

/// Columns before and after that of the origin, with two blanks between each.
const OTHERS: usize = 12 + 2 + 8 + 2 + 10 + 2 + 4 + 2 + 2 + 8 + 2 + 5;
/// Less of an origin than this says nothing.
const LEAST_ORIGIN: usize = 20;

/// Columns of the terminal; `None` if standard output is none.
pub(super) fn width() -> Option<usize> {
    let stdout = stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A table of contents; `now` in seconds since 1970, `width` the columns it may have.
pub(super) fn table(contents: &[Content], now: u64, width: Option<usize>) -> String {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(OTHERS).max(LEAST_ORIGIN));
    let origins: Vec<_> = contents.iter().map(|content| cut(&origin(content), room)).collect();
    let widest = origins.iter().map(|origin| origin.chars().count()).max().unwrap_or(0).max(4);
    let line = |cells: [&str; 6], origin: &str| {
        let [digest, kind, size, here, used, uses] = cells;
        format!("{digest:<12}  {kind:<8}  {size:>10}  {here:>4}  {origin:<widest$}  {used:>8}  {uses:>5}")
    };
    let mut lines = vec![line(["DIGEST", "KIND", "SIZE", "HERE", "USED", "USES"], "FROM")];
    for (content, origin) in contents.iter().zip(&origins) {
        let size = content.size.map_or_else(|| "?".to_owned(), size);
        let (digest, used, uses) = (short(content), age(content.last_used_at, now), content.uses.to_string());
        lines.push(line([&digest, kind(content.kind), &size, &here(content), &used, &uses], origin));
    }
    lines.join("\n")
}

/// `3 contents, 1.2 GiB`.
pub(super) fn sum(contents: u64, bytes: u64) -> String {
    let word = if contents == 1 { "content" } else { "contents" };
    format!("{contents} {word}, {}", size(bytes))
}

/// The name of a content in a line of text.
pub(super) fn name(content: &Content) -> String {
    match &content.digest {
        Some(digest) => format!("{digest} ({})", origin(content)),
        None => origin(content),
    }
}

/// Twelve digits, as container tools show them.
fn short(content: &Content) -> String {
    let digest = content.digest.as_deref().and_then(|digest| digest.split_once(':'));
    digest.map_or_else(|| "-".to_owned(), |(_, hex)| hex.chars().take(12).collect())
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Blob => "blob",
        Kind::Manifest => "manifest",
        Kind::Url => "url",
    }
}

/// How much of it is here, in percent; rounded down, so that only what is whole has 100.
fn here(content: &Content) -> String {
    match content.size {
        _ if content.complete => "100%".to_owned(),
        Some(size) if size > 0 => {
            let percent = u128::from(content.stored_bytes) * 100 / u128::from(size);
            format!("{}%", percent.min(99))
        }
        _ => "?".to_owned(),
    }
}

/// Where it is from: the first place, and how many more there are.
fn origin(content: &Content) -> String {
    let places = content.origins.iter().flat_map(|origin| {
        let host = origin.authority.strip_prefix("https://").unwrap_or(&origin.authority);
        let tagged = |place: &String| origin.tags.keys().any(|tag| is_tag_of(tag, place));
        let places = origin.places.iter().filter(move |place| !tagged(place)).chain(origin.tags.keys());
        let named = places.map(move |place| format!("{host}/{}", place.trim_start_matches('/')));
        let bare = origin.places.is_empty().then(|| host.to_owned());
        named.chain(bare)
    });
    let places: Vec<_> = places.collect();
    match places.as_slice() {
        [] if content.imported => "imported".to_owned(),
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    }
}

/// Whether `tag` (`repository:tag`) is one of `repository`.
fn is_tag_of(tag: &str, repository: &str) -> bool {
    tag.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':'))
}

/// The text, cut in its middle so that it has `room` columns at most.
fn cut(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let (before, after) = (room.saturating_sub(1) / 2, room - 1 - room.saturating_sub(1) / 2);
    let first: String = text.chars().take(before).collect();
    let last: String = text.chars().skip(length - after).collect();
    format!("{first}…{last}")
}

#[cfg(test)]
mod tests {
    use dfget_console::Origin;

    use super::*;

    fn content(hex: &str, size: u64, stored: u64) -> Content {
        let places = vec!["lab/image".to_owned()];
        Content {
            digest: Some(format!("sha256:{hex}")),
            kind: Kind::Blob,
            size: Some(size),
            stored_bytes: stored,
            complete: size == stored,
            origins: vec![Origin {
                authority: "https://registry.example.org".to_owned(),
                places,
                ..Origin::default()
            }],
            last_used_at: 1000,
            uses: 7,
            ..Content::default()
        }
    }

    #[test]
    fn a_table_has_its_columns() {
        let mut several = content("ff".repeat(32).as_str(), 1000, 999);
        several.origins.push(Origin { authority: "http://other.test:5000".to_owned(), ..Origin::default() });
        let imported = Content {
            imported: true,
            complete: true,
            size: Some(2),
            kind: Kind::Manifest,
            digest: Some(format!("sha256:{}", "0".repeat(64))),
            last_used_at: 900_000,
            ..Content::default()
        };
        let contents = [content(&"ab".repeat(32), 3 << 30, 3 << 30), several, imported];
        let expected = "\
DIGEST        KIND            SIZE  HERE  FROM                                   USED   USES
abababababab  blob         3.0 GiB  100%  registry.example.org/lab/image         11 d      7
ffffffffffff  blob          1000 B   99%  registry.example.org/lab/image +1      11 d      7
000000000000  manifest         2 B  100%  imported                              27 h      0";
        let shown = table(&contents, 1_000_000, None);
        let expected: Vec<_> =
            expected.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines, expected, "{shown}");
        let narrow = table(&contents, 1_000_000, Some(80));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains("registry."), "{narrow}");
    }

    #[test]
    fn a_manifest_is_shown_by_its_tag() {
        let mut manifest = content(&"ab".repeat(32), 10, 10);
        manifest.origins[0].tags.insert("lab/image:1".to_owned(), 7);
        assert_eq!(origin(&manifest), "registry.example.org/lab/image:1");
        manifest.origins[0].places.push("lab/images".to_owned());
        assert_eq!(origin(&manifest), "registry.example.org/lab/images +1");
    }

    #[test]
    fn a_long_origin_keeps_both_its_ends() {
        assert_eq!(cut("registry.example.org/lab/image", 11), "regis…image");
        assert_eq!(cut("short", 5), "short");
    }
}
