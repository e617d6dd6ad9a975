//! What a configuration comes to, key by key, and where each value is from.
//!
//! Made from the table of keys and the tree of the file, by the same names and the same order: a
//! key that the table gains is here without another word. Values are kept as they were written; a
//! relative name of a file is made absolute, so that the text means the same wherever it lies.

use std::path::PathBuf;

use dfget_core::DEFAULT_FILTER;

use crate::{
    Environment, LoadOptions, Location,
    layout::Layout,
    options::{Kind, Opt, Support, TOP},
    otel::{self, Otel},
    places::{Named, Places},
    read::{Field, Section},
    report::Report,
    scalar,
    yaml::{self, Data, Entry, Mark, Node},
};

/// Every key that has an effect, in the order of the documentation.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    rows: Vec<Setting>,
    file: PathBuf,
    named: &'static str,
}

/// One key, with its value if it has one.
#[derive(Clone)]
pub struct Setting {
    /// The way from the top, such as `proxy.proxies[0].regx`; `[]` in what is not there at all.
    pub key: String,
    /// Where the value is from.
    pub source: Source,
    name: String,
    depth: usize,
    /// Whether an item of a list begins here.
    begins_item: bool,
    kind: Kind,
    content: Content,
}

/// Where a value is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A file says it.
    File(Location),
    /// A flag of the command line says it.
    Flag(&'static str),
    /// It follows from a variable of the environment.
    Environment(&'static str),
    /// Nobody says anything else.
    Default,
    /// There is no value.
    Unset,
}

/// A value, for programs.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// There is none.
    Nothing,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Number(i64),
    /// Anything else, as it would be written.
    Text(String),
    /// Several.
    List(Vec<Self>),
    /// By name.
    Map(Vec<(String, Self)>),
}

#[derive(Clone, Debug)]
enum Content {
    /// Keys or items follow, one level deeper.
    Section,
    Unset,
    Value(Node),
}

/// What stands for a secret.
pub(crate) const REDACTED: &str = "***";

/// A column that comments start at, where the values leave room.
const COMMENT_COLUMN: usize = 44;

// === impl Settings ===

impl Settings {
    /// All keys with an effect; sections and those without a value, too.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.rows.iter()
    }

    /// Those that have a value of their own.
    pub fn values(&self) -> impl Iterator<Item = &Setting> {
        self.rows.iter().filter(|row| matches!(row.content, Content::Value(_)))
    }

    /// Where item `index` of the list `key` (such as `proxy.proxies`) is written.
    #[must_use]
    pub fn place_of(&self, key: &str, index: usize) -> Option<&Location> {
        let prefix = format!("{key}[{index}].");
        let row = self
            .values()
            .find(|row| row.key.starts_with(&prefix) && matches!(row.source, Source::File(_)))?;
        row.place()
    }

    /// Where `key` itself is written.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<&Location> {
        self.rows.iter().find(|row| row.key == key).and_then(Setting::place)
    }

    /// Keys whose values differ from those of `other`, each once; of a list, the list.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let of = |settings: &Self| -> Vec<(String, Plain)> {
            settings.values().map(|row| (row.key.clone(), row.exact())).collect()
        };
        let (ours, theirs) = (of(self), of(other));
        let differing = ours
            .iter()
            .filter(|pair| !theirs.contains(pair))
            .chain(theirs.iter().filter(|pair| !ours.contains(pair)));
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in differing {
            let key = key.split('[').next().unwrap_or_default().to_owned();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The whole as a file that means the same, with a comment at each value. Secrets are left
    /// out unless `secrets` says otherwise.
    #[must_use]
    pub fn to_yaml(&self, secrets: bool) -> String {
        let mut text = format!("# the configuration of dfget as it is in effect: {}\n", self.origin());
        if !secrets && self.rows.iter().any(Setting::is_secret) {
            text.push_str("# `***` stands for a secret: fill it in again before this file is used\n");
        }
        for row in self.in_order() {
            row.write(secrets, &mut text);
        }
        text
    }

    /// The main file, and how it was found.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}{}", self.file.display(), self.named)
    }

    /// An item must begin with a key that is set, so those that are not come later in it.
    fn in_order(&self) -> Vec<Setting> {
        let mut rows = self.rows.clone();
        let mut start = 0;
        while start < rows.len() {
            if !rows[start].begins_item {
                start += 1;
                continue;
            }
            let depth = rows[start].depth;
            let ends = |row: &Setting| row.depth < depth || (row.depth == depth && row.begins_item);
            let end = rows[start + 1..].iter().position(ends).map_or(rows.len(), |at| start + 1 + at);
            let is_head = |row: &Setting| row.depth == depth && !matches!(row.content, Content::Unset);
            if let Some(first) = rows[start..end].iter().position(is_head)
                && first > 0
            {
                rows[start].begins_item = false;
                rows[start + first].begins_item = true;
                rows[start..end].rotate_left(first);
            }
            start += 1;
        }
        rows
    }
}

