//! The authority that signs for hijacked hosts, and the trust that origins are given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use dfget_config::{self as config, Hijack, HijackHost, OwnAuthority, PemSource, ProxyTls, RegistryMirrors};
use dfget_core::Authority;
use dfget_origin::Trust;
use dfget_proxy::Realms;
use dfget_tls::{
    CertificateAuthority, NewAuthority, Opened, OriginTrust, PairFiles, PairOrigin, Roots, Scope,
    ServerConfig, TrustError, Unusable, certificates_from_pem, listener_config, read_certificates,
};
use regex::Regex;
use rustls_pki_types::CertificateDer;
use tracing::{info, warn};

use crate::error::{RootsError, RunError};

/// The trust of every origin.
pub(crate) struct TrustBook {
    /// Registries that are mirrored, where something is said of their certificates.
    mirrors: Vec<(Authority, Trust)>,
    special: Vec<(Regex, Trust)>,
    default: Trust,
}

/// The authority of the hijack, and the file or text that clients must trust.
pub(crate) struct HijackAuthority {
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) cert: PemSource,
}

/// The authority that signs for `hijackHTTPS.hosts`: the one of `cert` and `key`, else our own,
/// which is made when it is not there. `None` when there are no hosts to sign for and no authority
/// is named. Says what is weak about it, and which hosts lie outside of its scope.
pub(crate) fn authority(
    hijack: &Hijack,
    announce: &dyn Fn(&str),
) -> Result<Option<HijackAuthority>, RunError> {
    let now = SystemTime::now();
    let say = |warning: String| {
        warn!("{warning}");
        announce(&format!("warning: {warning}"));
    };
    let (authority, cert) = match &hijack.authority {
        config::HijackAuthority::Named { cert, key } => (named(cert, key, now)?, cert.clone()),
        config::HijackAuthority::Own(_) if hijack.hosts.is_empty() => return Ok(None),
        config::HijackAuthority::Own(own) => {
            (own_authority(own, now, announce)?, PemSource::File(own.cert.clone()))
        }
    };
    info!(
        "hijacking with the certificate authority \"{}\" from {} for {}, SHA-256 fingerprint {}",
        authority.subject(),
        place(&cert),
        authority.scope(),
        authority.fingerprint()
    );
    for weakness in authority.weaknesses(now) {
        warn!("{}: {weakness}", place(&cert));
    }
    if let Some(warning) = outside(&authority, &place(&cert), hijack) {
        say(warning);
    }
    Ok(Some(HijackAuthority { authority: Arc::new(authority), cert }))
}

/// Loads `cert` and `key`.
fn named(cert: &PemSource, key: &PemSource, now: SystemTime) -> Result<CertificateAuthority, RunError> {
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    CertificateAuthority::load(&cert_pem, &key_pem, now).map_err(|source| RunError::Ca {
        cert: place(cert),
        key: place(key),
        source,
    })
}

/// Finds our own authority, or makes it for the hosts that the patterns spell.
fn own_authority(
    own: &OwnAuthority,
    now: SystemTime,
    announce: &dyn Fn(&str),
) -> Result<CertificateAuthority, RunError> {
    let files = PairFiles { cert: own.cert.clone(), key: own.key.clone() };
    let opened = if own.exists {
        // Its patterns need not spell hosts, so none may be made in its place.
        files.load(now)?.map(|authority| Opened { authority, origin: PairOrigin::Found })
    } else {
        None
    };
    let opened = match opened {
        Some(opened) => opened,
        None => {
            let scope = Scope::of_hosts(&own.hosts).map_err(RunError::Scope)?;
            files.load_or_create(&NewAuthority::of_this_host(scope), Unusable::Refuse, now)?
        }
    };
    let verb = match opened.origin {
        PairOrigin::Made => "made",
        PairOrigin::Found => "found",
    };
    let line =
        format!("certificate authority {verb}: {}, for {}", own.cert.display(), opened.authority.scope());
    info!("{line}");
    announce(&line);
    Ok(opened.authority)
}

