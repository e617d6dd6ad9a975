//! What is said about keys without looking at their effect: unknown ones, and those that have none
//! yet.
//!
//! Walks the tree along the table of `options`. Values of keys that work are left
//! to whoever reads them; values of keys without effect are checked here, so that a file which is
//! right today stays right when the key starts to work.

use crate::{
    Code,
    options::{self, Kind, Opt, PROXY, Support},
    read::{ADDRESS, BYTES, DURATION, Expected, Field, IP, MODE, PATTERN, PEM, PERCENT, Section},
    report::Report,
    scalar,
    yaml::{Data, Node},
};

/// Looks at every key of the section; `options` are those that may stand there.
pub(crate) fn check(section: &Section<'_>, options: &'static [Opt], report: &mut Report) {
    Walk { report }.section(section, options, false);
}

struct Walk<'a> {
    report: &'a mut Report,
}

// === impl Walk ===

impl Walk<'_> {
    fn section(&mut self, section: &Section<'_>, options: &'static [Opt], covered: bool) {
        for field in &section.fields {
            match options::find(options, field.name) {
                Some(option) => self.option(field, option, covered),
                None => unknown(field, options, self.report),
            }
        }
    }

    /// `covered`: a section above was already said to have no effect.
    fn option(&mut self, field: &Field<'_>, option: &'static Opt, covered: bool) {
        if field.is_null() {
            return;
        }
        if let (Support::Later { effect, remedy }, false) = (option.support, covered)
            && !is_harmless(field.node, option)
        {
            self.report.warn(
                field.key(),
                Code::NotSupported,
                format!("known, not yet supported: {effect}"),
                remedy,
            );
        }
        let covered = covered || !matches!(option.support, Support::Full);
        match option.kind {
            Kind::Section(children) => {
                if let Some(section) = self.mapping(field, covered) {
                    self.section(&section, children, covered);
                }
            }
            Kind::Sections(children) => {
                for item in self.list(field, covered) {
                    if let Some(section) = self.mapping(&item, covered) {
                        self.section(&section, children, covered);
                    }
                }
            }
            Kind::Named(children) => {
                for named in self.mapping(field, covered).unwrap_or_default().fields {
                    if let Some(section) = self.mapping(&named, covered) {
                        self.section(&section, children, covered);
                    }
                }
            }
            kind if covered && !option.harmless.contains(&text(field.node)) => self.value(field, &kind),
            _ => {}
        }
    }

    /// The mapping it should be; says so only where nobody else reads it.
    fn mapping<'a>(&mut self, field: &Field<'a>, covered: bool) -> Option<Section<'a>> {
        let is_mapping = matches!(field.node.data, Data::Map(_));
        if is_mapping || (covered && !field.is_null()) { field.section(self.report) } else { None }
    }

    fn list<'a>(&mut self, field: &Field<'a>, covered: bool) -> Vec<Field<'a>> {
        let is_list = matches!(field.node.data, Data::List(_));
        if is_list || covered { field.items(self.report).unwrap_or_default() } else { Vec::new() }
    }

    /// Checks the type of a value that nobody reads.
    fn value(&mut self, field: &Field<'_>, kind: &Kind) {
        let report = &mut *self.report;
        let expected = |what, example| Expected { what, example };
        // What is wrong goes into the report; there is nothing to do with the value.
        let _is_right = match kind {
            Kind::Boolean => field.boolean(report).is_some(),
            Kind::Integer(min, max) => field.integer(report, *min, *max).is_some(),
            Kind::Number => field.parse(report, expected("a number", "0.5"), scalar::number).is_some(),
            Kind::Duration => field.duration(report).is_some(),
            Kind::UnitDuration => field.parse(report, DURATION, scalar::duration).is_some(),
            Kind::Rate => field.parse(report, expected("a rate", "512Mi"), scalar::rate).is_some(),
            Kind::Bytes => field.parse(report, BYTES, scalar::bytes).is_some(),
            Kind::Mode => field.parse(report, MODE, scalar::mode).is_some(),
            Kind::Percent => field.parse(report, PERCENT, scalar::percent).is_some(),
            Kind::Ports => field.ports(report).is_some(),
            Kind::Ip => field.parse(report, IP, scalar::ip).is_some(),
            Kind::Address => field.parse(report, ADDRESS, scalar::address).is_some(),
            Kind::Pattern => field.parse(report, PATTERN, scalar::pattern).is_some(),
            Kind::Text | Kind::Secret => field.text(report, expected("text", "some-text")).is_some(),
            Kind::Path => field.text(report, expected("a path", "/some/path")).is_some(),
            Kind::Pem => field.text(report, PEM).is_some(),
            Kind::List(item) => {
                for field in self.list(field, true) {
                    self.value(&field, item);
                }
                true
            }
            Kind::Map(item) => {
                for field in self.mapping(field, true).unwrap_or_default().fields {
                    self.value(&field, item);
                }
                true
            }
            Kind::Any | Kind::Section(_) | Kind::Sections(_) | Kind::Named(_) => true,
        };
    }
}

/// Whether a value asks for nothing but what happens anyway.
fn is_harmless(node: &Node, option: &Opt) -> bool {
    match &node.data {
        Data::Null => true,
        Data::Scalar { text, .. } => option.harmless.iter().any(|value| value.eq_ignore_ascii_case(text)),
        Data::List(items) => items.is_empty(),
        Data::Map(entries) => {
            let switched_off = |key: &str, value: &Node| {
                key.eq_ignore_ascii_case("enable") && text(value).eq_ignore_ascii_case("false")
            };
            entries.iter().any(|entry| switched_off(&entry.key, &entry.value))
                || entries.iter().all(|entry| {
                    options::find(option.children(), &entry.key)
                        .is_none_or(|child| is_harmless(&entry.value, child))
                })
        }
    }
}