// === impl Setting ===

impl Setting {
    /// Whether a value is there that is not shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        match &self.content {
            Content::Value(node) => {
                matches!(self.kind, Kind::Secret | Kind::Map(Kind::Secret)) || holds_secret(node)
            }
            Content::Section | Content::Unset => false,
        }
    }

    /// Where it is written, if a file says it.
    #[must_use]
    pub fn place(&self) -> Option<&Location> {
        match &self.source {
            Source::File(location) => Some(location),
            _ => None,
        }
    }

    /// The value; a secret is `***`.
    #[must_use]
    pub fn value(&self) -> Plain {
        match &self.content {
            Content::Value(node) => plain(&self.shown(node), &self.kind),
            Content::Section | Content::Unset => Plain::Nothing,
        }
    }

    /// Whether it is a heading for others.
    #[must_use]
    pub const fn is_section(&self) -> bool {
        matches!(self.content, Content::Section)
    }

    fn exact(&self) -> Plain {
        match &self.content {
            Content::Value(node) => plain(node, &self.kind),
            Content::Section | Content::Unset => Plain::Nothing,
        }
    }

    /// The value as it may be shown.
    fn shown(&self, node: &Node) -> Node {
        match self.kind {
            Kind::Secret | Kind::Map(Kind::Secret) => redacted(node),
            _ => without_secrets(node),
        }
    }

    fn write(&self, secrets: bool, text: &mut String) {
        let indent = "  ".repeat(self.depth.saturating_sub(usize::from(self.begins_item)));
        let dash = if self.begins_item { "- " } else { "" };
        match &self.content {
            Content::Section => line(text, &format!("{indent}{dash}{}:", self.name), ""),
            Content::Unset => line(text, &format!("{indent}# {dash}{}:", self.name), "not set"),
            Content::Value(node) => {
                let node = if secrets { node.clone() } else { self.shown(node) };
                let source = match self.is_secret() && !secrets {
                    true => format!("{}; fill it in again", self.source),
                    false => self.source.to_string(),
                };
                write_node(text, &format!("{indent}{dash}{}:", self.name), &node, self.depth, &source);
            }
        }
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?} ({})", self.key, self.value(), self.source)
    }
}

// === impl Source ===

impl Source {
    /// A stable word for the kind.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Flag(_) => "flag",
            Self::Environment(_) => "environment",
            Self::Default => "default",
            Self::Unset => "unset",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(Location { file, line, .. }) => {
                write!(f, "{}:{}", file.display(), line.unwrap_or_default())
            }
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Default => f.write_str("default"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// What is needed to say where values are from.
pub(crate) struct Origins<'a> {
    pub(crate) options: &'a LoadOptions,
    pub(crate) environment: &'a Environment,
    pub(crate) report: &'a Report,
    /// The directory of each file, by the number in its marks.
    pub(crate) directories: &'a [PathBuf],
    pub(crate) places: &'a Places,
    pub(crate) file: PathBuf,
    pub(crate) named: Named,
}

/// Every key with an effect, from the sorted file.
pub(crate) fn settings(layout: &Layout<'_>, origins: &Origins<'_>) -> Settings {
    let mut walk = Walk { origins, proxy: layout.proxy.as_ref(), rows: Vec::new(), absent: false };
    walk.section(TOP, &layout.daemon, "", 0);
    let named = match origins.named {
        Named::CommandLine => ", by the command line",
        Named::Variable => ", by DFGET_CONFIG",
        Named::Default => "",
    };
    Settings { rows: walk.rows, file: origins.file.clone(), named }
}

struct Walk<'a> {
    origins: &'a Origins<'a>,
    proxy: Option<&'a Section<'a>>,
    rows: Vec<Setting>,
    /// Below something that is not there: no key has a value.
    absent: bool,
}

