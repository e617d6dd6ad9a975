//! Spans on their way to the collector: wired, gathered, sent, given up.
//!
//! A collector that is slow, away or none at all costs a line of the log each minute and the spans,
//! which are counted; nobody waits for it but the task here, and at the end for moments only. It is
//! reached directly: not by the site's proxy, and not by this one.

mod exporter;

use std::time::Duration;

use dfget_config::{Config, Traces};
use dfget_origin::{Destinations, OriginClient, OriginOptions, PerScheme, Retries, Timeouts, Trust};
use dfget_telemetry::{Metrics, TracedSpans};
use dfget_tls::{OriginTrust, Roots};
use dfget_trace::{Resource, Spans, Tracer, TracerOptions};
use rustix::system::uname;

pub(crate) use exporter::Exporter;

use crate::RunError;
use crate::certificates::pem_roots;
use crate::parts::version;

/// What makes spans, and where they come out; off and nothing where none are wanted.
pub(crate) fn begin(config: &Config, metrics: &Metrics) -> (Tracer, Option<Spans>) {
    let Some(traces) = &config.traces else { return (Tracer::off(), None) };
    let metrics = metrics.clone();
    let lost = Box::new(move |count| metrics.spans(TracedSpans::Lost, count));
    let (tracer, spans) = Tracer::new(TracerOptions { ratio: traces.ratio, lost });
    (tracer, Some(spans))
}

/// What sends them; `origin` knows where this daemon's own ports are.
pub(crate) fn exporter(
    config: &Config,
    spans: Option<Spans>,
    origin: &OriginClient,
    metrics: &Metrics,
) -> Result<Option<Exporter>, RunError> {
    let (Some(traces), Some(spans)) = (&config.traces, spans) else { return Ok(None) };
    let trust = trust(traces)?;
    let client = origin.beside(OriginOptions {
        trust: Box::new(move |_| trust.clone()),
        timeouts: PerScheme { http: TIMEOUTS, https: TIMEOUTS },
        upstream: None,
        destinations: Destinations::of_own_user(),
        budget: None,
        retries: Retries::default(),
        prefer_ipv6: config.prefer_ipv6,
        limiter: None,
        observe: Box::new(|_, _| {}),
        tracer: Tracer::off(),
    });
    let nodename = || uname().nodename().to_string_lossy().into_owned();
    let resource = Resource {
        service: traces.service.clone(),
        version: version(),
        instance: format!("{:032x}", fastrand::u128(..)),
        host: config.host.hostname.clone().unwrap_or_else(nodename),
    };
    Ok(Some(Exporter::new(traces, resource, spans, client, metrics.clone())))
}

fn trust(traces: &Traces) -> Result<Trust, RunError> {
    let extra_roots = pem_roots(traces.roots.as_slice()).map_err(RunError::CollectorRoots)?;
    // What is wrong with the system's store is said for origins.
    let (roots, _) = Roots::load(None);
    let trust = OriginTrust { insecure: false, extra_roots };
    let config = roots.client_config(&trust).map_err(|source| RunError::CollectorRoots(source.into()))?;
    Ok(Trust { config, insecure: false })
}

/// A collector is near, or not worth waiting for.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(5),
    head: Duration::from_secs(10),
    stall: Duration::from_secs(10),
    keep_alive: Duration::from_secs(15),
    idle: Duration::from_secs(50),
    most_idle: Some(1),
};
