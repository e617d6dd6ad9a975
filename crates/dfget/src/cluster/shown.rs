//! How the members of a cluster are, as a table and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use dfget_core::binary_size as size;
use dfget_daemon::{ClusterSeen, MemberSeen, NodeTold, SchedulerSeen};
use serde_json::{Value, json};

use crate::words::span;

/// The columns; those from the fifth on are numbers.
const HEADS: [&str; COLUMNS] = [
    "MEMBER",
    "STATE",
    "VERSION",
    "SINCE",
    "STORED",
    "RUNNING",
    "SCHEDULED",
    "FROM PEERS",
    "FROM ORIGIN",
    "TO PEERS",
];
const COLUMNS: usize = 10;
const SCHEDULER: &str = "DRAGONFLY SCHEDULER";
const NUMBERS_FROM: usize = 3;

/// Seconds by which a clock may be ahead before that is worth a word.
const CLOCK: u64 = 60;

/// What all members that are up have together.
#[derive(Default)]
struct Total {
    up: usize,
    stored: u64,
    running: u64,
    scheduled: u64,
    from_peers: u64,
    from_origin: u64,
    to_peers: u64,
}

// === impl Total ===

impl Total {
    fn of(seen: &ClusterSeen) -> Self {
        let mut total = Self::default();
        for told in seen.members.iter().filter_map(|member| member.told.as_ref()) {
            total.up += 1;
            for (sum, one) in [
                (&mut total.stored, told.stored_tasks),
                (&mut total.running, told.running_tasks),
                (&mut total.scheduled, told.scheduled_tasks),
                (&mut total.from_peers, told.bytes_from_peers),
                (&mut total.from_origin, told.bytes_from_origin),
                (&mut total.to_peers, told.bytes_to_peers),
            ] {
                *sum = sum.saturating_add(one);
            }
        }
        total
    }
}

/// A table, a line for each member; `now` in seconds since 1970.
pub(super) fn to_text(seen: &ClusterSeen, by_daemon: Option<&Path>, now: u64) -> String {
    let total = Total::of(seen);
    let versions = versions(seen);
    let usual = usual(&versions);
    if !seen.schedulers.is_empty() {
        return joined_text(seen, by_daemon, now);
    }
    let mut rows = vec![Row::Whole(HEADS.map(str::to_owned))];
    rows.extend(seen.members.iter().map(|member| row(member, usual, now)));
    rows.push(Row::Whole([
        "total".to_owned(),
        format!("{} of {} up", total.up, seen.members.len()),
        String::new(),
        String::new(),
        total.stored.to_string(),
        total.running.to_string(),
        total.scheduled.to_string(),
        size(total.from_peers),
        size(total.from_origin),
        size(total.to_peers),
    ]));
    let mut text = table(&rows);
    if versions.len() > 1 {
        let each = versions.iter().map(|(version, members)| format!("{version} on {members}"));
        let each = each.collect::<Vec<_>>().join(", ");
        text.push_str(&format!("\n* versions differ: {each}; nodes of one version work best"));
    }
    if let Some(ahead) = ahead(seen, now) {
        text.push_str(&format!("\nthe clock of {ahead} is ahead of this node's: compare them"));
    }
    if let Some(socket) = by_daemon {
        text.push_str(&format!("\nas the daemon at {} sees it", socket.display()));
    }
    text
}

/// The same of a node that has joined a Dragonfly cluster: its schedulers, and what the node itself has.
fn joined_text(seen: &ClusterSeen, by_daemon: Option<&Path>, now: u64) -> String {
    let width = seen.schedulers.iter().map(|scheduler| scheduler.name.chars().count()).max().unwrap_or(0);
    let width = width.max(SCHEDULER.len());
    let mut text = format!("{SCHEDULER:<width$}  STATE");
    for SchedulerSeen { name, down } in &seen.schedulers {
        let (state, gap, why) = match down {
            Some(why) => ("down", "  ", why.as_str()),
            None => ("up", "", ""),
        };
        text.push_str(&format!("\n{name:<width$}  {state}{gap}{why}"));
    }
    if !seen.members.is_empty() {
        let mut rows = vec![Row::Whole(HEADS.map(str::to_owned))];
        rows.extend(seen.members.iter().map(|member| row(member, None, now)));
        text.push_str(&format!("\n\n{}", table(&rows)));
    }
    match by_daemon {
        Some(socket) => text.push_str(&format!("\nas the daemon at {} sees it", socket.display())),
        None => text.push_str("\nno daemon of this node has joined them"),
    }
    text
}

/// One line of the table: all columns, or name, state and why.
enum Row {
    Whole([String; COLUMNS]),
    Down { name: String, why: String },
}

fn row(member: &MemberSeen, usual: Option<&str>, now: u64) -> Row {
    let name = format!("{}{}", member.name, if member.own { " (this node)" } else { "" });
    let Some(told) = &member.told else {
        let why = member.down.clone().unwrap_or_default();
        return Row::Down { name, why };
    };
    let mark = if usual.is_some_and(|usual| usual != told.version) { "*" } else { "" };
    Row::Whole([
        name,
        "up".to_owned(),
        format!("{}{mark}", told.version),
        age(told.started_at, now),
        told.stored_tasks.to_string(),
        told.running_tasks.to_string(),
        told.scheduled_tasks.to_string(),
        size(told.bytes_from_peers),
        size(told.bytes_from_origin),
        size(told.bytes_to_peers),
    ])
}

