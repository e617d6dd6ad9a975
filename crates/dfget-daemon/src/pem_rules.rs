//! The judgement of certificates that a configuration is loaded with: the same that the daemon
//! passes at its start.

use std::time::SystemTime;

use dfget_config::{PemCheck, PemFault, PemHalf};
use dfget_tls::{CertificateAuthority, OriginTrust, Roots, certificates_from_pem, listener_config};

/// What the daemon accepts as an authority and as roots of an origin, at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct PemRules;

impl PemCheck for PemRules {
    fn authority(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault> {
        match CertificateAuthority::load(cert, key, SystemTime::now()) {
            Ok(_) => Ok(()),
            Err(error) => {
                let half = if error.is_about_key() { PemHalf::Key } else { PemHalf::Certificate };
                Err(fault(half, error.halves()))
            }
        }
    }

    fn listener(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault> {
        match listener_config(cert, key, None) {
            Ok(_) => Ok(()),
            Err(error) => {
                let half = if error.is_about_key() { PemHalf::Key } else { PemHalf::Certificate };
                Err(fault(half, error.halves()))
            }
        }
    }

    fn roots(&self, certs: &[u8]) -> Result<(), PemFault> {
        let of_certificates = |halves| fault(PemHalf::Certificate, halves);
        let extra_roots = certificates_from_pem(certs).map_err(|error| of_certificates(error.halves()))?;
        let trust = OriginTrust { insecure: false, extra_roots };
        let (no_others, _) = Roots::new(Vec::new());
        no_others.client_config(&trust).map_err(|error| of_certificates(error.halves()))?;
        Ok(())
    }
}

fn fault(half: PemHalf, (problem, remedy): (String, String)) -> PemFault {
    PemFault { half, problem, remedy }
}
