//! `registryMirror` and `extraRegistryMirrors`: the registries that are served as mirrors.

use super::{CERT, GOOD, good_and, load_files, load_text, machine, said};
use crate::{MirrorTasks, PemSource, RegistryMirrors};

fn mirrors(text: &str) -> RegistryMirrors {
    load_text(text).unwrap().config.proxy.mirrors
}

#[test]
fn a_mirror_is_read_at_the_top_and_under_proxy() {
    for text in [
        "registryMirror: {url: registry.example.com}",
        "proxy: {registryMirror: {url: registry.example.com}}",
    ] {
        let mirrors = mirrors(text);
        let main = mirrors.main.as_ref().unwrap();
        assert_eq!(main.url.to_string(), "https://registry.example.com", "{text}");
        assert!(!main.insecure && main.certs.is_empty() && main.tasks == MirrorTasks::Digests);
        assert!(mirrors.dynamic.is_none() && mirrors.extra.is_empty());
        assert_eq!(said(load_text(text)), [""; 0], "a mirror needs neither rules nor a hijack");
    }
    assert!(!mirrors(GOOD).is_enabled());
}

#[test]
fn each_mirror_has_keys_of_its_own() {
    let text = "
registryMirror: {url: 'http://a.example:5000/hub/', dynamic: true, useProxies: true}
extraRegistryMirrors:
  - {url: b.example, insecure: true}
  - {url: c.example, certs: [ca.crt], direct: true, useProxies: true}
";
    let mirrors = mirrors(text);
    assert_eq!(mirrors.dynamic, Some(MirrorTasks::Rules));
    let main = mirrors.main.as_ref().unwrap();
    assert_eq!(
        (main.url.to_string().as_str(), main.tasks),
        ("http://a.example:5000/hub", MirrorTasks::Rules)
    );
    let [b, c] = mirrors.extra.as_slice() else { panic!("{mirrors:?}") };
    assert!(b.insecure && b.tasks == MirrorTasks::Digests);
    assert_eq!((c.insecure, c.tasks), (false, MirrorTasks::Nothing), "direct wins");
    assert_eq!(c.certs, [PemSource::File("/etc/dragonfly/ca.crt".into())]);
}

#[test]
fn what_is_no_mirror_is_told_with_its_place() {
    let table = [
        (
            "registryMirror: {url: 'ftp://r.example'}",
            "3:23: registryMirror.url: it begins with neither https:// nor http:// (got `ftp://r.example`); \
             write the URL of a registry, or its host, for example `url: https://registry.example.com`",
        ),
        (
            "registryMirror: {url: 'https://r.example/?a=b'}",
            "3:23: registryMirror.url: it holds a `?` or a `#` (got `https://r.example/?a=b`); \
             write the URL of a registry, or its host, for example `url: https://registry.example.com`",
        ),
        (
            "extraRegistryMirrors: [{insecure: true}]",
            "3:24: extraRegistryMirrors[0].url: the key is missing; add `url: https://registry.example.com`",
        ),
        (
            "registryMirror: {url: r.example}\nextraRegistryMirrors: [{url: 'https://r.example/'}]",
            "4:30: extraRegistryMirrors[0].url: an entry above is for the same registry, and wins \
             (got `https://r.example/`); remove one of the two",
        ),
        (
            "extraRegistryMirrors: [{url: r.example, dynamic: true}]",
            "3:41: extraRegistryMirrors[0].dynamic: known, not yet supported: an entry is chosen by its host; \
             write it under `registryMirror`",
        ),
    ];
    for (lines, message) in table {
        assert_eq!(good_and(lines), [message], "{lines}");
    }
    for own in ["http://127.0.0.1:65001", "http://localhost:65001/x"] {
        let said = good_and(&format!("registryMirror: {{url: '{own}'}}"));
        assert!(said[0].starts_with("3:23: registryMirror.url: it is this proxy's own port"), "{said:?}");
    }
    assert_eq!(good_and("registryMirror: {url: 'http://127.0.0.1:5000'}"), [""; 0]);
    let secret = good_and("registryMirror: {url: 'https://u:canary@r.example'}");
    assert!(secret.len() == 1 && !secret[0].contains("canary"), "{secret:?}");
}

#[test]
fn certificates_of_a_mirror_must_be_there() {
    let text = "registryMirror: {url: r.example, certs: [none.crt]}";
    let said = good_and(text);
    assert!(said[0].starts_with("3:42: registryMirror.certs[0]: there is no such file"), "{said:?}");
    let files = machine().with("/etc/dragonfly/dfget.yaml", text.replace("none.crt", "/own/r.crt"));
    assert!(load_files(files.with("/own/r.crt", CERT)).is_ok());
}
