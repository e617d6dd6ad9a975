use dfget_console::{
    EndedTask, History, LiveCluster, LiveMember, LiveStore, LiveTask, Neighbour, Rates, RegistryLine,
    RemarkLine, TaskParent,
};

use super::*;

/// Downloads that run.
fn tasks() -> Vec<LiveTask> {
    vec![
        LiveTask {
            name: "lab/tool@0123456789ab".to_owned(),
            registry: "r.test:5000".to_owned(),
            total: Some(64 << 20),
            present: 40 << 20,
            from_origin: 8 << 20,
            from_peers: 32 << 20,
            rate: 9 << 20,
            map: "ppppoo+..pp".to_owned(),
            clients: 2,
            age_millis: 4000,
            parents: vec![TaskParent { node: "10.0.0.2-n2".to_owned(), bytes: 32 << 20 }],
            children: vec!["10.0.0.3-n3".to_owned()],
            ..LiveTask::default()
        },
        LiveTask {
            name: "x.sif".to_owned(),
            registry: "f.test:443".to_owned(),
            clients: 1,
            ..LiveTask::default()
        },
    ]
}

/// Downloads that have ended.
fn ended() -> Vec<EndedTask> {
    vec![
        EndedTask {
            name: "old".to_owned(),
            at: 1_700_000_090,
            took_millis: 1234,
            total: Some(4 << 20),
            from_peers: 3 << 20,
            ..EndedTask::default()
        },
        EndedTask {
            name: "bad".to_owned(),
            at: 1_700_000_040,
            failure: Some("r.test:5000 answers 404".to_owned()),
            ..EndedTask::default()
        },
    ]
}

/// A node in the middle of a pull.
fn live() -> Live {
    let neighbour = |node: &str, bytes, rate| Neighbour { node: node.to_owned(), bytes, rate };
    let history = |values: &[u64]| values.to_vec();
    Live {
        at_millis: 1_700_000_100_000,
        version: "0.1.0".to_owned(),
        host: "n1".to_owned(),
        started_at: 1_700_000_000,
        store: Some(LiveStore {
            contents: 12,
            used_bytes: 3 << 30,
            quota_bytes: Some(10 << 30),
            free_bytes: Some(100 << 30),
        }),
        rates: Rates { origin: 1 << 20, peers: 8 << 20, clients: 9 << 20, cache: 0, to_peers: 4 << 20 },
        history: History {
            every_millis: 1000,
            origin: history(&[0, 4 << 20, 1 << 20]),
            peers: history(&[0, 0, 8 << 20]),
            clients: history(&[0, 4 << 20, 9 << 20]),
            cache: history(&[0, 0, 0]),
            to_peers: history(&[0, 0, 4 << 20]),
        },
        running: 3,
        tasks: tasks(),
        ended: ended(),
        parents: vec![neighbour("10.0.0.2-n2", 32 << 20, 8 << 20)],
        children: vec![neighbour("10.0.0.3-n3", 20 << 20, 4 << 20), neighbour("10.0.0.4", 1 << 20, 0)],
        registries: vec![RegistryLine {
            name: "r.test:5000".to_owned(),
            requests: 14,
            bytes: 8 << 20,
            saved_requests: 30,
            saved_bytes: 320 << 20,
            logins: 2,
            ..RegistryLine::default()
        }],
        cluster: Some(LiveCluster {
            asked_at: 1_700_000_099,
            count: 3,
            up: 2,
            members: vec![
                LiveMember { name: "n1:65000".to_owned(), this_node: true, running: 2, stored: 12, ..LiveMember::default() },
                LiveMember { name: "n3:65000".to_owned(), down: Some("cannot connect".to_owned()), ..LiveMember::default() },
                LiveMember { name: "n2:65000".to_owned(), from_peers: 5 << 30, ..LiveMember::default() },
            ],
        }),
        remarks: vec![RemarkLine {
            number: 7,
            at: 1_700_000_080,
            error: true,
            text: "a download failed: r.test:5000 answers 404 to a request for the content and says no more about it".to_owned(),
            times: 3,
        }],
        ..Live::default()
    }
}

