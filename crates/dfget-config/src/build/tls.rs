//! Keys to types: TLS of the proxy's own port (`proxy.security`).

use super::{Context, pem, proxy::missing};
use crate::{
    Code, ProxyTls,
    read::{Field, Section},
};

/// `None` where the port speaks plain HTTP: nothing asks for TLS, or `insecure: true` forbids it.
pub(super) fn proxy_tls(section: &Section<'_>, context: &mut Context<'_>) -> Option<ProxyTls> {
    let field = section.get("security")?;
    let security = field.section(context.report)?;
    let set = |name: &str| security.get(name).filter(|field| !is_empty_text(field));
    let insecure = security.get("insecure").and_then(|field| field.boolean(context.report));
    let verify = security.boolean(context.report, "tlsVerify", false);
    let (cert, key) = (set("cert"), set("key"));
    if insecure == Some(true) || (insecure.is_none() && cert.is_none() && key.is_none()) {
        if let Some(unused) = cert.or(key).or_else(|| set("caCert")) {
            let problem = "the proxy's port speaks plain HTTP, so it has no effect";
            let remedy = "write `insecure: false`, with `cert` and `key`, if clients are to speak TLS to it";
            context.report.warn(unused.key(), Code::NoEffect, problem, remedy);
        }
        return None;
    }
    for (name, half) in [("cert", cert), ("key", key)] {
        if half.is_none() {
            missing(field, name, "/etc/dragonfly/proxy.pem", context.report);
        }
    }
    let authority = set("caCert");
    if verify && authority.is_none() {
        missing(field, "caCert", "/etc/dragonfly/clients.pem", context.report);
    }
    let cert = pem::certificate(cert?, context);
    let key = pem::private_key(key?, "can pass for this proxy", context);
    let clients = authority.filter(|_| verify).map(|field| pem::roots(field, context));
    if let (Some(ca), false) = (authority, verify) {
        let (problem, remedy) =
            ("no client is asked for a certificate", "write `tlsVerify: true`, or remove it");
        context.report.warn(ca.key(), Code::NoEffect, problem, remedy);
    }
    let (cert, key) = (cert?, key?);
    pem::check_listener(&cert, &key, context);
    let clients = match clients {
        Some(clients) => Some(clients?),
        None => None,
    };
    Some(ProxyTls { cert: cert.source, key: key.source, clients })
}

fn is_empty_text(field: &Field<'_>) -> bool {
    matches!(&field.node.data, crate::yaml::Data::Scalar { text, .. } if text.is_empty())
}
