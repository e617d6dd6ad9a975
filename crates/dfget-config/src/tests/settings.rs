//! The effective configuration, shown: nothing is missing, and it is read as what it was.

use super::{GOOD, load_files, load_text, machine};
use crate::{
    Code, LoadOptions, Plain, Source, load,
    options::{self, Opt, Support, TOP},
    testing::environment,
};

const EVERY_KEY: &str = include_str!("every-key.yaml");

/// The keys with an effect, in the notation of the table.
fn working(options: &'static [Opt], path: &str, found: &mut Vec<String>) {
    for option in options.iter().filter(|option| matches!(option.support, Support::Full)) {
        let key = if path.is_empty() { option.name.to_owned() } else { format!("{path}.{}", option.name) };
        let below = match option.kind {
            options::Kind::Sections(_) => format!("{key}[]"),
            options::Kind::Named(_) => format!("{key}.NAME"),
            _ => key.clone(),
        };
        working(option.children(), &below, found);
        found.push(key);
    }
}

/// Without the numbers of items.
fn general(key: &str) -> String {
    let mut text = String::new();
    let mut rest = key;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        text.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// What a file means, and what is shown of it.
fn shown(text: &str, console: bool) -> (String, String) {
    let files = machine().with("/etc/dragonfly/dfget.yaml", text).with("/etc/dragonfly/p.yaml", GOOD);
    let options = LoadOptions { console, ..LoadOptions::default() };
    let loaded = load(&options, &environment(files, &[("HOME", "/home/u")]));
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    (format!("{:#?}", loaded.config), loaded.settings.to_yaml(true))
}

const FILES: &[&str] = &[
    GOOD,
    EVERY_KEY,
    "proxy: p.yaml\nlogDir: logs\n",
    "proxies: [{regx: a}]\nhijackHTTPS: {hosts: [{regx: '^r\\.example:443$'}], sni: [{port: 46705}]}\n",
    "proxies: [{regx: a}]\nregistryMirror: {url: r.example, dynamic: true}\nextraRegistryMirrors: [{url: 'http://s.example:5000/x'}]\n",
    "proxy: {tcpListen: {port: 0}, proxies: [{regx: 'it''s \"\\d+\" # x: y', redirect: 'a.b'}]}\n",
    "proxies: [~, {regx: a, direct: true}, ~, {regx: \"tab\\tnew\\nline\\\\.\"}]\n",
    "proxies: [{regx: a}]\nproxy: {proxies: [{regx: b}], hijackHTTPS: {}}\n",
    "hijackHTTPS:\n  cert: |\n    -----BEGIN CERTIFICATE-----\n    abc\n  key: ca.key\n  hosts: []\n\
     whiteList: [{host: h, ports: [443, 80]}, {regx: '\\.x$'}]\n",
    "basicAuth: {username: ' u ', password: 'null'}\nproxies: []\ndefaultFilter: ''\nverbose: TRUE\n",
    "proxies: [{regx: a}]\nreload: {interval: 0}\nmetrics: ':8000'\ndefaultTag: ~\nstorage: {}\n",
    "proxies: &r [{regx: a}]\nhealth: {tcpListen: {port: {start: 7, end: 9}, listen: '::1'}}\n\
     hijackHTTPS: {hosts: [{regx: '^r\\.example:443$', insecure: true, certs: [here.crt]}]}\n",
];

#[test]
fn what_is_shown_is_read_as_what_it_shows() {
    for text in FILES {
        for console in [false, true] {
            let (meaning, again) = shown(text, console);
            let (meaning_again, third) = shown(&again, console);
            assert_eq!(meaning, meaning_again, "{text}\n{again}");
            let values = |text: &str| -> String {
                text.lines()
                    .filter_map(|line| line.split("  #").next())
                    .skip(1)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert_eq!(values(&again), values(&third), "{text}");
        }
    }
}

#[test]
fn every_key_with_an_effect_is_shown_whatever_the_file() {
    let mut keys = Vec::new();
    working(TOP, "", &mut keys);
    assert!(keys.len() > 40, "{}", keys.len());
    for text in FILES {
        let files = machine().with("/etc/dragonfly/dfget.yaml", text).with("/etc/dragonfly/p.yaml", GOOD);
        let settings = load_files(files).unwrap().settings;
        let there: Vec<String> = settings.iter().map(|setting| general(&setting.key)).collect();
        for key in &keys {
            let is_named = key.contains(".NAME");
            let found = there.iter().any(|shown| shown == key || (is_named && alike(shown, key)));
            assert!(found, "{key} is not shown of\n{text}\n{there:?}");
        }
    }
}

/// Whether `shown` is `key` with a name of the file's for `NAME`.
fn alike(shown: &str, key: &str) -> bool {
    let (shown, key): (Vec<_>, Vec<_>) = (shown.split('.').collect(), key.split('.').collect());
    shown.len() == key.len() && shown.iter().zip(&key).all(|(one, other)| one == other || *other == "NAME")
}

#[test]
fn each_value_says_where_it_is_from() {
    let text = "verbose: false\nproxies:\n  - regx: a\n";
    let files = machine().with("/etc/dragonfly/dfget.yaml", text);
    let options = LoadOptions { verbose: true, ..LoadOptions::default() };
    let mut environment = environment(files, &[("HOME", "/home/u")]);
    environment.files =
        std::sync::Arc::new(crate::testing::FakeFiles::default().with("/etc/dragonfly/dfget.yaml", text));
    let settings = load(&options, &environment).unwrap().settings;
    let of = |key: &str| {
        let setting = settings.values().find(|setting| setting.key == key).unwrap();
        (setting.source.to_string(), setting.value())
    };
    assert_eq!(of("verbose"), ("flag --verbose".to_owned(), Plain::Boolean(true)));
    let (place, value) = of("proxy.proxies[0].regx");
    assert_eq!((place.as_str(), value), ("/etc/dragonfly/dfget.yaml:3", Plain::Text("a".to_owned())));
    assert_eq!(of("dataDir").0, "environment HOME");
    assert_eq!(of("proxy.tcpListen.port"), ("default".to_owned(), Plain::Number(65001)));
    assert_eq!(settings.place_of("proxy.proxies", 0).unwrap().line, Some(3));
    let unset = settings.iter().find(|setting| setting.key == "proxy.basicAuth.username").unwrap();
    assert_eq!((unset.source.clone(), unset.value()), (Source::Unset, Plain::Nothing));
}

#[test]
fn no_secret_is_shown_and_one_that_is_missing_is_noticed() {
    let text = "basicAuth: {username: u, password: canary}\nhijackHTTPS:\n  cert: ca.crt\n  key: |\n    \
                -----BEGIN PRIVATE KEY-----\n    canary\nproxies: [{regx: a}]\n";
    let settings = load_text(text).unwrap().settings;
    let yaml = settings.to_yaml(false);
    assert!(!yaml.contains("canary") && yaml.contains("'***'"), "{yaml}");
    assert!(yaml.contains("# `***` stands for a secret: fill it in again"), "{yaml}");
    assert!(settings.values().all(|setting| !format!("{:?}", setting.value()).contains("canary")));
    let again = "basicAuth: {username: u, password: '***'}\nproxies: [{regx: a}]\n";
    let warnings = load_text(again).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.code == Code::Placeholder), "{warnings:?}");
}

#[test]
fn what_changed_is_named_by_its_key() {
    let old = load_text(GOOD).unwrap().settings;
    let new = format!("{GOOD}access: {{ttl: 5s}}\nbasicAuth: {{username: u, password: p}}\n");
    let new = new.replace("blobs/sha256.*", "x");
    let new = load_text(new).unwrap().settings;
    let keys = ["access.ttl", "proxy.basicAuth.password", "proxy.basicAuth.username", "proxy.proxies"];
    let mut changed = new.changed(&old);
    changed.sort();
    assert_eq!(changed, keys);
    assert!(old.changed(&old).is_empty());
}
