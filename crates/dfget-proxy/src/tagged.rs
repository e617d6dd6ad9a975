//! Manifests that pass by under a tag are kept, so that an image can be named by it later.

use dfget_core::{Authority, Digest};
use dfget_origin::FetchRequest;
use dfget_task::Tagged;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, COOKIE};
use http::{Response, StatusCode};
use hyper::body::Bytes;

use crate::handler::Proxy;

impl Proxy {
    /// Keeps what a registry has given for a tag, if it is a manifest and has the digest that the
    /// registry says, which was compared.
    pub(crate) fn keep_tagged(
        &self,
        authority: &Authority,
        repository: &str,
        fetch: &FetchRequest,
        digest: Option<Digest>,
        whole: &Response<Bytes>,
    ) {
        let (headers, body) = (whole.headers(), whole.body());
        let Some(digest @ Digest::Sha256(_)) = digest else { return };
        let plain = whole.status() == StatusCode::OK && !headers.contains_key(CONTENT_ENCODING);
        let Some(tag) = fetch.url.path().rsplit('/').next().filter(|_| plain && body.starts_with(b"{"))
        else {
            return;
        };
        let asked = &fetch.headers;
        let private =
            asked.contains_key(AUTHORIZATION) || asked.contains_key(COOKIE) || fetch.url.query().is_some();
        self.inner.tasks.keep_tagged(Tagged {
            authority: authority.clone(),
            name: format!("{repository}:{tag}"),
            digest,
            headers: headers.clone(),
            private,
            body: body.clone(),
        });
    }
}
