//! Getting a content: one GET, its redirects followed.

use std::fmt;
use std::time::Duration;

use dfget_core::{Authority, Backoff};

use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tracing::info;
use url::Url;

use crate::{AddressClass, Destinations};

use crate::client::{OriginClient, empty_body};
use crate::error::OriginError;
use crate::headers::text;
use crate::redirect::{drop_credentials, is_redirect, next_hop};

/// How often a GET is repeated that got no answer.
const MOST_REPETITIONS: u32 = 2;

/// Waits before that.
const BETWEEN_TRIES: Backoff = Backoff { first: Duration::from_millis(100), ceiling: Duration::from_secs(1) };

/// What a content is asked for with: its URL and the asking client's own headers, as
/// [`crate::headers::for_content`] leaves them.
#[derive(Clone, Eq, PartialEq)]
pub struct FetchRequest {
    /// Where the content is, before any redirect.
    pub url: Url,
    /// Headers of each request for it; credentials among them.
    pub headers: HeaderMap,
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
        let mut headers = request.headers.clone();
        for (name, value) in extra {
            headers.insert(name, value.clone());
        }
        let mut registry = None;
        let mut target = request.url.clone();
        loop {
            let (response, class) = self.get_hop(&target, &headers, registry).await?;
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

    /// One GET, sent again if the connection breaks or stays silent before the answer's head:
    /// the real clients give up on that at once.
    async fn get_hop(
        &self,
        target: &Url,
        headers: &HeaderMap,
        registry: Option<AddressClass>,
    ) -> Result<(Response<Incoming>, AddressClass), OriginError> {
        let mut repetition = 1;
        loop {
            let hop = hop_request(Method::GET, target, headers)?;
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
        let mut headers = request.headers.clone();
        for (name, value) in extra {
            headers.insert(name, value.clone());
        }
        self.send(hop_request(method, &request.url, &headers)?).await
    }
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