// === impl Walk ===

impl Walk<'_> {
    fn section(&mut self, options: &'static [Opt], section: &Section<'_>, path: &str, depth: usize) {
        for option in options.iter().filter(|option| matches!(option.support, Support::Full)) {
            let key =
                if path.is_empty() { option.name.to_owned() } else { format!("{path}.{}", option.name) };
            match (key.as_str(), self.proxy) {
                ("proxy", Some(proxy)) => {
                    self.push(key, option, depth, Content::Section, Source::Unset);
                    let children = option.children();
                    self.section(children, proxy, option.name, depth + 1);
                }
                _ => self.option(option, section.get(option.name), key, depth),
            }
        }
    }

    fn option(&mut self, option: &'static Opt, field: Option<&Field<'_>>, key: String, depth: usize) {
        let source = field.map_or(Source::Unset, |field| self.written(field));
        match option.kind {
            Kind::Section(children) => {
                let below = match field.map(|field| &field.node.data) {
                    Some(Data::Map(entries)) => Section::of(entries, &key),
                    _ => Section::default(),
                };
                let at = self.rows.len();
                self.push(key.clone(), option, depth, Content::Section, source);
                self.section(children, &below, &key, depth + 1);
                let unset = |row: &Setting| matches!(row.content, Content::Unset);
                if self.rows[at + 1..].iter().all(unset) {
                    self.rows[at].content = Content::Unset;
                    self.rows[at].source = Source::Unset;
                }
            }
            Kind::Sections(children) => self.sections(option, children, field, key, depth, source),
            Kind::Named(children) => {
                let names = match field.map(|field| &field.node.data) {
                    Some(Data::Map(entries)) => Section::of(entries, &key).fields,
                    _ => Vec::new(),
                };
                if names.is_empty() {
                    self.push(key.clone(), option, depth, Content::Unset, Source::Unset);
                    self.without(children, &format!("{key}.NAME"), depth + 2, false);
                    return;
                }
                self.push(key, option, depth, Content::Section, source);
                for name in names {
                    let Data::Map(entries) = &name.node.data else { continue };
                    let source = self.written(&name);
                    self.push(name.path.clone(), option, depth + 1, Content::Section, source);
                    if let Some(row) = self.rows.last_mut() {
                        row.name = key_text(name.name);
                    }
                    self.section(children, &Section::of(entries, &name.path), &name.path, depth + 2);
                }
            }
            _ => {
                let (content, source) = self.leaf(option, field, &key);
                self.push(key, option, depth, content, source);
            }
        }
    }

    fn sections(
        &mut self,
        option: &'static Opt,
        children: &'static [Opt],
        field: Option<&Field<'_>>,
        key: String,
        depth: usize,
        source: Source,
    ) {
        let items: Vec<&Node> = match field.map(|field| &field.node.data) {
            Some(Data::List(items)) => items.iter().filter(|item| !matches!(item.data, Data::Null)).collect(),
            _ => Vec::new(),
        };
        match (field, items.is_empty()) {
            (None, _) => {
                self.push(key.clone(), option, depth, Content::Unset, Source::Unset);
                self.without(children, &format!("{key}[]"), depth + 2, true);
                return;
            }
            (Some(field), true) => {
                let none = Node { mark: field.node.mark, data: Data::List(Vec::new()) };
                self.push(key.clone(), option, depth, Content::Value(none), source);
                self.without(children, &format!("{key}[]"), depth + 2, true);
                return;
            }
            (Some(_), false) => self.push(key.clone(), option, depth, Content::Section, source),
        }
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{key}[{index}]");
            let below = match &item.data {
                Data::Map(entries) => Section::of(entries, &path),
                _ => Section::default(),
            };
            let at = self.rows.len();
            self.section(children, &below, &path, depth + 2);
            if let Some(first) = self.rows.get_mut(at) {
                first.begins_item = true;
            }
        }
    }

    /// The keys of something that is not there.
    fn without(&mut self, children: &'static [Opt], path: &str, depth: usize, is_item: bool) {
        let absent = std::mem::replace(&mut self.absent, true);
        let at = self.rows.len();
        self.section(children, &Section::default(), path, depth);
        if let Some(first) = self.rows.get_mut(at).filter(|_| is_item) {
            first.begins_item = true;
        }
        self.absent = absent;
    }

    fn leaf(&self, option: &'static Opt, field: Option<&Field<'_>>, key: &str) -> (Content, Source) {
        if self.absent {
            return (Content::Unset, Source::Unset);
        }
        if let Some(set) = self.overridden(key) {
            return set;
        }
        match field.filter(|field| !is_blank(field, option)) {
            Some(field) => (Content::Value(self.absolute(field, option)), self.written(field)),
            None => self.default(option, key),
        }
    }

    fn default(&self, option: &'static Opt, key: &str) -> (Content, Source) {
        let text = |text: String| {
            let mark = Mark { file: usize::MAX, line: 0, column: 0 };
            Content::Value(Node { mark, data: Data::Scalar { text, plain: false } })
        };
        let places = self.origins.places;
        let below_home = |path: &Option<PathBuf>, variable: &'static str| match path {
            Some(path) if path.starts_with("/etc") => (text(path.display().to_string()), Source::Default),
            Some(path) if path.starts_with("/var") && path.ends_with("dragonfly") => {
                (text(path.display().to_string()), Source::Default)
            }
            Some(path) => {
                let of_xdg = self.origins.environment.directory(variable).is_some();
                let variable = if of_xdg { variable } else { "HOME" };
                (text(path.display().to_string()), Source::Environment(variable))
            }
            None => (Content::Unset, Source::Unset),
        };
        let written = || match yaml::parse(usize::MAX, option.default.as_bytes()) {
            _ if option.default.is_empty() => (Content::Unset, Source::Unset),
            Ok(document) => (Content::Value(document.root), Source::Default),
            Err(_) => (text(option.default.to_owned()), Source::Default),
        };
        let otel = Otel::of(self.origins.environment);
        let of_variable =
            |value: Option<Content>, name| value.map(|value| (value, Source::Environment(name)));
        match key {
            "logDir" => below_home(&places.log_dir, "XDG_STATE_HOME"),
            "dataDir" => below_home(&places.data_dir, "XDG_CACHE_HOME"),
            "cluster.keyFile" => below_home(&places.cluster_key, "XDG_CONFIG_HOME"),
            "service-name" => of_variable(otel.service.map(text), otel::SERVICE).unwrap_or_else(written),
            "tracing.endpoint" => {
                of_variable(otel.endpoint.map(text), otel::ENDPOINT).unwrap_or_else(written)
            }
            "tracing.ratio" => {
                let ratio = otel.ratio.map(|ratio| text(ratio.to_string()));
                of_variable(ratio, otel::SAMPLER).unwrap_or_else(written)
            }
            "tracing.headers" if !otel.headers.is_empty() => {
                let mark = Mark { file: usize::MAX, line: 0, column: 0 };
                let entry = |(key, text): (String, String)| Entry {
                    key,
                    key_mark: mark,
                    value: Node { mark, data: Data::Scalar { text, plain: false } },
                };
                let entries = otel.headers.into_iter().map(entry).collect();
                let node = Node { mark, data: Data::Map(entries) };
                (Content::Value(node), Source::Environment(otel::HEADERS))
            }
            "proxy.defaultFilter" => (text(DEFAULT_FILTER.join("&")), Source::Default),
            _ => written(),
        }
    }

    /// What the command line says, whatever the file does.
    fn overridden(&self, key: &str) -> Option<(Content, Source)> {
        let options = self.origins.options;
        let (flag, text, plain) = match (key, &options.cluster, options.cluster_port) {
            ("console", ..) if options.console => ("--console", "true".to_owned(), true),
            ("verbose", ..) if options.verbose => ("--verbose", "true".to_owned(), true),
            ("cluster.members", Some(list), _) => ("--cluster", list.clone(), false),
            ("cluster.membersFile" | "cluster.dns", Some(_), _) => {
                return Some((Content::Unset, Source::Unset));
            }
            ("cluster.port", _, Some(port)) => ("--cluster-port", port.to_string(), true),
            _ => return None,
        };
        let mark = Mark { file: usize::MAX, line: 0, column: 0 };
        let data = Data::Scalar { text, plain };
        Some((Content::Value(Node { mark, data }), Source::Flag(flag)))
    }

    /// The value, with names of files made absolute as their readers do.
    fn absolute(&self, field: &Field<'_>, option: &'static Opt) -> Node {
        let environment = self.origins.environment;
        match option.kind {
            Kind::Path => {
                map_texts(field.node, &|text| environment.working_directory.join(text).display().to_string())
            }
            Kind::Pem | Kind::List(Kind::Pem) => map_texts(field.node, &|text| {
                if text.is_empty() || text.contains("-----BEGIN") {
                    return text.to_owned();
                }
                let beside = self.origins.directories.get(field.node.mark.file).map(|dir| dir.join(text));
                let places: Vec<PathBuf> =
                    beside.into_iter().chain([environment.working_directory.join(text)]).collect();
                let there = places.iter().find(|path| environment.files.mode(path).is_ok());
                there
                    .or_else(|| places.first())
                    .map_or_else(|| text.to_owned(), |path| path.display().to_string())
            }),
            _ => field.node.clone(),
        }
    }

    fn written(&self, field: &Field<'_>) -> Source {
        match self.origins.report.file(field.key_mark.file) {
            Some(file) => Source::File(Location {
                file: file.clone(),
                line: Some(field.key_mark.line),
                column: Some(field.key_mark.column),
            }),
            None => Source::Unset,
        }
    }

    fn push(&mut self, key: String, option: &'static Opt, depth: usize, content: Content, source: Source) {
        let name = option.name.to_owned();
        let row = Setting { key, source, name, depth, begins_item: false, kind: option.kind, content };
        self.rows.push(row);
    }
}

