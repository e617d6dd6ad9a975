//! Keys to types: the proxy, its rules and its hijack.

use std::path::PathBuf;

use dfget_core::{Authority, Redirect, Rule, Scheme, UrlFilter};
use regex::Regex;

use super::{Context, authority, listen, mirror, pem, tls};
use crate::{
    BasicAuth, Code, Hijack, HijackHost, Listen, OwnAuthority, PortRange, Proxy, Secret, SniListen,
    WhiteListEntry,
    read::{Expected, Field, PATTERN, Section},
    report::Report,
    scalar,
    yaml::Data,
};

/// The proxy, from a section that holds at least one of its keys. `own` is where an authority lies, or will,
/// that the section does not name.
pub(crate) fn proxy(section: &Section<'_>, own: OwnAuthority, context: &mut Context<'_>) -> Proxy {
    let defaults = Proxy::default();
    let tls = tls::proxy_tls(section, context);
    let report = &mut *context.report;
    let text = |name: &str, report: &mut Report| section.text(report, name, "some-text").map(str::to_owned);
    let proxy = Proxy {
        listen: listen(&section.section(report, "tcpListen"), defaults.listen, report),
        namespace: namespace(&section.section(report, "tcpListen"), report),
        default_filter: match section.get("defaultFilter") {
            Some(field) => field.text(report, FILTER).map(UrlFilter::parse).unwrap_or_default(),
            None => defaults.default_filter,
        },
        default_tag: text("defaultTag", report),
        default_application: text("defaultApplication", report),
        default_priority: section
            .get("defaultPriority")
            .and_then(|field| field.integer(report, 0, 6))
            .and_then(|priority| u8::try_from(priority).ok())
            .unwrap_or(defaults.default_priority),
        tls,
        dump_headers: section.boolean(report, "dumpHTTPContent", defaults.dump_headers),
        basic_auth: section.get("basicAuth").and_then(|field| basic_auth(field, report)),
        white_list: sections(section.items(report, "whiteList"), report)
            .iter()
            .filter_map(|(item, section)| white_list_entry(item, section, report))
            .collect(),
        max_concurrency: section
            .get("maxConcurrency")
            .and_then(|field| field.integer(report, 0, i64::MAX))
            .and_then(|most| usize::try_from(most).ok())
            .filter(|most| *most > 0),
        rules: sections(section.items(report, "proxies"), report)
            .iter()
            .filter_map(|(item, section)| rule(item, section, report))
            .collect(),
        hijack: section.get("hijackHTTPS").and_then(|field| hijack(field, own, context)),
        mirrors: mirror::mirrors(section, context),
    };
    mirror::refuse_own_port(section, &proxy, context.report);
    proxy
}

pub(super) fn sections<'a>(items: Vec<Field<'a>>, report: &mut Report) -> Vec<(Field<'a>, Section<'a>)> {
    items.into_iter().filter_map(|item| item.section(report).map(|section| (item, section))).collect()
}

/// Says that a mapping lacks a key it cannot do without.
pub(super) fn missing(field: &Field<'_>, key: &str, example: &str, report: &mut Report) {
    let mut subject = field.key();
    subject.key = Some(format!("{}.{key}", field.path));
    report.error(subject, Code::MissingKey, "the key is missing", format!("add `{key}: {example}`"));
}

fn basic_auth(field: &Field<'_>, report: &mut Report) -> Option<BasicAuth> {
    let section = field.section(report)?;
    if section.fields.is_empty() {
        return None;
    }
    let username = section.text(report, "username", "someone");
    let password = section.text(report, "password", "some-secret");
    for (key, value) in [("username", username), ("password", password)] {
        let is_text = section.get(key).is_none_or(|field| matches!(field.node.data, Data::Scalar { .. }));
        if value.is_none() && is_text {
            missing(field, key, "…", report);
        }
    }
    if username.is_some_and(|name| name.contains(':'))
        && let Some(field) = section.get("username")
    {
        let remedy = "choose a name without `:`; HTTP puts one between the name and the password";
        report.error(field.value(), Code::BadValue, "a user's name cannot hold a `:`", remedy);
    }
    Some(BasicAuth { username: username?.to_owned(), password: Secret::new(password?.to_owned()) })
}

fn white_list_entry(item: &Field<'_>, section: &Section<'_>, report: &mut Report) -> Option<WhiteListEntry> {
    let host = section.text(report, "host", "registry.example.com").map(str::to_owned);
    let regx = section.get("regx").filter(|_| section.text(report, "regx", PATTERN.example).is_some());
    let has_regx = regx.is_some();
    let regx = regx.and_then(|field| field.parse(report, ADMITTED, scalar::pattern));
    if let Some(host) = host.as_deref().filter(|host| {
        Authority::parse(Scheme::Https, host).map(|it| it.host) != Ok(host.to_ascii_lowercase())
    }) && let Some(field) = section.get("host")
    {
        let remedy = "write the host alone; ports that may be reached go into `ports`";
        report.warn(field.value(), Code::Suspicious, format!("no host is called so (got `{host}`)"), remedy);
    }
    let mut ports = Vec::new();
    for field in section.items(report, "ports") {
        let expected = Expected { what: "a port", example: "443" };
        let port = field.parse(report, expected, |text| scalar::integer(text, 1, i64::from(u16::MAX)));
        ports.extend(port.and_then(|port| u16::try_from(port).ok()));
    }
    if host.is_none() && !has_regx {
        let remedy = r"add `host: registry.example.com`, or `regx: '\.example\.com$'`";
        report.error(item.key(), Code::MissingKey, "the entry names no host", remedy);
        return None;
    }
    Some(WhiteListEntry { host, regx, ports })
}

