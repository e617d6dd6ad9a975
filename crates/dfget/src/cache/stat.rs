//! `dfget cache stat`.

use std::process::ExitCode;

use dfget_config::Environment;
use dfget_console::{Node, RegistryUse, Stat};
use serde::Serialize;

use super::arguments::StatArguments;
use super::failure::Failure;
use super::ls::json;
use super::place::{Make, connect};
use super::shown::{size, sum};
use crate::arguments::Output;
use crate::message;

/// What is printed as JSON.
#[derive(Serialize)]
struct Both<'a> {
    node: &'a Node,
    stat: &'a Stat,
}

/// Prints how much is stored.
pub(super) fn run(arguments: &StatArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut client = connect(&arguments.place, environment, Make::No)?;
    let node: Node = client.get("/api/v1/node")?;
    let stat: Stat = client.get("/api/v1/stat")?;
    let text = match arguments.output {
        Output::Json => json(&Both { node: &node, stat: &stat })?,
        Output::Text => to_text(&node, &stat),
    };
    message::output(text).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn to_text(node: &Node, stat: &Stat) -> String {
    let mut lines = Vec::new();
    match &node.store {
        Some(store) => {
            let quota = store
                .quota_bytes
                .map_or_else(|| "no quota".to_owned(), |quota| format!("of {}", size(quota)));
            let free =
                store.free_bytes.map(|free| format!("; {} free on the disk", size(free))).unwrap_or_default();
            lines.push(format!("store   {}", store.place));
            lines.push(format!("used    {} ({quota}){free}", size(store.used_bytes)));
        }
        None => lines.push(format!("store   none: {}", node.no_store.as_deref().unwrap_or_default())),
    }
    let whole = format!("{}, {} whole", sum(stat.contents, stat.bytes), stat.complete);
    lines.push(format!("holds   {whole}"));
    lines.push(format!(
        "served  {} times from here: about {} not fetched again",
        stat.uses,
        size(stat.served_bytes)
    ));
    if stat.registries.is_empty() && stat.without_registry.contents == 0 {
        return lines.join("\n");
    }
    let others = &stat.without_registry;
    let none = RegistryUse { authority: "(none)".to_owned(), ..others.clone() };
    let rows: Vec<_> = stat.registries.iter().chain((others.contents > 0).then_some(&none)).collect();
    let widest = rows.iter().map(|row| row.authority.chars().count()).max().unwrap_or(0).max(8);
    let line = |name: &str, cells: [&str; 4]| {
        let [contents, bytes, uses, served] = cells;
        format!("{name:<widest$}  {contents:>8}  {bytes:>10}  {uses:>6}  {served:>10}")
    };
    lines.push(String::new());
    lines.push(line("REGISTRY", ["CONTENTS", "SIZE", "USES", "SAVED"]));
    for row in rows {
        let (contents, uses) = (row.contents.to_string(), row.uses.to_string());
        lines.push(line(&row.authority, [&contents, &size(row.bytes), &uses, &size(row.served_bytes)]));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use dfget_console::NodeStore;

    use super::*;

    #[test]
    fn sums_stand_above_their_registries() {
        let store = NodeStore {
            place: "/var/lib/dragonfly".to_owned(),
            contents: 3,
            used_bytes: 3 << 30,
            quota_bytes: Some(100 << 30),
            disk_bytes: Some(1 << 40),
            free_bytes: Some(1 << 39),
        };
        let node = Node { store: Some(store), ..Node::default() };
        let registry = |authority: &str, contents| RegistryUse {
            authority: authority.to_owned(),
            contents,
            bytes: contents << 30,
            uses: 4,
            served_bytes: 4 << 30,
        };
        let stat = Stat {
            contents: 3,
            complete: 2,
            bytes: 3 << 30,
            uses: 4,
            served_bytes: 4 << 30,
            registries: vec![registry("https://registry.example.org", 2)],
            without_registry: RegistryUse { contents: 1, ..RegistryUse::default() },
        };
        let expected = "\
store   /var/lib/dragonfly
used    3.0 GiB (of 100.0 GiB); 512.0 GiB free on the disk
holds   3 contents, 3.0 GiB, 2 whole
served  4 times from here: about 4.0 GiB not fetched again

REGISTRY                      CONTENTS        SIZE    USES       SAVED
https://registry.example.org         2     2.0 GiB       4     4.0 GiB
(none)                               1         0 B       0         0 B";
        assert_eq!(to_text(&node, &stat), expected);
        let none = Node { no_store: Some("the disk is gone".to_owned()), ..Node::default() };
        assert!(
            to_text(&none, &Stat::default())
                .starts_with("store   none: the disk is gone\nholds   0 contents")
        );
    }
}