/// Whether an empty text counts as absent.
fn is_blank(field: &Field<'_>, option: &Opt) -> bool {
    let blank = matches!(&field.node.data, Data::Scalar { text, .. } if text.is_empty());
    blank && matches!(option.kind, Kind::Path)
}

fn map_texts(node: &Node, change: &dyn Fn(&str) -> String) -> Node {
    let data = match &node.data {
        Data::Scalar { text, plain } => {
            let changed = change(text);
            let plain = *plain && changed == *text;
            Data::Scalar { text: changed, plain }
        }
        Data::List(items) => Data::List(items.iter().map(|item| map_texts(item, change)).collect()),
        Data::Map(entries) => {
            let changed = |entry: &Entry| Entry { value: map_texts(&entry.value, change), ..entry.clone() };
            Data::Map(entries.iter().map(changed).collect())
        }
        Data::Null => Data::Null,
    };
    Node { mark: node.mark, data }
}

fn redacted(node: &Node) -> Node {
    map_texts(node, &|_| REDACTED.to_owned())
}

fn holds_secret(node: &Node) -> bool {
    match &node.data {
        Data::Scalar { text, .. } => text.contains("PRIVATE KEY") || without_login(text).is_some(),
        Data::List(items) => items.iter().any(holds_secret),
        Data::Map(entries) => entries.iter().any(|entry| holds_secret(&entry.value)),
        Data::Null => false,
    }
}

