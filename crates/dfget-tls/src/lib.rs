//! Certificates on both sides of a hijacked connection.
//!
//! Towards clients: the site's certificate authority ([`CertificateAuthority`], the `cert` and
//! `key` of `hijackHTTPS`) and the short-lived certificates it signs, one for each host
//! ([`LeafCache`]). Such an authority can be made ([`NewAuthority`]) for some hosts only ([`Scope`])
//! and kept in two files ([`PairFiles`]). Towards origins: whom to believe ([`Roots`], [`OriginTrust`]) and why a
//! handshake failed, in plain words ([`describe()`]).
//!
//! The crate opens no socket and reads no clock: where time matters, the caller passes `now`. All
//! cryptography is aws-lc-rs, handed to rustls explicitly; nothing is installed for the process.
//! The CA's key leaves its type only for its own file, and signs nothing but leaves, which have a
//! key of their own.

mod authority;
mod authority_key;
mod bundle;
mod certificate;
mod create;
mod der;
mod describe;
mod error;
mod host;
mod instant;
mod leaf;
mod leaf_cache;
mod listener;
mod pair;
mod pem;
mod publish;
mod scope;
mod trust;
mod verifier;
mod weakness;

pub use authority::CertificateAuthority;
pub use bundle::{merged_bundle, system_bundle, system_bundle_path};
pub use certificate::AuthorityCertificate;
pub use create::{KeyPem, NewAuthority, NewPair};
pub use describe::{describe, describe_io};
pub use error::{
    BundleError, CaError, CertificateFileError, CertificateListError, CreateError, LeafError, PairError,
    TrustError,
};
pub use leaf_cache::LeafCache;
pub use listener::{ListenerError, listener_config};
pub use pair::{Opened, PairFiles, PairOrigin, Unusable};
pub use publish::write_certificates;
pub use rustls::ServerConfig;
pub use scope::Scope;
pub use trust::{OriginTrust, Roots, certificates_from_pem, read_certificates};
pub use weakness::Weakness;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The one cryptography provider of the process, never installed as rustls' default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
