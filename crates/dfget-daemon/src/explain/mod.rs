//! What would become of a request, and why: the answer of `dfget explain`. Nothing is sent to any
//! registry.
//!
//! Each step is decided by the code that decides it in the daemon; this module only asks it and
//! finds the words. `reference` makes requests of what a user types, `stored` looks into the store.

mod reference;
mod stored;

pub use stored::Stored;
pub use stored::sockets;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use dfget_config::{Config, Hijack, HijackAuthority, Loaded, Location, PemSource};
use dfget_core::{Authority, ClientVariables, Passage, Scheme, decide};
use dfget_proxy::{Identified, Led, MirrorTasks, Realms, asks_for_a_task, identify, refused_headers};
use dfget_telemetry::redact_url;
use dfget_tls::{AuthorityCertificate, Scope};
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, Method};

use crate::certificates::place as pem_place;
use crate::settings;

use reference::{ANY, Asked};

/// What becomes of a HEAD.
const HEAD: &str = "answered from the store if the content is there, else forwarded";

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// A URL or an image.
    pub reference: String,
    /// How it is asked for.
    pub method: Method,
    /// What the client sends besides.
    pub headers: HeaderMap,
    /// The client's environment.
    pub variables: BTreeMap<String, String>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What the clients would ask for.
    pub requests: Vec<Explained>,
    /// Whether the bytes would come through the cache.
    pub accelerated: bool,
}

/// What would become of one request, or of each of a kind.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The method.
    pub method: Method,
    /// The URL, without what is secret in it.
    pub url: String,
    /// What it is about.
    pub about: String,
    /// Whether the bytes of the image come by it.
    pub is_content: bool,
    /// Whether it would become a task of this proxy.
    pub accelerated: bool,
    /// The way of the request, in its order.
    pub steps: Vec<Step>,
    /// The names of the content, if it is one.
    pub content: Option<Identified>,
    /// What is stored of it, if that was asked.
    pub stored: Option<Stored>,
}

/// One decision on the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What is decided.
    pub name: &'static str,
    /// How.
    pub outcome: Outcome,
    /// Why, in words.
    pub text: String,
    /// Where the configuration says so.
    pub place: Option<Location>,
}

/// How a step was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The request goes on towards a task.
    Yes,
    /// It does not.
    No,
    /// Neither: it is good to know.
    Note,
}

// === impl Outcome ===

impl Outcome {
    /// `yes`, `no` or `note`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Note => "note",
        }
    }
}

/// Answers a question about a configuration.
///
/// # Errors
/// Why the reference is none, and what one looks like.
pub fn explain(question: &Question, loaded: &Loaded) -> Result<Explanation, String> {
    let variables = ClientVariables::of(&question.variables);
    let asked = reference::requests(&question.reference)?;
    let requests: Vec<_> =
        asked.iter().map(|asked| Explainer::new(question, loaded, asked).explain(&variables)).collect();
    let accelerated = requests.iter().all(|request| request.accelerated || !request.is_content);
    Ok(Explanation { requests, accelerated })
}

/// One request on its way.
struct Explainer<'a> {
    question: &'a Question,
    loaded: &'a Loaded,
    asked: &'a Asked,
    steps: Vec<Step>,
}

// === impl Explainer ===

impl<'a> Explainer<'a> {
    const fn new(question: &'a Question, loaded: &'a Loaded, asked: &'a Asked) -> Self {
        Self { question, loaded, asked, steps: Vec::new() }
    }