fn text(node: &Node) -> &str {
    match &node.data {
        Data::Scalar { text, .. } => text,
        _ => "\0",
    }
}

/// Says that nobody knows the key, and which one may be meant.
fn unknown(field: &Field<'_>, siblings: &[Opt], report: &mut Report) {
    // At the top the proxy's keys may stand, too.
    let proxys = if options::find(siblings, "proxy").is_some() { PROXY } else { &[] };
    let near = siblings
        .iter()
        .chain(proxys)
        .map(|option| (strsim::damerau_levenshtein(&lower(option.name), &lower(field.name)), option.name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min();
    let elsewhere = places(field.name);
    let remedy = match (near, elsewhere.as_slice()) {
        (Some((1, name)), _) => format!("write `{name}` if that is meant"),
        (_, [_, ..]) => format!("move it to {}", elsewhere.join(" or ")),
        (Some((_, name)), []) => format!("write `{name}` if that is meant"),
        (None, []) => "remove it; docs/configuration.md lists all keys".to_owned(),
    };
    report.warn(field.key(), Code::UnknownKey, "unknown key, ignored", remedy);
}

/// Where a key of this name belongs; nothing when it is too common a word.
fn places(name: &str) -> Vec<String> {
    let all = options::flatten();
    let is_it = |path: &str| path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
    let found: Vec<_> = all
        .iter()
        .filter(|(path, _)| is_it(path))
        .map(|(path, _)| format!("`{}`", path.replace("[]", "[…]")))
        .collect();
    if found.len() > 3 { Vec::new() } else { found }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::TOP, yaml};

    fn said(text: &str) -> Vec<String> {
        let mut report = Report::default();
        let file = report.add_file("f".into());
        let document = yaml::parse(file, text.as_bytes()).unwrap();
        let Data::Map(entries) = &document.root.data else { panic!("no mapping") };
        check(&Section::of(entries, ""), TOP, &mut report);
        let (errors, warnings) = report.into_parts();
        errors.iter().chain(&warnings).map(ToString::to_string).collect()
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_or_with_its_place() {
        let table = [
            ("aliveTim: 1s", "f:1:1: aliveTim: unknown key, ignored; write `aliveTime` if that is meant"),
            (
                "STORAGE:\n  multiplexing: true",
                "f:2:3: STORAGE.multiplexing: unknown key, ignored; write `multiplex` if that is meant",
            ),
            (
                "health:\n  tcpListen:\n    path: /x",
                "f:3:5: health.tcpListen.path: unknown key, ignored; move it to `health.path` or `tracing.path`",
            ),
            (
                "diskGCThreshold: 1Gi",
                "f:1:1: diskGCThreshold: unknown key, ignored; move it to `storage.diskGCThreshold`",
            ),
            (
                "scheduler: {manager: {enable: false, seedPeer: {keepAlive: {internal: 5s}}}}",
                "f:1:61: scheduler.manager.seedPeer.keepAlive.internal: unknown key, ignored; \
                 write `interval` if that is meant",
            ),
            (
                "frobnicate: 1",
                "f:1:1: frobnicate: unknown key, ignored; remove it; docs/configuration.md lists all keys",
            ),
        ];
        for (text, message) in table {
            assert_eq!(said(text), [message], "{text}");
        }
    }

    #[test]
    fn a_key_without_effect_gets_one_warning_and_its_section_only_one() {
        assert_eq!(
            said("jaeger: http://127.0.0.1:14268"),
            ["f:1:1: jaeger: known, not yet supported: no traces are sent there; \
              write `tracing: {endpoint: 'HOST:4318'}`, where Jaeger takes OTLP since version 1.35"]
        );
        let text = "objectStorage:\n  enable: true\n  tcpListen: {listen: 0.0.0.0, port: {start: 65020}}\n";
        assert_eq!(said(text).len(), 1, "{:?}", said(text));
    }

    #[test]
    fn values_that_ask_for_what_happens_anyway_are_passed_over() {
        for text in [
            "jaeger: ''",
            "pprof-port: -1",
            "download: {calculateDigest: TRUE, splitRunningTasks: false}",
            "network: {enableIPv6: false}",
            "upload: {security: {insecure: true}}",
            "objectStorage: {enable: false, maxReplicas: 3}",
            "scheduler: {netAddrs: [], manager: {enable: false, netAddrs: [{addr: 'm:1'}]}}",
            "upload:",
            "proxy: {maxConcurrency: 0, defaultPriority: 0, dumpHTTPContent: false}",
        ] {
            assert_eq!(said(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_key_without_effect_is_checked_all_the_same() {
        let table = [
            ("objectStorage: {maxReplicas: few}", "f:1:30: objectStorage.maxReplicas: not a"),
            ("objectStorage: 7", "f:1:16: objectStorage: a mapping belongs here (got a single value)"),
            (
                "scheduler: {manager: {netAddrs: 7}}",
                "f:1:33: scheduler.manager.netAddrs: a list belongs here",
            ),
            (
                "download: {grpcDialTimeout: 10}",
                "f:1:29: download.grpcDialTimeout: a number without a unit is no duration (got `10`); \
                 write a duration, for example `grpcDialTimeout: 1m30s`",
            ),
            (
                "security: {certSpec: {ipAddresses: [x]}}",
                "f:1:37: security.certSpec.ipAddresses[0]: not an IP",
            ),
        ];
        for (text, start) in table {
            let said = said(text);
            assert!(said.iter().any(|line| line.starts_with(start)), "{text}: {said:?}");
        }
    }
}
