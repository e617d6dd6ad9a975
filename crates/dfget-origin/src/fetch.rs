//! Getting a content: one GET, its redirects followed.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use dfget_core::{Authority, Backoff};

use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tracing::info;
use url::Url;

use crate::{AddressClass, Destinations};

use crate::budget;
use crate::client::{OriginClient, empty_body};
use crate::error::OriginError;
use crate::headers::{is_of_trace, text};
use crate::redirect::{drop_credentials, is_redirect, next_hop};

/// How often a GET is repeated that got no answer.
const MOST_REPETITIONS: u32 = 2;

/// Waits before that.
const BETWEEN_TRIES: Backoff = Backoff { first: Duration::from_millis(100), ceiling: Duration::from_secs(1) };

/// How many refusals and pauses of one request are sat out.
const MOST_PAUSES: u32 = 10;

/// What a content is asked for with: its URL and the asking client's own headers, as
/// [`crate::headers::for_content`] leaves them.
#[derive(Clone, Eq)]
pub struct FetchRequest {
    /// Where the content is, before any redirect.
    pub url: Url,
    /// Headers of each request for it; credentials among them.
    pub headers: HeaderMap,
    /// Whether the client chose the host, not merely the path: it must not lead to this machine, the
    /// link, or a metadata service then.
    pub clients_choice: bool,
}

/// The answer to a [`FetchRequest`], of whatever status.
#[derive(Debug)]
pub struct Answer {
    /// Head and body to come.
    pub response: Response<Incoming>,
    /// Whether it comes from another place than was asked.
    pub redirected: bool,
}

impl fmt::Debug for FetchRequest {
    /// Names neither query nor headers: both may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchRequest({:?}{})", self.url.host_str(), self.url.path())
    }
}

impl PartialEq for FetchRequest {
    /// Which trace they belong to makes no difference: they ask for the same by the same right.
    fn eq(&self, other: &Self) -> bool {
        let asks = |name: &&HeaderName| !is_of_trace(name);
        let (ours, theirs) = (&self.headers, &other.headers);
        self.url == other.url
            && self.clients_choice == other.clients_choice
            && ours.keys().filter(asks).count() == theirs.keys().filter(asks).count()
            && ours.keys().filter(asks).all(|name| ours.get_all(name) == theirs.get_all(name))
    }
}

// === impl FetchRequest ===

impl FetchRequest {
    /// Its headers, with `extra` ones for this once.
    fn with(&self, extra: &[(HeaderName, HeaderValue)]) -> HeaderMap {
        let mut headers = self.headers.clone();
        for (name, value) in extra {
            headers.insert(name, value.clone());
        }
        headers
    }
}

// === impl OriginClient ===

