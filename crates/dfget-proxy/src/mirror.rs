//! Requests that take the port for a registry: the mirror of one, or of several.
//!
//! Which registry is meant is found here, and the request goes on with that registry's URL as any
//! other does: the same access check, the same tasks. A client may name a registry by the header
//! `X-Dragonfly-Registry` or, as containerd does, by `ns` in the query; where it may name any, that
//! must not lead to what trusts this machine, so such a request goes to addresses of the network only.

use dfget_core::{
    Authority, ContentReference, Decision, PathError, RegistryUrl, RegistryUrlError, RewriteError, Rule,
    Scheme, check_path, decide,
};
use http::header::{HOST, HeaderMap, HeaderName};
use http::{Extensions, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use url::Url;

use crate::body::ResponseBody;
use crate::entrance::Entrance;
use crate::handler::Proxy;
use crate::respond;

const REGISTRY: HeaderName = HeaderName::from_static("x-dragonfly-registry");

/// By this key of the query containerd tells a mirror which registry it stands for.
const NAMESPACE: &str = "ns";

/// The registries that are served. Without any, and not `dynamic`, none is.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// Where requests go that name no other (`registryMirror.url`).
    pub main: Option<Mirror>,
    /// Clients may name any registry besides; what of those becomes a task (`registryMirror.dynamic`).
    pub dynamic: Option<MirrorTasks>,
    /// Served to clients that name their host (`extraRegistryMirrors`).
    pub extra: Vec<Mirror>,
}

/// One registry that is served.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where it is.
    pub url: RegistryUrl,
    /// What becomes a task.
    pub tasks: MirrorTasks,
}

/// Which requests to a mirror become tasks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MirrorTasks {
    /// Blobs and manifests by digest.
    #[default]
    Digests,
    /// What the rules say, which may send it elsewhere too (`useProxies`).
    Rules,
    /// None (`direct`).
    Nothing,
}

/// What is known of a request to a mirror; it goes with the request.
#[derive(Clone, Debug)]
pub(crate) struct Mirrored {
    tasks: MirrorTasks,
    /// The path that the client asked for, without that of the registry's URL.
    path: String,
    /// The path of the registry's URL.
    prefix: String,
    /// The client chose the host: it must be one of the network.
    pub(crate) clients_choice: bool,
}

/// Where a request to a mirror goes on to.
#[derive(Clone, Debug)]
pub struct Led {
    /// At the registry.
    pub url: Url,
    pub(crate) authority: Authority,
    pub(crate) mirrored: Mirrored,
}

