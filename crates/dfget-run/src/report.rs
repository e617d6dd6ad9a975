//! The one line at the end: what the daemon did for the command.

use dfget_core::decimal_size as size;
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

#[cfg(test)]
mod tests {
    use super::*;

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
