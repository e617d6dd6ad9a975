//! Requests that are no task: on to the origin and back, streaming both ways, unchanged.

use dfget_origin::headers::{strip_dragonfly, strip_hop_by_hop};
use http::header::{EXPECT, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tracing::warn;
use url::Url;

use crate::body::{ResponseBody, forwarded};
use crate::handler::Proxy;
use crate::mirror::is_clients_choice;
use crate::respond;

impl Proxy {
    pub(crate) async fn forward(&self, url: &Url, request: Request<Incoming>) -> Response<ResponseBody> {
        self.metrics().not_via_dragonfly();
        let (mut parts, body) = request.into_parts();
        let Ok(uri) = url.as_str().parse() else {
            return respond::text(StatusCode::BAD_REQUEST, "the request's URL cannot be sent on");
        };
        parts.uri = uri;
        strip_hop_by_hop(&mut parts.headers);
        // The body is sent on as it comes, so the client is told to continue when it is read.
        parts.headers.remove(EXPECT);
        parts.headers.remove(HOST);
        strip_dragonfly(&mut parts.headers);
        let clients_choice = is_clients_choice(&parts.extensions);
        parts.extensions.clear();
        let request = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
        let sent = if clients_choice {
            self.origin().send_to_clients_choice(request).await
        } else {
            self.origin().send(request).await
        };
        match sent {
            Ok(response) => pass_on(response),
            Err(error) => {
                warn!(origin = url.host_str(), "no answer to a forwarded request: {error}");
                respond::origin_failed(&error)
            }
        }
    }
}

/// The origin's answer as the client's: status, reason, headers and body as they are.
pub(crate) fn pass_on(mut response: Response<Incoming>) -> Response<ResponseBody> {
    strip_hop_by_hop(response.headers_mut());
    forwarded(response)
}
