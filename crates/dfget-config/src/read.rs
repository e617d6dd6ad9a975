//! Typed reading of the located tree: a mapping's keys in any case, a value as what it should be.
//!
//! Owns the wording of "wrong type" and "bad value", and what of a value may be shown: nothing of
//! several lines, no private key, no password of a URL. A reader that fails has said so in the
//! report and gives `None`; the caller goes on with a default, so that all errors are found.

use std::time::Duration;

use crate::{
    Code, PortRange,
    report::{Report, Subject},
    scalar::{self, ScalarError},
    yaml::{Data, Entry, Mark, Node},
};

/// A value, with the key that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    /// The key as written; `-` for an item of a list.
    pub(crate) name: &'a str,
    /// Where the key stands; for an item of a list, where the item starts.
    pub(crate) key_mark: Mark,
    /// The way from the top of the file, such as `proxies[0].regx`.
    pub(crate) path: String,
    pub(crate) node: &'a Node,
}

/// The keys of a mapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section<'a> {
    pub(crate) fields: Vec<Field<'a>>,
}

/// What a value should be, for the message when it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// With its article, as in "a duration".
    pub(crate) what: &'static str,
    pub(crate) example: &'static str,
}

// === impl Field ===

impl<'a> Field<'a> {
    pub(crate) fn of_entry(entry: &'a Entry, prefix: &str) -> Self {
        let path = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        Self { name: &entry.key, key_mark: entry.key_mark, path, node: &entry.value }
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.node.data, Data::Null)
    }

    /// Nothing, or a list or mapping of nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.node.data {
            Data::Null => true,
            Data::Scalar { .. } => false,
            Data::List(items) => items.is_empty(),
            Data::Map(entries) => entries.is_empty(),
        }
    }

    /// For a message about the value.
    pub(crate) fn value(&self) -> Subject {
        Subject { mark: Some(self.node.mark), file: None, key: Some(self.path.clone()) }
    }

    /// For a message about the key.
    pub(crate) fn key(&self) -> Subject {
        Subject { mark: Some(self.key_mark), file: None, key: Some(self.path.clone()) }
    }

    /// A line of YAML that sets this key.
    pub(crate) fn line(&self, value: &str) -> String {
        if self.name == "-" { format!("`- {value}`") } else { format!("`{}: {value}`", self.name) }
    }

    /// The keys of the mapping it should be.
    pub(crate) fn section(&self, report: &mut Report) -> Option<Section<'a>> {
        let Data::Map(entries) = &self.node.data else {
            let example = match self.name {
                "-" => "write `- key: value`, further keys below `key`".to_owned(),
                name => format!("write keys below `{name}:`, indented with spaces"),
            };
            self.wrong_type(report, "a mapping", example);
            return None;
        };
        Some(Section::of(entries, &self.path))
    }

    /// The items of the list it should be; nulls are left out.
    pub(crate) fn items(&self, report: &mut Report) -> Option<Vec<Self>> {
        let Data::List(items) = &self.node.data else {
            let example = format!("write {}, or items below that start with `- `", self.line("[…]"));
            self.wrong_type(report, "a list", example);
            return None;
        };
        let field = |(index, node): (usize, &'a Node)| Self {
            name: "-",
            key_mark: node.mark,
            path: format!("{}[{index}]", self.path),
            node,
        };
        Some(items.iter().enumerate().map(field).filter(|field| !field.is_null()).collect())
    }

    /// The text of the scalar it should be.
    pub(crate) fn text(&self, report: &mut Report, expected: Expected) -> Option<&'a str> {
        let Data::Scalar { text, .. } = &self.node.data else {
            self.wrong_type(report, expected.what, format!("write {}", self.line(expected.example)));
            return None;
        };
        Some(text)
    }

    /// The value that `parse` makes of the text.
    pub(crate) fn parse<T>(
        &self,
        report: &mut Report,
        expected: Expected,
        parse: impl FnOnce(&str) -> Result<T, ScalarError>,
    ) -> Option<T> {
        let text = self.text(report, expected)?;
        parse(text).map_err(|error| self.bad_value(report, expected, error)).ok()
    }

    /// Says that the text is not the value that was wanted.
    pub(crate) fn bad_value(&self, report: &mut Report, expected: Expected, why: impl std::fmt::Display) {
        let problem = format!("{why} (got {})", self.shown());
        let remedy = format!("write {}, for example {}", expected.what, self.line(expected.example));
        report.error(self.value(), Code::BadValue, problem, remedy);
    }

    pub(crate) fn wrong_type(&self, report: &mut Report, expected: &str, remedy: String) {
        let got = match &self.node.data {
            Data::Null => "nothing",
            Data::Scalar { .. } => "a single value",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        };
        report.error(self.value(), Code::WrongType, format!("{expected} belongs here (got {got})"), remedy);
    }

    /// What may be shown of the value.
    pub(crate) fn shown(&self) -> String {
        match &self.node.data {
            Data::Scalar { text, .. } => shown(text),
            _ => "no single value".to_owned(),
        }
    }

    pub(crate) fn boolean(&self, report: &mut Report) -> Option<bool> {
        self.parse(report, Expected { what: "true or false", example: "true" }, scalar::boolean)
    }

    pub(crate) fn integer(&self, report: &mut Report, min: i64, max: i64) -> Option<i64> {
        let expected = Expected { what: "a whole number", example: "1" };
        self.parse(report, expected, |text| scalar::integer(text, min, max))
    }

    /// A duration of the kind that also takes nanoseconds; says so when that can hardly be meant.
    pub(crate) fn duration(&self, report: &mut Report) -> Option<Duration> {
        let value = self.parse(report, DURATION, scalar::duration_or_nanoseconds)?;
        let has_unit = matches!(&self.node.data, Data::Scalar { text, .. } if text.parse::<i64>().is_err());
        if !has_unit && !value.is_zero() && value < Duration::from_millis(1) {
            let problem = format!("a number without a unit is nanoseconds (got {})", self.shown());
            let remedy = format!("write the unit, for example {}", self.line("60s"));
            report.warn(self.value(), Code::Suspicious, problem, remedy);
        }
        Some(value)
    }

    /// A port, or a mapping of `start` and `end`.
    pub(crate) fn ports(&self, report: &mut Report) -> Option<PortRange> {
        const ONE: Expected = Expected { what: "a port", example: "65001" };
        match &self.node.data {
            Data::Scalar { plain: true, .. } => {
                let port = self.parse(report, ONE, |text| scalar::integer(text, 0, PORT_MAX))?;
                u16::try_from(port).ok().map(PortRange::exactly)
            }
            Data::Scalar { plain: false, .. } => {
                self.bad_value(report, Expected { what: "it without quotes", ..ONE }, "a port in quotes");
                None
            }
            Data::Map(_) => {
                let section = self.section(report)?;
                let Some(start) = section.get("start") else {
                    let remedy = "write `port: {start: 65001, end: 65010}`";
                    report.error(self.key(), Code::MissingKey, "a range of ports needs a `start`", remedy);
                    return None;
                };
                let first = start.integer(report, 1, PORT_MAX)?;
                let last = match section.get("end") {
                    Some(end) => end.integer(report, 1, PORT_MAX)?,
                    None => first,
                };
                if last < first {
                    let problem = format!("the range ends before it starts (got {first} to {last})");
                    report.error(
                        self.value(),
                        Code::BadValue,
                        problem,
                        "write the smaller number as `start`",
                    );
                    return None;
                }
                Some(PortRange { start: u16::try_from(first).ok()?, end: u16::try_from(last).ok()? })
            }
            _ => {
                self.wrong_type(report, ONE.what, format!("write {}", self.line(ONE.example)));
                None
            }
        }
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    pub(crate) fn of(entries: &'a [Entry], prefix: &str) -> Self {
        Self { fields: entries.iter().map(|entry| Field::of_entry(entry, prefix)).collect() }
    }

    /// The value of a key, in whatever case it stands; `None` when it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name) && !field.is_null())
    }

    /// The section below a key; empty when it is absent or no mapping.
    pub(crate) fn section(&self, report: &mut Report, name: &str) -> Self {
        self.get(name).and_then(|field| field.section(report)).unwrap_or_default()
    }

    /// The items below a key; empty when it is absent or no list.
    pub(crate) fn items(&self, report: &mut Report, name: &str) -> Vec<Field<'a>> {
        self.get(name).and_then(|field| field.items(report)).unwrap_or_default()
    }

    pub(crate) fn boolean(&self, report: &mut Report, name: &str, default: bool) -> bool {
        self.get(name).and_then(|field| field.boolean(report)).unwrap_or(default)
    }

    pub(crate) fn duration(&self, report: &mut Report, name: &str, default: Duration) -> Duration {
        self.get(name).and_then(|field| field.duration(report)).unwrap_or(default)
    }

    /// A duration that means "off" when it is zero.
    pub(crate) fn bound(
        &self,
        report: &mut Report,
        name: &str,
        default: Option<Duration>,
    ) -> Option<Duration> {
        match self.get(name).and_then(|field| field.duration(report)) {
            Some(value) => (!value.is_zero()).then_some(value),
            None => default,
        }
    }

    /// Text; `None` when it is absent or empty.
    pub(crate) fn text(&self, report: &mut Report, name: &str, example: &'static str) -> Option<&'a str> {
        let expected = Expected { what: "text", example };
        self.get(name).and_then(|field| field.text(report, expected)).filter(|text| !text.is_empty())
    }
}

