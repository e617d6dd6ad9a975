//! What is legal, and said all the same.

use super::{CERT, GOOD, KEY, good_and, load_files, load_text, machine, said};
use dfget_core::Redirect;

use crate::{Code, HijackAuthority, PemSource};

#[test]
fn a_good_file_leaves_nothing_to_say() {
    assert_eq!(good_and(""), [""; 0]);
}

#[test]
fn parts_of_the_proxy_that_do_nothing_alone_are_said() {
    let table = [
        (
            "proxies: [{regx: a}]",
            "1:1: proxies: without `hijackHTTPS` every HTTPS connection is tunnelled unseen, \
             nothing of it is cached; \
             add `hijackHTTPS` with `hosts`; docs/configuration.md has an example",
        ),
        (
            "hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r:443$'}]}",
            "1:1: hijackHTTPS: without a rule nothing is cached, only forwarded; \
             add `proxies: [{regx: 'blobs/sha256.*'}]`",
        ),
        (
            "{proxies: [{regx: a}], hijackHTTPS: {cert: ca.crt, key: ca.key}}",
            "1:24: hijackHTTPS: without `hosts` every HTTPS connection is tunnelled unseen, \
             nothing of it is cached; \
             add `hosts: [{regx: '^registry\\.example\\.com:443$'}]`",
        ),
    ];
    for (text, message) in table {
        assert_eq!(said(load_text(text)), [message], "{text}");
    }
}

fn host(pattern: &str) -> Vec<String> {
    let hijack = "hijackHTTPS:\n  cert: ca.crt\n  key: ca.key\n  hosts:\n";
    said(load_text(format!("proxies: [{{regx: a}}]\n{hijack}    - regx: '{pattern}'\n")))
}

#[test]
fn a_host_pattern_that_lets_strangers_in_is_said_with_the_anchored_form() {
    assert_eq!(
        host(r"^registry\.example\.com"),
        ["6:13: hijackHTTPS.hosts[0].regx: not anchored, it matches every `host:port` that contains it, \
          `registry.example.com.example.org:443` too (got `^registry\\.example\\.com`); \
          write `regx: '^registry\\.example\\.com:443$'`; for another port, write it in place of the 443"]
    );
    assert_eq!(
        host("r.example:5000"),
        ["6:13: hijackHTTPS.hosts[0].regx: not anchored, it matches every `host:port` that contains it, \
          `not-r.example:50001` too (got `r.example:5000`); \
          write `regx: '^r\\.example:5000$'`; for another port, write it in place of the 5000"]
    );
    for pattern in [r"^r\.example:443$", r"^(a|b)\.example:\d+$", ".*", r"\.example\.com(:\d+)?$"] {
        assert_eq!(host(pattern), [""; 0], "{pattern}");
    }
}

#[test]
fn a_host_pattern_that_forgets_the_port_is_said() {
    assert_eq!(
        host(r"^r\.example$"),
        ["6:13: hijackHTTPS.hosts[0].regx: it matches no host: the port follows where `$` stands \
          (got `^r\\.example$`); write `regx: '^r\\.example:443$'`"]
    );
}

#[test]
fn what_others_could_abuse_is_said() {
    assert_eq!(
        good_and("tcpListen: {listen: 0.0.0.0}"),
        ["3:1: tcpListen: anybody who reaches 0.0.0.0:65001 may use the proxy; \
          write `listen: 127.0.0.1`, or add `basicAuth`, or let a firewall choose"]
    );
    assert_eq!(
        good_and("tcpListen: {listen: 0.0.0.0}\nbasicAuth: {username: u, password: p}"),
        [
            "4:1: basicAuth: the password crosses the network readable, as the proxy listens on 0.0.0.0:65001; \
          listen on 127.0.0.1, or let clients come through an encrypted network only"
        ]
    );
    let open_key = machine().with_mode("/etc/dragonfly/ca.key", KEY, 0o644).with_mode(
        "/etc/dragonfly/dfget.yaml",
        GOOD,
        0o646,
    );
    assert_eq!(
        said(load_files(open_key)),
        [
            "/etc/dragonfly/dfget.yaml: every user of this host can change it (mode 0646); \
             `chmod o-w /etc/dragonfly/dfget.yaml`",
            "2:34: hijackHTTPS.key: every user of this host can read /etc/dragonfly/ca.key (mode 0644); \
             `chmod 600 /etc/dragonfly/ca.key`: who has this key can impersonate any site",
        ]
    );
    let text = format!("{GOOD}basicAuth: {{username: u, password: p}}\n");
    assert_eq!(
        said(load_files(machine().with_mode("/etc/dragonfly/dfget.yaml", text, 0o644))),
        [
            "/etc/dragonfly/dfget.yaml: it holds a secret, and every user of this host can read it (mode 0644); \
          `chmod 600 /etc/dragonfly/dfget.yaml`"
        ]
    );
}

#[test]
fn values_that_are_seldom_meant_are_said() {
    assert_eq!(
        good_and("metrics: :8000"),
        ["3:10: metrics: without an address it listens on 127.0.0.1:8000 only, for this host; \
          write `metrics: 0.0.0.0:8000` if other hosts read it, else `metrics: 127.0.0.1:8000`"]
    );
    assert_eq!(
        good_and("dataDir: cache"),
        ["3:10: dataDir: a relative name depends on where the daemon is started (got `cache`); \
          write `dataDir: /site/cache`"]
    );
}

