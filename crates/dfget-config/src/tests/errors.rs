//! Each error with its line, column, key, reason and remedy.

use super::{CERT, GOOD, good_and, load_files, load_text, machine, said};
use crate::{
    Code, LoadOptions, load,
    testing::{FakeFiles, environment},
};

#[test]
fn values_of_the_wrong_kind_are_refused_with_an_example() {
    let table = [
        (
            "aliveTime: soon",
            "3:12: aliveTime: not a duration (got `soon`); write a duration, for example `aliveTime: 1m30s`",
        ),
        (
            "gcInterval: 0",
            "3:13: gcInterval: the clean-up cannot run without a pause (got `0`); \
             write a duration above 0, for example `gcInterval: 1m`",
        ),
        (
            "keepStorage: yes",
            "3:14: keepStorage: not true or false (got `yes`); \
             write true or false, for example `keepStorage: true`",
        ),
        (
            "storage: [a]",
            "3:10: storage: a mapping belongs here (got a list); \
             write keys below `storage:`, indented with spaces",
        ),
        (
            "storage: {diskGCThreshold: 1.5Gi}",
            "3:28: storage.diskGCThreshold: not a size (got `1.5Gi`); \
             write a number of bytes, for example `diskGCThreshold: 50Gi`",
        ),
        (
            "storage: {diskGCThresholdPercent: 101}",
            "3:35: storage.diskGCThresholdPercent: out of range, 0 to 100 is possible (got `101`); \
             write a percentage, for example `diskGCThresholdPercent: 95`",
        ),
        (
            "storage: {taskExpireTime: 7d}",
            "3:27: storage.taskExpireTime: the unit `d` is not known (got `7d`); \
             write a duration, for example `taskExpireTime: 1m30s`",
        ),
        (
            "metrics: node:8000",
            "3:10: metrics: not an address with a port (got `node:8000`); \
             write an address, for example `metrics: 127.0.0.1:8000`",
        ),
        (
            "health: {path: ping}",
            "3:16: health.path: it does not start with a `/` (got `ping`); \
             write a plain path, for example `path: /server/ping`",
        ),
        (
            "health: {path: /metrics}",
            "3:16: health.path: `/metrics` is taken by the metrics (got `/metrics`); \
             write a plain path, for example `path: /server/ping`",
        ),
        (
            "health: {path: '/{name}'}",
            "3:16: health.path: it may hold only letters, digits and / - . _ ~ (got `/{name}`); \
             write a plain path, for example `path: /server/ping`",
        ),
        (
            "health: {tcpListen: {listen: localhost}}",
            "3:30: health.tcpListen.listen: not an IP address (got `localhost`); \
             write an IP address, for example `listen: 127.0.0.1`",
        ),
        (
            "tcpListen: {port: 70000}",
            "3:19: tcpListen.port: out of range, 0 to 65535 is possible (got `70000`); \
             write a port, for example `port: 65001`",
        ),
        (
            "access: {ttl: -1s}",
            "3:15: access.ttl: a duration cannot be negative (got `-1s`); \
             write a duration, for example `ttl: 1m30s`",
        ),
        ("logDir: [a]", "3:9: logDir: text belongs here (got a list); write `logDir: /some/path`"),
    ];
    for (text, message) in table {
        assert_eq!(good_and(text), [message], "{text}");
    }
}

