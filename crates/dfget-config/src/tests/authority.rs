//! The hijack's authority: named, or dfget's own.

use super::{CERT, KEY, load_files, load_text, machine, said};
use crate::{
    HijackAuthority, LoadOptions, OwnAuthority, PemSource, load_without_authority,
    testing::{FakeFiles, environment},
};

const CONFIG: &str = "/etc/dragonfly/dfget.yaml";

/// A proxy that hijacks these patterns and names no authority.
fn hijacking(patterns: &[&str]) -> String {
    let hosts: Vec<_> = patterns.iter().map(|pattern| format!("{{regx: '{pattern}'}}")).collect();
    format!("proxies: [{{regx: a}}]\nhijackHTTPS: {{hosts: [{}]}}\n", hosts.join(", "))
}

fn bare(text: &str) -> FakeFiles {
    FakeFiles::default().writable("/").with(CONFIG, text)
}

fn own(files: FakeFiles) -> OwnAuthority {
    let hijack = load_files(files).unwrap().config.proxy.hijack.unwrap();
    match hijack.authority {
        HijackAuthority::Own(own) => own,
        named @ HijackAuthority::Named { .. } => panic!("{named:?}"),
    }
}

#[test]
fn without_cert_and_key_an_own_authority_is_to_be_made_for_the_hosts() {
    let text = hijacking(&[r"^r\.example:443$", r"^r\.example:5000$", "^192.0.2.7:443$"]);
    let found = own(bare(&text));
    assert_eq!((found.exists, found.cert.to_str()), (false, Some("/etc/dragonfly/ca.crt")));
    assert_eq!(found.key.to_str(), Some("/etc/dragonfly/ca.key"));
    assert_eq!(found.hosts, ["r.example", "192.0.2.7"]);
    assert_eq!(said(load_files(bare(&text))), [""; 0]);
    let data = FakeFiles::default().writable("/var").with(CONFIG, &text);
    assert_eq!(own(data).cert.to_str(), Some("/var/lib/dragonfly/ca.crt"));
    for empty in ["cert: '', key: ", "cert: , key: ''"] {
        let text = text.replace("hijackHTTPS: {", &format!("hijackHTTPS: {{{empty}, "));
        assert!(!own(bare(&text)).exists, "{empty}");
    }
}

#[test]
fn an_own_authority_that_is_there_is_found_and_judged() {
    let text = hijacking(&[r"^.*\.example:443$"]);
    let with = |cert: &str, key: &str| {
        bare(&text).with("/etc/dragonfly/ca.crt", cert).with("/etc/dragonfly/ca.key", key)
    };
    assert!(own(with(CERT, KEY)).exists, "patterns are not asked for their hosts then");
    assert_eq!(
        said(load_files(with("no authority", "no authority"))),
        ["2:1: hijackHTTPS: /etc/dragonfly/ca.crt, /etc/dragonfly/ca.key: no authority; take another"]
    );
    // What is in the key's file counts.
    assert!(own(with("no authority", &format!("{KEY}{CERT}"))).exists);
    let open = bare(&text).with_mode("/etc/dragonfly/ca.key", KEY, 0o644);
    assert_eq!(
        said(load_files(open)),
        ["2:1: hijackHTTPS: every user of this host can read /etc/dragonfly/ca.key (mode 0644); \
          `chmod 600 /etc/dragonfly/ca.key` if nobody has used it, else `dfget ca rotate`"]
    );
}

#[test]
fn a_pair_of_somebody_else_is_said() {
    let text = hijacking(&[r"^r\.example:443$"]);
    let files = bare(&text).with("/etc/dragonfly/ca.key", KEY).locked("/etc/dragonfly/ca.key");
    assert_eq!(
        said(load_files(files)),
        [
            "2:1: hijackHTTPS: /etc/dragonfly/ca.key cannot be read, so /var/lib/dragonfly/ca.key is used instead; \
          start the daemon as the owner of the file (`ls -l /etc/dragonfly/ca.key`), \
          or let clients trust /var/lib/dragonfly/ca.crt"
        ]
    );
}

#[test]
fn patterns_that_spell_no_host_are_refused_with_the_ways_out() {
    let text = hijacking(&[r"^r\.example:443$", r"\.example\.(com|org):443$"]);
    let remedy = "spell the hosts out, or make one by `dfget ca create --dir /etc/dragonfly --host HOST` \
                  (`--any-host` for all), or name another by `cert` and `key`";
    assert_eq!(
        said(load_files(bare(&text))),
        [format!(
            "2:58: hijackHTTPS.hosts[1].regx: an authority of dfget's own is made for hosts that are spelled out, \
             which this pattern does not (got `\\.example\\.(com|org):443$`); {remedy}"
        )]
    );
}

#[test]
fn without_hosts_there_is_nothing_to_sign_for() {
    let text = "proxies: [{regx: a}]\nhijackHTTPS: {hosts: [], sni: []}\n";
    let loaded = load_text(text).unwrap();
    assert!(said(Ok(loaded))[0].contains("without `hosts` every HTTPS connection is tunnelled unseen"));
}

#[test]
fn whoever_makes_the_authority_is_told_where_it_belongs() {
    let text =
        "proxies: [{regx: a}]\nhijackHTTPS: {cert: no.crt, key: /no/ca.key, hosts: [{regx: '^r.*$'}]}\n";
    let load = |files| {
        let loaded = load_without_authority(&LoadOptions::default(), &environment(files, &[])).unwrap();
        loaded.config.proxy.hijack.unwrap().authority
    };
    let file = |path: &str| PemSource::File(path.into());
    let named = HijackAuthority::Named { cert: file("/etc/dragonfly/no.crt"), key: file("/no/ca.key") };
    assert_eq!(load(machine().with(CONFIG, text)), named);
    let here = machine().with(CONFIG, text).with("/site/no.crt", "");
    let HijackAuthority::Named { cert, .. } = load(here) else { panic!("named") };
    assert_eq!(cert, file("/site/no.crt"));
    let patterns = hijacking(&["^.*$", "^r:443$"]);
    let HijackAuthority::Own(own) = load(bare(&patterns)) else { panic!("own") };
    assert_eq!(own.hosts, ["r"]);
}