#[test]
fn keys_are_the_same_in_any_case_also_in_lists() {
    let loaded = load_text(
        "PROXIES: [{REGX: a, UseHttps: true, DIRECT: TRUE, Redirect: m.example}]\n\
         hijackhttps: {CERT: ca.crt, Key: ca.key, HOSTS: [{Regx: '^r:443$', Insecure: true, CERTS: [here.crt]}]}\n\
         TCPLISTEN: {Listen: '::1', PORT: {START: 7, eND: 9}}\nWhiteList: [{HOST: r, PORTS: ['443', 5000]}]\n",
    )
    .unwrap();
    let proxy = &loaded.config.proxy;
    let rule = &proxy.rules[0];
    assert!(rule.use_https && rule.direct);
    assert_eq!(rule.redirect, Some(Redirect::Host("m.example".to_owned())));
    assert_eq!(proxy.listen.to_string(), "[::1]:7-9");
    assert_eq!(proxy.white_list[0].ports, [443, 5000]);
    let host = &proxy.hijack.as_ref().unwrap().hosts[0];
    assert!(host.insecure);
    assert_eq!(host.certs, [PemSource::File("/site/here.crt".into())]);
    assert_eq!(said(Ok(loaded)), [""; 0]);
}

#[test]
fn replacements_and_filters_are_taken_as_they_are_written() {
    let text = "proxies: [{regx: '^http://a/(?P<rest>.*)', redirect: 'https://b/${rest}?$$x=$1'}]\n\
                defaultFilter: Expires&Signature\ndefaultTag: t\ndefaultApplication: ''\n";
    let proxy = load_text(text).unwrap().config.proxy;
    let rule = &proxy.rules[0];
    let Some(Redirect::Replace(replacement)) = &rule.redirect else { panic!("{:?}", rule.redirect) };
    assert_eq!(rule.regx.replace("http://a/v2", replacement), "https://b/v2?$x=v2");
    assert_eq!(proxy.default_filter, dfget_core::UrlFilter::new(["Expires", "Signature"]));
    assert_eq!((proxy.default_tag.as_deref(), proxy.default_application), (Some("t"), None));
    let empty = load_text("defaultFilter: ''").unwrap().config.proxy;
    assert_eq!(empty.default_filter, dfget_core::UrlFilter::default());
}

#[test]
fn pem_text_may_stand_in_the_file() {
    let text = format!(
        "proxies: [{{regx: a}}]\nhijackHTTPS:\n  cert: |\n    {CERT}  key: |\n    {KEY}  hosts: [{{regx: '^r:443$'}}]\n"
    );
    let loaded = load_text(text).unwrap();
    let hijack = loaded.config.proxy.hijack.as_ref().unwrap();
    let HijackAuthority::Named { key: PemSource::Inline(key), .. } = &hijack.authority else {
        panic!("{:?}", hijack.authority)
    };
    assert_eq!(key.expose(), KEY);
}

#[test]
fn nothing_secret_is_printed() {
    let canary = "hunter2";
    let texts = [
        format!("{GOOD}basicAuth: {{username: u, password: {canary}}}"),
        format!("{GOOD}basicAuth: {{username: u, password: [{canary}]}}"),
        format!("{GOOD}basicAuth: u:{canary}"),
        format!("{GOOD}basicAuth: {{username: u, password: <{canary}>}}"),
        format!("{GOOD}basicAuth: {{password: {canary}, password: {canary}}}"),
        format!(
            "{GOOD}download: {{resourceClients: {{https: {{proxy: 'http://u:{canary}@p/', dialTimeout: 1}}}}}}"
        ),
        format!("{GOOD}jaeger: [http://u:{canary}@p/]"),
        format!("hijackHTTPS: {{cert: ca.crt, key: 'BEGIN PRIVATE KEY {canary}'}}"),
        format!("hijackHTTPS:\n  cert: ca.crt\n  key: |\n    abc\n    {canary}\n"),
        format!("hijackHTTPS:\n  cert: ca.crt\n  key: |\n    {KEY}    {canary}\n"),
    ];
    for text in texts {
        let result = load_text(&text);
        assert!(!format!("{result:?}").contains(canary), "{text}: {result:?}");
        assert!(!said(result).concat().contains(canary), "{text}");
    }
}

#[test]
fn unknown_keys_of_the_proxy_are_found_at_both_places() {
    let codes = |text: &str| {
        let loaded = load_text(format!("{GOOD}{text}")).unwrap();
        loaded.warnings.into_iter().map(|warning| (warning.code, warning.remedy)).collect::<Vec<_>>()
    };
    let move_it = |to: &str| vec![(Code::UnknownKey, to.to_owned())];
    assert_eq!(codes("proxy: {defaultTags: a}"), move_it("write `defaultTag` if that is meant"));
    assert_eq!(codes("defaultTags: a"), move_it("write `defaultTag` if that is meant"));
}
