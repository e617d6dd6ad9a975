//! Keys to types: the way from the daemon to origins.

use std::{collections::BTreeMap, time::Duration};

use dfget_core::{Authority, Scheme};

use crate::{
    Code, RedirectPolicy, ResourceClient, ResourceClients, Secret,
    read::{DURATION, Expected, Field, IP, Section},
    report::Report,
    scalar,
};

/// `resourceClients`, by the protocols that are fetched.
pub(super) fn resource_clients(section: &Section<'_>, report: &mut Report) -> ResourceClients {
    let mut clients = ResourceClients::default();
    let named = section.section(report, "resourceClients");
    for field in named.fields.iter().filter(|field| !field.is_null()) {
        let Some(section) = field.section(report) else { continue };
        let client = resource_client(&section, report);
        match field.name.to_ascii_lowercase().as_str() {
            "http" => {
                if let Some(field) = section.get("insecureSkipVerify").filter(|_| client.insecure_skip_verify)
                {
                    let remedy = "remove it; without TLS there is nothing to verify";
                    report.warn(field.key(), Code::NoEffect, "plain http has no certificates", remedy);
                }
                clients.http = client;
            }
            "https" => clients.https = client,
            other => {
                let problem = format!("known, not yet supported: nothing is fetched by `{other}`");
                let remedy = "write its keys below `http` or `https`, or remove it";
                report.warn(field.key(), Code::NotSupported, problem, remedy);
            }
        }
    }
    clients
}

fn resource_client(section: &Section<'_>, report: &mut Report) -> ResourceClient {
    // 0 has no meaning that a proxy could stand by: it would wait, or keep, without end.
    let mut bound = |name: &str| -> Option<Duration> {
        let value = section.get(name)?.parse(report, DURATION, scalar::duration)?;
        (!value.is_zero()).then_some(value)
    };
    let dial_timeout = bound("dialTimeout");
    let keep_alive = bound("keepAlive");
    let idle_conn_timeout = bound("idleConnTimeout");
    let response_header_timeout = bound("responseHeaderTimeout");
    let tls_handshake_timeout = bound("tlsHandshakeTimeout");
    let most = section.get("maxIdleConns").and_then(|field| field.integer(report, 0, i64::MAX));
    ResourceClient {
        proxy: section.get("proxy").and_then(|field| site_proxy(field, report)),
        dial_timeout,
        keep_alive,
        max_idle_conns: most.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0),
        idle_conn_timeout,
        response_header_timeout,
        tls_handshake_timeout,
        insecure_skip_verify: section.boolean(report, "insecureSkipVerify", false),
    }
}

/// The URL of a proxy. No message shows it: it may hold a password, wherever that stands in it.
fn site_proxy(field: &Field<'_>, report: &mut Report) -> Option<Secret> {
    let text = field.text(report, PROXY)?;
    if text.is_empty() {
        return None;
    }
    let mut fail = |problem: &str| {
        let remedy = format!("write {}, for example {}", PROXY.what, field.line(PROXY.example));
        report.error(field.value(), Code::BadValue, problem, remedy);
        None
    };
    let rest = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return fail("only proxies that are spoken to by plain HTTP are supported"),
    };
    let place = rest.trim_end_matches('/');
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    match Authority::parse(Scheme::Http, place) {
        Ok(_) => Some(Secret::new(text.to_owned())),
        Err(error) => fail(&format!("its {} is {error}", error.part())),
    }
}

/// `redirects`.
pub(super) fn redirects(section: &Section<'_>, report: &mut Report) -> RedirectPolicy {
    let section = section.section(report, "redirects");
    let mut policy = RedirectPolicy {
        downgrade: section.boolean(report, "downgrade", false),
        ..RedirectPolicy::default()
    };
    for field in section.items(report, "allow") {
        let Some(text) = field.text(report, PLACE) else { continue };
        match (text.parse(), host(text)) {
            (Ok(network), _) => policy.networks.push(network),
            (Err(_), Some(host)) if !text.contains('/') => policy.hosts.push(host),
            (Err(error), _) => field.bad_value(report, PLACE, error),
        }
    }
    policy
}

/// `resolve`.
pub(super) fn resolve(section: &Section<'_>, report: &mut Report) -> BTreeMap<String, std::net::IpAddr> {
    let mut addresses = BTreeMap::new();
    for field in section.section(report, "resolve").fields {
        let Some(address) = field.parse(report, IP, scalar::ip) else { continue };
        match host(field.name) {
            Some(host) if host.parse::<std::net::IpAddr>().is_err() => {
                addresses.insert(host, address);
            }
            _ => {
                let remedy = "write the name without a port, for example `registry.example.com: 192.0.2.7`";
                report.error(field.key(), Code::BadValue, "it is no name of a host", remedy);
            }
        }
    }
    addresses
}

/// A host alone, in lower case.
fn host(text: &str) -> Option<String> {
    let authority = Authority::parse(Scheme::Https, text).ok()?;
    authority.host.eq_ignore_ascii_case(text).then_some(authority.host)
}

const PROXY: Expected = Expected { what: "the address of a proxy", example: "http://proxy.example.com:3128" };

const PLACE: Expected = Expected { what: "a host, an address, or a range of them", example: "10.0.0.0/8" };