/// A value as a message may show it: one line, not long, without anything secret.
pub(crate) fn shown(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "a private key".to_owned();
    }
    if text.trim_end().contains(['\n', '\r']) {
        return format!("a text of {} lines", text.lines().count());
    }
    if text.contains("://") && text.contains('@') {
        return "a URL with a user in it".to_owned();
    }
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    if text.chars().count() > SHOWN_CHARS {
        short.push('…');
    }
    format!("`{short}`")
}

/// What a duration looks like.
pub(crate) const DURATION: Expected = Expected { what: "a duration", example: "1m30s" };

/// What a number of bytes looks like.
pub(crate) const BYTES: Expected = Expected { what: "a number of bytes", example: "50Gi" };

/// What a percentage looks like.
pub(crate) const PERCENT: Expected = Expected { what: "a percentage", example: "95" };

/// What permissions of a directory look like.
pub(crate) const MODE: Expected = Expected { what: "a mode in octal", example: "0700" };

/// What an IP address looks like.
pub(crate) const IP: Expected = Expected { what: "an IP address", example: "127.0.0.1" };

/// What an address with its port looks like.
pub(crate) const ADDRESS: Expected = Expected { what: "an address", example: "127.0.0.1:8000" };

/// What a pattern looks like.
pub(crate) const PATTERN: Expected = Expected { what: "a pattern", example: "blobs/sha256.*" };

