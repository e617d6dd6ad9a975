//! The first request for a content that is not here, on a node of a cluster.
//!
//! Whoever is the first in the cluster asks the origin, as without one. Whoever finds that others
//! have the content asks the origin whether this client may have it, and has the bytes from them.

use std::time::Duration;

use dfget_core::ReferenceKind;
use dfget_origin::{Answer, Identity};
use dfget_task::{Joined, Lead};
use http::Response;
use http::header::{ACCEPT_RANGES, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tracing::debug;

use crate::accelerated::Accelerated;
use crate::access::Verdict;
use crate::answer::{failed, insert};
use crate::body::ResponseBody;
use crate::handler::Proxy;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How long the first of the cluster may take to learn how long the content is.
const LENGTH: Duration = Duration::from_secs(2);

/// How many schedulers may go while a client waits for its first byte.
const JOINS: usize = 4;

impl Proxy {
    /// Begins a download: with the cluster's help, or by the client's own request.
    pub(crate) async fn lead(
        &self,
        request: &Accelerated,
        lead: Lead,
        carried: Option<Answer>,
    ) -> Response<ResponseBody> {
        let measured = match &carried {
            None if lead.needs_length(&request.task) => Box::pin(self.measure(request)).await,
            _ => None,
        };
        let joined = match &carried {
            None => join(request, &lead, measured.as_ref().map(|(total, _)| *total)).await,
            Some(_) => None,
        };
        let (lead, joined) = match joined {
            Some(joined) if joined.has_parents() && joined.total().is_some() => {
                let described = measured.map(|(_, described)| described);
                match Box::pin(self.lead_with_peers(request, lead, joined, described)).await {
                    Ok(response) => return response,
                    Err(lead) => (lead, None),
                }
            }
            // Where nobody knows the length the client's own request brings it, and stays in the swarm.
            joined => (lead, joined),
        };
        let accepted = |identity: &Identity| self.accepted(request, identity);
        let begun = Box::pin(lead.begin(&request.task, carried, joined, accepted)).await;
        Box::pin(self.begin(request, begun)).await
    }

    /// How long the origin says that the content is, which this client may have.
    async fn measure(&self, request: &Accelerated) -> Option<(u64, HeaderMap)> {
        let named = |total| {
            let identity = Identity { named: true, etag: None, last_modified: None, total: Some(total) };
            self.permission(request, &request.content(&identity))
        };
        self.inner.access.measure(&request.task, LENGTH, named).await
    }

    /// `described` is how the origin has described the content just now, if it was asked. Gives the lead back
    /// where the client's own request has to go to the origin.
    async fn lead_with_peers(
        &self,
        request: &Accelerated,
        lead: Lead,
        joined: Joined,
        described: Option<HeaderMap>,
    ) -> Result<Response<ResponseBody>, Lead> {
        let Some(total) = joined.total() else { return Err(lead) };
        let identity = Identity { named: true, etag: None, last_modified: None, total: Some(total) };
        let permission = self.permission(request, &request.content(&identity));
        let access = &self.inner.access;
        let (verdict, described) = match described {
            Some(described) => (Verdict::Allowed, Some(described)),
            None => access.check_described(permission, &request.task, Some(total)).await,
        };
        let described = match (verdict, described) {
            (Verdict::Allowed, Some(described)) => described,
            // The length is the word of peers until the origin has said it.
            (Verdict::Allowed, None)
                if request.kind() == Some(ReferenceKind::Blob)
                    && !access.is_contradicted(&request.task, total).await =>
            {
                of_blob(request)
            }
            // The client's own request will be told why.
            (verdict, _) => {
                debug!(task = %request.task.id, "not from peers: {verdict:?}");
                joined.leave("the origin is to be asked by the client's own request");
                return Err(lead);
            }
        };
        // What the origin has said of the credential is noted; what peers send says nothing of it.
        let on_end = Box::new(|_| {});
        let seat = lead.begin_with_peers(&request.task, &described, Some(total), joined, on_end).await?;
        let joined = self.join(request, &seat, described, true).await;
        Ok(joined.unwrap_or_else(|| failed(request, &dfget_task::ContentError::Closing)))
    }
}

/// A place in the swarm of a content; if others fetch it already, and the cluster learns its length within a
/// moment, with that. A scheduler that goes in that moment is followed by the next: all that wait would go to the
/// origin at once.
async fn join(request: &Accelerated, lead: &Lead, total: Option<u64>) -> Option<Joined> {
    for _ in 0..JOINS {
        let mut joined = lead.join(&request.task, total).await?;
        if !joined.has_parents() || joined.wait_for_length(LENGTH).await {
            return Some(joined);
        }
        debug!(task = %request.task.id, "the scheduler is gone before it knew the length, looking for the next");
    }
    None
}

/// The headers of a blob that nobody has described yet (OCI distribution, "pulling blobs").
fn of_blob(request: &Accelerated) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(digest) = request.task.digest {
        insert(&mut headers, DOCKER_CONTENT_DIGEST, &digest.to_string());
    }
    headers
}