/// Says which hosts of a changed configuration lie outside of what the authority in use is for.
pub(crate) fn warn_outside(authority: &CertificateAuthority, hijack: &Hijack) {
    if let Some(warning) = outside(authority, &format!("\"{}\"", authority.subject()), hijack) {
        warn!("{warning}");
    }
}

/// What to say when clients will refuse what is signed for some of the hosts.
fn outside(authority: &CertificateAuthority, cert: &str, hijack: &Hijack) -> Option<String> {
    let literal: Vec<String> = hijack.hosts.iter().filter_map(HijackHost::literal).collect();
    let outside: Vec<&str> =
        literal.iter().map(String::as_str).filter(|host| !authority.scope().contains(host)).collect();
    if outside.is_empty() {
        return None;
    }
    let remedy = match &hijack.authority {
        config::HijackAuthority::Own(_) => {
            let mut hosts: Vec<&str> = Vec::new();
            for host in &literal {
                if !hosts.contains(&host.as_str()) {
                    hosts.push(host);
                }
            }
            format!("make a new one by `dfget ca rotate --host {}` and restart", hosts.join(" --host "))
        }
        config::HijackAuthority::Named { .. } => {
            "name an authority by `cert` and `key` that may sign for them, or take them out of `hosts`"
                .to_owned()
        }
    };
    Some(format!(
        "the certificate authority {} is for {} only, so connections to {} are tunnelled, and nothing of them \
         is cached; {remedy}",
        cert,
        authority.scope(),
        outside.join(", ")
    ))
}

/// How each origin is verified: as the mirror of this very host and port says, else by the first entry of
/// `hosts` that matches it, else by the system's own roots, of which `own`, the authority of the hijack, is none.
/// `insecure`: not at all, but for entries with certificates of their own.
pub(crate) fn trust(
    hosts: &[HijackHost],
    mirrors: &RegistryMirrors,
    insecure: bool,
    own: Option<&CertificateDer<'_>>,
    announce: &dyn Fn(&str),
) -> Result<TrustBook, RunError> {
    let (roots, warnings) = Roots::load(own);
    for warning in warnings {
        warn!("{warning}");
        announce(&format!("warning: {warning}"));
    }
    let trust = |origin: &OriginTrust| -> Result<Trust, TrustError> {
        Ok(Trust { config: roots.client_config(origin)?, insecure: origin.insecure })
    };
    if insecure {
        let warning = "certificates of origins are not verified (download.resourceClients.https.insecureSkipVerify): \
                       whoever is on the way can read and change what is pulled; set `certs` or `insecure` of \
                       the one host that needs it instead";
        warn!("{warning}");
        announce(&format!("warning: {warning}"));
    }
    let usual = OriginTrust { insecure, ..OriginTrust::default() };
    let default = trust(&usual).map_err(RunError::Trust)?;
    let mut mirrored: Vec<(Authority, Trust)> = Vec::new();
    for mirror in mirrors.configured().filter(|mirror| mirror.insecure || !mirror.certs.is_empty()) {
        let authority = mirror.url.authority();
        if mirror.insecure {
            warn!("{authority}: this registry's certificate is not verified (insecure: true)");
        }
        let failed = |source| RunError::MirrorCertificates { registry: authority.to_string(), source };
        let extra_roots = pem_roots(&mirror.certs).map_err(failed)?;
        let trust = trust(&OriginTrust { insecure: mirror.insecure, extra_roots });
        mirrored.push((authority.clone(), trust.map_err(|source| failed(source.into()))?));
    }
    let mut special: Vec<(Regex, Trust)> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        if host.insecure {
            warn!("{}: this origin's certificate is not verified (insecure: true)", host.regx);
        }
        let insecure = host.insecure || (insecure && host.certs.is_empty());
        let origin = OriginTrust { insecure, extra_roots: extra_roots(index, host)? };
        let trust = trust(&origin).map_err(|source| RunError::HostCertificates { host: index, source })?;
        special.push((host.regx.clone(), trust));
    }
    Ok(TrustBook { mirrors: mirrored, special, default })
}

