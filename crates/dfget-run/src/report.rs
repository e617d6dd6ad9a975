//! The one line at the end: what the daemon did for the command.

use dfget_lease::Spared;

/// What was spared, in words; `None` where no image was pulled.
pub(crate) fn line(spared: Spared) -> Option<String> {
    let Spared { tasks, bytes, spared_tasks, spared_bytes, .. } = spared;
    if tasks == 0 {
        return None;
    }
    let all = size(bytes);
    Some(if spared_bytes == bytes && spared_tasks == tasks {
        format!("{all} came from this node; no registry sent a byte of it for this command")
    } else if spared_bytes < bytes / 1000 || spared_bytes == 0 {
        format!("{all} came from the registry and are kept on this node")
    } else {
        let rest = size(bytes.saturating_sub(spared_bytes));
        format!("of {all}, {} came from this node and {rest} from the registry", size(spared_bytes))
    })
}

/// Bytes with three digits that count, in decimal units.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    match value {
        _ if unit == "B" => format!("{bytes} B"),
        _ if value < 9.995 => format!("{value:.2} {unit}"),
        _ if value < 99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (66_100_000, "66.1 MB"),
            (999_600, "1.00 MB"),
            (1_570_000_000, "1.57 GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_line_tells_where_the_bytes_came_from() {
        let of = |tasks, bytes, spared_tasks, spared_bytes| {
            line(Spared { tasks, bytes, spared_tasks, spared_bytes, sources: None })
        };
        assert_eq!(of(0, 0, 0, 0), None);
        assert!(of(2, 100, 2, 100).is_some_and(|line| line.starts_with("100 B came from this node;")));
        assert!(of(2, 100_000, 1, 2).is_some_and(|line| line.contains("100 kB came from the registry")));
        assert!(of(2, 100, 0, 0).is_some_and(|line| line.contains("from the registry and are kept")));
        assert_eq!(
            of(2, 100, 1, 60).as_deref(),
            Some("of 100 B, 60 B came from this node and 40 B from the registry")
        );
    }
}
