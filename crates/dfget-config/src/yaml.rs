//! YAML text into a tree in which every key and value knows its place.
//!
//! Owns what a configuration file may be as a text: UTF-8, one document, bounded in depth and in
//! size, no key twice in one mapping (not even in another case), aliases and merge keys resolved.
//! It does not know a single key and gives scalars no type: `65001` stays text until a reader asks
//! for a port. JSON is read too, as it is YAML.
//!
//! Failure: a text that is no such document gives one [`Fault`] with its place; keys that stand
//! twice give one each, and the tree keeps the first. No input panics (a property test says so).

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::Code;

/// A place in one of the files that were read; line and column count from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mark {
    /// Which file, in the order of reading.
    pub(crate) file: usize,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Nothing, `~` or `null`: the key counts as absent.
    Null,
    /// Text of no type yet; `plain` when it stood without quotes and in one line.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As written.
    pub(crate) key: String,
    pub(crate) key_mark: Mark,
    pub(crate) value: Node,
}

/// Something wrong with the text itself.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) mark: Mark,
    pub(crate) code: Code,
    /// The key, when it is about one.
    pub(crate) key: Option<String>,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// A document and the keys that stood twice in it.
#[derive(Debug)]
pub(crate) struct Document {
    /// `Null` for an empty file.
    pub(crate) root: Node,
    pub(crate) faults: Vec<Fault>,
}

/// Reads one file; `file` goes into every mark.
///
/// # Errors
/// A [`Fault`] when the bytes are no UTF-8, no YAML, more than one document, too deep or too big.
pub(crate) fn parse(file: usize, bytes: &[u8]) -> Result<Document, Fault> {
    let text = decode(file, bytes)?;
    let mut composer = Composer::new(file);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax_fault(file, text, &error))?;
        composer.take(event, span)?;
    }
    let start = Mark { file, line: 1, column: 1 };
    let root = composer.root.unwrap_or(Node { mark: start, data: Data::Null });
    Ok(Document { root, faults: composer.faults })
}

fn decode(file: usize, bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        let mark = Mark { file, line: clamp(line), column: clamp(column) };
        syntax(mark, "the file is not UTF-8 text", "save it as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn syntax_fault(file: usize, text: &str, error: &ScanError) -> Fault {
    let mark = Mark {
        file,
        line: clamp(error.marker().line().max(1)),
        column: clamp(error.marker().col().saturating_add(1)),
    };
    if error.info().contains("recursion limit") {
        // The scanner looks ahead further than the composer has come.
        return too_deep(mark);
    }
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or("");
    let indent = &line[..line.len() - line.trim_start().len()];
    let remedy = if indent.contains('\t') {
        "indent with spaces, YAML takes no tabs"
    } else if error.info().contains("escape character") {
        "write a text with a backslash in single quotes, as in `regx: '\\.example\\.com:443$'`"
    } else {
        "correct this line or the one above it; text with `:`, `#`, `@` or `*` in it needs quotes"
    };
    syntax(mark, &format!("no valid YAML: {}", one_line(error.info())), remedy)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Builds the tree from the parser's events, without recursion.
struct Composer {
    file: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    faults: Vec<Fault>,
}

/// A list or mapping whose end has not been seen.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Mark, bool)>, merged: Vec<Node> },
}

// === impl Composer ===

impl Composer {
    const fn new(file: usize) -> Self {
        Self { file, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None, faults: Vec::new() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let mark = Mark {
            file: self.file,
            line: clamp(span.start.line().max(1)),
            column: clamp(span.start.col().saturating_add(1)),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && Self::is_untyped(mark, tag.as_deref())?;
                let data = match (plain, &*text) {
                    (true, "" | "~" | "null" | "Null" | "NULL") => Data::Null,
                    _ => Data::Scalar { text: text.into_owned(), plain },
                };
                self.add(Node { mark, data }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(syntax(mark, "an alias stands inside of what it names", "remove it"));
                };
                let node = Node { mark: node.mark, data: node.data.clone() };
                self.add(node, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                Self::is_untyped(mark, tag.as_deref())?;
                self.begin(mark, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                Self::is_untyped(mark, tag.as_deref())?;
                let content = Content::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.begin(mark, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.finish(),
            _ => Ok(()),
        }
    }

    /// True without a tag, false when it says "text", an error when it says anything unusual.
    fn is_untyped(mark: Mark, tag: Option<&Tag>) -> Result<bool, Fault> {
        let Some(tag) = tag else { return Ok(true) };
        match tag.suffix.as_str() {
            "str" if tag.is_yaml_core_schema() => Ok(false),
            "int" | "bool" | "float" | "null" | "seq" | "map" if tag.is_yaml_core_schema() => Ok(true),
            _ => Err(syntax(mark, "a YAML tag has no meaning here", "remove the word that starts with `!`")),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(mark));
        }
        self.open.push(Open { mark, anchor, content });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let Some(Open { mark, anchor, content }) = self.open.pop() else { return Ok(()) };
        let data = match content {
            Content::List(items) => Data::List(items),
            Content::Map { mut entries, merged, .. } => {
                for node in merged {
                    Self::merge(&mut entries, node)?;
                }
                Data::Map(entries)
            }
        };
        self.add(Node { mark, data }, anchor)
    }

    /// Puts a complete value where it belongs: it may turn out to be a key.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        let (nodes, depth) = measure(&node);
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(syntax(node.mark, "the file holds too many values", "split or shorten it"));
        }
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(node.mark));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            return self.add_root(node);
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key, merged } => match key.take() {
                None => match key_text(node) {
                    Ok(text) => *key = Some(text),
                    Err(mark) => {
                        return Err(syntax(mark, "a key is a list or a mapping", "write a plain name"));
                    }
                },
                Some((text, _, true)) if text == "<<" => merged.push(node),
                Some((key, key_mark, _)) => match find(entries, &key) {
                    Some(first) => {
                        let fault = duplicate(&key, key_mark, first);
                        self.faults.push(fault);
                    }
                    None => entries.push(Entry { key, key_mark, value: node }),
                },
            },
        }
        Ok(())
    }

    fn add_root(&mut self, node: Node) -> Result<(), Fault> {
        match (&self.root, &node.data) {
            (None, _) => self.root = Some(node),
            (Some(_), Data::Null) => {}
            (Some(_), _) => {
                let remedy = "keep one document: remove the line `---` above this one, or what follows it";
                return Err(syntax(node.mark, "a second document starts here", remedy));
            }
        }
        Ok(())
    }

    /// Adds what `<<` names, without replacing keys that are there.
    fn merge(entries: &mut Vec<Entry>, node: Node) -> Result<(), Fault> {
        let mark = node.mark;
        let sources = match node.data {
            Data::List(items) => items,
            data => vec![Node { mark, data }],
        };
        for source in sources {
            let Data::Map(added) = source.data else {
                return Err(syntax(source.mark, "`<<` takes a mapping", "write `<<: *name-of-an-anchor`"));
            };
            for entry in added {
                if find(entries, &entry.key).is_none() {
                    entries.push(entry);
                }
            }
        }
        Ok(())
    }
}

