//! Sending spans to a collector (OTLP over HTTP, protobuf in both directions).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dfget_config::Traces;
use dfget_core::Backoff;
use dfget_origin::{Body, ConnectError, OriginClient, OriginError};
use dfget_telemetry::{Metrics, TracedSpans};
use dfget_trace::{Resource, Spans, Verdict, encode, verdict};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Sends what comes out of the queue, batch by batch.
pub(crate) struct Exporter {
    spans: Spans,
    client: OriginClient,
    resource: Resource,
    collector: String,
    /// Its path may hold what is for the collector alone.
    url: String,
    headers: HeaderMap,
    metrics: Metrics,
    /// When something was said of the collector last.
    said: Mutex<Option<Instant>>,
}

/// Spans that are sent together.
struct Batch {
    count: u64,
    body: Bytes,
}

/// Why a batch did not arrive.
enum Refused {
    /// It may arrive later, after so long at least.
    Now(String, Option<Duration>),
    /// It never will.
    Ever(String),
}

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(
        traces: &Traces,
        resource: Resource,
        spans: Spans,
        client: OriginClient,
        metrics: Metrics,
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &traces.headers {
            let (name, value) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.expose()));
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        if let Ok(agent) = HeaderValue::try_from(format!("dfget/{}", resource.version)) {
            headers.entry(USER_AGENT).or_insert(agent);
        }
        let url = format!("{}{}", traces.collector, traces.path);
        let collector = traces.collector.to_string();
        Self { spans, client, resource, collector, url, headers, metrics, said: Mutex::default() }
    }

    /// Who is sent the spans.
    pub(crate) fn collector(&self) -> &str {
        &self.collector
    }

    /// Sends until `ended`, and then for a moment what is left.
    pub(crate) async fn run(&self, ended: CancellationToken) {
        let mut left = VecDeque::new();
        'serving: while !ended.is_cancelled() {
            tokio::select! {
                () = ended.cancelled() => break,
                () = self.spans.gathered(PAUSE) => {}
            }
            while let Some(batch) = self.next() {
                tokio::select! {
                    () = ended.cancelled() => {
                        left.push_back(batch);
                        break 'serving;
                    }
                    () = self.export(&batch) => {}
                }
            }
        }
        left.extend(std::iter::from_fn(|| self.next()));
        let last = timeout(LAST, async {
            while let Some(batch) = left.front() {
                self.try_once(batch).await.err().inspect(|_| self.spans.lose(batch.count));
                left.pop_front();
            }
        });
        if last.await.is_err() {
            self.spans.lose(left.iter().map(|batch| batch.count).sum());
        }
    }

    fn next(&self) -> Option<Batch> {
        let spans = self.spans.take();
        let count = spans.len() as u64;
        (count > 0).then(|| Batch { count, body: encode(&self.resource, spans).into() })
    }

    /// Sends a batch, again and again if need be, or loses it.
    async fn export(&self, batch: &Batch) {
        for attempt in 1.. {
            let (why, wait) = match self.try_once(batch).await {
                Ok(()) => return,
                Err(Refused::Now(why, wait)) if attempt < MOST_ATTEMPTS => (why, wait),
                Err(Refused::Now(why, _) | Refused::Ever(why)) => {
                    self.spans.lose(batch.count);
                    return self.say(&why);
                }
            };
            // A connection may just have been closed: that is nothing to speak of.
            if attempt > 1 {
                self.say(&why);
            }
            let pause = BETWEEN.wait(attempt, fastrand::f64());
            tokio::time::sleep(wait.unwrap_or(pause).clamp(pause, LONGEST_PAUSE)).await;
        }
    }

    async fn try_once(&self, batch: &Batch) -> Result<(), Refused> {
        let sent = timeout(PATIENCE, self.post(batch.body.clone())).await;
        let late = || Refused::Now(format!("does not answer within {} s", PATIENCE.as_secs()), None);
        let refused = sent.unwrap_or_else(|_| Err(late()))?.min(batch.count);
        self.metrics.spans(TracedSpans::Sent, batch.count - refused);
        if refused > 0 {
            self.spans.lose(refused);
            self.say(&format!("refuses {refused} of {} spans", batch.count));
        }
        Ok(())
    }

    /// Sends a body; returns how many of its spans the collector refuses.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let body: Body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            self.url.parse().map_err(|_| Refused::Ever("has a URL that cannot be asked".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        let response = self.client.send(request).await.map_err(|error| match error {
            // Nothing of it passes by waiting.
            OriginError::Connect(ConnectError::Loop { .. } | ConnectError::Tls { .. })
            | OriginError::Target { .. } => Refused::Ever(format!("is not asked: {error}")),
            OriginError::Resting { wait, .. } => Refused::Now(format!("is not reached: {error}"), Some(wait)),
            error => Refused::Now(format!("is not reached: {error}"), None),
        })?;
        answer(response).await
    }

    /// Says what is wrong with the collector, unless that was said lately.
    fn say(&self, why: &str) {
        let mut said = self.said.lock();
        if said.is_none_or(|at| at.elapsed() >= BETWEEN_WORDS) {
            *said = Some(Instant::now());
            let lost = self.metrics.spans_so_far(TracedSpans::Lost);
            warn!(
                lost,
                "traces: {} {why}; pulls go on without, spans it does not take in time are lost",
                self.collector
            );
        }
    }
}

/// How many spans an answer refuses.
async fn answer(response: Response<Incoming>) -> Result<u64, Refused> {
    let (status, headers) = (response.status(), response.headers());
    if !status.is_success() {
        let why = format!("answers {}", status.as_u16());
        return Err(if is_passing(status) { Refused::Now(why, pause(headers)) } else { Refused::Ever(why) });
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (is_protobuf, is_json) = (media.starts_with(PROTOBUF), media.starts_with("application/json"));
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|_| Refused::Ever("answers without end, or breaks off".to_owned()))?.to_bytes();
    let verdict = if body.is_empty() || is_protobuf { verdict(&body) } else { Verdict::Nonsense };
    match verdict {
        // Some answer in JSON whatever they are asked in.
        _ if is_json => Ok(0),
        Verdict::Taken => Ok(0),
        Verdict::Refused(count) => Ok(count),
        Verdict::Nonsense => {
            Err(Refused::Ever("answers as no collector does; is there another server?".to_owned()))
        }
    }
}

/// Statuses after which the same may be sent again (OTLP 1.x, "Failures").
const fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// A `Retry-After` in seconds.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

const PROTOBUF: &str = "application/x-protobuf";
/// Spans wait so long for others.
const PAUSE: Duration = Duration::from_secs(1);
/// A batch is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// And sent so often.
const MOST_ATTEMPTS: u32 = 5;
const BETWEEN: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(10) };
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What is left at the end of the daemon has so long to leave.
const LAST: Duration = Duration::from_secs(2);
/// One line of the log in that time.
const BETWEEN_WORDS: Duration = Duration::from_secs(60);
/// In bytes.
const LONGEST_ANSWER: usize = 64 << 10;
