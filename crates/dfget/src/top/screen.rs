//! A view as lines for a terminal.
//!
//! Pure: a [`Live`] and the room there is become lines, each of at most so many columns. Colours say nothing that
//! a sign or a word does not say too.

use dfget_console::{Live, LiveTask, Neighbour};

use super::words::{count, cut, left, node, percent, rate, right, size, span, width};

/// A run of text in one style.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) style: Style,
    pub(crate) text: String,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Plain,
    /// A headline.
    Head,
    /// What matters less.
    Soft,
    /// From other nodes.
    Peers,
    /// From registries.
    Origin,
    /// Something is wrong.
    Bad,
}

/// One line.
pub(crate) type Line = Vec<Piece>;

/// What a terminal is told, to look so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Colours {
    None,
    Ansi,
}

/// Lines of each part, where there is less room than lines.
const MOST_NEIGHBOURS: usize = 6;
const MOST_ENDED: usize = 5;
const MOST_REMARKS: usize = 5;

/// Columns of what stands before a line of the picture of rates.
const LABEL: usize = 24;

/// From low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

// === impl Style ===

impl Style {
    /// Select Graphic Rendition (ECMA-48, 8.3.117): the sixteen colours that follow the user's own scheme.
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Head => "1",
            Self::Soft => "2",
            Self::Peers => "36",
            Self::Origin => "33",
            Self::Bad => "31",
        }
    }
}

/// A line as text.
pub(crate) fn to_text(line: &Line, colours: Colours) -> String {
    let piece = |piece: &Piece| match (colours, piece.style.code()) {
        (Colours::None, _) | (_, "") => piece.text.clone(),
        (Colours::Ansi, code) => format!("\u{1b}[{code}m{}\u{1b}[0m", piece.text),
    };
    line.iter().map(piece).collect()
}

/// The whole view in lines of at most `columns`.
pub(crate) fn lines(live: &Live, columns: usize) -> Vec<Line> {
    let mut lines = vec![title(live, columns)];
    lines.extend(rates(live, columns));
    lines.extend(downloads(live, columns));
    lines.extend(feeds(live, columns));
    lines.extend(saved(live, columns));
    lines.extend(members(live, columns));
    lines.extend(remarks(live, columns));
    lines
}

fn piece(style: Style, text: impl Into<String>) -> Piece {
    Piece { style, text: text.into() }
}

fn plain(text: &str, columns: usize) -> Line {
    vec![piece(Style::Plain, cut(text, columns))]
}

/// An empty line and a headline.
fn head(text: &str, columns: usize) -> [Line; 2] {
    [Line::new(), vec![piece(Style::Head, cut(text, columns))]]
}

fn title(live: &Live, columns: usize) -> Line {
    let now = live.at_millis / 1000;
    let up = span(now.saturating_sub(live.started_at));
    let text = format!("dfget {} on {}, up {up}", live.version, live.host);
    vec![piece(Style::Head, cut(&text, columns))]
}

// === rates ===

fn rates(live: &Live, columns: usize) -> Vec<Line> {
    let (now, history) = (&live.rates, &live.history);
    let shown = [
        ("to clients", Style::Plain, now.clients, &history.clients),
        (" of that, from cache", Style::Plain, now.cache, &history.cache),
        ("from other nodes", Style::Peers, now.peers, &history.peers),
        ("from registries", Style::Origin, now.origin, &history.origin),
        ("to other nodes", Style::Soft, now.to_peers, &history.to_peers),
    ];
    let most = shown.iter().flat_map(|(.., line)| line.iter()).copied().max().unwrap_or(0);
    let room = columns.saturating_sub(LABEL + 12);
    let line = |(name, style, rate_now, line): (&str, Style, u64, &Vec<u64>)| {
        let mut pieces = vec![piece(Style::Plain, left(name, LABEL.min(columns)))];
        if columns > LABEL {
            pieces.push(piece(Style::Plain, right(&rate(rate_now), 12.min(columns - LABEL))));
        }
        if room > 2 {
            pieces.push(piece(style, format!(" {}", curve(line, most, room - 1))));
        }
        pieces
    };
    shown.into_iter().map(line).collect()
}

/// The last values as bars, the newest at the right; several to a bar where there are more than there is room.
fn curve(values: &[u64], most: u64, columns: usize) -> String {
    if values.is_empty() || columns == 0 {
        return String::new();
    }
    let each = values.len().div_ceil(columns);
    let bar = |values: &[u64]| {
        let mean = values.iter().sum::<u64>() / values.len().max(1) as u64;
        if mean == 0 {
            return ' ';
        }
        let step = u128::from(mean) * BARS.len() as u128 / (u128::from(most.max(1)) + 1);
        BARS.get(usize::try_from(step).unwrap_or(0)).copied().unwrap_or('█')
    };
    // Of the oldest there may be fewer.
    values.rchunks(each).map(bar).collect::<Vec<_>>().into_iter().rev().collect()
}

// === downloads ===

