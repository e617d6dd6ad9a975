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
            None => lead.join(&request.task, measured.as_ref().map(|(total, _)| *total)).await,
            Some(_) => None,
        };
        let (lead, joined) = match joined {
            Some(joined) if joined.has_parents() => {
                let described = measured.map(|(_, described)| described);
                match Box::pin(self.lead_with_peers(request, lead, joined, described)).await {
                    Ok(response) => return response,
                    Err(lead) => (lead, None),
                }
            }
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

    /// `described` is how the origin has described the content just now, if it was asked. Gives the lead back where the client's own request has to go to the origin.
    async fn lead_with_peers(
        &self,
        request: &Accelerated,
        lead: Lead,
        mut joined: Joined,
        described: Option<HeaderMap>,
    ) -> Result<Response<ResponseBody>, Lead> {
        joined.wait_for_length(LENGTH).await;
        let Some(total) = joined.total() else {
            joined.leave("nobody knows the length");
            return Err(lead);
        };
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