impl TrustBook {
    /// The trust of an origin. The host that a registry has its tokens from is of its site: the authorities that
    /// are trusted for the one are for the other too, but nobody is believed unseen for another's word.
    pub(crate) fn of(&self, authority: &Authority, realms: &Realms) -> Trust {
        let of_registry = || {
            let registries = realms.registries_of(authority);
            registries.iter().find_map(|registry| self.special(registry).filter(|trust| !trust.insecure))
        };
        self.special(authority).or_else(of_registry).unwrap_or(&self.default).clone()
    }

    fn special(&self, authority: &Authority) -> Option<&Trust> {
        if let Some((_, trust)) = self.mirrors.iter().find(|(mirror, _)| mirror == authority) {
            return Some(trust);
        }
        let name = authority.host_port();
        self.special.iter().find(|(regx, _)| regx.is_match(&name)).map(|(_, trust)| trust)
    }
}

/// What a client of the proxy at `proxy` has to do to trust `cert`.
pub(crate) fn hint(cert: &PemSource, proxy: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https://" } else { "" };
    let (first, file) = match cert {
        PemSource::File(path) => {
            let file = path.display().to_string();
            (format!("clients must trust {file}"), file)
        }
        PemSource::Inline(_) => (
            "clients must trust the certificate of hijackHTTPS.cert; save its text to a file first, \
             for example /etc/dragonfly/ca.crt"
                .to_owned(),
            "/etc/dragonfly/ca.crt".to_owned(),
        ),
    };
    format!(
        "{first}: set SSL_CERT_FILE={file} beside HTTPS_PROXY={scheme}{proxy}, or install it for all programs \
         (as root: `dfget ca install {file}`)"
    )
}

/// What a PEM is called in a message: its file, never its content.
pub(crate) fn place(source: &PemSource) -> String {
    match source {
        PemSource::File(path) => path.display().to_string(),
        PemSource::Inline(_) => "the configuration itself".to_owned(),
    }
}

fn extra_roots(index: usize, host: &HijackHost) -> Result<Vec<CertificateDer<'static>>, RunError> {
    pem_roots(&host.certs).map_err(|error| match error {
        RootsError::File(source) => RunError::HostCertificates { host: index, source },
        RootsError::Inline(source) => RunError::InlineCertificates { host: index, source },
    })
}

/// The certificates of all these.
pub(crate) fn pem_roots(sources: &[PemSource]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut roots = Vec::new();
    for source in sources {
        roots.extend(match source {
            PemSource::File(path) => read_certificates(path)?,
            PemSource::Inline(text) => certificates_from_pem(text.expose().as_bytes())?,
        });
    }
    Ok(roots)
}

/// How the proxy's own port speaks TLS.
pub(crate) fn listener(tls: &ProxyTls) -> Result<Arc<ServerConfig>, RunError> {
    let clients = tls.clients.as_ref().map(read).transpose()?;
    let config = listener_config(&read(&tls.cert)?, &read(&tls.key)?, clients.as_deref());
    config.map_err(|source| RunError::Listener { cert: place(&tls.cert), key: place(&tls.key), source })
}

fn read(source: &PemSource) -> Result<Vec<u8>, RunError> {
    match source {
        PemSource::File(path) => {
            std::fs::read(path).map_err(|source| RunError::PemFile { path: path.clone(), source })
        }
        PemSource::Inline(text) => Ok(text.expose().as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use dfget_config::Secret;

    use super::*;

    #[test]
    fn the_hint_can_be_typed_as_it_is() {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 65001));
        let file = hint(&PemSource::File("/site/ca.crt".into()), proxy, false);
        assert_eq!(
            file,
            "clients must trust /site/ca.crt: set SSL_CERT_FILE=/site/ca.crt beside HTTPS_PROXY=127.0.0.1:65001, \
             or install it for all programs (as root: `dfget ca install /site/ca.crt`)"
        );
        let inline =
            hint(&PemSource::Inline(Secret::new("-----BEGIN CERTIFICATE-----".to_owned())), proxy, true);
        assert!(
            inline.contains("save its text to a file first, for example /etc/dragonfly/ca.crt"),
            "{inline}"
        );
        assert!(inline.contains(": set SSL_CERT_FILE=/etc/dragonfly/ca.crt beside"), "{inline}");
    }
}