    const fn config(&self) -> &'a Config {
        &self.loaded.config
    }

    fn explain(mut self, variables: &ClientVariables) -> Explained {
        let mut content = None;
        let mut stored = None;
        if let Some(target) = Authority::of_url(&self.asked.url) {
            content = if is_own_port(&self.config().proxy.listen, &target) {
                self.mirror()
            } else {
                self.client(variables, &target);
                self.white_list(&target);
                self.login();
                match target.scheme {
                    Scheme::Https => self.connection(&target),
                    Scheme::Http => {
                        self.say("connection", Outcome::Yes, "plain HTTP, read as it comes", None);
                    }
                }
                self.rule(&self.asked.url, None)
            };
            if let Some(content) = &content {
                stored = self.content(content);
            }
            if self.asked.by_tag {
                let fresh = self.config().manifests.freshness;
                let text = format!(
                    "a tag may move: what it means is asked again after {fresh:?} (manifests.freshness), once for all \
                     clients with the same login; blobs are asked for by their digests"
                );
                self.say("tag", Outcome::Note, text, None);
            }
        }
        let accelerated = self.steps.iter().all(|step| step.outcome != Outcome::No) && content.is_some();
        let Self { question, asked, steps, .. } = self;
        let url = shown(asked, asked.url.as_str());
        Explained {
            method: question.method.clone(),
            url,
            about: asked.about.clone(),
            is_content: asked.is_content,
            accelerated,
            steps,
            content: content.filter(|_| !asked.any_digest),
            stored,
        }
    }

    fn say(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        text: impl Into<String>,
        place: Option<&Location>,
    ) {
        self.steps.push(Step { name, outcome, text: text.into(), place: place.cloned() });
    }

    fn client(&mut self, variables: &ClientVariables, target: &Authority) {
        let listen = self.config().proxy.listen;
        let (outcome, text) = match variables.passage(target) {
            Passage::Loopback => (
                Outcome::No,
                "not proxied: clients written in Go (Apptainer, oras, crane) never use a proxy for \
                 localhost and 127.0.0.0/8, whatever NO_PROXY says"
                    .to_owned(),
            ),
            Passage::Excluded { variable, entry, both } => {
                let remedy = match (variable, both) {
                    ("no_proxy", _) => "`no_proxy=''` before the command lifts that",
                    (_, false) => {
                        "`NO_PROXY=''` before the command lifts that, `no_proxy=''` does not: the upper \
                         case counts first"
                    }
                    (_, true) => {
                        "`NO_PROXY='' no_proxy=''` before the command lifts that, one alone does not"
                    }
                };
                (Outcome::No, format!("not proxied: the entry `{entry}` of {variable} names it; {remedy}"))
            }
            Passage::Unset(variable) => (
                Outcome::Note,
                format!("{variable} is not set here; clients need {variable}={}", address(&listen)),
            ),
            Passage::Proxied { variable, proxy } => {
                let port = proxy.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                let range = listen.ports.start..=listen.ports.end;
                if listen.ports.start == 0 || port.is_some_and(|port| range.contains(&port)) {
                    (
                        Outcome::Yes,
                        format!("proxied: {variable} is {proxy}, and no entry of NO_PROXY names the host"),
                    )
                } else {
                    (
                        Outcome::No,
                        format!("not by this proxy: {variable} is {proxy}, and this one listens on {listen}"),
                    )
                }
            }
        };
        self.say("client", outcome, text, None);
    }

    fn white_list(&mut self, target: &Authority) {
        let admission = settings::admission(&self.config().proxy);
        let entry = admission.deciding(target);
        let place = entry.and_then(|index| self.loaded.settings.place_of("proxy.whiteList", index));
        let (outcome, text) = match (admission.admits_target(target), entry) {
            (true, None) => (Outcome::Yes, "every target may be reached: there is no whiteList".to_owned()),
            (true, Some(index)) => (Outcome::Yes, format!("allowed by whiteList[{index}]")),
            (false, Some(index)) => {
                (Outcome::No, format!("refused with 403: not a port of whiteList[{index}]"))
            }
            (false, None) => (Outcome::No, "refused with 403: no entry of whiteList names it".to_owned()),
        };
        self.say("white list", outcome, text, place);
    }

    fn login(&mut self) {
        if self.config().proxy.basic_auth.is_some() {
            let place = self.loaded.settings.place("proxy.basicAuth.username");
            let text = "clients must send Proxy-Authorization: Basic (basicAuth), else they get 407";
            self.say("login", Outcome::Note, text, place);
        }
    }

    fn connection(&mut self, target: &Authority) {
        let Some(hijack) = &self.config().proxy.hijack else {
            let mut text = "tunnelled unseen: there is no hijackHTTPS".to_owned();
            if settings::mirrors(&self.config().proxy.mirrors).is_enabled() {
                let port = address(&self.config().proxy.listen);
                text.push_str(&format!(
                    "; clients that take the port for a mirror of it are another matter: `dfget explain \
                     http://{port}/v2/…`"
                ));
            }
            self.say("connection", Outcome::No, text, None);
            return;
        };
        let name = target.host_port();
        let Some(index) = hijack.hosts.iter().position(|host| host.regx.is_match(&name)) else {
            let text = format!("tunnelled unseen: no hijackHTTPS.hosts[].regx is found in `{name}`");
            let place = self.loaded.settings.place("proxy.hijackHTTPS.hosts");
            self.say("connection", Outcome::No, text, place);
            return;
        };
        let host = &hijack.hosts[index];
        let place = self.loaded.settings.place_of("proxy.hijackHTTPS.hosts", index);
        let trust = match (host.insecure, host.certs.len()) {
            (true, _) => "; the origin's certificate is not verified (insecure)",
            (false, 0) => "",
            (false, _) => "; the origin's certificate is verified by `certs`, too",
        };
        self.say(
            "connection",
            Outcome::Yes,
            format!("opened: hosts[{index}], `{}`{trust}", host.regx),
            place,
        );
        self.authority(hijack, target);
    }

    /// Whether clients would take what is signed for the host.
    fn authority(&mut self, hijack: &Hijack, target: &Authority) {
        let (scope, who) = match &hijack.authority {
            HijackAuthority::Own(own) if !own.exists => (
                Scope::of_hosts(&own.hosts).map_err(|error| (true, error.to_string())),
                "the one to be made".to_owned(),
            ),
            HijackAuthority::Own(own) => {
                (scope_of(&PemSource::File(own.cert.clone())), own.cert.display().to_string())
            }
            HijackAuthority::Named { cert, .. } => (scope_of(cert), pem_place(cert)),
        };
        let (outcome, text) = match scope {
            Ok(scope) if scope.is_any_host() || scope.contains(&target.host) => {
                (Outcome::Yes, format!("{who}, which is for {scope}"))
            }
            Ok(scope) => {
                let remedy = match &hijack.authority {
                    HijackAuthority::Own(_) => {
                        let addresses = scope.addresses().filter(|address| !address.contains('/'));
                        let mut hosts: Vec<_> = scope.names().map(str::to_owned).chain(addresses).collect();
                        hosts.push(target.host.clone());
                        format!("`dfget ca rotate --host {}` makes another", hosts.join(" --host "))
                    }
                    HijackAuthority::Named { .. } => "`cert` and `key` can name another".to_owned(),
                };
                (Outcome::No, format!("tunnelled unseen: {who} is for {scope} only; {remedy}"))
            }
            Err((true, error)) => (Outcome::No, format!("the daemon does not start: {error}")),
            Err((false, error)) => {
                (Outcome::Note, format!("whether it may sign for this host is not known: {error}"))
            }
        };
        self.say("authority", outcome, text, None);
    }

    /// The names of the content, if a request that takes the port for a registry becomes a task.
    fn mirror(&mut self) -> Option<Identified> {
        let mirrors = settings::mirrors(&self.config().proxy.mirrors);
        self.say("client", Outcome::Yes, "takes this proxy's own port for a registry", None);
        let url = &self.asked.url;
        let led = match mirrors.lead(url.path(), url.query(), &self.question.headers) {
            Ok(led) => led,
            Err((status, reason)) => {
                self.say("mirror", Outcome::No, format!("answered with {}: {reason}", status.as_u16()), None);
                return None;
            }
        };
        let settings = &self.loaded.settings;
        let (by, place) = if led.is_clients_choice() {
            let text = ", as the client says: only where that is an address of the network (dynamic)";
            (text, settings.place("proxy.registryMirror.dynamic"))
        } else {
            ("", settings.place("proxy.registryMirror.url"))
        };
        self.say("mirror", Outcome::Yes, format!("leads to {}{by}", redact_url(led.url.as_str())), place);
        self.white_list(&Authority::of_url(&led.url)?);
        self.login();
        match led.tasks() {
            MirrorTasks::Rules => return self.rule(&led.url, Some(&led)),
            MirrorTasks::Nothing => {
                self.say("task", Outcome::No, "forwarded: the mirror says `direct`", None);
            }
            MirrorTasks::Digests if !led.is_by_digest() => {
                let text = "forwarded: only blobs and manifests by digest are tasks of a mirror";
                self.say("task", Outcome::No, text, None);
            }
            MirrorTasks::Digests => return self.by_digest(&led),
        }
        None
    }

    fn by_digest(&mut self, led: &Led) -> Option<Identified> {
        if let Some(reason) = refused_headers(&self.question.headers) {
            self.say("headers", Outcome::No, format!("answered with 400: {reason}"), None);
            return None;
        }
        let method = &self.question.method;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = format!("forwarded: only a GET becomes a task, not a {method}");
            self.say("task", Outcome::No, text, None);
            return None;
        }
        if *method == Method::HEAD {
            self.say("head", Outcome::Note, HEAD, None);
        }
        self.identified(&led.url, Some(led))
    }

    /// The names of the content, if a rule makes the request a task.
    fn rule(&mut self, url: &url::Url, led: Option<&Led>) -> Option<Identified> {
        let (rules, asked) = (&self.config().proxy.rules, self.asked);
        if let Some(reason) = refused_headers(&self.question.headers) {
            self.say("headers", Outcome::No, format!("answered with 400: {reason}"), None);
            return None;
        }
        let head = self.question.method == Method::HEAD;
        let decision = match decide(rules, head || self.question.method == Method::GET, url) {
            Ok(decision) => decision,
            Err(error) => {
                self.say("rule", Outcome::No, format!("answered with 502: {error}"), None);
                return None;
            }
        };
        let wanted = self.question.method == Method::GET && asks_for_a_task(&self.question.headers);
        if decision.rule.is_none() && wanted {
            self.say("rule", Outcome::Yes, "no rule matches, but a header makes it a task", None);
            return self.identified(&decision.url, led);
        }
        let Some(index) = decision.rule else {
            let text = match rules.len() {
                0 => "there are no rules (`proxies`): forwarded, nothing is stored".to_owned(),
                1 => "the rule of `proxies` does not match: forwarded, nothing is stored".to_owned(),
                number => {
                    format!("none of {number} rules of `proxies` matches: forwarded, nothing is stored")
                }
            };
            let place = self.loaded.settings.place("proxy.proxies");
            self.say("rule", Outcome::No, text, place);
            return None;
        };
        let rule = &rules[index];
        let place = self.loaded.settings.place_of("proxy.proxies", index);
        let mut text = format!("proxies[{index}], `{}`", rule.regx);
        if decision.url != *url {
            text.push_str(&format!(", makes it {}", shown(asked, decision.url.as_str())));
        }
        self.say("rule", Outcome::Yes, text, place);
        if !decision.task {
            let why = if rule.direct {
                "forwarded: the rule says `direct`".to_owned()
            } else {
                format!("forwarded: only a GET becomes a task, not a {}", self.question.method)
            };
            self.say("task", Outcome::No, why, None);
            return None;
        }
        if head {
            self.say("head", Outcome::Note, HEAD, None);
        }
        let content = self.identified(&decision.url, led)?;
        let conditions = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
        let condition = conditions.iter().find(|name| self.question.headers.contains_key(*name));
        if let (Some(condition), None) = (condition, content.digest) {
            let text = format!("forwarded: what `{condition}` means is for the origin to say");
            self.say("task", Outcome::No, text, None);
            return None;
        }
        Some(content)
    }

    fn identified(&self, url: &url::Url, led: Option<&Led>) -> Option<Identified> {
        let options = settings::proxy(self.config(), &self.config().proxy, [0; 32], Realms::default());
        identify(&options, url, &self.question.headers, led)
    }

    /// What a task of the content is, and who may have it.
    fn content(&mut self, content: &Identified) -> Option<Stored> {
        if self.asked.any_digest {
            self.say("task", Outcome::Yes, "one for each digest, whose hex is its id", None);
        } else {
            self.say("task", Outcome::Yes, content.id.to_string(), None);
            if let Some(digest) = content.digest {
                self.say("digest", Outcome::Note, format!("{digest}, verified"), None);
            }
            self.say("canonical", Outcome::Note, redact_url(&content.canonical), None);
        }
        let stored = (!self.asked.any_digest)
            .then(|| stored::look(&content.key, &content.authority, &self.config().paths.data_dir));
        let cached = match &stored {
            None => "ask with the digest: `dfget explain https://…/blobs/sha256:…`".to_owned(),
            Some(Stored::Whole { bytes, last_used }) => {
                format!("whole, {bytes} bytes, last used {}", time(*last_used))
            }
            Some(Stored::Part { total, last_used }) => {
                let total =
                    total.map_or_else(|| "an unknown number of".to_owned(), |total| total.to_string());
                format!("a part of {total} bytes, last used {}", time(*last_used))
            }
            Some(Stored::Nothing) => "no: it is fetched by the first who asks".to_owned(),
            Some(Stored::Unknown(reason)) => format!("unknown: {reason}"),
        };
        self.say("cached", Outcome::Note, cached, None);
        self.say("readers", Outcome::Note, self.readers(content), self.loaded.settings.place("access.ttl"));
        stored
    }

    fn readers(&self, content: &Identified) -> String {
        let access = &self.config().access;
        let grace = match access.offline_grace {
            Some(grace) => format!(
                "; while {} does not answer, its last yes counts for {}",
                content.authority.host,
                words(grace)
            ),
            None => "; while it does not answer, nobody (access.offlineGrace is 0)".to_owned(),
        };
        let what = match &content.repository {
            Some(repository) => format!("content of {repository}"),
            None => "version of it".to_owned(),
        };
        let ttl = if access.ttl.is_zero() {
            "it is asked for each request (access.ttl is 0)".to_owned()
        } else {
            format!("a yes counts for {}", words(access.ttl))
        };
        format!(
            "whoever {} allows it to, by the client's own Authorization and other personal headers and the \
             query, asked for each {what}: {ttl}{grace}",
            content.authority.host
        )
    }
}

