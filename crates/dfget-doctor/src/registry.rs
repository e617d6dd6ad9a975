//! Whether registries are found, reached, and shown to be who they are; and whether their clock and ours agree.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use dfget_config::{HijackHost, Loaded, PemSource};
use dfget_core::{Authority, ClientVariables, Passage, Scheme};
use dfget_tls::{OriginTrust, Roots, certificates_from_pem, describe_io, read_certificates, system_bundle};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::authority::Ours;
use crate::finding::{Area, Finding, Verdict};
use crate::port::leads_to;

/// So many are tried; a site has a few.
const MOST: usize = 16;
/// For all that is done with one of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Certificates and signatures bear this much.
const CLOCK_NOTE: Duration = Duration::from_secs(60);
const CLOCK_BAD: Duration = Duration::from_secs(300);
/// The head of an answer is shorter.
const HEAD_BYTES: usize = 16 << 10;

/// How far one came.
#[derive(Debug)]
enum Reached {
    /// All the way; what it said the time is.
    Yes { date: Option<SystemTime> },
    /// Its name is not found.
    NoName(String),
    /// Nobody answers there.
    NoConnection(String),
    /// It does not speak TLS, or its certificate is not good.
    NoTls(String),
}

/// The registries of the configuration that can be named, and those that were asked about.
pub(crate) fn meant(loaded: Option<&Loaded>, asked: Vec<Authority>) -> Vec<Authority> {
    let mut all = asked;
    if let Some(loaded) = loaded {
        let proxy = &loaded.config.proxy;
        let hosts = proxy.hijack.iter().flat_map(|hijack| &hijack.hosts);
        let literal = hosts.filter_map(HijackHost::literal);
        all.extend(literal.filter_map(|host| Authority::parse(Scheme::Https, &host).ok()));
        all.extend(proxy.mirrors.configured().map(|mirror| mirror.url.authority().clone()));
    }
    let mut seen = Vec::new();
    for registry in all {
        if !seen.contains(&registry) && seen.len() < MOST {
            seen.push(registry);
        }
    }
    seen
}

/// Whom the daemon would believe. A variable that has clients trust our own authority is not meant for it.
pub(crate) fn roots(
    variables: &BTreeMap<String, String>,
    ours: Option<&Ours>,
    findings: &mut Vec<Finding>,
) -> Roots {
    let named = variables.get("SSL_CERT_FILE").filter(|file| !file.is_empty());
    let is_for_clients = named.zip(ours).is_some_and(|(file, ours)| {
        read_certificates(Path::new(file)).is_ok_and(|all| all.contains(ours.certificate.der()))
    });
    if is_for_clients
        && let Ok((_, text)) = system_bundle()
        && let Ok(system) = certificates_from_pem(&text)
    {
        return Roots::new(system).0;
    }
    let (roots, warnings) = Roots::load(None);
    let warning = |text| {
        Finding::new(Area::Trust, Verdict::Warning, text, "registries are verified with these authorities")
    };
    findings.extend(warnings.into_iter().map(warning));
    roots
}

/// By what registries are looked at.
pub(crate) struct Asked<'a> {
    pub(crate) loaded: Option<&'a Loaded>,
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) roots: Roots,
}

// === impl Asked ===

impl Asked<'_> {
    /// Looks at all of them at once.
    pub(crate) fn findings(&self, registries: &[Authority], now: SystemTime) -> Vec<Finding> {
        let Self { loaded, variables, roots } = self;
        let (began, mut findings) = (Instant::now(), Vec::new());
        thread::scope(|scope| {
            let looking: Vec<_> = registries
                .iter()
                .map(|registry| match site_proxy(*loaded, variables, registry) {
                    Some(text) => Err(text),
                    None => Ok(scope.spawn(|| look(registry, roots, &trust(*loaded, registry)))),
                })
                .collect();
            for (registry, looked) in registries.iter().zip(looking) {
                let name = registry.host_header();
                let reached = match looked.map(thread::ScopedJoinHandle::join) {
                    Err(text) => {
                        let text = format!("{name} is not tried: {text}");
                        let (area, verdict) = (Area::Registry, Verdict::Note);
                        findings.push(Finding { area, verdict, text, remedy: None });
                        continue;
                    }
                    Ok(Ok(reached)) => reached,
                    Ok(Err(_)) => Reached::NoConnection("the look failed".to_owned()),
                };
                if let Reached::Yes { date: Some(date) } = &reached {
                    findings.extend(clock(&name, *date, now + began.elapsed()));
                }
                findings.push(judge(&name, reached));
            }
        });
        findings
    }
}