/// Why a request is not served.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum Refusal {
    #[error(
        "this is a proxy (HTTPS_PROXY, HTTP_PROXY); to serve as a mirror of a registry as well it needs \
         `registryMirror: {{url: https://registry.example.com}}` in dfget.yaml, and SIGHUP"
    )]
    Disabled,
    #[error(
        "the request names no registry, and dfget.yaml has no `registryMirror.url` for such requests; send the \
         header `X-Dragonfly-Registry: https://HOST` or, as containerd does, `?ns=HOST`, with the host of a \
         registry that is served"
    )]
    NoneNamed,
    #[error("{by} names no registry: {reason}; send {example}")]
    BadName { by: &'static str, reason: RegistryUrlError, example: &'static str },
    #[error("the request names a registry twice by {by}; send it once")]
    NamedTwice { by: &'static str },
    #[error("the request's path is not sent on: {0}")]
    Path(#[from] PathError),
    #[error("the request has no `Host`, or several, or one that is no host")]
    Host,
}

const BY_HEADER: &str = "the header `X-Dragonfly-Registry`";
const BY_QUERY: &str = "`ns` in the query";

impl Proxy {
    /// Answers a request whose target is a path.
    pub(crate) async fn serve_as_registry(
        &self,
        entrance: &Entrance,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let found = entrance.mirrors.target(request.uri(), request.headers(), request.version());
        let target = match found {
            Ok(target) => target,
            Err(refusal) => return respond::text(refusal.status(), &refusal.to_string()),
        };
        if !entrance.admission.admits_target(&target.authority) {
            return respond::target_refused(&target.authority);
        }
        // Before anything that was kept is looked at: it may have come from there by another way.
        if target.mirrored.clients_choice
            && let Some(refused) = self.origin().refuses_clients_choice(&target.authority).await
        {
            return respond::text(StatusCode::FORBIDDEN, &refused.to_string());
        }
        request.extensions_mut().insert(target.mirrored);
        self.exchange(entrance, target.url, request).await
    }
}

/// Whether the host of a request is the choice of its client.
pub(crate) fn is_clients_choice(extensions: &Extensions) -> bool {
    extensions.get::<Mirrored>().is_some_and(|mirrored| mirrored.clients_choice)
}

// === impl Mirrors ===

impl Mirrors {
    /// Whether any registry is served.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.main.is_some() || self.dynamic.is_some() || !self.extra.is_empty()
    }

    /// Where a request for this path and query, with these headers, leads.
    ///
    /// # Errors
    /// The status that it is answered with, and why.
    pub fn lead(
        &self,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Led, (StatusCode, String)> {
        let found = if self.is_enabled() { self.find(path, query, headers) } else { Err(Refusal::Disabled) };
        found.map_err(|refusal| (refusal.status(), refusal.to_string()))
    }

    fn target(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Led, Refusal> {
        if !self.is_enabled() {
            return Err(Refusal::Disabled);
        }
        check_host(headers, version)?;
        self.find(uri.path(), uri.query(), headers)
    }

    fn find(&self, path: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Led, Refusal> {
        check_path(path)?;
        let (mirror, clients_choice) = self.choose(headers, query)?;
        let query = query.map(without_namespace).filter(|query| !query.is_empty());
        let url = mirror.url.join(path, query.as_deref()).ok_or(PathError::Start)?;
        let mirrored = Mirrored {
            tasks: mirror.tasks,
            path: path.to_owned(),
            prefix: mirror.url.prefix().to_owned(),
            clients_choice,
        };
        Ok(Led { url, authority: mirror.url.authority().clone(), mirrored })
    }

    /// The registry that a request is for, and whether only its client says so.
    fn choose(&self, headers: &HeaderMap, query: Option<&str>) -> Result<(Mirror, bool), Refusal> {
        let named = match named(headers, query) {
            // Without `dynamic` a name chooses among what is configured, and nothing else.
            Err(_) if self.dynamic.is_none() => None,
            named => named?,
        };
        let configured = named.as_ref().and_then(|named| self.configured(named));
        match (configured, named, self.dynamic) {
            (Some(mirror), _, _) => Ok((mirror.clone(), false)),
            (None, Some(named), Some(tasks)) => Ok((Mirror { url: named.url, tasks }, true)),
            (None, _, _) => self.main.clone().map(|main| (main, false)).ok_or(Refusal::NoneNamed),
        }
    }

    fn configured(&self, named: &Named) -> Option<&Mirror> {
        let all = || self.main.iter().chain(&self.extra).filter(|mirror| named.is_at(&mirror.url));
        all().find(|mirror| mirror.url.prefix() == named.url.prefix()).or_else(|| all().next())
    }
}

/// A registry that a client names.
struct Named {
    url: RegistryUrl,
    /// Scheme and port went without saying, so both may be those of what is configured.
    bare: bool,
}

impl Named {
    fn is_at(&self, configured: &RegistryUrl) -> bool {
        let (own, other) = (self.url.authority(), configured.authority());
        configured.is_at(own)
            || (self.bare && own.host == other.host && other.port == other.scheme.default_port())
    }
}

/// The registry that the client names, by the header before the query.
fn named(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Named>, Refusal> {
    let mut values = headers.get_all(REGISTRY).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(Refusal::NamedTwice { by: BY_HEADER });
        }
        let text = value.to_str().unwrap_or("\0").trim();
        let bad =
            |reason| Refusal::BadName { by: BY_HEADER, reason, example: "https://HOST or https://HOST:PORT" };
        return Ok(Some(Named { url: RegistryUrl::parse(text).map_err(bad)?, bare: false }));
    }
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(key, _)| key == NAMESPACE).map(|(_, value)| value);
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::NamedTwice { by: BY_QUERY });
    }
    let bad = |reason| Refusal::BadName { by: BY_QUERY, reason, example: "HOST or HOST:PORT" };
    // A host and a port, nothing more: what is no such thing is told so.
    Authority::parse(Scheme::Https, &text).map_err(|reason| bad(reason.into()))?;
    let bare = !text.trim_start_matches('[').contains("]:") && (text.starts_with('[') || !text.contains(':'));
    Ok(Some(Named { url: RegistryUrl::parse(&text).map_err(bad)?, bare }))
}

/// The query without what was said to the mirror alone; the rest as it is.
fn without_namespace(query: &str) -> String {
    let is_namespace = |pair: &str| {
        url::form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(key, _)| key == NAMESPACE)
    };
    query.split('&').filter(|pair| !is_namespace(pair)).collect::<Vec<_>>().join("&")
}

/// Whether a request says to whom it is (RFC 9112, section 3.2).
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| Authority::parse(Scheme::Http, host).ok());
            host.map(drop).ok_or(Refusal::Host)
        }
        _ => Err(Refusal::Host),
    }
}

// === impl Led ===

impl Led {
    /// What of the registry becomes a task.
    #[must_use]
    pub const fn tasks(&self) -> MirrorTasks {
        self.mirrored.tasks
    }