/// Whether a URL is at the port that the daemon listens on.
fn is_own_port(listen: &dfget_config::Listen, target: &Authority) -> bool {
    let ip =
        if target.host == "localhost" { Some(std::net::Ipv4Addr::LOCALHOST.into()) } else { target.ip() };
    let here = |ip: std::net::IpAddr| ip == listen.ip || (listen.ip.is_unspecified() && ip.is_loopback());
    (listen.ports.start..=listen.ports.end).contains(&target.port) && ip.is_some_and(here)
}

/// For which hosts an authority is; an error says whether its certificate is not there or of no use.
fn scope_of(cert: &PemSource) -> Result<Scope, (bool, String)> {
    let certificate = match cert {
        PemSource::File(path) => AuthorityCertificate::read(path).map_err(|error| {
            let hidden = std::fs::metadata(path).is_ok() && std::fs::File::open(path).is_err();
            (!hidden, error.to_string())
        })?,
        PemSource::Inline(text) => AuthorityCertificate::from_pem(text.expose().as_bytes())
            .map_err(|error| (true, error.to_string()))?,
    };
    Ok(certificate.scope().clone())
}

/// A URL without secrets, and without a digest that was made up.
fn shown(asked: &Asked, url: &str) -> String {
    let url = redact_url(url);
    if asked.any_digest { url.replace(ANY, "sha256:…") } else { url }
}

/// What clients write into `HTTPS_PROXY`.
fn address(listen: &dfget_config::Listen) -> String {
    let ip = if listen.ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { listen.ip };
    match listen.ports.start {
        0 => format!("{ip}:PORT"),
        port => std::net::SocketAddr::new(ip, port).to_string(),
    }
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(
        |_| "at an unknown time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// A duration as a file would have it.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let of = |millis| words(Duration::from_millis(millis));
        assert_eq!([of(500), of(90_000), of(60_000), of(86_400_000)], ["500 ms", "90 s", "1 min", "24 h"]);
    }
}