fn downloads(live: &Live, columns: usize) -> Vec<Line> {
    let mut lines = Vec::from(head(&format!("Downloads ({})", live.running), columns));
    for task in &live.tasks {
        lines.extend(download(task, columns));
    }
    let left_off = live.running.saturating_sub(live.tasks.len() as u64);
    if !live.tasks.is_empty() && left_off > 0 {
        lines.push(plain(&format!("and {left_off} more"), columns));
    }
    let now = live.at_millis / 1000;
    for ended in live.ended.iter().take(MOST_ENDED) {
        let ago = span(now.saturating_sub(ended.at));
        let (style, text) = match &ended.failure {
            Some(failure) => (Style::Bad, format!("failed {ago} ago: {}: {failure}", ended.name)),
            None => {
                let total = ended.total.unwrap_or(0);
                let took = ended.took_millis;
                let peers = percent(ended.from_peers, total);
                let whence = if peers > 0 { format!(", {peers} % from nodes") } else { String::new() };
                let text = format!(
                    "done {ago} ago: {}: {} in {}.{} s{whence}",
                    ended.name,
                    size(total),
                    took / 1000,
                    took % 1000 / 100
                );
                (Style::Soft, text)
            }
        };
        lines.push(vec![piece(style, cut(&text, columns))]);
    }
    lines
}

fn download(task: &LiveTask, columns: usize) -> Vec<Line> {
    let done = match task.total {
        Some(total) => {
            format!("{:>3} %  {} of {}", percent(task.present, total), size(task.present), size(total))
        }
        None => size(task.present),
    };
    let rest = task.total.map(|total| total.saturating_sub(task.present));
    let eta = rest.zip(task.rate.checked_ilog2()).map(|(rest, _)| rest.div_ceil(task.rate));
    let eta = eta.map(|seconds| format!("  {} left", span(seconds))).unwrap_or_default();
    let figures = format!("{done}  {}{eta}", rate(task.rate));
    let room = columns.saturating_sub(width(&figures) + 2);
    let mut lines = vec![vec![
        piece(Style::Head, left(&task.name, room)),
        piece(Style::Plain, cut(&format!("  {figures}"), columns.saturating_sub(room))),
    ]];
    if !task.map.is_empty() {
        lines.push(map(&task.map, columns));
    }
    let parents = task.parents.iter().map(|parent| format!("{} {}", node(&parent.node), size(parent.bytes)));
    let mut from: Vec<String> = parents.collect();
    if task.from_origin > 0 || from.is_empty() {
        from.insert(0, format!("{} {}", task.registry, size(task.from_origin)));
    }
    let to: Vec<&str> = task.children.iter().map(|child| node(child)).collect();
    let mut text = format!("  from {}; {}", from.join(", "), count(task.clients, "client", "clients"));
    if !to.is_empty() {
        text.push_str(&format!("; to {}", to.join(", ")));
    }
    lines.push(vec![piece(Style::Soft, cut(&text, columns))]);
    lines
}

/// Cells of a content: `█` from other nodes, `▒` from the registry or from before, `·` in part.
fn map(map: &str, columns: usize) -> Line {
    let cells: Vec<char> = map.chars().collect();
    let room = columns.saturating_sub(4).min(cells.len());
    let mut line = vec![piece(Style::Plain, cut("  [", columns))];
    for column in 0..room {
        let cell = shown_cell(&cells[column * cells.len() / room..(column + 1) * cells.len() / room]);
        let (style, sign) = match cell {
            'p' => (Style::Peers, '█'),
            'o' => (Style::Origin, '▒'),
            '+' => (Style::Soft, '·'),
            _ => (Style::Plain, ' '),
        };
        match line.last_mut() {
            Some(last) if last.style == style && column > 0 => last.text.push(sign),
            _ => line.push(piece(style, sign)),
        }
    }
    if room > 0 {
        line.push(piece(Style::Plain, "]"));
    }
    line
}

/// Several cells in the room of one: whole only if all are.
fn shown_cell(cells: &[char]) -> char {
    let all = |wanted: &[char]| cells.iter().all(|cell| wanted.contains(cell));
    let peers = cells.iter().filter(|cell| **cell == 'p').count();
    if all(&['.']) {
        '.'
    } else if !all(&['p', 'o']) {
        '+'
    } else if peers * 2 >= cells.len() {
        'p'
    } else {
        'o'
    }
}

// === who feeds whom ===

fn feeds(live: &Live, columns: usize) -> Vec<Line> {
    if live.parents.is_empty() && live.children.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::from(head("Who feeds whom", columns));
    let half = columns / 2;
    let parents = side(&live.parents, "──►", true, half);
    let children = side(&live.children, "──►", false, columns - half);
    for row in 0..parents.len().max(children.len()) {
        let from = parents.get(row).cloned().unwrap_or_else(|| " ".repeat(half));
        let to = children.get(row).cloned().unwrap_or_default();
        lines.push(vec![piece(Style::Peers, from), piece(Style::Soft, to)]);
    }
    lines
}