fn without_secrets(node: &Node) -> Node {
    map_texts(node, &|text| match without_login(text) {
        _ if text.contains("PRIVATE KEY") => REDACTED.to_owned(),
        Some(shown) => shown,
        None => text.to_owned(),
    })
}

/// A URL with a login in it, without that.
fn without_login(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (_, host) = rest[..end].rsplit_once('@')?;
    Some(format!("{scheme}://{REDACTED}@{host}{}", &rest[end..]))
}

fn plain(node: &Node, kind: &Kind) -> Plain {
    match &node.data {
        Data::Null => Plain::Nothing,
        Data::Scalar { text, plain } => match kind {
            Kind::Boolean => scalar::boolean(text).map_or_else(|_| Plain::Text(text.clone()), Plain::Boolean),
            Kind::Integer(..) | Kind::Ports | Kind::List(Kind::Ports) if *plain => {
                text.parse().map_or_else(|_| Plain::Text(text.clone()), Plain::Number)
            }
            _ => Plain::Text(text.clone()),
        },
        Data::List(items) => Plain::List(items.iter().map(|item| plain(item, kind)).collect()),
        Data::Map(entries) => {
            Plain::Map(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value, kind))).collect())
        }
    }
}

/// `head` with its value, and what follows it one level deeper.
fn write_node(text: &mut String, head: &str, node: &Node, depth: usize, comment: &str) {
    let indent = "  ".repeat(depth + 1);
    match &node.data {
        Data::Null => line(text, head, comment),
        Data::Scalar { text: value, plain } => {
            line(text, &format!("{head} {}", quoted(value, *plain)), comment);
        }
        Data::List(items) if items.is_empty() => line(text, &format!("{head} []"), comment),
        Data::Map(entries) if entries.is_empty() => line(text, &format!("{head} {{}}"), comment),
        Data::List(items) => {
            line(text, head, comment);
            for item in items {
                write_node(text, &format!("{indent}-"), item, depth + 1, "");
            }
        }
        Data::Map(entries) => {
            line(text, head, comment);
            for entry in entries {
                let head = format!("{indent}{}:", key_text(&entry.key));
                write_node(text, &head, &entry.value, depth + 1, "");
            }
        }
    }
}