fn syntax(mark: Mark, problem: &str, remedy: &str) -> Fault {
    Fault { mark, code: Code::Syntax, key: None, problem: problem.to_owned(), remedy: remedy.to_owned() }
}

fn too_deep(mark: Mark) -> Fault {
    syntax(mark, "lists and mappings are nested too deeply", "no option lies deeper than 8 levels")
}

/// The text of a key, its place, and whether it stood without quotes; the place when it is no text.
fn key_text(node: Node) -> Result<(String, Mark, bool), Mark> {
    match node.data {
        Data::Scalar { text, plain } => Ok((text, node.mark, plain)),
        Data::Null => Ok(("null".to_owned(), node.mark, true)),
        Data::List(_) | Data::Map(_) => Err(node.mark),
    }
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key))
}

fn duplicate(key: &str, mark: Mark, first: &Entry) -> Fault {
    let line = first.key_mark.line;
    let problem = if first.key == key {
        format!("the key stands twice, first in line {line}")
    } else {
        format!("the key stands twice, as `{}` in line {line}; case makes no difference", first.key)
    };
    let remedy = "keep one of the two".to_owned();
    Fault { mark, code: Code::DuplicateKey, key: Some(key.to_owned()), problem, remedy }
}

/// How many values a node holds, itself included, and how many levels of lists and mappings.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<_> = match &node.data {
        Data::Null | Data::Scalar { .. } => return (1, 0),
        Data::List(items) => items.iter().collect(),
        Data::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
    };
    let (mut nodes, mut depth) = (1, 0);
    for child in children {
        let (more, deeper) = measure(child);
        nodes += more;
        depth = depth.max(deeper);
    }
    (nodes, depth + 1)
}

/// Levels of lists and mappings; the deepest option has 7.
const MAX_DEPTH: usize = 32;

