//! Words on a terminal, as several commands print them.

/// Columns of a terminal.
const WIDTH: usize = 80;

/// A stretch of time, by the largest unit that fits twice.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Words behind `head`, which is as wide as `indent`, in as many lines as they need, all from the same column on.
pub(crate) fn push_words(head: &str, indent: usize, words: &str, text: &mut String) {
    let (mut line, mut used) = (head.to_owned(), indent);
    for word in words.split(' ') {
        let length = word.chars().count();
        if used > indent && used + 1 + length > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            (line, used) = (" ".repeat(indent), indent);
        }
        if used > indent {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_within_the_terminal_and_behind_their_head() {
        let mut text = String::new();
        push_words("head  ", 6, &"word ".repeat(30), &mut text);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(lines[0].starts_with("head  word") && lines[1].starts_with("      word"), "{text}");
        let mut long = String::new();
        push_words("", 0, &"x".repeat(100), &mut long);
        assert_eq!(long, format!("{}\n", "x".repeat(100)), "a word is not broken");
    }
}