#[test]
fn rules_that_cannot_work_are_refused() {
    let table = [
        (
            "proxies: [{regx: 'blobs/(sha256'}]",
            "1:18: proxies[0].regx: not a valid regular expression: unclosed group (got `blobs/(sha256`); \
             write a pattern, for example `regx: blobs/sha256.*`",
        ),
        (
            "proxies:\n  - direct: true",
            "2:5: proxies[0].regx: the key is missing; add `regx: blobs/sha256.*`",
        ),
        (
            "proxies: [{regx: ''}]",
            "1:18: proxies[0].regx: an empty pattern is found everywhere (got ``); \
             write what is meant, or `.*` for everything, for example `regx: blobs/sha256.*`",
        ),
        (
            "proxies: [{regx: a, redirect: ' http://user:canary@host/x'}]",
            "1:31: proxies[0].redirect: it holds a login, which would be sent to nobody; \
             leave user and password out: what a client sends of its own goes on to the new place",
        ),
        (
            "proxies: [{regx: a, redirect: 'host:99999'}]",
            "1:31: proxies[0].redirect: not a TCP port (1 to 65535) (got `host:99999`); \
             write a host, or a replacement with a `/` in it, for example `redirect: mirror.example.com:5000`",
        ),
        (
            "proxies: [{regx: a, redirect: two words}]",
            "1:31: proxies[0].redirect: not a host name or an IP address (got `two words`); \
             write a host, or a replacement with a `/` in it, for example `redirect: mirror.example.com:5000`",
        ),
        (
            "proxies: [{regx: '^http://a/(.*)', redirect: 'https://b/$1x'}]",
            "1:46: proxies[0].redirect: the pattern has no group `1x` (got `https://b/$1x`); \
             write `${1}` for the first group, in braces where a letter follows, `$$` for a dollar",
        ),
        (
            "proxies: blobs",
            "1:10: proxies: a list belongs here (got a single value); \
             write `proxies: […]`, or items below that start with `- `",
        ),
        (
            "proxies: [blobs]",
            "1:11: proxies[0]: a mapping belongs here (got a single value); \
             write `- key: value`, further keys below `key`",
        ),
    ];
    for (text, message) in table {
        let hijack = "\nhijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r:443$'}]}\n";
        let said = said(load_text(format!("{text}{hijack}")));
        assert_eq!(said.first().map(String::as_str), Some(message), "{text}");
    }
}

#[test]
fn white_lists_that_cannot_work_are_refused() {
    let table = [
        (
            "whiteList: [{ports: [443]}]",
            r"3:13: whiteList[0]: the entry names no host; add `host: registry.example.com`, or `regx: '\.example\.com$'`",
        ),
        (
            "whiteList: [{host: a, ports: ['0', https]}]",
            "3:31: whiteList[0].ports[0]: out of range, 1 to 65535 is possible (got `0`); \
             write a port, for example `- 443`",
        ),
        (
            "whiteList: [{regx: '('}]",
            r"3:20: whiteList[0].regx: not a valid regular expression: unclosed group (got `(`); write a pattern for a host, for example `regx: '\.example\.com$'`",
        ),
    ];
    for (text, message) in table {
        assert_eq!(good_and(text).first().map(String::as_str), Some(message), "{text}");
    }
}

fn hijack(block: &str) -> Vec<String> {
    said(load_text(format!("proxies: [{{regx: a}}]\nhijackHTTPS: {block}\n")))
}

#[test]
fn a_hijack_without_its_files_is_refused_with_the_places_looked_at() {
    let hosts = "hosts: [{regx: '^r:443$'}]";
    assert_eq!(
        hijack(&format!("{{cert: no.crt, key: /no/ca.key, {hosts}}}")),
        [
            "2:21: hijackHTTPS.cert: there is no such file (looked for /etc/dragonfly/no.crt, then /site/no.crt); \
             put the file there, or write its absolute name, for example `cert: /etc/dragonfly/no.crt`",
            "2:34: hijackHTTPS.key: there is no such file (looked for /no/ca.key); \
             put the file there, or write its absolute name, for example `key: /etc/dragonfly/ca.key`",
        ]
    );
    assert_eq!(
        hijack(&format!("{{cert: ca.crt, {hosts}}}")),
        ["2:1: hijackHTTPS.key: the key is missing; add `key: ca.key`"]
    );
    assert_eq!(
        hijack(&format!("{{key: ca.key, cert: '', {hosts}}}")),
        ["2:1: hijackHTTPS.cert: the key is missing; add `cert: ca.crt`"]
    );
    assert_eq!(
        hijack("{cert: ca.crt, key: ca.key, hosts: [{regx: '^r:443$', certs: [here.crt, gone.crt]}]}"),
        ["2:86: hijackHTTPS.hosts[0].certs[1]: there is no such file \
          (looked for /etc/dragonfly/gone.crt, then /site/gone.crt); \
          put the file there, or write its absolute name, for example `- /etc/dragonfly/gone.crt`"]
    );
    assert_eq!(
        hijack("{cert: ca.crt, key: ca.key, hosts: [{insecure: true}]}")[0],
        r"2:50: hijackHTTPS.hosts[0].regx: the key is missing; add `regx: '^registry\.example\.com:443$'`"
    );
}

