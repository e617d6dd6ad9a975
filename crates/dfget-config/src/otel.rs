//! What the standard variables of OpenTelemetry ask for.
//!
//! They stand below the file: a key that it sets counts. They are often set for other programs, so one that cannot
//! be used is said and left out, and refuses no start.

use crate::{
    Code, Environment,
    report::{Report, Subject},
    scalar,
};

/// The values of the variables that are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Otel {
    /// The collector's URL, without `/v1/traces`.
    pub(crate) endpoint: Option<String>,
    /// In the order written, their values decoded.
    pub(crate) headers: Vec<(String, String)>,
    /// `service.name`.
    pub(crate) service: Option<String>,
    /// The share of the traces beginning here.
    pub(crate) ratio: Option<f64>,
}

pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
pub(crate) const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
pub(crate) const SERVICE: &str = "OTEL_SERVICE_NAME";
pub(crate) const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// All of them.
pub(crate) const VARIABLES: [&str; 7] =
    [ENDPOINT, HEADERS, SERVICE, SAMPLER, SAMPLER_ARG, PROTOCOL, DISABLED];

// === impl Otel ===

impl Otel {
    /// Reads them.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self::read(environment, true, &mut |_, _, _| {})
    }

    /// The same, and says which cannot be used, if there are to be traces. `named`: the file says whether, and whereto.
    pub(crate) fn checked(environment: &Environment, named: Option<bool>, report: &mut Report) -> Self {
        if !named.unwrap_or_else(|| environment.variable(ENDPOINT).is_some()) {
            return Self::of(environment);
        }
        Self::read(environment, named.is_none(), &mut |name, problem, remedy| {
            let subject = Subject { key: Some(name.to_owned()), ..Subject::default() };
            report.warn(subject, Code::BadValue, format!("{problem}; it is not used"), remedy);
        })
    }

    fn read(
        environment: &Environment,
        endpoint: bool,
        say: &mut dyn FnMut(&'static str, &str, &str),
    ) -> Self {
        let variable = |name| environment.variable(name).and_then(|value| value.to_str());
        if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::default();
        }
        let endpoint = variable(ENDPOINT).filter(|_| endpoint).filter(|_| match variable(PROTOCOL) {
            None | Some("http/protobuf") => true,
            Some(_) => {
                say(
                    PROTOCOL,
                    "of OTLP only `http/protobuf` is spoken",
                    "name the collector's HTTP port, usually 4318, by `tracing.endpoint`",
                );
                false
            }
        });
        let headers = variable(HEADERS).map(|text| match pairs(text) {
            Some(pairs) => pairs,
            None => {
                say(
                    HEADERS,
                    "it is no list of `name=value`",
                    "write it as in `authorization=Bearer%20TOKEN`",
                );
                Vec::new()
            }
        });
        Self {
            endpoint: endpoint.map(str::to_owned),
            headers: headers.unwrap_or_default(),
            service: variable(SERVICE).map(str::to_owned),
            ratio: variable(SAMPLER).and_then(|name| {
                let ratio = ratio(name, variable(SAMPLER_ARG));
                if ratio.is_none() {
                    say(
                        SAMPLER,
                        "there is no such sampler, or its argument is no share",
                        "write `parentbased_traceidratio`, and a number from 0 to 1 as `OTEL_TRACES_SAMPLER_ARG`",
                    );
                }
                ratio
            }),
        }
    }
}

/// The share that a sampler takes. All of them follow a parent here.
fn ratio(name: &str, argument: Option<&str>) -> Option<f64> {
    match name {
        "always_on" | "parentbased_always_on" => Some(1.0),
        "always_off" | "parentbased_always_off" => Some(0.0),
        "traceidratio" | "parentbased_traceidratio" => match argument {
            None => Some(1.0),
            Some(text) => scalar::number(text).ok().filter(|share| (0.0..=1.0).contains(share)),
        },
        _ => None,
    }
}

/// `name=value,…`, values percent-encoded (W3C Baggage without properties).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_owned(), decoded(value.trim())?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_decoded() {
        let of = |text: &str| pairs(text).map(|pairs| format!("{pairs:?}"));
        assert_eq!(
            of("authorization=Bearer%20a%2Cb, x = 1=2 ,,").as_deref(),
            Some(r#"[("authorization", "Bearer a,b"), ("x", "1=2")]"#)
        );
        for bad in ["x", "x=%2", "x=%zz", "x=%+1", "x=%ff"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn samplers_are_known_by_name() {
        assert_eq!(ratio("parentbased_always_off", None), Some(0.0));
        assert_eq!(ratio("always_on", Some("0.5")), Some(1.0));
        assert_eq!(ratio("parentbased_traceidratio", Some("0.25")), Some(0.25));
        assert_eq!(ratio("traceidratio", None), Some(1.0));
        assert_eq!((ratio("traceidratio", Some("2")), ratio("jaeger_remote", None)), (None, None));
    }
}