fn rule(item: &Field<'_>, section: &Section<'_>, report: &mut Report) -> Option<Rule> {
    let use_https = section.boolean(report, "useHTTPS", false);
    let direct = section.boolean(report, "direct", false);
    let regx = pattern(item, section, PATTERN, report);
    let redirect = redirect(section, regx.as_ref(), report);
    Some(Rule { regx: regx?, use_https, direct, redirect })
}

/// The required `regx` of an entry.
fn pattern(
    item: &Field<'_>,
    section: &Section<'_>,
    expected: Expected,
    report: &mut Report,
) -> Option<Regex> {
    let Some(field) = section.get("regx") else {
        missing(item, "regx", expected.example, report);
        return None;
    };
    if field.text(report, expected)?.is_empty() {
        let wide = Expected { what: "what is meant, or `.*` for everything", ..expected };
        field.bad_value(report, wide, "an empty pattern is found everywhere");
        return None;
    }
    field.parse(report, expected, scalar::pattern)
}

fn redirect(section: &Section<'_>, regx: Option<&Regex>, report: &mut Report) -> Option<Redirect> {
    let text = section.text(report, "redirect", REDIRECT.example)?;
    let field = section.get("redirect")?;
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next();
    if authority.is_some_and(|authority| authority.contains('@')) {
        let remedy = "leave user and password out: what a client sends of its own goes on to the new place";
        report.error(
            field.value(),
            Code::BadValue,
            "it holds a login, which would be sent to nobody",
            remedy,
        );
        return None;
    }
    if text.contains('/') {
        if let Some(group) = regx.and_then(|regx| unknown_group(regx, text)) {
            let remedy =
                "write `${1}` for the first group, in braces where a letter follows, `$$` for a dollar";
            let problem = format!("the pattern has no group `{group}` (got {})", field.shown());
            report.error(field.value(), Code::BadValue, problem, remedy);
            return None;
        }
        return Some(Redirect::Replace(text.to_owned()));
    }
    match Authority::parse(Scheme::Https, text) {
        Ok(_) => Some(Redirect::Host(text.to_owned())),
        Err(error) => {
            field.bad_value(report, REDIRECT, error);
            None
        }
    }
}

/// The first group that a replacement names and the pattern does not have; it would be replaced by
/// nothing, which nobody means.
fn unknown_group(regx: &Regex, replacement: &str) -> Option<String> {
    let mut rest = replacement;
    while let Some(start) = rest.find('$') {
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?.0,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
            }
        };
        let exists = match name.parse::<usize>() {
            Ok(index) => index < regx.captures_len(),
            Err(_) => name.is_empty() || regx.capture_names().flatten().any(|known| known == name),
        };
        if !exists {
            return Some(name.to_owned());
        }
    }
    None
}

fn hijack(field: &Field<'_>, own: OwnAuthority, context: &mut Context<'_>) -> Option<Hijack> {
    let section = field.section(context.report)?;
    if section.fields.iter().all(Field::is_null) {
        return None;
    }
    let items = section.items(context.report, "hosts");
    let items = sections(items, context.report);
    let hosts: Vec<HijackHost> =
        items.iter().filter_map(|(item, section)| hijack_host(item, section, context)).collect();
    let patterns: Vec<Field<'_>> =
        items.iter().filter_map(|(_, section)| section.get("regx").cloned()).collect();
    let sni = sections(section.items(context.report, "sni"), context.report);
    let sni = sni.iter().map(|(_, section)| sni_listen(section, context.report)).collect();
    let authority = authority::authority(field, &section, &patterns, own, context)?;
    let token_hosts = section.boolean(context.report, "tokenHosts", true);
    Some(Hijack { authority, hosts, token_hosts, sni })
}

/// One entry of `sni`, its keys below `tcpListen` or not.
fn sni_listen(section: &Section<'_>, report: &mut Report) -> SniListen {
    let below = section.get("tcpListen").and_then(|field| field.section(report));
    let section = below.as_ref().unwrap_or(section);
    let default = Listen::loopback(PortRange::exactly(443));
    SniListen { listen: listen(section, default, report), namespace: namespace(section, report) }
}

fn namespace(section: &Section<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = section.text(report, "namespace", NAMESPACE.example)?;
    if !text.starts_with('/') {
        section.get("namespace")?.bad_value(report, NAMESPACE, "it is no absolute path");
        return None;
    }
    Some(PathBuf::from(text))
}

fn hijack_host(item: &Field<'_>, section: &Section<'_>, context: &mut Context<'_>) -> Option<HijackHost> {
    let regx = pattern(item, section, HOSTS, context.report);
    let insecure = section.boolean(context.report, "insecure", false);
    let certs = section.items(context.report, "certs");
    let certs = certs.iter().filter_map(|field| pem::roots(field, context)).collect();
    Some(HijackHost { regx: regx?, insecure, certs })
}

const NAMESPACE: Expected = Expected { what: "the path of a network namespace", example: "/run/netns/site" };

const FILTER: Expected = Expected { what: "query keys, split by `&`", example: "Expires&Signature&ns" };

const ADMITTED: Expected = Expected { what: "a pattern for a host", example: r"'\.example\.com$'" };

const HOSTS: Expected =
    Expected { what: "a pattern for `host:port`", example: r"'^registry\.example\.com:443$'" };

const REDIRECT: Expected =
    Expected { what: "a host, or a replacement with a `/` in it", example: "mirror.example.com:5000" };
