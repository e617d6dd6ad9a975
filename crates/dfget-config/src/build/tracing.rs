//! Keys to types: where traces go.

use dfget_core::{Authority, Scheme};

use super::{Context, pem};
use crate::{
    Code, PemSource, Secret, Traces,
    otel::{self, Otel},
    read::{Expected, Field, Section},
    report::{Report, Subject},
    scalar,
    yaml::Data,
};

/// `tracing`, and what the environment says where that is silent; `None` = no traces.
pub(super) fn tracing(daemon: &Section<'_>, context: &mut Context<'_>) -> Option<Traces> {
    let section = daemon.section(context.report, "tracing");
    let is_blank =
        |field: &Field<'_>| matches!(&field.node.data, Data::Scalar { text, .. } if text.is_empty());
    let named = section.get("endpoint").map(|field| !is_blank(field));
    let otel = Otel::checked(context.environment, named, context.report);
    let report = &mut *context.report;
    let defaults = Traces::default();
    let protocol = protocol(&section, report);
    let path = path(&section, report);
    let headers = headers(&section, report);
    let ratio = ratio(&section, report).or(otel.ratio).unwrap_or(defaults.ratio);
    let service = daemon.text(report, "service-name", "dfget").map(str::to_owned);
    let service = service.or_else(|| otel.service.clone()).unwrap_or(defaults.service);
    let (collector, base) = match section.get("endpoint") {
        Some(field) => of_file(field, protocol, report)?,
        None => of_variable(&section, &otel, report)?,
    };
    let roots: Option<PemSource> = section.get("caCert").and_then(|field| pem::roots(field, context));
    let headers = match headers {
        Some(headers) => headers,
        None => checked(&otel, context.report),
    };
    Some(Traces { collector, path: format!("{base}{path}"), headers, service, ratio, roots })
}

/// The collector, and the path of its URL; `None` if there is none, or if what is written is wrong.
fn of_file(field: &Field<'_>, protocol: Option<Scheme>, report: &mut Report) -> Option<(Authority, String)> {
    let text = field.text(report, ENDPOINT)?;
    if text.is_empty() {
        return None;
    }
    let wrong = match endpoint(text, protocol) {
        Ok(endpoint) => return Some(endpoint),
        Err(wrong) => wrong,
    };
    field.bad_value(report, ENDPOINT, wrong);
    None
}

fn of_variable(section: &Section<'_>, otel: &Otel, report: &mut Report) -> Option<(Authority, String)> {
    let Some(text) = &otel.endpoint else {
        let sends = ["protocol", "headers", "caCert"];
        if let Some(first) = sends.iter().find_map(|name| section.get(name)) {
            let remedy = "add `endpoint: 127.0.0.1:4318`, or remove the section";
            report.warn(first.key(), Code::NoEffect, "without `endpoint` no traces are sent", remedy);
        }
        return None;
    };
    let wrong = match endpoint(text, None) {
        Ok(endpoint) => return Some(endpoint),
        Err(wrong) => wrong,
    };
    let subject = Subject { key: Some(otel::ENDPOINT.to_owned()), ..Subject::default() };
    let remedy = "write it as in `http://127.0.0.1:4318`, or set `tracing.endpoint` in the file";
    report.warn(subject, Code::BadValue, format!("{wrong}; no traces are sent"), remedy);
    None
}

/// Reads `host`, `host:port` or a URL.
fn endpoint(text: &str, protocol: Option<Scheme>) -> Result<(Authority, String), &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
        Some(_) => return Err("its scheme is neither http nor https"),
        None => (None, text),
    };
    if let (Some(scheme), Some(protocol)) = (scheme, protocol)
        && scheme != protocol
    {
        return Err("its scheme is another than `protocol` says");
    }
    let (host, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if host.contains('@') {
        return Err("it holds a login, which belongs into `headers`");
    }
    if !is_path(base) {
        return Err("its path has what no path has, or a query");
    }
    let with_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let host = if scheme.is_none() && !with_port { format!("{host}:{PORT}") } else { host.to_owned() };
    let scheme = scheme.or(protocol).unwrap_or(Scheme::Http);
    let authority = Authority::parse(scheme, &host).map_err(|_| "it names no host and port")?;
    Ok((authority, base.trim_end_matches('/').to_owned()))
}

