//! What has to be asked about PEM texts, and is not known here.
//!
//! This crate knows no certificate from another. Whoever loads a configuration brings one who
//! does, so that a certificate which cannot be used is told with the line that names it.

use std::fmt;

/// Someone who can judge certificates and keys.
pub trait PemCheck: fmt::Debug + Send + Sync {
    /// Whether this certificate and key (`hijackHTTPS.cert` and `key`) can sign for other hosts.
    ///
    /// # Errors
    /// The first reason why not.
    fn authority(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault>;

    /// Whether a listener can speak TLS with this certificate and key (`proxy.security`).
    ///
    /// # Errors
    /// The first reason why not.
    fn listener(&self, cert: &[u8], key: &[u8]) -> Result<(), PemFault>;

    /// Whether origins can be verified by these certificates (`hijackHTTPS.hosts[].certs`).
    ///
    /// # Errors
    /// The first reason why not.
    fn roots(&self, certs: &[u8]) -> Result<(), PemFault>;
}

/// Why a PEM text cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PemFault {
    /// Which text it is about.
    pub half: PemHalf,
    /// What is wrong, without a part of a key; no line break, no final stop.
    pub problem: String,
    /// The next step; no line break, no final stop.
    pub remedy: String,
}

/// One of the two texts of an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PemHalf {
    /// The certificate.
    Certificate,
    /// Its private key.
    Key,
}
