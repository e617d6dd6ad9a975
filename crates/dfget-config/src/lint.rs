//! What is legal, and yet hardly meant: said in a warning, each with the way out.
//!
//! Looks at the keys as they were written, after they were read without error.

use crate::{
    Code, Config, Environment, Hijack, HijackAuthority, PemSource, Proxy, Secret,
    host_pattern::HostPattern,
    read::{Field, Section},
    report::{Report, Subject},
    settings::REDACTED,
    yaml::Data,
};

/// Placeholders of the documentation, in any value but a password.
pub(crate) fn placeholders(section: &Section<'_>, report: &mut Report) {
    for field in &section.fields {
        visit_texts(field, &mut |field, text| {
            if text == REDACTED {
                let problem = "`***` is what `dfget config show` writes in place of a secret";
                let remedy = "write the secret itself";
                report.warn(field.value(), Code::Placeholder, problem, remedy);
            }
            if is_placeholder(text) && !field.name.eq_ignore_ascii_case("password") {
                let example = match field.path.to_ascii_lowercase().contains("hosts[") {
                    true => r"'^registry\.example\.com:443$'",
                    false => "registry.example.com",
                };
                let problem = format!("the placeholder of the documentation is still here (got `{text}`)");
                let remedy = format!("write your registry, for example {}", field.line(example));
                report.warn(field.value(), Code::Placeholder, problem, remedy);
            }
        });
    }
}

/// Parts of the proxy that do nothing alone, patterns that match too much, ports open to all.
pub(crate) fn proxy(section: &Section<'_>, proxy: &Proxy, report: &mut Report) {
    if let Some(first) = section.fields.iter().find(|field| !field.is_null()) {
        no_effect(section, proxy, first, report);
    }
    for item in host_items(section) {
        let Data::Map(entries) = &item.node.data else { continue };
        if let Some(field) = Section::of(entries, &item.path).get("regx")
            && let Data::Scalar { text, .. } = &field.node.data
            && !is_placeholder(text)
        {
            loose_host(field, text, report);
        }
    }
    let guarded = proxy.tls.as_ref().is_some_and(|tls| tls.clients.is_some() || proxy.basic_auth.is_some());
    if !proxy.listen.ip.is_loopback() && !guarded {
        exposed(section, proxy, report);
    }
    let sni = proxy.hijack.iter().flat_map(|hijack| &hijack.sni);
    let open = sni.clone().find(|sni| !sni.listen.ip.is_loopback());
    if let Some(open) = open.filter(|_| proxy.white_list.is_empty())
        && let Some(field) = section.get("hijackHTTPS")
    {
        let listen = open.listen;
        let problem =
            format!("whoever reaches {listen} (sni) gets to any host by it, at port {}", listen.ports.start);
        let remedy = "add a `whiteList` of your registries, or let a firewall choose";
        report.warn(field.key(), Code::Exposed, problem, remedy);
    }
    if sni.count() > 0
        && let Some(field) = section.get("basicAuth")
    {
        let problem =
            "clients of hijackHTTPS.sni do not know that there is a proxy, so they are not asked for it";
        let remedy = "let them listen on loopback or let a firewall choose; whiteList holds for them too";
        report.warn(field.key(), Code::Exposed, problem, remedy);
    }
}

/// Secrets in a file that others can read, and files that others can change.
pub(crate) fn modes(config: &Config, files: &[Subject], environment: &Environment, report: &mut Report) {
    let inline = |hijack: &Hijack| {
        matches!(hijack.authority, HijackAuthority::Named { key: PemSource::Inline(_), .. })
    };
    let clients = &config.download.resource_clients;
    let has_login = |proxy: &Option<Secret>| proxy.as_ref().is_some_and(|url| url.expose().contains('@'));
    let holds_secret = config.proxy.basic_auth.is_some()
        || config.proxy.hijack.as_ref().is_some_and(inline)
        || has_login(&clients.http.proxy)
        || has_login(&clients.https.proxy)
        || config.traces.as_ref().is_some_and(|traces| !traces.headers.is_empty());
    for subject in files {
        let Some(path) = &subject.file else { continue };
        let Ok(mode) = environment.files.mode(&environment.working_directory.join(path)) else { continue };
        let shown = path.display();
        if mode & 0o002 != 0 {
            let problem = format!("every user of this host can change it (mode {mode:04o})");
            report.warn(subject.clone(), Code::Exposed, problem, format!("`chmod o-w {shown}`"));
        }
        if holds_secret && mode & 0o004 != 0 {
            let problem =
                format!("it holds a secret, and every user of this host can read it (mode {mode:04o})");
            report.warn(subject.clone(), Code::Exposed, problem, format!("`chmod 600 {shown}`"));
        }
    }
}