fn judge(name: &str, reached: Reached) -> Finding {
    let bad = |text: String, remedy: &str| Finding::new(Area::Registry, Verdict::Bad, text, remedy);
    match reached {
        Reached::Yes { .. } => Finding::good(Area::Registry, format!("{name} answers")),
        Reached::NoName(reason) => bad(
            format!("the name of {name} is not found: {reason}"),
            "look at its spelling, /etc/resolv.conf and /etc/hosts, or give its address in download.resolve",
        ),
        Reached::NoConnection(reason) => bad(
            format!("{name} cannot be reached: {reason}"),
            "a firewall, or a proxy that this site needs: HTTPS_PROXY of the daemon, or \
             download.resourceClients.https.proxy",
        ),
        Reached::NoTls(reason) => bad(
            format!("{name}: {reason}"),
            "if it is your own authority's certificate, name that in hijackHTTPS.hosts[].certs",
        ),
    }
}

/// What is wrong with our clock, if something is: then certificates seem expired, or not good yet.
fn clock(name: &str, theirs: SystemTime, ours: SystemTime) -> Option<Finding> {
    let (apart, ahead) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    };
    if apart < CLOCK_NOTE {
        return None;
    }
    let verdict = if apart < CLOCK_BAD { Verdict::Warning } else { Verdict::Bad };
    let text =
        format!("this node is {} s {} {name}", apart.as_secs(), if ahead { "ahead of" } else { "behind" });
    Some(Finding::new(Area::Clock, verdict, text, "set the clock: `timedatectl`, chrony or ntpd"))
}

/// Why the registry is not to be asked from here without the daemon.
fn site_proxy(
    loaded: Option<&Loaded>,
    variables: &BTreeMap<String, String>,
    registry: &Authority,
) -> Option<String> {
    if let Some(loaded) = loaded {
        let clients = &loaded.config.download.resource_clients;
        let (key, proxy) = match registry.scheme {
            Scheme::Https => ("https", &clients.https.proxy),
            Scheme::Http => ("http", &clients.http.proxy),
        };
        if proxy.is_some() {
            return Some(format!("it is reached through download.resourceClients.{key}.proxy"));
        }
    }
    let Passage::Proxied { variable, proxy } = ClientVariables::of(variables).passage(registry) else {
        return None;
    };
    let ours = loaded.is_some_and(|loaded| leads_to(&proxy, &loaded.config.proxy.listen));
    (!ours).then(|| format!("the way there leads through {proxy} ({variable})"))
}

/// What of the registry's certificate the configuration has the daemon verify.
fn trust(loaded: Option<&Loaded>, registry: &Authority) -> OriginTrust {
    let mut trust = OriginTrust::default();
    let Some(loaded) = loaded else { return trust };
    let (place, proxy) = (registry.host_port(), &loaded.config.proxy);
    let mut hosts = proxy.hijack.iter().flat_map(|hijack| &hijack.hosts);
    let mirror = proxy.mirrors.configured().find(|mirror| mirror.url.authority() == registry);
    let (insecure, certs) = match (hosts.find(|host| host.regx.is_match(&place)), mirror) {
        (Some(host), _) => (host.insecure, &host.certs),
        (None, Some(mirror)) => (mirror.insecure, &mirror.certs),
        (None, None) => return trust,
    };
    trust.insecure = insecure || loaded.config.download.resource_clients.https.insecure_skip_verify;
    trust.extra_roots = certs.iter().flat_map(certificates).collect();
    trust
}

/// What cannot be read was told when the configuration was read.
fn certificates(source: &PemSource) -> Vec<CertificateDer<'static>> {
    match source {
        PemSource::File(file) => read_certificates(file).unwrap_or_default(),
        PemSource::Inline(text) => certificates_from_pem(text.expose().as_bytes()).unwrap_or_default(),
    }
}

