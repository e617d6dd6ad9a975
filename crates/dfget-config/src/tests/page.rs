//! The configuration of the documented recipe for Singularity, as it is printed there.

use super::{load_files, load_text, machine, said};
use std::path::Path;

use crate::{Config, Hijack, HijackAuthority, PemSource};

/// Word for word; the English and the Chinese page print the same.
const PAGE: &str = r#"registryMirror:
  # When enable, using header "X-Dragonfly-Registry" for remote instead of url.
  dynamic: true
  # URL for the registry mirror.
  url: <your.private.registry>
  # Whether to ignore https certificate errors.
  insecure: false
  # Optional certificates if the remote server uses self-signed certificates.
  certs: []
  # Whether to request the remote registry directly.
  direct: false
  # Whether to use proxies to decide if dragonfly should be used.
  useProxies: false
proxy:
  proxies:
    # proxy all http image layer download requests with dfget
    - regx: blobs/sha256.*
    - regx: manifests/sha256.*
hijackHTTPS:
  # Key pair used to hijack https requests.
  cert: ca.crt
  key: ca.key
  hosts:
    - regx: <your.private.registry>
"#;

/// Where `cert` and `key` are found.
fn pair(hijack: &Hijack) -> [&Path; 2] {
    match &hijack.authority {
        HijackAuthority::Named { cert: PemSource::File(cert), key: PemSource::File(key) } => [cert, key],
        other => panic!("no files: {other:?}"),
    }
}

fn check(config: &Config) {
    let proxy = &config.proxy;
    assert_eq!(proxy.listen.to_string(), "127.0.0.1:65001");
    let rules: Vec<_> = proxy.rules.iter().map(|rule| rule.regx.as_str()).collect();
    assert_eq!(rules, ["blobs/sha256.*", "manifests/sha256.*"]);
    assert!(proxy.rules.iter().all(|rule| !rule.direct && !rule.use_https && rule.redirect.is_none()));
    let hijack = proxy.hijack.as_ref().unwrap();
    assert_eq!(pair(hijack), ["/etc/dragonfly/ca.crt", "/etc/dragonfly/ca.key"].map(Path::new));
    assert!(config.keep_storage && config.storage.multiplex && config.alive_time.is_none());
}

#[test]
fn the_page_as_printed_loads_and_the_placeholder_is_said() {
    let loaded = load_text(PAGE).unwrap();
    check(&loaded.config);
    assert!(loaded.config.proxy.mirrors.main.is_none());
    assert_eq!(
        said(Ok(loaded)),
        [
            "5:8: registryMirror.url: the placeholder of the documentation is still here \
             (got `<your.private.registry>`); \
             write your registry, for example `url: registry.example.com`",
            "24:13: hijackHTTPS.hosts[0].regx: the placeholder of the documentation is still here \
             (got `<your.private.registry>`); \
             write your registry, for example `regx: '^registry\\.example\\.com:443$'`",
        ]
    );
}

#[test]
fn the_page_filled_in_loads_and_the_open_pattern_is_said() {
    let loaded = load_text(PAGE.replace("<your.private.registry>", "registry.example.com")).unwrap();
    check(&loaded.config);
    let hijack = loaded.config.proxy.hijack.as_ref().unwrap();
    assert!(hijack.hosts[0].regx.is_match("registry.example.com:443"));
    let mirror = loaded.config.proxy.mirrors.main.as_ref().unwrap();
    assert_eq!(mirror.url.to_string(), "https://registry.example.com", "a bare host means https");
    assert!(loaded.config.proxy.mirrors.dynamic.is_some());
    assert_eq!(
        said(Ok(loaded)),
        ["24:13: hijackHTTPS.hosts[0].regx: not anchored, it matches every `host:port` that contains it, \
             `not-registry.example.com.example.org:443` too (got `registry.example.com`); \
             write `regx: '^registry\\.example\\.com:443$'`; for another port, write it in place of the 443",]
    );
}

#[test]
fn the_pattern_that_was_offered_leaves_nothing_to_say() {
    let without_mirror = PAGE.split_once("proxy:\n").unwrap().1;
    let text = format!("proxy:\n{without_mirror}")
        .replace("<your.private.registry>", r"'^registry\.example\.com:443$'");
    assert_eq!(said(load_text(text)), [""; 0]);
}

#[test]
fn the_key_pair_is_found_in_the_working_directory_too() {
    let files = crate::testing::FakeFiles::default()
        .with("/etc/dragonfly/dfget.yaml", PAGE)
        .writable("/")
        .with("/site/ca.crt", super::CERT)
        .with("/site/ca.key", super::KEY);
    let hijack = load_files(files).unwrap().config.proxy.hijack.unwrap();
    assert_eq!(pair(&hijack)[0], Path::new("/site/ca.crt"));

    // Next to the configuration comes first.
    let both = machine().with("/etc/dragonfly/dfget.yaml", PAGE).with("/site/ca.crt", super::CERT);
    let hijack = load_files(both).unwrap().config.proxy.hijack.unwrap();
    assert_eq!(pair(&hijack)[0], Path::new("/etc/dragonfly/ca.crt"));
}

#[test]
fn the_nested_layout_means_the_same() {
    let nested = r#"
proxy:
  tcpListen: {listen: 127.0.0.1, port: 65001}
  security: {insecure: true}
  proxies: [{regx: blobs/sha256.*}, {regx: manifests/sha256.*}]
  hijackHTTPS:
    cert: ca.crt
    key: ca.key
    hosts: [{regx: '^registry\.example\.com:443$'}]
"#;
    let loaded = load_text(nested).unwrap();
    check(&loaded.config);
    assert_eq!(said(Ok(loaded)), [""; 0]);
}

#[test]
fn the_proxys_keys_may_lie_in_a_file_of_their_own() {
    let files = machine()
        .with("/etc/dragonfly/dfget.yaml", "verbose: true\nproxy: sub/proxy.yaml\ndefaultTag: top\n")
        .with(
            "/etc/dragonfly/sub/proxy.yaml",
            "proxies: [{regx: blobs/sha256.*}, {regx: manifests/sha256.*}]\ndefaultTag: own\n\
             hijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r:443$'}]}\n",
        )
        .with("/etc/dragonfly/sub/ca.crt", super::CERT)
        .with("/etc/dragonfly/sub/ca.key", super::KEY);
    let loaded = load_files(files).unwrap();
    let proxy = &loaded.config.proxy;
    assert_eq!(proxy.default_tag.as_deref(), Some("own"));
    assert_eq!(pair(proxy.hijack.as_ref().unwrap())[0], Path::new("/etc/dragonfly/sub/ca.crt"));
    assert_eq!(
        said(Ok(loaded)),
        [
            "3:1: defaultTag: ignored: `defaultTag` in /etc/dragonfly/sub/proxy.yaml, line 2, says it too, and wins; \
          keep one of the two, in line 3 or in line 2"
        ]
    );
}
