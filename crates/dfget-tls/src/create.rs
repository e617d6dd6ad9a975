//! Making an authority: which fields its certificate has.
//!
//! The certificate is made to be as weak as it can be for whoever steals its key: bound to hosts by
//! critical name constraints, to servers by its extended key usage, and to leaves by its path
//! length. It is made by rcgen: unlike a leaf it has no issuer whose name must be kept byte by byte
//! (see `docs/design/005-leaves-encoded-by-hand.md`).

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber,
};

use crate::error::CreateError;
use crate::instant;
use crate::leaf::serial_number;
use crate::scope::{Network, Scope, Subtrees};

/// What an authority is to be; [`make`](Self::make) makes one.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    scope: Scope,
    name: String,
    days: u32,
}

/// A private key as PEM text (PKCS #8). Its `Debug` shows nothing of it.
pub struct KeyPem(String);

/// The two halves of an authority that was just made.
#[derive(Debug)]
pub struct NewPair {
    /// The certificate, one PEM block.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: KeyPem,
}

// === impl NewAuthority ===

impl NewAuthority {
    /// Days that an authority lives unless it is told otherwise: five years.
    pub const DEFAULT_DAYS: u32 = 1825;
    /// The longest life that is made: ten years, as more is a [`Weakness`](crate::Weakness).
    pub const MOST_DAYS: u32 = 3650;

    /// An authority for `scope` whose common name starts with `name`. Eight random digits follow
    /// it, so that no two authorities are of one name; what exceeds 64 characters is cut.
    #[must_use]
    pub fn new(scope: Scope, name: impl Into<String>) -> Self {
        Self { scope, name: name.into(), days: Self::DEFAULT_DAYS }
    }

    /// The same with `dfget on HOSTNAME` as its name.
    #[must_use]
    pub fn of_this_host(scope: Scope) -> Self {
        let system = rustix::system::uname();
        Self::new(scope, format!("dfget on {}", system.nodename().to_string_lossy()))
    }

    /// Another length of life, from 1 to [`MOST_DAYS`](Self::MOST_DAYS); what is beyond is cut.
    #[must_use]
    pub fn living_days(self, days: u32) -> Self {
        Self { days: days.clamp(1, Self::MOST_DAYS), ..self }
    }

    /// Makes a key (ECDSA P-256) and its self-signed certificate, valid from an hour before `now`.
    ///
    /// # Errors
    /// [`CreateError`]: the cryptographic library failed.
    pub fn make(&self, now: SystemTime) -> Result<NewPair, CreateError> {
        let failed = |operation| move |_| CreateError { operation };
        let serial = serial_number().map_err(|_| CreateError { operation: "draw random bytes" })?;
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let certificate =
            self.parameters(&serial, now).self_signed(&key).map_err(failed("sign a certificate"))?;
        Ok(NewPair { cert_pem: certificate.pem(), key_pem: KeyPem(key.serialize_pem()) })
    }

    fn parameters(&self, serial: &[u8; 16], now: SystemTime) -> CertificateParams {
        let now = instant::from_system(now);
        let life = SignedDuration::from_hours(i64::from(self.days) * 24);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let mut parameters = CertificateParams::default();
        parameters.not_before = epoch + since_1970(now.saturating_sub(BACKDATE).unwrap_or(now));
        parameters.not_after = epoch + since_1970(now.saturating_add(life).unwrap_or(Timestamp::MAX));
        parameters.serial_number = Some(SerialNumber::from_slice(serial));
        parameters.distinguished_name = self.subject(serial);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.name_constraints = (!self.scope.is_any_host()).then(|| NameConstraints {
            permitted_subtrees: subtrees(&self.scope.permitted),
            excluded_subtrees: subtrees(&self.scope.excluded),
        });
        parameters
    }

    fn subject(&self, serial: &[u8; 16]) -> DistinguishedName {
        let unique: String = serial[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        let is_plain = |c: &char| !c.is_control();
        let name: String =
            self.name.chars().filter(is_plain).take(MAX_COMMON_NAME - 1 - unique.len()).collect();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, format!("{} {unique}", name.trim_end()));
        subject
    }
}

// === impl KeyPem ===

impl KeyPem {
    /// The text, to be written where nobody else can read it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyPem(…)")
    }
}

fn subtrees(of: &Subtrees) -> Vec<GeneralSubtree> {
    let names = of.names.iter().map(|name| GeneralSubtree::DnsName(name.clone()));
    names.chain(of.networks.iter().filter_map(network)).collect()
}

fn network(network: &Network) -> Option<GeneralSubtree> {
    let (address, mask) = (network.address.as_slice(), network.mask.as_slice());
    let subnet = match (address.try_into(), mask.try_into()) {
        (Ok(address), Ok(mask)) => CidrSubnet::V4(address, mask),
        _ => CidrSubnet::V6(address.try_into().ok()?, mask.try_into().ok()?),
    };
    Some(GeneralSubtree::IpAddress(subnet))
}

/// What a time of the calendar is for rcgen: time since 1970. Nothing is made for a time before.
fn since_1970(time: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}

/// Clocks of clients may be behind ours.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
/// RFC 5280 appendix A.1, in characters.
const MAX_COMMON_NAME: usize = 64;