fn look(registry: &Authority, roots: &Roots, trust: &OriginTrust) -> Reached {
    let addresses = match resolve(registry) {
        Ok(addresses) => addresses,
        Err(reason) => return Reached::NoName(reason),
    };
    let stream = match connect(&addresses) {
        Ok(stream) => stream,
        Err(error) => return Reached::NoConnection(describe_io(&error)),
    };
    if registry.scheme == Scheme::Http {
        return Reached::Yes { date: ask(stream, registry).ok().flatten() };
    }
    let config = match roots.client_config(trust) {
        Ok(config) => config,
        Err(error) => return Reached::NoTls(error.to_string()),
    };
    match ask_tls(stream, config, registry) {
        Ok(date) => Reached::Yes { date },
        Err(error) => Reached::NoTls(describe_io(&error)),
    }
}

/// The system's resolver knows no time-out, so it is left alone with its work when ours is over.
fn resolve(registry: &Authority) -> Result<Vec<SocketAddr>, String> {
    let (told, hears) = mpsc::channel();
    let (host, port) = (registry.host.trim_matches(['[', ']']).to_owned(), registry.port);
    thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let _ = told.send(found);
    });
    match hears.recv_timeout(PATIENCE) {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_)) => Err("it has no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(4) {
        match TcpStream::connect_timeout(address, PATIENCE / 2) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn ask_tls(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    registry: &Authority,
) -> io::Result<Option<SystemTime>> {
    let name =
        ServerName::try_from(registry.host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    // It is who it says it is; what it answers is of less interest.
    Ok(ask(StreamOwned::new(connection, stream), registry).ok().flatten())
}

/// The time by the answer to `HEAD /v2/` (RFC 9110, section 6.6.1).
fn ask(mut stream: impl io::Read + io::Write, registry: &Authority) -> io::Result<Option<SystemTime>> {
    let request = format!(
        "HEAD /v2/ HTTP/1.1\r\nHost: {}\r\nUser-Agent: dfget/{}\r\nConnection: close\r\n\r\n",
        registry.host_header(),
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut head = vec![0; HEAD_BYTES];
    let mut have = 0;
    while have < head.len() {
        let more = stream.read(&mut head[have..])?;
        have += more;
        if more == 0 || head[..have].windows(4).any(|four| four == b"\r\n\r\n") {
            break;
        }
    }
    Ok(date(&String::from_utf8_lossy(&head[..have])))
}

fn date(head: &str) -> Option<SystemTime> {
    let value = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    })?;
    httpdate::parse_http_date(value).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_time_is_read_from_an_answer() {
        let head = "HTTP/1.1 401 Unauthorized\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(date(head), Some(at));
        assert_eq!(date("HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n"), None);
        assert_eq!(date(""), None);
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(clock("r", at, at + Duration::from_secs(59)).is_none());
        let ahead = clock("r", at, at + Duration::from_secs(100)).unwrap();
        assert_eq!((ahead.verdict, ahead.text.as_str()), (Verdict::Warning, "this node is 100 s ahead of r"));
        let behind = clock("r", at, at - Duration::from_secs(3600)).unwrap();
        assert_eq!((behind.verdict, behind.text.as_str()), (Verdict::Bad, "this node is 3600 s behind r"));
    }

    #[test]
    fn what_was_asked_about_comes_first_and_each_once() {
        let parse = |text: &str| Authority::parse(Scheme::Https, text).unwrap();
        let many: Vec<_> = (0..40).map(|number| parse(&format!("r{}.example", number / 2))).collect();
        let meant = meant(None, many);
        assert_eq!(meant.len(), MOST);
        assert_eq!(meant[1], parse("r1.example"));
    }

    #[test]
    fn nobody_there_is_no_connection_and_no_tls_is_no_tls() {
        let (roots, _) = Roots::new(Vec::new());
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Authority::parse(Scheme::Https, &format!("127.0.0.1:{port}")).unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let reached = look(&registry, &roots, &OriginTrust::default());
        assert!(matches!(reached, Reached::NoTls(_)), "{reached:?}");
        answering.join().unwrap();
        let reached = look(&registry, &roots, &OriginTrust::default());
        assert!(matches!(reached, Reached::NoConnection(_)), "{reached:?}");
        let nowhere = Authority::parse(Scheme::Https, "there-is-no.invalid").unwrap();
        let reached = look(&nowhere, &roots, &OriginTrust::default());
        assert!(matches!(reached, Reached::NoName(_)), "{reached:?}");
    }
}
