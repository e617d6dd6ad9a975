//! The authority that signs for hijacked hosts, and the trust that origins are given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use dfget_config::{Hijack, HijackHost, PemSource};
use dfget_core::Authority;
use dfget_origin::Trust;
use dfget_tls::{
    CertificateAuthority, OriginTrust, Roots, TrustError, certificates_from_pem, read_certificates,
};
use regex::Regex;
use rustls_pki_types::CertificateDer;
use tracing::{info, warn};

use crate::RunError;

/// The trust of every origin.
pub(crate) struct TrustBook {
    special: Vec<(Regex, Trust)>,
    default: Trust,
}

/// Loads `hijackHTTPS.cert` and `key`, and says what is weak about them.
pub(crate) fn authority(hijack: &Hijack) -> Result<Arc<CertificateAuthority>, RunError> {
    let now = SystemTime::now();
    let (cert, key) = (read(&hijack.cert)?, read(&hijack.key)?);
    let authority = CertificateAuthority::load(&cert, &key, now).map_err(|source| RunError::Ca {
        cert: place(&hijack.cert),
        key: place(&hijack.key),
        source,
    })?;
    info!(
        "hijacking with the certificate authority \"{}\" from {}, SHA-256 fingerprint {}",
        authority.subject(),
        place(&hijack.cert),
        authority.fingerprint()
    );
    for weakness in authority.weaknesses(now) {
        warn!("{}: {weakness}", place(&hijack.cert));
    }
    Ok(Arc::new(authority))
}

/// How each origin is verified: by the first entry of `hosts` that matches it, else by the
/// system's own roots, of which `own`, the authority of the hijack, is none.
pub(crate) fn trust(
    hosts: &[HijackHost],
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
    let default = trust(&OriginTrust::default()).map_err(RunError::Trust)?;
    let mut special: Vec<(Regex, Trust)> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        if host.insecure {
            warn!("{}: this origin's certificate is not verified (insecure: true)", host.regx);
        }
        let origin = OriginTrust { insecure: host.insecure, extra_roots: extra_roots(index, host)? };
        let trust = trust(&origin).map_err(|source| RunError::HostCertificates { host: index, source })?;
        special.push((host.regx.clone(), trust));
    }
    Ok(TrustBook { special, default })
}

impl TrustBook {
    pub(crate) fn of(&self, authority: &Authority) -> Trust {
        let name = authority.host_port();
        let host = self.special.iter().find(|(regx, _)| regx.is_match(&name));
        host.map_or(&self.default, |(_, trust)| trust).clone()
    }
}

/// What a client of the proxy at `proxy` has to do to trust `cert`.
pub(crate) fn hint(cert: &PemSource, proxy: SocketAddr) -> String {
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
        "{first}: set SSL_CERT_FILE={file} beside HTTPS_PROXY={proxy}, or install it for all programs \
         (Debian: cp {file} /usr/local/share/ca-certificates/dfget.crt && update-ca-certificates)"
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
    let mut roots = Vec::new();
    for source in &host.certs {
        roots.extend(match source {
            PemSource::File(path) => read_certificates(path)
                .map_err(|source| RunError::HostCertificates { host: index, source })?,
            PemSource::Inline(text) => certificates_from_pem(text.expose().as_bytes())
                .map_err(|source| RunError::InlineCertificates { host: index, source })?,
        });
    }
    Ok(roots)
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
        let file = hint(&PemSource::File("/site/ca.crt".into()), proxy);
        assert_eq!(
            file,
            "clients must trust /site/ca.crt: set SSL_CERT_FILE=/site/ca.crt beside HTTPS_PROXY=127.0.0.1:65001, \
             or install it for all programs (Debian: cp /site/ca.crt /usr/local/share/ca-certificates/dfget.crt \
             && update-ca-certificates)"
        );
        let inline = hint(&PemSource::Inline(Secret::new("-----BEGIN CERTIFICATE-----".to_owned())), proxy);
        assert!(
            inline.contains("save its text to a file first, for example /etc/dragonfly/ca.crt"),
            "{inline}"
        );
        assert!(inline.contains(": set SSL_CERT_FILE=/etc/dragonfly/ca.crt beside"), "{inline}");
    }
}
