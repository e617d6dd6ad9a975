//! What was measured: rows with values of contenders, round by round; as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What is asked of dfget in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The median itself must not be more.
    AtMost(f64),
    /// The ratio to the reference must not be less.
    RatioAtLeast(f64),
    /// The ratio to the reference must not be more.
    RatioAtMost(f64),
    /// The difference to the reference must not be more.
    DifferenceAtMost(f64),
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// Short and unique, for programs.
    pub id: String,
    /// What it is, with the unit.
    pub what: String,
    /// The contender that the others are compared with.
    pub reference: Option<&'static str>,
    /// What dfget should reach.
    pub goal: Option<Goal>,
    values: Vec<(String, Vec<Option<f64>>)>,
}

/// All that was measured.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
    judge: bool,
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle, or the mean of the two there.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

// === impl Goal ===

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtMost(value) => format!("≤ {}", number(value)),
            Self::RatioAtLeast(value) => format!("≥ {}", ratio_text(value)),
            Self::RatioAtMost(value) => format!("≤ {}", ratio_text(value)),
            Self::DifferenceAtMost(value) => format!("≤ +{}", number(value)),
        }
    }

    fn met(self, value: Spread, compared: Option<Spread>) -> Option<bool> {
        Some(match self {
            Self::AtMost(most) => value.median <= most,
            Self::RatioAtLeast(least) => compared?.median >= least,
            Self::RatioAtMost(most) | Self::DifferenceAtMost(most) => compared?.median <= most,
        })
    }
}

// === impl Row ===

impl Row {
    /// A row without values, reference and goal.
    pub fn new(id: impl Into<String>, what: impl Into<String>) -> Self {
        Self { id: id.into(), what: what.into(), reference: None, goal: None, values: Vec::new() }
    }

