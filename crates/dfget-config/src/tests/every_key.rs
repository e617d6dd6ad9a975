//! A file that sets every key of Dragonfly 2.0.9, and of the clients after it, at once.

use std::collections::BTreeSet;

use super::{load_files, machine};
use crate::{
    Code, options,
    yaml::{self, Data, Node},
};

const EVERY_KEY: &str = include_str!("every-key.yaml");

/// The ways to all keys of the file, in the notation of the table.
fn paths(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.data {
        Data::Map(entries) => {
            for entry in entries {
                let name = if path.ends_with("resourceClients") { "NAME" } else { entry.key.as_str() };
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                found.insert(path.to_ascii_lowercase());
                paths(&entry.value, &path, found);
            }
        }
        Data::List(items) => {
            for item in items {
                paths(item, &format!("{path}[]"), found);
            }
        }
        Data::Null | Data::Scalar { .. } => {}
    }
}

#[test]
fn every_key_of_dragonfly_is_known_and_none_is_an_error() {
    let loaded = load_files(machine().with("/etc/dragonfly/dfget.yaml", EVERY_KEY)).unwrap();
    let unknown: Vec<_> = loaded.warnings.iter().filter(|warning| warning.code == Code::UnknownKey).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let mut lines: Vec<_> = loaded
        .warnings
        .iter()
        .filter(|warning| warning.code == Code::NotSupported)
        .map(|warning| warning.key.clone().unwrap())
        .collect();
    let all = lines.len();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), all, "a key was warned about twice");
    for key in ["scheduler.manager", "host.listenIP", "upload.security", "objectStorage", "security"] {
        assert!(lines.iter().any(|line| line == key), "no warning for {key}: {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("scheduler.manager.")), "{lines:?}");
}

#[test]
fn the_file_and_the_table_hold_the_same_keys() {
    let document = yaml::parse(0, EVERY_KEY.as_bytes()).unwrap();
    let mut written = BTreeSet::new();
    paths(&document.root, "", &mut written);
    for (path, option) in options::flatten() {
        let path = path.to_ascii_lowercase();
        assert!(written.contains(&path), "{path} ({}) is not in every-key.yaml", option.doc);
    }
}