fn protocol(section: &Section<'_>, report: &mut Report) -> Option<Scheme> {
    const KINDS: Expected = Expected { what: "`http` or `https`", example: "http" };
    match section.text(report, "protocol", KINDS.example)? {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        "grpc" => {
            let why = "OTLP over gRPC is not spoken; collectors take HTTP too, usually at port 4318";
            section.get("protocol")?.bad_value(report, KINDS, why);
            None
        }
        _ => {
            section.get("protocol")?.bad_value(report, KINDS, "there is no such protocol");
            None
        }
    }
}

fn path(section: &Section<'_>, report: &mut Report) -> String {
    const PATH: Expected = Expected { what: "a plain path", example: "/v1/traces" };
    let Some(text) = section.text(report, "path", PATH.example) else { return PATH.example.to_owned() };
    if let (Some(field), false) = (section.get("path"), text.starts_with('/') && is_path(text)) {
        field.bad_value(report, PATH, "it does not begin with `/`, or has what no path has");
    }
    text.to_owned()
}

fn is_path(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    })
}

fn ratio(section: &Section<'_>, report: &mut Report) -> Option<f64> {
    const SHARE: Expected = Expected { what: "a number from 0 to 1", example: "0.1" };
    let field = section.get("ratio")?;
    let share = field.parse(report, SHARE, scalar::number)?;
    if !(0.0..=1.0).contains(&share) {
        field.bad_value(report, SHARE, "no share of a whole");
        return None;
    }
    Some(share)
}

/// `None` if the file says nothing of them.
fn headers(section: &Section<'_>, report: &mut Report) -> Option<Vec<(String, Secret)>> {
    const VALUE: Expected = Expected { what: "text", example: "Bearer …" };
    let field = section.get("headers")?;
    let mut headers = Vec::new();
    for field in field.section(report).unwrap_or_default().fields {
        if !matches!(field.node.data, Data::Scalar { .. }) {
            field.wrong_type(report, VALUE.what, format!("write {}", field.line(VALUE.example)));
            continue;
        }
        let Some(value) = field.text(report, VALUE) else { continue };
        match fault(field.name, value) {
            None => headers.push((field.name.to_owned(), Secret::new(value.to_owned()))),
            // Not shown: it is a secret, most often.
            Some(Fault { problem, remedy }) => report.error(field.value(), Code::BadValue, problem, remedy),
        }
    }
    Some(headers)
}

/// Those of the environment that can be sent; says which cannot.
fn checked(otel: &Otel, report: &mut Report) -> Vec<(String, Secret)> {
    let mut good = Vec::new();
    for (name, value) in &otel.headers {
        match fault(name, value) {
            None => good.push((name.clone(), Secret::new(value.clone()))),
            Some(Fault { problem, remedy }) => {
                let subject = Subject { key: Some(otel::HEADERS.to_owned()), ..Subject::default() };
                report.warn(subject, Code::BadValue, format!("{problem}; it is not sent"), remedy);
            }
        }
    }
    good
}

struct Fault {
    problem: &'static str,
    remedy: &'static str,
}

/// Why a header cannot be sent along.
fn fault(name: &str, value: &str) -> Option<Fault> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(is_token) {
        let remedy = "write letters, digits and dashes, for example `authorization`";
        return Some(Fault { problem: "no name of a header", remedy });
    }
    if OURS.contains(&lower.as_str()) || lower.starts_with("content-") || lower.starts_with("proxy-") {
        return Some(Fault { problem: "this header is set by the exporter itself", remedy: "remove it" });
    }
    let printable = value.chars().all(|c| c.is_ascii_graphic() || c == ' ') && value.trim() == value;
    if value.len() > LONGEST || !printable {
        let remedy = "write it in one line of ASCII; it is not shown here";
        return Some(Fault { problem: "no value of a header", remedy });
    }
    None
}

const ENDPOINT: Expected = Expected { what: "host and port of a collector", example: "127.0.0.1:4318" };
/// Where collectors take OTLP over HTTP.
const PORT: u16 = 4318;
/// Bytes of a header's name, or value.
const LONGEST: usize = 8192;
/// Headers that say how the message is framed, or whom it is for.
const OURS: [&str; 10] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "traceparent",
];
