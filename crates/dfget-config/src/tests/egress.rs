//! The way to origins, and where clients are let in.

use super::{GOOD, good_and, load_text};
use crate::{Code, PortRange};

#[test]
fn wrong_values_are_refused_and_no_proxy_is_shown() {
    let table = [
        (
            "download: {resourceClients: {https: {dialTimeout: x}}}",
            "3:51: download.resourceClients.https.dialTimeout: not a duration (got `x`); \
             write a duration, for example `dialTimeout: 1m30s`",
        ),
        (
            "download: {resourceClients: {https: {proxy: 'socks5://u:hunter2@p'}}}",
            "3:45: download.resourceClients.https.proxy: only proxies that are spoken to by plain HTTP are \
             supported; write the address of a proxy, for example `proxy: http://proxy.example.com:3128`",
        ),
        (
            "download: {resourceClients: {http: {proxy: 'u:hunter2@p:x'}}}",
            "3:44: download.resourceClients.http.proxy: its port is not a TCP port (1 to 65535); \
             write the address of a proxy, for example `proxy: http://proxy.example.com:3128`",
        ),
        (
            "download: {redirects: {allow: [10.0.0.0/33]}}",
            "3:32: download.redirects.allow[0]: not an address or a range of addresses such as 10.0.0.0/8 \
             (got `10.0.0.0/33`); write a host, an address, or a range of them, for example `- 10.0.0.0/8`",
        ),
        (
            "download: {resolve: {registry.example.com: here}}",
            "3:44: download.resolve.registry.example.com: not an IP address (got `here`); \
             write an IP address, for example `registry.example.com: 127.0.0.1`",
        ),
        (
            "download: {resolve: {'registry.example.com:443': 192.0.2.7}}",
            "3:22: download.resolve.registry.example.com:443: it is no name of a host; \
             write the name without a port, for example `registry.example.com: 192.0.2.7`",
        ),
        (
            "tcpListen: {namespace: site}",
            "3:24: tcpListen.namespace: it is no absolute path (got `site`); \
             write the path of a network namespace, for example `namespace: /run/netns/site`",
        ),
    ];
    for (text, message) in table {
        assert_eq!(good_and(text), [message], "{text}");
    }
}

#[test]
fn clients_of_http_and_https_are_read_and_others_are_told() {
    let text = "download:\n  resourceClients:\n    HTTPS: {proxy: 'u:p@p.example', dialTimeout: 3s, keepAlive: 0s}\n    \
                http: {maxIdleConns: 0, insecureSkipVerify: true}\n    oras: {dialTimeout: 1s}\n";
    let loaded = load_text(format!("{GOOD}{text}")).unwrap();
    let clients = &loaded.config.download.resource_clients;
    assert_eq!(clients.https.proxy.as_ref().map(crate::Secret::expose), Some("u:p@p.example"));
    assert_eq!(clients.https.dial_timeout, Some(std::time::Duration::from_secs(3)));
    assert_eq!((clients.https.keep_alive, clients.http.max_idle_conns), (None, None), "0 is dfget's own");
    let told: Vec<_> =
        loaded.warnings.iter().map(|warning| (warning.code, warning.key.clone().unwrap())).collect();
    assert_eq!(
        told,
        [
            (Code::NoEffect, "download.resourceClients.http.insecureSkipVerify".to_owned()),
            (Code::NotSupported, "download.resourceClients.oras".to_owned()),
        ]
    );
}

#[test]
fn places_of_redirects_are_addresses_or_hosts() {
    let text =
        "download: {redirects: {allow: [10.0.0.0/8, '::1', CDN.example]}, resolve: {R.example: 192.0.2.7}}";
    let download = load_text(format!("{GOOD}{text}")).unwrap().config.download;
    assert_eq!(
        download.redirects.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    assert_eq!(download.redirects.hosts, ["cdn.example"]);
    assert!(!download.redirects.downgrade);
    assert_eq!(download.resolve["r.example"].to_string(), "192.0.2.7");
}

#[test]
fn listeners_for_tls_are_read_in_both_forms() {
    let text = "proxies: [{regx: a}]\nbasicAuth: {username: u, password: p}\nhijackHTTPS:\n  cert: ca.crt\n  key: ca.key\n  \
                hosts: [{regx: '^r\\.example:443$'}]\n  sni:\n    - {}\n    - {listen: 192.0.2.1, port: 8443, namespace: /run/netns/a}\n    \
                - tcpListen: {port: {start: 1000, end: 1001}}\n";
    let loaded = load_text(text).unwrap();
    let sni = loaded.config.proxy.hijack.unwrap().sni;
    let shown: Vec<_> = sni.iter().map(|sni| (sni.listen.to_string(), sni.namespace.is_some())).collect();
    let expected = [("127.0.0.1:443", false), ("192.0.2.1:8443", true), ("127.0.0.1:1000-1001", false)];
    assert_eq!(shown, expected.map(|(listen, namespace)| (listen.to_owned(), namespace)));
    assert_eq!(sni[2].listen.ports, PortRange { start: 1000, end: 1001 });
    let told: Vec<_> = loaded.warnings.iter().filter_map(|warning| warning.key.as_deref()).collect();
    assert_eq!(
        told,
        ["basicAuth", "hijackHTTPS"],
        "an open way, and their clients cannot log in: {:?}",
        loaded.warnings
    );
}

#[test]
fn at_most_so_many_requests_run_and_0_is_no_bound() {
    let bound = |value: &str| {
        load_text(format!("{GOOD}maxConcurrency: {value}")).unwrap().config.proxy.max_concurrency
    };
    assert_eq!((bound("12"), bound("0")), (Some(12), None));
}
