//! Keys to types: the registries that are served to clients which take the port for one.

use dfget_core::{Authority, RegistryUrl};

use super::{
    Context, pem,
    proxy::{missing, sections},
};
use crate::{
    Code, MirrorTasks, Proxy, RegistryMirror, RegistryMirrors, lint,
    read::{Expected, Field, Section},
    report::Report,
};

/// `registryMirror` and `extraRegistryMirrors` of the proxy's section.
pub(super) fn mirrors(section: &Section<'_>, context: &mut Context<'_>) -> RegistryMirrors {
    let mut mirrors = RegistryMirrors::default();
    let main = section.section(context.report, "registryMirror");
    if section.get("registryMirror").is_some_and(|field| !field.is_empty()) {
        let dynamic = main.boolean(context.report, "dynamic", false);
        let (mirror, tasks) = mirror(&main, context);
        mirrors.dynamic = dynamic.then_some(tasks);
        mirrors.main = mirror;
    }
    let items = section.items(context.report, "extraRegistryMirrors");
    for (item, section) in sections(items, context.report) {
        if section.get("url").is_none_or(Field::is_null) {
            missing(&item, "url", URL.example, context.report);
            continue;
        }
        let (mirror, _) = mirror(&section, context);
        let taken = |mirror: &RegistryMirror| mirrors.configured().any(|other| other.url == mirror.url);
        if let (Some(field), true) = (section.get("url"), mirror.as_ref().is_some_and(taken)) {
            let problem =
                format!("an entry above is for the same registry, and wins (got {})", field.shown());
            report_no_effect(field, problem, context.report);
        }
        mirrors.extra.extend(mirror);
    }
    mirrors
}

/// Refuses a mirror of the proxy's own port: each request to it would come back for ever.
pub(super) fn refuse_own_port(section: &Section<'_>, proxy: &Proxy, report: &mut Report) {
    let (listen, quiet) = (proxy.listen, &mut Report::default());
    let own = |url: &RegistryUrl| {
        let Authority { host, port, .. } = url.authority();
        let same = match url.authority().ip() {
            Some(ip) => ip == listen.ip || (listen.ip.is_unspecified() && ip.is_loopback()),
            None => host == "localhost" && (listen.ip.is_unspecified() || listen.ip.is_loopback()),
        };
        same && (listen.ports.start..=listen.ports.end).contains(port)
    };
    let main = section.section(quiet, "registryMirror");
    let extra = sections(section.items(quiet, "extraRegistryMirrors"), quiet);
    for field in
        [&main].into_iter().chain(extra.iter().map(|(_, section)| section)).filter_map(|keys| keys.get("url"))
    {
        if url(field, quiet).is_some_and(|url| own(&url)) {
            field.bad_value(
                report,
                URL,
                "it is this proxy's own port, so each request would come back for ever",
            );
        }
    }
}

/// One registry, if its `url` is there, and how its requests are handled.
fn mirror(section: &Section<'_>, context: &mut Context<'_>) -> (Option<RegistryMirror>, MirrorTasks) {
    let direct = section.boolean(context.report, "direct", false);
    let use_proxies = section.boolean(context.report, "useProxies", false);
    let tasks = match (direct, use_proxies) {
        (true, _) => MirrorTasks::Nothing,
        (false, true) => MirrorTasks::Rules,
        (false, false) => MirrorTasks::Digests,
    };
    let insecure = section.boolean(context.report, "insecure", false);
    let certs = section.items(context.report, "certs");
    let certs: Vec<_> = certs.iter().filter_map(|field| pem::roots(field, context)).collect();
    let url = section.get("url").and_then(|field| url(field, context.report));
    (url.map(|url| RegistryMirror { url, insecure, certs, tasks }), tasks)
}

/// The URL; `None` if there is none, or the documentation's placeholder, of which it is said elsewhere.
fn url(field: &Field<'_>, report: &mut Report) -> Option<RegistryUrl> {
    let text = field.text(report, URL)?;
    if text.is_empty() || lint::is_placeholder(text) {
        return None;
    }
    RegistryUrl::parse(text).map_err(|error| field.bad_value(report, URL, error)).ok()
}

fn report_no_effect(field: &Field<'_>, problem: String, report: &mut Report) {
    report.warn(field.value(), Code::NoEffect, problem, "remove one of the two");
}

const URL: Expected =
    Expected { what: "the URL of a registry, or its host", example: "https://registry.example.com" };
