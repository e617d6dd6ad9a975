//! The text format 0.0.4, which scrapers get that do not ask for another: older ones, `curl`, `promtool check metrics`.

/// What stands in the OpenMetrics text format, in the older one: there a counter's family has the name of its samples,
/// and nothing marks the end.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take().filter(|(described, _)| *described == name) {
                text.push_str(&format!("# HELP {name}{suffix} {words}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_the_name_of_its_samples_and_all_else_stays() {
        let open = "# HELP a Things, in all.\n# TYPE a counter\na_total{x=\"# TYPE a\"} 1\n# HELP b_bytes B.\n\
                    # TYPE b_bytes gauge\n# UNIT b_bytes bytes\nb_bytes 2\n# TYPE c counter\nc_total 3\n# EOF\n";
        let expected = "# HELP a_total Things, in all.\n# TYPE a_total counter\na_total{x=\"# TYPE a\"} 1\n\
                        # HELP b_bytes B.\n# TYPE b_bytes gauge\nb_bytes 2\n# TYPE c_total counter\nc_total 3\n";
        assert_eq!(plain(open), expected);
    }
}