fn line(text: &mut String, line: &str, comment: &str) {
    text.push_str(line);
    if !comment.is_empty() {
        let width = line.chars().count();
        text.push_str(&" ".repeat(COMMENT_COLUMN.saturating_sub(width).max(2)));
        text.push_str("# ");
        text.push_str(comment);
    }
    text.push('\n');
}

/// A key, in quotes if it is no plain word.
fn key_text(key: &str) -> String {
    let is_word = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    quoted(key, is_word && key.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// A scalar that is read as the same one.
fn quoted(text: &str, plain: bool) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-/:%*+=&^$@".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.'));
    // What may stand bare in one place of a file need not in another.
    if plain && starts_well && !text.ends_with(':') && text.chars().all(is_safe) {
        return text.to_owned();
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')) {
        let mut escaped = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => escaped.extend(['\\', c]),
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '\t' => escaped.push_str("\\t"),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                    escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => escaped.push(c),
            }
        }
        return escaped + "\"";
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The value of the only key of a text.
    fn value(text: &str) -> Option<Data> {
        match yaml::parse(0, text.as_bytes()).ok()?.root.data {
            Data::Map(entries) => entries.into_iter().next().map(|entry| entry.value.data),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_so_that_it_is_read_as_itself(text in any::<String>()) {
            let written = format!("k: {}\n", quoted(&text, false));
            let read = value(&written);
            prop_assert!(
                matches!(&read, Some(Data::Scalar { text: read, .. }) if *read == text),
                "{written:?} {read:?}"
            );
        }

        #[test]
        fn a_plain_text_is_read_as_itself_wherever_it_stood(text in "[ -~]{1,12}") {
            let Some(Data::List(items)) = value(&format!("k: [{text}]\n")) else { return Ok(()) };
            for item in items {
                if let Data::Scalar { text, plain: true } = item.data {
                    let read = value(&format!("k: {}  # comment\n", quoted(&text, true)));
                    prop_assert!(
                        matches!(&read, Some(Data::Scalar { text: read, .. }) if *read == text),
                        "{text:?} {read:?}"
                    );
                }
            }
        }

        #[test]
        fn a_number_stays_plain(number in any::<i64>()) {
            let read = value(&format!("k: {}\n", quoted(&number.unsigned_abs().to_string(), true)));
            prop_assert!(matches!(&read, Some(Data::Scalar { plain: true, .. })), "{read:?}");
        }

        #[test]
        fn any_key_is_written_so_that_it_is_read_as_itself(key in any::<String>()) {
            let document = yaml::parse(0, format!("{}: v\n", key_text(&key)).as_bytes());
            // The reader takes no key of a file apart from those that YAML has for itself.
            if let Ok(document) = document
                && let Data::Map(entries) = document.root.data
                && let Some(entry) = entries.first()
            {
                prop_assert_eq!(&entry.key, &key);
            }
        }
    }
}