impl OriginClient {
    /// Asks for a content by GET, with `extra` headers for this once, and follows redirects.
    /// Credentials go only to the scheme, host and port that they were meant for; addresses of
    /// this machine, of the link and of metadata services are refused to registries that do
    /// not stand there themselves.
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer, or a redirect that must not be followed.
    pub async fn fetch(
        &self,
        request: &FetchRequest,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, OriginError> {
        let mut visited = vec![request.url.clone()];
        let mut headers = request.with(extra);
        let mut registry = request.clients_choice.then_some(AddressClass::Network);
        let mut target = request.url.clone();
        loop {
            let hop = self.hop(&Method::GET, &target, &headers, registry).await;
            let chosen = request.clients_choice && visited.len() == 1;
            let (response, class) =
                hop.map_err(|error| if chosen { error.of_clients_choice() } else { error })?;
            if !is_redirect(response.status()) {
                return Ok(Answer { response, redirected: visited.len() > 1 });
            }
            let destinations = self.destinations();
            let location = text(response.headers(), &LOCATION);
            let next = next_hop(&visited, location, destinations.redirects.downgrade)?;
            self.admit(&destinations, &target, &next)?;
            drop_credentials(&mut headers, &target, &next);
            registry.get_or_insert(class);
            visited.push(next.clone());
            target = next;
        }
    }

    /// Whether a redirect may lead to this host at all.
    fn admit(&self, destinations: &Destinations, from: &Url, to: &Url) -> Result<(), OriginError> {
        match (Authority::of_url(from), Authority::of_url(to)) {
            (Some(from), Some(to)) if from != to && !(destinations.admitted)(&to) => {
                Err(OriginError::NotAdmitted { from: from.to_string(), to: to.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// As [`Self::fetch`]; but an origin that asks for a pause is asked again after it, where that is no longer than
    /// one waits for a byte: the real clients give up on a 429 at once. What it answers last is the answer.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn fetch_patiently(
        &self,
        request: &FetchRequest,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, OriginError> {
        let mut patience = Patience::new(&request.url, self.timeouts().stall);
        loop {
            let outcome = self.fetch(request, extra).await;
            let refused = outcome.as_ref().is_ok_and(|answer| is_refusal(&answer.response));
            match patience.decide(outcome, refused) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// One request, sent again if the connection breaks or stays silent before the answer's head:
    /// the real clients give up on that at once.
    async fn hop(
        &self,
        method: &Method,
        target: &Url,
        headers: &HeaderMap,
        registry: Option<AddressClass>,
    ) -> Result<(Response<Incoming>, AddressClass), OriginError> {
        let mut repetition = 1;
        loop {
            let hop = hop_request(method.clone(), target, headers)?;
            match self.send_hop(hop, registry).await {
                Err(error @ (OriginError::Http { .. } | OriginError::TimedOut { .. }))
                    if repetition <= MOST_REPETITIONS =>
                {
                    info!("{error}; asking again");
                    tokio::time::sleep(BETWEEN_TRIES.wait(repetition, fastrand::f64())).await;
                    repetition += 1;
                }
                answered => return answered,
            }
        }
    }

    /// Asks what `request` names by another method or for a part of it, and follows nothing:
    /// the status is the origin's word on whether the credential is good for it.
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer.
    pub async fn ask(
        &self,
        method: Method,
        request: &FetchRequest,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, OriginError> {
        let headers = request.with(extra);
        let hop = hop_request(method, &request.url, &headers)?;
        if request.clients_choice { self.send_to_clients_choice(hop).await } else { self.send(hop).await }
    }

    /// As [`Self::ask`], by GET or HEAD; and patiently as [`Self::fetch_patiently`].
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer.
    pub async fn ask_patiently(
        &self,
        method: Method,
        request: &FetchRequest,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, OriginError> {
        let headers = request.with(extra);
        let mut patience = Patience::new(&request.url, self.timeouts().stall);
        loop {
            let registry = request.clients_choice.then_some(AddressClass::Network);
            let answered = self.hop(&method, &request.url, &headers, registry).await;
            let outcome = match answered {
                Err(error) if request.clients_choice => Err(error.of_clients_choice()),
                answered => answered.map(|(answer, _)| answer),
            };
            let refused = outcome.as_ref().is_ok_and(is_refusal);
            match patience.decide(outcome, refused) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// One request that sits out the pauses that its origin asks for.
struct Patience<'a, T> {
    host: &'a str,
    left: Duration,
    pauses: u32,
    /// What to answer if the origin goes on refusing.
    refused: Option<T>,
}

impl<'a, T> Patience<'a, T> {
    /// Pauses of together `longest` are sat out.
    fn new(url: &'a Url, longest: Duration) -> Self {
        Self { host: url.host_str().unwrap_or_default(), left: longest, pauses: 0, refused: None }
    }

    /// What comes of an outcome: the last word, or another try after a wait.
    fn decide(
        &mut self,
        outcome: Result<T, OriginError>,
        is_refused: bool,
    ) -> ControlFlow<Result<T, OriginError>, Duration> {
        self.pauses += 1;
        match outcome {
            // The next try is told how long the pause is.
            Ok(answer) if is_refused && self.pauses < MOST_PAUSES => {
                self.refused = Some(answer);
                ControlFlow::Continue(Duration::ZERO)
            }
            Err(OriginError::Resting { wait, .. }) if wait <= self.left && self.pauses < MOST_PAUSES => {
                info!("{} is asked again in {wait:?}", self.host);
                self.left -= wait;
                ControlFlow::Continue(wait)
            }
            Err(OriginError::Resting { .. }) if self.refused.is_some() => {
                ControlFlow::Break(self.refused.take().map_or(outcome, Ok))
            }
            outcome => ControlFlow::Break(outcome),
        }
    }
}

/// Whether the origin is left alone after this answer.
fn is_refusal(answer: &Response<Incoming>) -> bool {
    budget::is_refusal(answer.status(), answer.headers())
}

fn hop_request(method: Method, url: &Url, headers: &HeaderMap) -> Result<Request<crate::Body>, OriginError> {
    let mut plain = url.clone();
    plain.set_fragment(None);
    let mut request = Request::new(empty_body());
    *request.method_mut() = method;
    *request.uri_mut() = plain.as_str().parse().map_err(|_| OriginError::Target {
        place: format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
    })?;
    *request.headers_mut() = headers.clone();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_that_a_request_belongs_to_makes_no_difference_and_a_credential_does() {
        let with = |pairs: &[(&'static str, &'static str)]| FetchRequest {
            url: Url::parse("https://r.test/v2/a").unwrap(),
            headers: pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
            clients_choice: false,
        };
        let plain = with(&[("authorization", "a")]);
        assert!(plain == with(&[("traceparent", "x"), ("authorization", "a"), ("tracestate", "y")]));
        for other in [
            with(&[("authorization", "b")]),
            with(&[("authorization", "a"), ("cookie", "c")]),
            with(&[("authorization", "a"), ("authorization", "a")]),
            with(&[("traceparent", "a")]),
            FetchRequest { clients_choice: true, ..plain.clone() },
        ] {
            assert!(plain != other, "{:?}", other.headers);
            assert!(other != plain, "{:?}", other.headers);
        }
    }
}
