//! The private key of the certificate authority: loaded once, used to sign, never shown.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256,
};
use rustls_pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{Any, FromDer, Oid, Sequence};
use x509_parser::oid_registry as oid;
use x509_parser::x509::AlgorithmIdentifier;

use crate::error::CaError;
use crate::pem;

/// A key of one of the kinds that clients accept signatures of.
pub(crate) enum AuthorityKey {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl AuthorityKey {
    /// The first private key of `pem`: PKCS #1, PKCS #8 or SEC 1.
    pub(crate) fn load(pem: &[u8]) -> Result<Self, CaError> {
        let key = pem::private_key(pem)?;
        Self::decode(&key).ok_or_else(|| CaError::UnsupportedKey { found: kind(&key) })
    }

    fn decode(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let der = key.secret_der();
        match key {
            PrivateKeyDer::Pkcs1(_) => rsa::KeyPair::from_der(der).ok().map(Self::Rsa),
            PrivateKeyDer::Sec1(_) => Self::decode_ec(der),
            _ => rsa::KeyPair::from_pkcs8(der)
                .map(Self::Rsa)
                .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519))
                .ok()
                .or_else(|| Self::decode_ec(der)),
        }
    }

    fn decode_ec(der: &[u8]) -> Option<Self> {
        let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        p256.map(Self::P256)
            .or_else(|_| {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_ASN1_SIGNING, der).map(Self::P384)
            })
            .ok()
    }

    /// The public half, as the bits of a subjectPublicKey hold it (RFC 3279, RFC 5480, RFC 8410).
    pub(crate) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    /// The AlgorithmIdentifier of [`sign`](Self::sign), in DER. The hash follows from the key and
    /// never from the CA's own signature, which may be SHA-1.
    pub(crate) fn signature_algorithm(&self) -> &'static [u8] {
        match self {
            Self::Rsa(_) => SHA256_WITH_RSA,
            Self::P256(_) => ECDSA_WITH_SHA256,
            Self::P384(_) => ECDSA_WITH_SHA384,
            Self::Ed25519(_) => ED25519,
        }
    }

    /// Signs `message`, hashing it as [`signature_algorithm`](Self::signature_algorithm) says.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::P256(key) | Self::P384(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
            Self::Ed25519(key) => Ok(key.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

/// What a key that could not be used is, as far as its outer encoding tells.
fn kind(key: &PrivateKeyDer<'_>) -> String {
    match key {
        PrivateKeyDer::Pkcs1(_) => RSA_REFUSED.to_owned(),
        PrivateKeyDer::Sec1(_) => "an EC key on another curve".to_owned(),
        _ => pkcs8_kind(key.secret_der()).unwrap_or_else(|| "not a readable key".to_owned()),
    }
}

/// Reads the algorithm of a PKCS #8 PrivateKeyInfo (RFC 5208 section 5).
fn pkcs8_kind(der: &[u8]) -> Option<String> {
    let (_, info) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Any::from_der(info.content.as_ref()).ok()?;
    let (_, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
    let id = &algorithm.algorithm;
    Some(if *id == oid::OID_PKCS1_RSAENCRYPTION {
        RSA_REFUSED.to_owned()
    } else if *id == oid::OID_PKCS1_RSASSAPSS {
        "an RSA key for PSS signatures only".to_owned()
    } else if *id == oid::OID_KEY_TYPE_DSA {
        "a DSA key".to_owned()
    } else if *id == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        match algorithm.parameters.and_then(|curve| Oid::try_from(curve).ok()) {
            Some(curve) => format!("an EC key on the curve {curve}"),
            None => "an EC key on a curve without a name".to_owned(),
        }
    } else {
        format!("a key of the kind {id}")
    })
}

const RSA_REFUSED: &str = "an RSA key of a wrong size, or a damaged one";

/// sha256WithRSAEncryption, RFC 4055 section 5.
const SHA256_WITH_RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
/// ecdsa-with-SHA256, RFC 5758 section 3.2.
const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// ecdsa-with-SHA384, RFC 5758 section 3.2.
const ECDSA_WITH_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// id-Ed25519, RFC 8410 section 3.
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
