//! Numbers and names as people read them, and how much room they take on a terminal.

pub(crate) use crate::words::span;
pub(crate) use dfget_core::binary_size as size;

/// Bytes a second.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// A number with its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What part of the whole, in percent, at most 100; of nothing 0.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100).min(100)
}

/// The name in the id of a host, which is `ADDRESS-NAME`; else the text itself.
pub(crate) fn node(id: &str) -> &str {
    let named = id.split_once('-').filter(|(address, _)| address.parse::<std::net::IpAddr>().is_ok());
    named.map_or(id, |(_, name)| name)
}

/// Columns that a character takes on a terminal: two for those of East Asia and most pictures, none for those that
/// join others. In doubt one.
fn columns(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The text in at most so many columns, without what a terminal would obey; `…` says that it was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let plain = |character: char| {
        let disturbs =
            character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if disturbs { '?' } else { character }
    };
    let clean: String = text.chars().map(plain).collect();
    if width(&clean) <= most {
        return clean;
    }
    let (mut used, mut shown) = (0, String::new());
    for character in clean.chars() {
        used += columns(character);
        if used >= most {
            break;
        }
        shown.push(character);
    }
    if most > 0 {
        shown.push('…');
    }
    shown
}

/// The text in exactly so many columns, at the left.
pub(crate) fn left(text: &str, columns: usize) -> String {
    let shown = cut(text, columns);
    let room = columns.saturating_sub(width(&shown));
    shown + &" ".repeat(room)
}

/// The text in exactly so many columns, at the right.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let shown = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&shown))) + &shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 119, 120, 7200, 172_800].map(span), ["0 s", "119 s", "2 min", "2 h", "2 d"]);
        assert_eq!((percent(0, 0), percent(1, 3), percent(u64::MAX, 1)), (0, 33, 100));
        assert_eq!(
            (count(1, "node", "nodes"), count(2, "node", "nodes")),
            ("1 node".into(), "2 nodes".into())
        );
    }

    #[test]
    fn hosts_are_called_by_their_names() {
        let names = ["10.0.0.1-n-1", "fe80::1-x", "n-1", "10.0.0.1"].map(node);
        assert_eq!(names, ["n-1", "x", "n-1", "10.0.0.1"]);
    }

    #[test]
    fn texts_take_the_room_they_are_given_and_move_no_cursor() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("a\u{1b}[2J\n\u{202e}", 9), "a?[2J??");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(
            (left("ab", 4), right("ab", 4), left("日本語", 4)),
            ("ab  ".into(), "  ab".into(), "日… ".into())
        );
        for columns in 0..12 {
            assert_eq!(width(&left("日本語 and more", columns)), columns);
        }
    }
}