    /// Whether only the client says that it is this registry.
    #[must_use]
    pub const fn is_clients_choice(&self) -> bool {
        self.mirrored.clients_choice
    }

    /// Whether it is for a content by its digest.
    #[must_use]
    pub fn is_by_digest(&self) -> bool {
        self.mirrored.reference(&self.url).is_some()
    }
}

// === impl Mirrored ===

impl Mirrored {
    /// What becomes of the request, as [`decide`] says for others.
    ///
    /// # Errors
    /// [`RewriteError`] if a rule's rewriting fails.
    pub(crate) fn decide(&mut self, rules: &[Rule], get: bool, url: &Url) -> Result<Decision, RewriteError> {
        let task = match self.tasks {
            MirrorTasks::Rules => {
                let decision = decide(rules, get, url)?;
                // Where a rule leads is the word of the configuration.
                self.clients_choice &= decision.url.host_str() == url.host_str();
                return Ok(decision);
            }
            MirrorTasks::Digests => get && self.reference(url).is_some(),
            MirrorTasks::Nothing => false,
        };
        Ok(Decision { url: url.clone(), task, rule: None })
    }

    /// Whether nothing of the registry becomes a task (`direct`).
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.tasks, MirrorTasks::Nothing)
    }

    /// The content that a URL names by digest, which is this request's or one that a rule made of it.
    pub(crate) fn reference(&self, url: &Url) -> Option<ContentReference> {
        let below = url.path().strip_prefix(&self.prefix).filter(|path| *path == self.path);
        let Some(path) = below.filter(|_| !self.prefix.is_empty()) else {
            return ContentReference::of_path(url.path());
        };
        let reference = ContentReference::of_path(path)?;
        // The same name behind another path is another repository.
        let repository = format!("{}/{}", self.prefix, reference.repository);
        Some(ContentReference { repository, ..reference })
    }
}