/// The lines of one side, `columns` wide: `node rate ──►`, or the other way round.
fn side(all: &[Neighbour], arrow: &str, towards: bool, columns: usize) -> Vec<String> {
    let line = |name: &str, now: u64, bytes: u64| {
        let figures = if now > 0 { rate(now) } else { size(bytes) };
        let text = if towards {
            let room = columns.saturating_sub(20);
            format!("{} {} {arrow}", left(name, room), right(&figures, 13))
        } else {
            format!(" {arrow} {}  {figures}", left(name, columns.saturating_sub(20)))
        };
        left(&text, columns)
    };
    let mut lines: Vec<String> =
        all.iter().take(MOST_NEIGHBOURS).map(|one| line(node(&one.node), one.rate, one.bytes)).collect();
    if all.len() > MOST_NEIGHBOURS {
        let rest = &all[MOST_NEIGHBOURS - 1..];
        let (now, bytes) = (rest.iter().map(|one| one.rate).sum(), rest.iter().map(|one| one.bytes).sum());
        lines.truncate(MOST_NEIGHBOURS - 1);
        lines.push(line(&format!("{} more", rest.len()), now, bytes));
    }
    lines
}

// === what was saved ===

fn saved(live: &Live, columns: usize) -> Vec<Line> {
    let mut lines = Vec::from(head("Cache", columns));
    let text = match &live.store {
        Some(store) => {
            let quota = store.quota_bytes.map(|quota| format!(" of {}", size(quota))).unwrap_or_default();
            let free = store.free_bytes.map(|free| format!(", {} free on its disk", size(free)));
            let contents = count(store.contents, "content", "contents");
            format!("{contents}, {}{quota}{}", size(store.used_bytes), free.unwrap_or_default())
        }
        None => format!("no cache, pulls stream through: {}", live.no_store.as_deref().unwrap_or("?")),
    };
    lines.push(plain(&text, columns));
    if live.registries.is_empty() {
        return lines;
    }
    let name = columns.saturating_sub(50);
    let row = |cells: [String; 5], style| {
        let [first, rest @ ..] = cells;
        let widths = [11, 11, 12, 12];
        let cells = rest.iter().zip(widths).map(|(cell, width)| format!(" {}", right(cell, width)));
        let text = left(&first, name) + &cells.collect::<String>();
        vec![piece(style, cut(&text, columns))]
    };
    let heads = ["registry", "sent", "saved", "requests", "saved"].map(str::to_owned);
    lines.push(row(heads, Style::Soft));
    for registry in &live.registries {
        let cells = [
            registry.name.clone(),
            size(registry.bytes),
            size(registry.saved_bytes),
            registry.requests.to_string(),
            registry.saved_requests.to_string(),
        ];
        lines.push(row(cells, Style::Plain));
    }
    lines
}

// === members ===

fn members(live: &Live, columns: usize) -> Vec<Line> {
    let Some(cluster) = &live.cluster else { return Vec::new() };
    let title = match cluster.asked_at {
        0 => "Members (being asked)".to_owned(),
        _ => format!("Members ({} of {} up)", cluster.up, cluster.count),
    };
    let mut lines = Vec::from(head(&title, columns));
    let name = columns.saturating_sub(54).clamp(12, 40);
    for member in &cluster.members {
        let own = if member.this_node { " *" } else { "" };
        let first = left(&format!("{}{own}", member.name), name);
        let (style, text) = match &member.down {
            Some(why) => (Style::Bad, format!("{first} down: {why}")),
            None => {
                let text = format!(
                    "{first} up {} running {} stored  from nodes {}",
                    right(&member.running.to_string(), 3),
                    right(&member.stored.to_string(), 5),
                    size(member.from_peers),
                );
                (Style::Plain, text)
            }
        };
        lines.push(vec![piece(style, cut(&text, columns))]);
    }
    lines
}

// === warnings ===

fn remarks(live: &Live, columns: usize) -> Vec<Line> {
    if live.remarks.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::from(head("Warnings and errors", columns));
    let now = live.at_millis / 1000;
    for remark in live.remarks.iter().take(MOST_REMARKS) {
        let (style, kind) = if remark.error { (Style::Bad, "error") } else { (Style::Origin, "warning") };
        let often = if remark.times > 1 { format!(" ({} times)", remark.times) } else { String::new() };
        let text = format!("{} ago, {kind}: {}{often}", span(now.saturating_sub(remark.at)), remark.text);
        lines.extend(wrap(&text, columns).into_iter().map(|text| vec![piece(style, text)]));
    }
    lines
}

/// A text in lines, the later ones set in, cut between words where that can be.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let more = if line.is_empty() { 0 } else { 1 };
        if !line.trim().is_empty() && width(&line) + more + width(word) > columns {
            lines.push(std::mem::take(&mut line));
            line.push_str(INDENT);
            line.push_str(word);
        } else {
            if more > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.push(line);
    lines.into_iter().map(|line| cut(&line, columns)).collect()
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