fn text(live: &Live, columns: usize) -> String {
    let lines = lines(live, columns);
    lines.iter().map(|line| to_text(line, Colours::None).trim_end().to_owned() + "\n").collect()
}

#[test]
fn snapshot_of_a_node_in_eighty_columns() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/tables/top.txt");
    dfget_testkit::assert_snapshot(file.as_ref(), &text(&live(), 80));
}

#[test]
fn no_line_is_longer_than_the_terminal_is_wide() {
    let mut live = live();
    live.host = "a-very-long-host-name.of.a.cluster.example.org".repeat(3);
    live.tasks[0].name = "日本語/イメージ".repeat(9);
    live.tasks[0].map = "p".repeat(256);
    live.history.clients = (0..300).collect();
    for columns in 0..200 {
        for line in lines(&live, columns) {
            let line = to_text(&line, Colours::None);
            assert!(width(&line) <= columns, "{columns}: {line:?} is {}", width(&line));
        }
    }
}

#[test]
fn names_from_elsewhere_move_no_cursor() {
    let mut live = live();
    let evil = "\u{1b}[2J\u{9b}31m\r\n\u{202e}";
    live.tasks[0].name = evil.to_owned();
    live.tasks[0].parents[0].node = evil.to_owned();
    live.remarks[0].text = evil.to_owned();
    live.registries[0].name = evil.to_owned();
    live.parents[0].node = evil.to_owned();
    if let Some(cluster) = &mut live.cluster {
        cluster.members[1].down = Some(evil.to_owned());
    }
    for line in lines(&live, 80) {
        let text = to_text(&line, Colours::None);
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
    }
}

#[test]
fn a_node_that_has_done_nothing_is_shown_too() {
    let shown = text(&Live { host: "n1".to_owned(), ..Live::default() }, 80);
    assert!(
        shown.contains("Downloads (0)") && shown.contains("no cache, pulls stream through: ?"),
        "{shown}"
    );
    assert!(
        !shown.contains("Who feeds whom") && !shown.contains("Members") && !shown.contains("Warnings"),
        "{shown}"
    );
}

#[test]
fn a_map_in_less_room_shows_whole_only_what_is_whole() {
    let shown = |cells: &str, columns| to_text(&map(cells, columns), Colours::None);
    assert_eq!(shown("po+.", 80), "  [█▒· ]");
    assert_eq!(shown("pppo..p.", 8), "  [█▒ ·]".replace('▒', "█"));
    assert_eq!(shown("oopo+.oo", 8), "  [▒█·▒]");
    assert_eq!(shown("pp", 4), "  [");
}

#[test]
fn a_curve_has_its_newest_value_at_the_right() {
    assert_eq!(curve(&[0, 1, 8, 4], 8, 10), " ▁█▄");
    assert_eq!(curve(&[9, 0, 0, 8, 8], 9, 3).chars().count(), 3);
    assert_eq!(curve(&[8, 0, 0, 0, 0], 8, 3), "█  ");
    assert_eq!((curve(&[], 1, 9), curve(&[1], 1, 0)), (String::new(), String::new()));
    assert_eq!(curve(&[u64::MAX / 4; 3], u64::MAX, 3), "▂▂▂");
}

#[test]
fn long_remarks_go_on_in_the_next_line() {
    assert_eq!(wrap("one two three", 8), ["one two", "    thr…"]);
    assert_eq!(wrap("one two", 80), ["one two"]);
    assert_eq!(wrap("abcdefghij", 5), ["abcd…"]);
}

#[test]
fn colours_are_ended_where_they_begin() {
    let line = vec![
        Piece { style: Style::Bad, text: "no".to_owned() },
        Piece { style: Style::Plain, text: " ok".to_owned() },
    ];
    assert_eq!(to_text(&line, Colours::Ansi), "\u{1b}[31mno\u{1b}[0m ok");
    assert_eq!(to_text(&line, Colours::None), "no ok");
}