// === impl Refusal ===

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Disabled | Self::NoneNamed => StatusCode::NOT_FOUND,
            Self::BadName { .. } | Self::NamedTwice { .. } | Self::Path(_) | Self::Host => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(url: &str) -> Mirror {
        Mirror { url: RegistryUrl::parse(url).expect("a URL"), tasks: MirrorTasks::Digests }
    }

    fn mirrors(dynamic: bool) -> Mirrors {
        Mirrors {
            main: Some(mirror("https://main.test")),
            dynamic: dynamic.then_some(MirrorTasks::Digests),
            extra: vec![
                mirror("http://plain.test"),
                mirror("http://port.test:5000/hub"),
                mirror("docker.io"),
            ],
        }
    }

    /// Where a request with this target and these `X-Dragonfly-Registry` goes; a client's choice is marked.
    fn led(mirrors: &Mirrors, target: &str, registries: &[&str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:65001".parse().expect("a value"));
        for registry in registries {
            headers.append(REGISTRY, registry.parse().expect("a value"));
        }
        let found = mirrors.target(&target.parse().expect("a target"), &headers, Version::HTTP_11)?;
        let mark = if found.mirrored.clients_choice { " by choice" } else { "" };
        Ok(format!("{}{mark}", found.url))
    }

    #[test]
    fn a_name_chooses_among_what_is_configured() {
        for dynamic in [false, true] {
            let mirrors = mirrors(dynamic);
            for (target, registries, meant) in [
                ("/v2/", &[][..], "https://main.test/v2/"),
                ("/v2/x?a=1&ns=main.test&b=2", &[], "https://main.test/v2/x?a=1&b=2"),
                ("/v2/x?ns=plain.test", &[], "http://plain.test/v2/x"),
                ("/v2/x?ns=plain.test%3A80", &[], "http://plain.test/v2/x"),
                ("/v2/x?n%73=port.test:5000", &[], "http://port.test:5000/hub/v2/x"),
                ("/v2/x?ns=docker.io", &[], "https://registry-1.docker.io/v2/x"),
                ("/v2/x", &["https://PORT.test:5000/"], "http://port.test:5000/hub/v2/x"),
                ("/v2/x?ns=plain.test", &["docker.io"], "https://registry-1.docker.io/v2/x"),
            ] {
                assert_eq!(led(&mirrors, target, registries), Ok(meant.to_owned()), "{target}, {dynamic}");
            }
        }
    }

    #[test]
    fn any_other_name_counts_only_if_dynamic() {
        for (target, registries, meant) in [
            ("/v2/x?ns=other.test:5000", &[][..], "https://other.test:5000/v2/x by choice"),
            ("/v2/x?ns=plain.test:81", &[], "https://plain.test:81/v2/x by choice"),
            ("/v2/x?ns=main.test", &["http://other.test/p/"], "http://other.test/p/v2/x by choice"),
        ] {
            assert_eq!(led(&mirrors(true), target, registries), Ok(meant.to_owned()), "{target}");
            assert_eq!(led(&mirrors(false), target, registries), Ok("https://main.test/v2/x".to_owned()));
        }
        let none = Mirrors { main: None, ..mirrors(false) };
        assert_eq!(led(&none, "/v2/x?ns=other.test", &[]), Err(Refusal::NoneNamed));
        assert_eq!(led(&none, "/v2/x?ns=plain.test", &[]), Ok("http://plain.test/v2/x".to_owned()));
        assert_eq!(led(&Mirrors::default(), "/v2/", &["https://main.test"]), Err(Refusal::Disabled));
    }

    #[test]
    fn a_name_that_cannot_be_used_is_refused_where_it_counts() {
        for (target, registries) in [
            ("/v2/", &["https://user:secret@other.test"][..]),
            ("/v2/", &["ftp://other.test"]),
            ("/v2/", &[""]),
            ("/v2/", &["https://a.test", "https://b.test"]),
            ("/v2/?ns=", &[]),
            ("/v2/?ns=https://a.test", &[]),
            ("/v2/?ns=a.test%2Fb", &[]),
            ("/v2/?ns=user@a.test", &[]),
            ("/v2/?ns=2130706433", &[]),
            ("/v2/?ns=a.test&ns=b.test", &[]),
        ] {
            let refused = led(&mirrors(true), target, registries).expect_err(target);
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
            assert!(!refused.to_string().contains("secret"), "{refused}");
            assert!(led(&mirrors(false), target, registries).is_ok(), "{target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_request_leads_elsewhere_than_it_says(
            path in "/[a-z0-9/.%\\\\@:2fF5cC?&=;~-]{0,40}",
            ns in "[a-z0-9.:@/%\\[\\]-]{0,20}",
            registry in "(https?://)?[a-z0-9.:@/%?#\\[\\]-]{0,20}",
            dynamic in proptest::bool::ANY,
            by_header in proptest::bool::ANY,
        ) {
            let mark = if path.contains('?') { '&' } else { '?' };
            let target = format!("{path}{mark}ns={ns}");
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:65001".parse().expect("a value"));
            if let (true, Ok(value)) = (by_header, registry.parse()) {
                headers.insert(REGISTRY, value);
            }
            let mirrors = mirrors(dynamic);
            if let Ok(found) = mirrors.target(&uri, &headers, Version::HTTP_11) {
                let at = Authority::of_url(&found.url).expect("an authority");
                proptest::prop_assert_eq!(&at, &found.authority);
                let configured = mirrors.main.iter().chain(&mirrors.extra).any(|mirror| *mirror.url.authority() == at);
                proptest::prop_assert!(configured || (dynamic && found.mirrored.clients_choice));
                let expected = format!("{}{}", found.mirrored.prefix, uri.path());
                proptest::prop_assert_eq!(found.url.path(), expected);
                proptest::prop_assert!(!found.url.query_pairs().any(|(key, _)| key == NAMESPACE));
                proptest::prop_assert!(found.url.username().is_empty() && found.url.password().is_none());
            }
        }
    }

    #[test]
    fn one_host_is_needed() {
        let check = |hosts: &[&str], version| {
            let hosts = hosts.iter().map(|host| (HOST, host.parse().expect("a value")));
            let mut headers = HeaderMap::new();
            for (name, value) in hosts {
                headers.append(name, value);
            }
            check_host(&headers, version)
        };
        assert_eq!(check(&["a.test:1"], Version::HTTP_11), Ok(()));
        assert_eq!(check(&[], Version::HTTP_10), Ok(()));
        for hosts in [&[][..], &["a", "b"], &["a", "a"], &["a/b"], &["u@a"], &[""]] {
            assert_eq!(check(hosts, Version::HTTP_11), Err(Refusal::Host), "{hosts:?}");
        }
    }

    #[test]
    fn digests_behind_a_path_are_those_of_another_repository() {
        let hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let blob = format!("/v2/a/blobs/sha256:{hex}");
        let mut mirrored = Mirrored {
            tasks: MirrorTasks::Digests,
            path: blob.clone(),
            prefix: "/hub".to_owned(),
            clients_choice: true,
        };
        let url = |path: &str| Url::parse(&format!("https://r.test{path}")).expect("a URL");
        let named = mirrored.reference(&url(&format!("/hub{blob}"))).expect("a content");
        assert_eq!(named.repository, "/hub/a");
        // A rule has made another URL of it.
        assert_eq!(mirrored.reference(&url(&blob)).expect("a content").repository, "a");
        assert!(mirrored.decide(&[], true, &url(&format!("/hub{blob}"))).is_ok_and(|decision| decision.task));
        assert!(mirrored.decide(&[], false, &url(&blob)).is_ok_and(|decision| !decision.task));
    }
}