    /// Compares the contenders with this one.
    #[must_use]
    pub fn against(mut self, reference: &'static str) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Says what is asked of dfget.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Values of this contender compared with those of the reference in the same rounds.
    fn compared(&self, name: &str) -> Option<Spread> {
        let reference = self.reference.filter(|reference| *reference != name)?;
        let pairs = self.of(name)?.iter().zip(self.of(reference)?);
        let difference = matches!(self.goal, Some(Goal::DifferenceAtMost(_)));
        let both = pairs.filter_map(|(own, other)| Some((own.as_ref()?, other.as_ref()?)));
        Spread::of(both.map(|(own, other)| if difference { own - other } else { own / other }).collect())
    }

    fn of(&self, name: &str) -> Option<&[Option<f64>]> {
        self.values.iter().find(|(contender, _)| contender == name).map(|(_, values)| values.as_slice())
    }

    fn spread(values: &[Option<f64>]) -> Option<Spread> {
        Spread::of(values.iter().flatten().copied().collect())
    }

    fn met(&self, name: &str) -> Option<bool> {
        if name != DFGET {
            return None;
        }
        self.goal?.met(Self::spread(self.of(name)?)?, self.compared(name))
    }

    fn compared_text(&self, name: &str) -> String {
        let Some(compared) = self.compared(name) else {
            return if self.reference == Some(name) { "1".to_owned() } else { String::new() };
        };
        if matches!(self.goal, Some(Goal::DifferenceAtMost(_))) {
            return compared.text(|value| format!("{value:+.1}"));
        }
        compared.text(ratio_text)
    }

    fn json(&self) -> Value {
        let contenders = self.values.iter().map(|(name, values)| {
            let spread = Self::spread(values);
            json!({
                "name": name,
                "values": values,
                "median": spread.map(|spread| spread.median),
                "min": spread.map(|spread| spread.min),
                "max": spread.map(|spread| spread.max),
                "compared": self.compared(name).map(|spread| json!({
                    "median": spread.median, "min": spread.min, "max": spread.max,
                })),
                "met": self.met(name),
            })
        });
        let compared_by = self.reference.map(|_| match self.goal {
            Some(Goal::DifferenceAtMost(_)) => "difference",
            _ => "ratio",
        });
        json!({
            "id": self.id,
            "what": self.what,
            "reference": self.reference,
            "comparedBy": compared_by,
            "goal": self.goal.map(Goal::text),
            "contenders": contenders.collect::<Vec<_>>(),
        })
    }
}

// === impl Table ===

impl Table {
    /// An empty table; `judge` says whether it tells which goals are met.
    pub fn new(judge: bool) -> Self {
        Self { rows: Vec::new(), notes: Vec::new(), judge }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Takes what a contender did in a round; `None` where it failed.
    pub fn record(&mut self, id: &str, name: &str, value: Option<f64>) {
        let Some(row) = self.rows.iter_mut().find(|row| row.id == id) else { return };
        match row.values.iter_mut().find(|(contender, _)| contender == name) {
            Some((_, values)) => values.push(value),
            None => row.values.push((name.to_owned(), vec![value])),
        }
    }

    /// Adds a remark below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The table as text, at most [`WIDTH`] columns wide but for remarks.
    pub fn text(&self) -> String {
        let mut text = String::new();
        line(&mut text, ["", "", "median (min, max)", "compared", "goal", "met"]);
        for row in &self.rows {
            let mut what = row.what.as_str();
            let mut names: Vec<&str> = row.values.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_by_key(|name| rank(name, row.reference));
            for name in names {
                let value = row.of(name).and_then(Row::spread);
                let value = value.map_or_else(|| "failed".to_owned(), |spread| spread.text(number));
                let goal = row.goal.filter(|_| name == DFGET).map(Goal::text).unwrap_or_default();
                let met = match row.met(name).filter(|_| self.judge) {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "",
                };
                line(&mut text, [what, name, &value, &row.compared_text(name), &goal, met]);
                what = "";
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}");
        }
        text
    }

    /// The rows and remarks as JSON.
    pub fn json(&self) -> (Value, Value) {
        (self.rows.iter().map(Row::json).collect(), json!(self.notes))
    }
}

/// dfget first, what it is compared with behind it, then the others as they came.
fn rank(name: &str, reference: Option<&str>) -> u8 {
    match name {
        DFGET => 0,
        _ if reference == Some(name) => 1,
        _ => 2,
    }
}

fn line(text: &mut String, cells: [&str; 6]) {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(COLUMNS) {
        let cell: String = cell.chars().take(width).collect();
        let _ = write!(out, "{cell:<width$} ");
    }
    text.push_str(out.trim_end());
    text.push('\n');
}

// === impl Spread ===

impl Spread {
    /// Of no values there is none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) { *values.get(middle - 1)? } else { upper };
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    fn text(self, number: impl Fn(f64) -> String) -> String {
        format!("{} ({}, {})", number(self.median), number(self.min), number(self.max))
    }
}

/// The value below which this part of all values is; `values` must be sorted.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let index = (values.len() as f64 * part).ceil() as usize;
    values.get(index.clamp(1, values.len().max(1)) - 1).copied()
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn ratio_text(value: f64) -> String {
    format!("{value:.2}")
}

/// The contender that the goals are for.
pub const DFGET: &str = "dfget";
/// Columns of the table.
pub const WIDTH: usize = 100;
const COLUMNS: [usize; 6] = [34, 8, 22, 20, 8, 3];

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(true);
        table.add(Row::new("a", "a thing, MB/s").against("nginx").goal(Goal::RatioAtLeast(1.25)));
        for (own, other) in [(300.0, 200.0), (200.0, 200.0), (520.0, 400.0)] {
            table.record("a", "nginx", Some(other));
            table.record("a", "dfget", Some(own));
        }
        table
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let (rows, _) = table().json();
        assert_eq!(rows[0]["contenders"][1]["compared"], json!({"median": 1.3, "min": 1.0, "max": 1.5}));
        assert_eq!(rows[0]["contenders"][1]["met"], json!(true));
        assert_eq!(rows[0]["contenders"][0]["met"], json!(null));
    }

    #[test]
    fn a_failed_round_is_no_value_and_compared_with_nothing() {
        let mut table = table();
        table.record("a", "nginx", None);
        table.record("a", "dfget", Some(1.0));
        let (rows, _) = table.json();
        assert_eq!(rows[0]["contenders"][1]["min"], json!(1.0));
        assert_eq!(rows[0]["contenders"][1]["compared"]["min"], json!(1.0));
        assert_eq!(rows[0]["contenders"][0]["values"], json!([200.0, 200.0, 400.0, null]));
    }

    #[test]
    fn the_table_is_no_wider_than_it_says() {
        let mut table = table();
        table.add(
            Row::new("b", "something with a name that is much too long for it, KiB")
                .goal(Goal::AtMost(12345.0)),
        );
        table.record("b", "dfget", Some(123_456.0));
        let text = table.text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains(" NO") && text.contains(" yes"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0], 0.99), Some(1.0));
    }
}
