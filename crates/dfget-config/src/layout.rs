//! The two places where keys of the proxy may stand.
//!
//! Dragonfly 2.0.9 looks below `proxy`, or in a file that `proxy` names; its documentation for
//! Singularity writes them at the top level. Both are taken; what stands below `proxy` wins, and
//! that is said.

use crate::{
    Code,
    options::{self, PROXY},
    read::{Field, Section},
    report::Report,
    yaml::{Data, Node},
};

/// The file, sorted into the daemon's keys and the proxy's.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) daemon: Section<'a>,
    /// `None` when there is no key of the proxy at all.
    pub(crate) proxy: Option<Section<'a>>,
}

/// The keys at the top of a file; none when it is empty or no mapping, which is an error.
pub(crate) fn top<'a>(root: &'a Node, report: &mut Report) -> Section<'a> {
    match &root.data {
        Data::Null => Section::default(),
        Data::Map(entries) => Section::of(entries, ""),
        Data::Scalar { .. } | Data::List(_) => {
            let subject = crate::report::Subject { mark: Some(root.mark), file: None, key: None };
            let remedy = "write `key: value` lines; docs/configuration.md has an example";
            report.error(subject, Code::WrongType, "the file is no mapping of keys", remedy);
            Section::default()
        }
    }
}

/// The name of the file that holds the proxy's keys, when `proxy` is text.
pub(crate) fn separate_file<'a>(top: &Section<'a>) -> Option<(Field<'a>, &'a str)> {
    let field = top.get("proxy")?;
    match &field.node.data {
        Data::Scalar { text, .. } => Some((field.clone(), text)),
        _ => None,
    }
}

/// Sorts the keys; `separate` are those of the proxy's own file.
pub(crate) fn arrange<'a>(
    top: Section<'a>,
    separate: Option<Section<'a>>,
    report: &mut Report,
) -> Layout<'a> {
    let nested = match (separate, top.get("proxy")) {
        (Some(section), _) => section,
        (None, Some(field)) if !matches!(field.node.data, Data::Scalar { .. }) => {
            field.section(report).unwrap_or_default()
        }
        _ => Section::default(),
    };
    let mut proxy = nested.clone();
    let mut daemon = Section::default();
    for field in top.fields {
        if field.name.eq_ignore_ascii_case("proxy") {
            continue;
        }
        if !is_of_proxy(&field) {
            daemon.fields.push(field);
            continue;
        }
        match nested.get(field.name) {
            Some(winner) if !field.is_null() => shadowed(&field, winner, report),
            _ => proxy.fields.push(field),
        }
    }
    let is_set = proxy.fields.iter().any(|field| !field.is_null());
    Layout { daemon, proxy: is_set.then_some(proxy) }
}

fn shadowed(field: &Field<'_>, winner: &Field<'_>, report: &mut Report) {
    let file = report.file(winner.key_mark.file).map(|file| file.display().to_string()).unwrap_or_default();
    let line = winner.key_mark.line;
    let problem = format!("ignored: `{}` in {file}, line {line}, says it too, and wins", winner.path);
    let remedy = format!("keep one of the two, in line {} or in line {line}", field.key_mark.line);
    report.warn(field.key(), Code::Shadowed, problem, remedy);
}

/// Whether a key at the top level belongs to the proxy.
///
/// `security` is both: the cluster's when it holds a key that only the cluster's has.
fn is_of_proxy(field: &Field<'_>) -> bool {
    if options::find(PROXY, field.name).is_none() {
        return false;
    }
    let Data::Map(entries) = &field.node.data else {
        return !field.name.eq_ignore_ascii_case("security");
    };
    let of_listener = |key: &str| LISTENER_ONLY.iter().any(|name| name.eq_ignore_ascii_case(key));
    !field.name.eq_ignore_ascii_case("security") || entries.iter().any(|entry| of_listener(&entry.key))
}

/// Keys that `security` of a listener has, and `security` of the cluster has not.
const LISTENER_ONLY: &[&str] = &["insecure", "cert", "key", "tlsConfig"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn arranged(text: &str) -> (Vec<String>, Option<Vec<String>>, Vec<String>) {
        let mut report = Report::default();
        let file = report.add_file("f".into());
        let document = yaml::parse(file, text.as_bytes()).unwrap();
        let top = top(&document.root, &mut report);
        let layout = arrange(top, None, &mut report);
        let paths = |section: &Section<'_>| section.fields.iter().map(|f| f.path.clone()).collect();
        let (errors, warnings) = report.into_parts();
        let said = errors.iter().chain(&warnings).map(ToString::to_string).collect();
        (paths(&layout.daemon), layout.proxy.as_ref().map(paths), said)
    }

    #[test]
    fn keys_of_the_proxy_are_found_at_the_top_level_and_below_proxy() {
        let (daemon, proxy, said) =
            arranged("verbose: true\nHIJACKHTTPS: {cert: a}\nproxy: {proxies: [], typo: 1}\n");
        assert_eq!(daemon, ["verbose"]);
        assert_eq!(proxy.unwrap(), ["proxy.proxies", "proxy.typo", "HIJACKHTTPS"]);
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn the_nested_key_wins_and_both_lines_are_named() {
        let (_, proxy, said) = arranged("proxies: [{regx: a}]\nproxy:\n  Proxies: [{regx: b}]\n");
        assert_eq!(proxy.unwrap(), ["proxy.Proxies"]);
        assert_eq!(
            said,
            ["f:1:1: proxies: ignored: `proxy.Proxies` in f, line 3, says it too, and wins; \
              keep one of the two, in line 1 or in line 3"]
        );
    }

    #[test]
    fn without_a_key_of_the_proxy_there_is_no_proxy() {
        for text in ["", "verbose: true", "proxy:", "proxy: {}", "hijackHTTPS:\nproxy: {proxies: ~}"] {
            assert_eq!(arranged(text).1, None, "{text}");
        }
        assert!(arranged("registryMirror: {url: x}").1.is_some());
    }

    #[test]
    fn security_at_the_top_is_the_clusters_unless_it_is_a_listeners() {
        assert_eq!(arranged("security: {autoIssueCert: false}").0, ["security"]);
        assert_eq!(arranged("security: {insecure: true}").1.unwrap(), ["security"]);
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused() {
        for text in ["[a, b]", "just text"] {
            let (_, _, said) = arranged(text);
            assert_eq!(
                said,
                ["f:1:1: the file is no mapping of keys; \
                  write `key: value` lines; docs/configuration.md has an example"]
            );
        }
        assert!(arranged("proxy: [a]").2[0].starts_with("f:1:8: proxy: a mapping belongs here (got a list)"));
    }
}