fn table(rows: &[Row]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        match row {
            Row::Whole(cells) => {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
            Row::Down { name, .. } => widths[0] = widths[0].max(name.chars().count()),
        }
    }
    let line = |row: &Row| match row {
        Row::Down { name, why } => format!("{name:<0$}  {1:<2$}  {why}", widths[0], "down", widths[1]),
        Row::Whole(cells) => {
            let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                if column < NUMBERS_FROM { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        }
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How many members run each version.
fn versions(seen: &ClusterSeen) -> BTreeMap<&str, usize> {
    let mut versions = BTreeMap::new();
    for told in seen.members.iter().filter_map(|member| member.told.as_ref()) {
        *versions.entry(told.version.as_str()).or_default() += 1;
    }
    versions
}

/// The version that most members run.
fn usual<'a>(versions: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    versions.iter().max_by_key(|(_, members)| **members).map(|(version, _)| *version)
}

/// The first member that says that it began later than now.
fn ahead(seen: &ClusterSeen, now: u64) -> Option<&str> {
    let is_ahead = |told: &NodeTold| told.started_at > now.saturating_add(CLOCK);
    let ahead = seen.members.iter().find(|member| member.told.as_ref().is_some_and(is_ahead));
    ahead.map(|member| member.name.as_str())
}

/// For how long, by the largest unit that fits twice.
pub(crate) fn age(since: u64, now: u64) -> String {
    let seconds = now.saturating_sub(since);
    if since == 0 { "-".to_owned() } else { span(seconds) }
}

/// `version` grows when a field changes its meaning or goes.
pub(super) fn to_json(seen: &ClusterSeen, by_daemon: Option<&Path>, now: u64) -> Value {
    let total = Total::of(seen);
    let versions = versions(seen);
    let usual = usual(&versions);
    json!({
        "version": 1,
        "keyFingerprint": seen.key,
        "askedDaemon": by_daemon.map(|socket| socket.display().to_string()),
        "members": seen.members.iter().map(|member| member_json(member, usual, now)).collect::<Vec<_>>(),
        "total": {
            "members": seen.members.len(),
            "up": total.up,
            "down": seen.members.len() - total.up,
            "tasks": tasks(total.stored, total.running, total.scheduled),
            "bytes": bytes(total.from_peers, total.from_origin, total.to_peers),
        },
        "versions": versions
            .iter()
            .map(|(version, members)| json!({ "version": version, "members": members }))
            .collect::<Vec<_>>(),
        "remarks": seen.remarks,
        "schedulers": seen.schedulers.iter().map(scheduler_json).collect::<Vec<_>>(),
    })
}

fn member_json(member: &MemberSeen, usual: Option<&str>, now: u64) -> Value {
    let told = member.told.as_ref();
    let text = |field: fn(&NodeTold) -> &String| told.map(field).filter(|text| !text.is_empty());
    json!({
        "name": member.name,
        "thisNode": member.own,
        "state": if told.is_some() { "up" } else { "down" },
        "reason": member.down,
        "hostname": text(|told| &told.hostname),
        "ip": text(|told| &told.ip),
        "version": text(|told| &told.version),
        "otherVersion": told.is_some_and(|told| usual.is_some_and(|usual| usual != told.version)),
        "startedAt": told.map(|told| told.started_at),
        "upSeconds": told.map(|told| now.saturating_sub(told.started_at)),
        "knownHosts": told.map(|told| told.known_hosts),
        "tasks": told.map(|told| tasks(told.stored_tasks, told.running_tasks, told.scheduled_tasks)),
        "bytes": told.map(|told| bytes(told.bytes_from_peers, told.bytes_from_origin, told.bytes_to_peers)),
    })
}

fn scheduler_json(scheduler: &SchedulerSeen) -> Value {
    let state = if scheduler.down.is_none() { "up" } else { "down" };
    json!({ "name": scheduler.name, "state": state, "reason": scheduler.down })
}

fn tasks(stored: u64, running: u64, scheduled: u64) -> Value {
    json!({ "stored": stored, "running": running, "scheduled": scheduled })
}

fn bytes(from_peers: u64, from_origin: u64, to_peers: u64) -> Value {
    json!({ "fromPeers": from_peers, "fromOrigin": from_origin, "toPeers": to_peers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_joined_cluster_the_schedulers_are_told_and_this_node() {
        let scheduler = |name: &str, down: Option<&str>| SchedulerSeen {
            name: name.to_owned(),
            down: down.map(str::to_owned),
        };
        let schedulers = vec![scheduler("10.0.0.1:8002", None), scheduler("10.0.0.2:8002", Some("no route"))];
        let members = vec![up("n1:1", "1", 0)];
        let mut seen = ClusterSeen { members, schedulers, ..ClusterSeen::default() };
        let text = to_text(&seen, Some(Path::new("/s")), 1000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            ["DRAGONFLY SCHEDULER  STATE", "10.0.0.1:8002        up", "10.0.0.2:8002        down  no route",]
        );
        assert!(lines[5].starts_with("n1:1 (this node)  up"), "{text}");
        seen.members.clear();
        assert!(to_text(&seen, None, 1000).ends_with("no daemon of this node has joined them"));
        assert_eq!(to_json(&seen, None, 0)["schedulers"][1]["reason"], "no route");
    }

    fn up(name: &str, version: &str, bytes: u64) -> MemberSeen {
        let told = NodeTold {
            version: version.to_owned(),
            hostname: "h".to_owned(),
            ip: "10.0.0.1".to_owned(),
            started_at: 1000,
            stored_tasks: 2,
            running_tasks: 1,
            scheduled_tasks: 7,
            known_hosts: 3,
            bytes_from_peers: bytes,
            bytes_from_origin: 0,
            bytes_to_peers: 5,
        };
        MemberSeen { name: name.to_owned(), own: name == "n1:1", down: None, told: Some(told) }
    }

    fn seen() -> ClusterSeen {
        let down = MemberSeen {
            name: "n3:1".to_owned(),
            down: Some("nobody answers".to_owned()),
            ..MemberSeen::default()
        };
        let members =
            vec![up("n1:1", "0.2.0", 3 << 20), up("n2:1", "0.2.0", 1), down, up("n4:1", "0.1.0", 0)];
        ClusterSeen { key: "abc".to_owned(), members, ..ClusterSeen::default() }
    }

    #[test]
    fn the_table_has_a_line_for_each_member_and_a_total() {
        let text = to_text(&seen(), Some(Path::new("/run/s")), 1000 + 7200);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().next(), Some("MEMBER"));
        let first: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(first.join(" "), "n1:1 (this node) up 0.2.0 2 h 2 1 7 3.0 MiB 0 B 5 B");
        assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>().join(" "), "n3:1 down nobody answers");
        assert!(lines[4].contains("0.1.0*"), "{text}");
        let total: Vec<_> = lines[5].split_whitespace().collect();
        assert_eq!(total.join(" "), "total 3 of 4 up 6 3 21 3.0 MiB 0 B 15 B");
        assert_eq!(lines[6], "* versions differ: 0.1.0 on 1, 0.2.0 on 2; nodes of one version work best");
        assert_eq!(lines[7], "as the daemon at /run/s sees it");
        assert_eq!(lines.len(), 8);
        assert!(to_text(&seen(), None, 900).contains("the clock of n1:1 is ahead"), "by 100 s");
    }

    #[test]
    fn snapshot_of_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/tables/cluster-status.txt");
        let text = to_text(&seen(), Some(Path::new("/run/dragonfly/lease.sock")), 1000 + 7200);
        dfget_testkit::assert_snapshot(file.as_ref(), &(text + "\n"));
    }

    #[test]
    fn the_shape_of_the_json_is_fixed() {
        let json = to_json(&seen(), None, 1060);
        let first = json!({
            "name": "n1:1", "thisNode": true, "state": "up", "reason": null, "hostname": "h", "ip": "10.0.0.1",
            "version": "0.2.0", "otherVersion": false, "startedAt": 1000, "upSeconds": 60, "knownHosts": 3,
            "tasks": { "stored": 2, "running": 1, "scheduled": 7 },
            "bytes": { "fromPeers": 3 << 20, "fromOrigin": 0, "toPeers": 5 },
        });
        assert_eq!(json["members"][0], first);
        let down = json!({
            "name": "n3:1", "thisNode": false, "state": "down", "reason": "nobody answers", "hostname": null,
            "ip": null, "version": null, "otherVersion": false, "startedAt": null, "upSeconds": null,
            "knownHosts": null, "tasks": null, "bytes": null,
        });
        assert_eq!(json["members"][2], down);
        let rest = json!({
            "version": 1, "keyFingerprint": "abc", "askedDaemon": null, "members": json["members"],
            "total": {
                "members": 4, "up": 3, "down": 1,
                "tasks": { "stored": 6, "running": 3, "scheduled": 21 },
                "bytes": { "fromPeers": (3 << 20) + 1, "fromOrigin": 0, "toPeers": 15 },
            },
            "versions": [{ "version": "0.1.0", "members": 1 }, { "version": "0.2.0", "members": 2 }],
            "remarks": [], "schedulers": [],
        });
        assert_eq!(json, rest);
    }

    #[test]
    fn sizes_and_ages_are_short() {
        let sizes = [0, 1023, 1024, (1 << 20) - 1, 1 << 20, 3 << 39, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "1.5 TiB", "16.0 EiB"]);
        let ages = [1, 120, 7200, 172_800].map(|seconds| age(10, 10 + seconds));
        assert_eq!(ages, ["1 s", "2 min", "2 h", "2 d"]);
        assert_eq!((age(0, 5), age(9, 5)), ("-".to_owned(), "0 s".to_owned()));
    }
}