fn no_effect(section: &Section<'_>, proxy: &Proxy, first: &Field<'_>, report: &mut Report) {
    let is_absent = |name: &str| section.get(name).is_none_or(|field| field.is_empty());
    // A mirror needs neither rules nor a hijack.
    if is_absent("proxies") && !proxy.mirrors.is_enabled() {
        let field = section.get("proxies").unwrap_or(first);
        let remedy = "add `proxies: [{regx: 'blobs/sha256.*'}]`";
        report.warn(field.key(), Code::NoEffect, "without a rule nothing is cached, only forwarded", remedy);
    }
    match &proxy.hijack {
        None if is_absent("hijackHTTPS") && !proxy.mirrors.is_enabled() => {
            let field = section.get("proxies").unwrap_or(first);
            let problem =
                "without `hijackHTTPS` every HTTPS connection is tunnelled unseen, nothing of it is cached";
            let remedy = "add `hijackHTTPS` with `hosts`; docs/configuration.md has an example";
            report.warn(field.key(), Code::NoEffect, problem, remedy);
        }
        Some(_) if hosts_are_absent(section) => {
            let field = section.get("hijackHTTPS").unwrap_or(first);
            let problem =
                "without `hosts` every HTTPS connection is tunnelled unseen, nothing of it is cached";
            let remedy = r"add `hosts: [{regx: '^registry\.example\.com:443$'}]`";
            report.warn(field.key(), Code::NoEffect, problem, remedy);
        }
        // With an error in it there is a word about it already.
        None | Some(_) => {}
    }
}

fn exposed(section: &Section<'_>, proxy: &Proxy, report: &mut Report) {
    let listen = proxy.listen;
    let Some(field) = section.get("tcpListen") else { return };
    if proxy.basic_auth.is_some() {
        let field = section.get("basicAuth").unwrap_or(field);
        let problem = format!("the password crosses the network readable, as the proxy listens on {listen}");
        let remedy = "listen on 127.0.0.1, or let clients come through an encrypted network only";
        report.warn(field.key(), Code::Exposed, problem, remedy);
    } else {
        let problem = format!("anybody who reaches {listen} may use the proxy");
        let remedy = "write `listen: 127.0.0.1`, or add `basicAuth`, or let a firewall choose";
        report.warn(field.key(), Code::Exposed, problem, remedy);
    }
}

fn hosts_are_absent(section: &Section<'_>) -> bool {
    let hijack = section.section(&mut Report::default(), "hijackHTTPS");
    hijack.get("hosts").is_none_or(|field| field.is_empty())
}

fn host_items<'a>(section: &Section<'a>) -> Vec<Field<'a>> {
    let mut quiet = Report::default();
    section.section(&mut quiet, "hijackHTTPS").items(&mut quiet, "hosts")
}

fn loose_host(field: &Field<'_>, text: &str, report: &mut Report) {
    let Some(pattern) = HostPattern::of(text) else { return };
    let strict = field.line(&format!("'{}'", pattern.strict()));
    if pattern.ends && pattern.port.is_none() {
        let problem = format!("it matches no host: the port follows where `$` stands (got `{text}`)");
        report.warn(field.value(), Code::LooseHostPattern, problem, format!("write {strict}"));
    } else if !(pattern.starts && pattern.ends) {
        let problem = format!(
            "not anchored, it matches every `host:port` that contains it, `{}` too (got `{text}`)",
            pattern.stranger()
        );
        let remedy = format!("write {strict}; for another port, write it in place of the {}", pattern.port());
        report.warn(field.value(), Code::LooseHostPattern, problem, remedy);
    }
}

/// `<some.thing>`, alone or behind a scheme; not the name of a group in a pattern.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let Some((before, rest)) = text.split_once('<') else { return false };
    let Some((name, _)) = rest.split_once('>') else { return false };
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    !before.ends_with('?') && !before.ends_with("?P") && !name.is_empty() && name.chars().all(is_name)
}

/// Calls `look` with every text below the field.
fn visit_texts(field: &Field<'_>, look: &mut impl FnMut(&Field<'_>, &str)) {
    let mut quiet = Report::default();
    match &field.node.data {
        Data::Null => {}
        Data::Scalar { text, .. } => look(field, text),
        Data::List(_) => {
            for item in field.items(&mut quiet).unwrap_or_default() {
                visit_texts(&item, look);
            }
        }
        Data::Map(_) => {
            for child in field.section(&mut quiet).unwrap_or_default().fields {
                visit_texts(&child, look);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_told_from_a_group_and_from_plain_text() {
        for text in ["<your.private.registry>", "https://<your registry>", "<a_b>:5000"] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["a<b", "(?P<name>x)", "(?<name>x)", "<>", "a > b", "<a(b>", "x"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
