//! One event as one line: JSON for the file, words for a terminal.
//!
//! Values come from the net as well as from us. Control characters never reach a line as they are,
//! so no value can begin a line of its own or move a terminal's cursor, and none is longer than
//! [`LONGEST_VALUE`].

use std::error::Error;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// An event taken apart.
pub(crate) struct LogLine {
    level: &'static str,
    caller: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number or a truth value, written as it is in JSON.
    Literal(String),
}

// === impl LogLine ===

impl LogLine {
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            level: level_name(metadata.level()),
            caller: caller(metadata),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut line);
        line
    }

    /// The line of `core.log` with its line feed; keys in the order of Dragonfly's own.
    pub(crate) fn to_json(&self, timestamp: &str) -> String {
        let mut json = String::with_capacity(256);
        json.push_str("{\"level\":");
        push_quoted(&mut json, self.level);
        let head = [("ts", timestamp), ("caller", &self.caller), ("msg", &self.message)];
        for (key, value) in head {
            push_key(&mut json, key);
            push_quoted(&mut json, value);
        }
        for (key, value) in &self.fields {
            push_key(&mut json, key);
            match value {
                Value::Text(text) => push_quoted(&mut json, text),
                Value::Literal(literal) => json.push_str(literal),
            }
        }
        json.push_str("}\n");
        json
    }

    /// The line for a terminal with its line feed: time, level, message, `key=value`.
    pub(crate) fn to_text(&self, timestamp: &str) -> String {
        let mut text = format!("{timestamp} {:<5} ", self.level.to_ascii_uppercase());
        push_escaped(&mut text, &self.message);
        for (key, value) in &self.fields {
            text.push(' ');
            text.push_str(key);
            text.push('=');
            match value {
                Value::Text(value) if is_one_word(value) => text.push_str(value),
                Value::Text(value) => push_quoted(&mut text, value),
                Value::Literal(literal) => text.push_str(literal),
            }
        }
        text.push('\n');
        text
    }

    /// The event as a sentence for people: no level, no place in the code, no names of attempts.
    pub(crate) fn to_words(&self) -> String {
        let mut words = String::new();
        match self.message.split_once(FAILED) {
            Some((_, reason)) => {
                words.push_str("a download failed: ");
                push_plain(&mut words, reason);
            }
            None => push_plain(&mut words, &self.message),
        }
        let mut facts = String::new();
        for (key, value) in self.fields.iter().filter(|(key, _)| !NAMES.contains(key)) {
            let (Value::Text(value) | Value::Literal(value)) = value;
            if matches!(*key, "error" | "reason") {
                words.push_str(": ");
                push_plain(&mut words, value);
            } else {
                facts.push_str(if facts.is_empty() { " (" } else { ", " });
                facts.push_str(key);
                facts.push(' ');
                push_plain(&mut facts, value);
            }
        }
        if !facts.is_empty() {
            facts.push(')');
        }
        words.push_str(&facts);
        if words.chars().count() > LONGEST_WORDS {
            words = words.chars().take(LONGEST_WORDS).chain(['…']).collect();
        }
        words
    }

    fn text(&mut self, field: &Field, value: String) {
        let value = cut(value);
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), Value::Text(value)));
        }
    }

    fn literal(&mut self, field: &Field, value: impl fmt::Display) {
        self.fields.push((field.name(), Value::Literal(value.to_string())));
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.text(field, text);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.literal(field, value);
        } else {
            self.text(field, value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.literal(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.literal(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field, value);
    }
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// `crate/file.rs:line`, as short as `peer/peertask_conductor.go:1500` is.
fn caller(metadata: &Metadata<'_>) -> String {
    let module = metadata.module_path().unwrap_or_else(|| metadata.target());
    let package = module.split("::").next().unwrap_or(module).replace('_', "-");
    let file = metadata.file().and_then(|path| path.rsplit(['/', '\\']).next());
    match (file, metadata.line()) {
        (Some(file), Some(line)) => format!("{package}/{file}:{line}"),
        _ => package,
    }
}

fn cut(mut value: String) -> String {
    if value.len() > LONGEST_VALUE {
        let end = value.floor_char_boundary(LONGEST_VALUE);
        let rest = value.len() - end;
        value.truncate(end);
        let _ = write!(value, "… ({rest} bytes more)");
    }
    value
}

fn push_key(out: &mut String, key: &str) {
    out.push(',');
    push_quoted(out, key);
    out.push(':');
}

/// A JSON string (RFC 8259 section 7).
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if disturbs(character) => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

/// Control characters (also the eight-bit ones, which terminals obey), line and paragraph
/// separators, and what turns the direction of text; all below U+10000.
fn disturbs(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn is_one_word(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !disturbs(c) && !"\"\\=".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// Text with what would disturb a terminal or a page written out.
fn push_plain(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            _ if disturbs(character) => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

/// Before the cause, in the line that a failed download leaves in the words of Dragonfly's daemon.
const FAILED: &str = "peer task failed, code: 4008, reason: ";
/// Fields that name an attempt, of use only to a search of the log.
const NAMES: [&str; 3] = ["peer", "task", "component"];
/// In characters, of an event as a sentence.
const LONGEST_WORDS: usize = 400;
/// In bytes; longer ones are cut and say by how much.
const LONGEST_VALUE: usize = 4096;
