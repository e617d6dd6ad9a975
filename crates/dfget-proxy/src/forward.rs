//! Requests that are no task: on to the origin and back, streaming both ways, unchanged.

use dfget_origin::headers::{strip_dragonfly, strip_hop_by_hop};
use http::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderValue, TE, TRAILER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;
use url::Url;

use crate::body::{ResponseBody, forwarded};
use crate::handler::Proxy;
use crate::mirror::is_clients_choice;
use crate::{message, respond, upload};

impl Proxy {
    pub(crate) async fn forward(&self, url: &Url, mut request: Request<Incoming>) -> Response<ResponseBody> {
        self.metrics().not_via_dragonfly();
        if let Some(response) = message::end_of_way(&mut request) {
            return response;
        }
        let waits = message::expects_continue(&request);
        let takes_trailers = message::takes_trailers(&request);
        let (mut parts, body) = request.into_parts();
        let Ok(uri) = url.as_str().parse() else {
            return respond::text(StatusCode::BAD_REQUEST, "the request's URL cannot be sent on");
        };
        parts.uri = uri;
        strip_but_trailer(&mut parts.headers);
        if takes_trailers {
            // Anew, for the next connection.
            parts.headers.insert(TE, HeaderValue::from_static("trailers"));
            parts.headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        if !waits {
            parts.headers.remove(EXPECT);
        }
        parts.headers.remove(HOST);
        strip_dragonfly(&mut parts.headers);
        let clients_choice = is_clients_choice(&parts.extensions);
        let server_wide = parts.extensions.remove::<dfget_origin::ServerWide>();
        parts.extensions.clear();
        if let Some(server_wide) = server_wide {
            parts.extensions.insert(server_wide);
        }
        let (request, watched) = upload::watch(Request::from_parts(parts, body), waits);
        let sent = if clients_choice {
            self.origin().send_to_clients_choice(request).await
        } else {
            self.origin().send(request).await
        };
        match sent {
            Ok(response) => watched.answered(pass_on(response)),
            Err(_) if watched.is_broken() => {
                let message = "the body of the request broke off, or is not framed as HTTP frames it";
                let mut response = respond::text(StatusCode::BAD_REQUEST, message);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Err(error) => {
                warn!(origin = url.host_str(), "no answer to a forwarded request: {error}");
                respond::origin_failed(&error)
            }
        }
    }
}

/// The origin's answer as the client's: status, reason, headers and body as they are.
pub(crate) fn pass_on(mut response: Response<Incoming>) -> Response<ResponseBody> {
    strip_but_trailer(response.headers_mut());
    forwarded(response)
}

/// Removes what concerns one connection only. The names of the trailer fields are for the recipient (RFC 9110,
/// section 6.6.2), and the fields themselves go on.
fn strip_but_trailer(headers: &mut HeaderMap) {
    let announced: Vec<_> = headers.get_all(TRAILER).iter().cloned().collect();
    strip_hop_by_hop(headers);
    for value in announced {
        headers.append(TRAILER, value);
    }
}