/// What stands for PEM text.
pub(crate) const PEM: Expected = Expected { what: "the name of a file of PEM text", example: "ca.crt" };

const PORT_MAX: i64 = u16::MAX as i64;

const SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn with<T>(text: &str, read: impl FnOnce(&Section<'_>, &mut Report) -> T) -> (T, Vec<String>) {
        let mut report = Report::default();
        let file = report.add_file("f".into());
        let document = yaml::parse(file, text.as_bytes()).unwrap();
        let Data::Map(entries) = &document.root.data else { panic!("no mapping") };
        let value = read(&Section::of(entries, ""), &mut report);
        let (errors, warnings) = report.into_parts();
        (value, errors.iter().chain(&warnings).map(ToString::to_string).collect())
    }

    #[test]
    fn keys_are_found_in_any_case_and_nulls_are_absent() {
        let (found, said) = with("KeepStorage: false\nb: ~\n", |section, report| {
            (section.boolean(report, "keepStorage", true), section.boolean(report, "b", true))
        });
        assert_eq!(found, (false, true));
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn ports_are_numbers_or_ranges() {
        let read = |text: &str| with(text, |section, report| section.get("port").unwrap().ports(report));
        assert_eq!(read("port: 7").0, Some(PortRange::exactly(7)));
        assert_eq!(read("port: {start: 7}").0, Some(PortRange::exactly(7)));
        assert_eq!(read("port: {Start: 7, END: 9}").0, Some(PortRange { start: 7, end: 9 }));
        let table = [
            (
                "port: '7'",
                "f:1:7: port: a port in quotes (got `7`); \
                 write it without quotes, for example `port: 65001`",
            ),
            (
                "port: 65536",
                "f:1:7: port: out of range, 0 to 65535 is possible (got `65536`); \
                 write a port, for example `port: 65001`",
            ),
            (
                "port: {end: 9}",
                "f:1:1: port: a range of ports needs a `start`; write `port: {start: 65001, end: 65010}`",
            ),
            (
                "port: {start: 9, end: 7}",
                "f:1:7: port: the range ends before it starts (got 9 to 7); \
                 write the smaller number as `start`",
            ),
            ("port: [7]", "f:1:7: port: a port belongs here (got a list); write `port: 65001`"),
        ];
        for (text, message) in table {
            assert_eq!(read(text), (None, vec![message.to_owned()]), "{text}");
        }
    }

    #[test]
    fn a_duration_of_a_few_nanoseconds_is_read_and_doubted() {
        let (value, said) =
            with("aliveTime: 60", |section, report| section.duration(report, "aliveTime", Duration::ZERO));
        assert_eq!(value, Duration::from_nanos(60));
        assert_eq!(
            said,
            ["f:1:12: aliveTime: a number without a unit is nanoseconds (got `60`); \
              write the unit, for example `aliveTime: 60s`"]
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(shown("abc"), "`abc`");
        assert_eq!(shown("-----BEGIN PRIVATE KEY-----abc"), "a private key");
        assert_eq!(shown("a\nb\n"), "a text of 2 lines");
        assert_eq!(shown("http://user:word@proxy/"), "a URL with a user in it");
        assert_eq!(shown(&"x".repeat(99)).chars().count(), 63);
    }
}