#[test]
fn files_that_hold_no_pem_or_cannot_be_read_are_refused() {
    let text = "proxies: [{regx: a}]\nhijackHTTPS: {cert: ca.der, key: ca.key, hosts: [{regx: '^r:443$'}]}\n";
    let files = machine()
        .with("/etc/dragonfly/dfget.yaml", text)
        .with("/etc/dragonfly/ca.der", b"\x30\x82")
        .locked("/etc/dragonfly/ca.key");
    assert_eq!(
        said(load_files(files)),
        [
            "2:21: hijackHTTPS.cert: /etc/dragonfly/ca.der holds no PEM text; convert it, for example with \
             `openssl x509 -inform DER -in /etc/dragonfly/ca.der -out /etc/dragonfly/ca.der.pem`",
            "2:34: hijackHTTPS.key: /etc/dragonfly/ca.key cannot be read: permission denied; \
             start the daemon as the owner of the file: `ls -l /etc/dragonfly/ca.key` shows who that is",
        ]
    );
}

#[test]
fn certificates_that_cannot_be_used_are_told_with_the_line_that_names_them() {
    let text = "proxies: [{regx: a}]\nhijackHTTPS:\n  cert: ca.crt\n  key: ca.key\n  \
                hosts: [{regx: '^r:443$', certs: [r.crt]}]\n";
    let with = |name: &str, fault: &str| {
        let files = machine().with("/etc/dragonfly/r.crt", CERT).with("/etc/dragonfly/dfget.yaml", text);
        said(load_files(files.with(name, format!("{CERT}{fault}"))))
    };
    assert_eq!(with("/etc/dragonfly/ca.crt", ""), [""; 0]);
    assert_eq!(
        with("/etc/dragonfly/ca.crt", "no authority"),
        ["3:9: hijackHTTPS.cert: /etc/dragonfly/ca.crt: no authority; take another"]
    );
    assert_eq!(
        with("/etc/dragonfly/ca.key", "wrong key"),
        ["4:8: hijackHTTPS.key: /etc/dragonfly/ca.key: wrong key; take another"]
    );
    assert_eq!(
        with("/etc/dragonfly/r.crt", "no root"),
        ["5:37: hijackHTTPS.hosts[0].certs[0]: /etc/dragonfly/r.crt: no root; take another"]
    );
    let inline = text.replace("ca.crt", "|\n    -----BEGIN CERTIFICATE-----\n    no authority");
    assert_eq!(said(load_text(inline))[0], "4:5: hijackHTTPS.cert: no authority; take another");
}

#[test]
fn a_password_without_a_user_is_refused() {
    assert_eq!(
        good_and("basicAuth: {password: secret}"),
        ["3:1: basicAuth.username: the key is missing; add `username: …`"]
    );
    assert_eq!(
        good_and("basicAuth: {username: 'a:b', password: secret}"),
        ["3:23: basicAuth.username: a user's name cannot hold a `:`; \
          choose a name without `:`; HTTP puts one between the name and the password"]
    );
}

