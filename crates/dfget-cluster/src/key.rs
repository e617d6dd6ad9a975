//! The key of a cluster: 32 random bytes, the same on all nodes.

use std::fmt;

use aws_lc_rs::hkdf::{self, HKDF_SHA256, Salt};
use aws_lc_rs::rand;

/// The key. Who has it belongs to the cluster; its `Debug` shows nothing of it.
#[derive(Clone, Eq, PartialEq)]
pub struct ClusterKey([u8; LENGTH]);

/// Why a text is no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It has another length or other characters.
    #[error("it holds {length} bytes that are neither 64 hexadecimal digits nor 32 bytes")]
    Malformed {
        /// Bytes there are.
        length: usize,
    },
    /// Every byte of it is the same: a file of zeros is none that somebody drew.
    #[error("all its bytes are the same, so anybody can guess it")]
    Guessable,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

// === impl ClusterKey ===

impl ClusterKey {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; LENGTH];
        rand::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Takes what a key file holds: 64 hexadecimal digits, white space around them, or 32 raw bytes.
    ///
    /// # Errors
    /// [`KeyError`]: it is neither, or nobody drew it.
    pub fn parse(content: &[u8]) -> Result<Self, KeyError> {
        let trimmed = content.trim_ascii();
        if trimmed.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = from_hex(trimmed)
            .or_else(|| <[u8; LENGTH]>::try_from(content).ok())
            .ok_or(KeyError::Malformed { length: content.len() })?;
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(KeyError::Guessable);
        }
        Ok(Self(bytes))
    }

    /// What a key file holds: 64 hexadecimal digits and a line feed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        text
    }

    /// Eight digits that tell two keys apart and lead nobody to the key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let derived = self.derive(b"dfget cluster key fingerprint v1");
        derived.unwrap_or_default()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// 32 bytes that only who has the key can make, other ones for each purpose (RFC 5869).
    /// `None`: the cryptographic library failed.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Option<[u8; LENGTH]> {
        let mut derived = [0; LENGTH];
        let key = Salt::new(HKDF_SHA256, b"dfget cluster").extract(&self.0);
        key.expand(&[purpose], Derived).ok()?.fill(&mut derived).ok()?;
        Some(derived)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterKey({})", self.fingerprint())
    }
}

/// How much is derived.
struct Derived;

// === impl Derived ===

impl hkdf::KeyType for Derived {
    fn len(&self) -> usize {
        LENGTH
    }
}

fn from_hex(digits: &[u8]) -> Option<[u8; LENGTH]> {
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

/// Bytes of a key.
const LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_was_written_and_raw() {
        let key = ClusterKey::generate().unwrap();
        assert_eq!(ClusterKey::parse(key.to_text().as_bytes()).unwrap(), key);
        assert_eq!(ClusterKey::parse(&key.0).unwrap(), key);
        assert_eq!(ClusterKey::parse(key.to_text().to_uppercase().as_bytes()).unwrap(), key);
        assert_eq!(key.to_text().len(), 65);
        assert_ne!(ClusterKey::generate().unwrap(), key);
    }

    #[test]
    fn what_is_no_key_says_what_it_is() {
        let refused = |content: &[u8]| ClusterKey::parse(content).unwrap_err();
        assert_eq!(refused(b""), KeyError::Empty);
        assert_eq!(refused(b" \n"), KeyError::Empty);
        assert_eq!(refused(&[7; 31]), KeyError::Malformed { length: 31 });
        assert_eq!(refused(&[b'g'; 64]), KeyError::Malformed { length: 64 });
        assert_eq!(refused(&[b'a'; 63]), KeyError::Malformed { length: 63 });
        assert_eq!(refused(&[0; 32]), KeyError::Guessable);
        assert_eq!(refused(&[b'0'; 64]), KeyError::Guessable);
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = ClusterKey::from_bytes(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let shown = format!("{key:?}");
        assert!(!shown.contains("0001") && shown.contains(&key.fingerprint()), "{shown}");
        assert_eq!(key.fingerprint().len(), 8);
        assert_ne!(key.fingerprint(), ClusterKey::from_bytes([3; 32]).fingerprint());
    }

    #[test]
    fn all_versions_of_dfget_derive_the_same() {
        let key = ClusterKey::from_bytes(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        assert_eq!(key.fingerprint(), "878b3666");
    }
}