/// Values in one file, each counted once for every level it lies in, and again for every alias.
const MAX_NODES: usize = 200_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(text: &str) -> Node {
        parse(0, text.as_bytes()).unwrap().root
    }

    fn fault(text: &str) -> (u32, u32, String, String) {
        let fault = parse(0, text.as_bytes()).unwrap_err();
        (fault.mark.line, fault.mark.column, fault.problem, fault.remedy)
    }

    fn entries(node: &Node) -> &[Entry] {
        match &node.data {
            Data::Map(entries) => entries,
            other => panic!("no mapping: {other:?}"),
        }
    }

    fn text(node: &Node) -> &str {
        match &node.data {
            Data::Scalar { text, .. } => text,
            other => panic!("no text: {other:?}"),
        }
    }

    #[test]
    fn keys_and_values_know_their_lines_and_columns() {
        let root = root("# a comment\na: 1\nlist:\n  - name: ä\n    other: x\n");
        let top = entries(&root);
        assert_eq!((top[0].key_mark.line, top[0].key_mark.column), (2, 1));
        assert_eq!((top[0].value.mark.line, top[0].value.mark.column), (2, 4));
        let Data::List(items) = &top[1].value.data else { panic!("no list") };
        let item = entries(&items[0]);
        assert_eq!((item[1].key_mark.line, item[1].key_mark.column), (5, 5));
        assert_eq!((item[1].value.mark.line, item[1].value.mark.column), (5, 12));
    }

    #[test]
    fn empty_files_comments_and_nulls_hold_nothing() {
        for text in ["", "# only a comment\n", "---\n", "~", "null\n", "\u{feff}", "a: 1\n---\n"] {
            let root = root(text);
            assert!(matches!(root.data, Data::Null) || text.starts_with('a'), "{text:?}");
        }
        let root = root("a:\nb: ~\nc: \"\"\n");
        assert!(matches!(entries(&root)[0].value.data, Data::Null));
        assert!(matches!(entries(&root)[1].value.data, Data::Null));
        assert_eq!(text(&entries(&root)[2].value), "");
    }

    #[test]
    fn json_is_yaml() {
        let root = root("{\"a\": {\"b\": [1, \"two\"]},\n \"c\": null}");
        assert_eq!(entries(&root)[0].key, "a");
        assert!(matches!(entries(&root)[1].value.data, Data::Null));
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved_and_do_not_replace_what_is_there() {
        let root = root("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  X: 3\nall: *b\n");
        let used = entries(&entries(&root)[1].value);
        let pairs: Vec<_> = used.iter().map(|e| (e.key.as_str(), text(&e.value))).collect();
        assert_eq!(pairs, [("X", "3"), ("y", "2")]);
        assert_eq!(entries(&entries(&root)[2].value).len(), 2);
        assert_eq!(fault("a: &a [*a]").2, "an alias stands inside of what it names");
        assert_eq!(fault("<<: 7").2, "`<<` takes a mapping");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let previous = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
        }
        assert_eq!(fault(&bomb).2, "the file holds too many values");
    }

    #[test]
    fn keys_that_stand_twice_are_all_named_and_the_first_one_stays() {
        let document = parse(0, b"a: 1\nb: 2\na: 3\nB: 4\n").unwrap();
        let said: Vec<_> = document.faults.iter().map(|f| (f.mark.line, f.problem.as_str())).collect();
        assert_eq!(
            said,
            [
                (3, "the key stands twice, first in line 1"),
                (4, "the key stands twice, as `b` in line 2; case makes no difference"),
            ]
        );
        assert_eq!(text(&entries(&document.root)[0].value), "1");
    }

    #[test]
    fn texts_that_are_no_document_are_refused_with_their_place() {
        let (line, column, problem, _) = fault("a: 1\n---\nb: 2\n");
        assert_eq!((line, column, problem.as_str()), (3, 1, "a second document starts here"));
        assert_eq!(fault("? [a, b]\n: 1\n").2, "a key is a list or a mapping");
        assert_eq!(fault("a: !secret x\n").2, "a YAML tag has no meaning here");
        let (line, _, problem, _) = fault("a: 1\nb: [1, 2\nc: 3\n");
        assert!(line >= 2 && problem.starts_with("no valid YAML: "), "{line} {problem}");
        let (line, _, _, remedy) = fault("proxy:\n\tproxies: []\n");
        assert_eq!((line, remedy.as_str()), (2, "indent with spaces, YAML takes no tabs"));
        let (line, _, _, remedy) = fault("a: 1\nregx: \"blobs\\.x\"\n");
        assert_eq!(line, 2);
        assert!(remedy.starts_with("write a text with a backslash in single quotes"), "{remedy}");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_refused_with_their_place() {
        let fault = parse(0, b"a: 1\nb\xc3\xa4: \xff\n").unwrap_err();
        assert_eq!((fault.mark.line, fault.mark.column), (2, 5));
        assert_eq!(fault.problem, "the file is not UTF-8 text");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(fault(&"[".repeat(100_000)).2, "lists and mappings are nested too deeply");
        assert_eq!(fault(&"{a: ".repeat(200)).2, "lists and mappings are nested too deeply");
        let block: String = (0..200).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert_eq!(fault(&block).2, "lists and mappings are nested too deeply");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(0, &bytes);
        }

        #[test]
        fn no_text_panics(text in "[-a-c:{}\\[\\],&*<!#|>?%@`\"' \t\n~.]{0,80}") {
            let _ = parse(0, text.as_bytes());
        }
    }
}