#[test]
fn all_errors_are_found_at_once_and_in_their_order() {
    let text =
        format!("{GOOD}verbose: 7\naccess: {{ttl: x, TTL: y}}\nhealth: {{tcpListen: {{port: '1'}}}}\n");
    let failed = load_text(text).unwrap_err();
    let codes: Vec<_> = failed
        .errors
        .iter()
        .map(|error| (error.location.as_ref().and_then(|location| location.line).unwrap(), error.code))
        .collect();
    assert_eq!(
        codes,
        [(3, Code::BadValue), (4, Code::BadValue), (4, Code::DuplicateKey), (5, Code::BadValue)]
    );
    assert_eq!(failed.to_string().lines().count(), 4);
}

#[test]
fn a_file_that_is_not_there_or_not_readable_is_said_with_its_name() {
    let named = LoadOptions { config: Some("my.yaml".into()), ..LoadOptions::default() };
    let failed = load(&named, &environment(machine(), &[])).unwrap_err();
    assert_eq!(failed.source, Some("my.yaml".into()));
    assert_eq!(
        failed.to_string(),
        "my.yaml: the configuration cannot be read: entity not found; \
         write it, docs/configuration.md has an example, or name another with `--config FILE`"
    );
    let failed =
        load(&LoadOptions::default(), &environment(machine(), &[("DFGET_CONFIG", "/v.yaml")])).unwrap_err();
    assert!(
        failed.to_string().starts_with("/v.yaml: the configuration cannot be read, named by `DFGET_CONFIG`"),
        "{failed}"
    );
    let locked = machine().with("/etc/dragonfly/dfget.yaml", "").locked("/etc/dragonfly/dfget.yaml");
    assert_eq!(
        said(load_files(locked)),
        ["/etc/dragonfly/dfget.yaml: the configuration cannot be read: permission denied; \
          run `ls -l /etc/dragonfly/dfget.yaml` to see who may, \
          and `sudo chmod o+r /etc/dragonfly/dfget.yaml` if everybody should"]
    );
    assert_eq!(
        said(load_text("proxy: other.yaml")),
        ["1:8: proxy: the file of the proxy's keys, /etc/dragonfly/other.yaml: entity not found; \
          write its absolute name, or the keys themselves below `proxy:`"]
    );
}

#[test]
fn a_text_that_is_no_yaml_is_one_error() {
    let said = said(load_text("proxy:\n\tproxies: []\n"));
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("2:"), "{said:?}");
    assert!(said[0].ends_with("; indent with spaces, YAML takes no tabs"), "{said:?}");
}

#[test]
fn without_a_home_the_directories_must_be_named() {
    let files = FakeFiles::default().with("/etc/dragonfly/dfget.yaml", "proxies: [{regx: a}]\nlogDir: /b\n");
    assert_eq!(
        said(load_files(files)).first().map(String::as_str),
        Some(
            "dataDir: no place for it: the system's directories cannot be written, and there is no `HOME`; \
             set `HOME`, or write `dataDir: /some/path` in the configuration file"
        )
    );
}

#[test]
fn without_a_key_of_the_proxy_there_is_nothing_to_serve() {
    let example = "write `proxies` and `hijackHTTPS`, docs/configuration.md has an example";
    for text in ["", "verbose: true\n", "proxy:\n", "proxies: ~\n"] {
        let file = "/etc/dragonfly/dfget.yaml";
        assert_eq!(
            said(load_text(text)),
            [format!("{file}: no key of the proxy, so there is nothing to serve; {example}")],
            "{text}"
        );
    }
    let home = environment(FakeFiles::default(), &[("HOME", "/home/u")]);
    let failed = load(&LoadOptions::default(), &home).unwrap_err();
    assert_eq!(failed.source, None);
    assert_eq!(
        failed.to_string(),
        format!(
            "there is no configuration file (looked for /etc/dragonfly/dfget.yaml, \
             then /home/u/.config/dragonfly/dfget.yaml); {example}, or name a file with `--config FILE`"
        )
    );
}
