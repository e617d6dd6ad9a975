//! Content digests as the OCI image specification writes them (`algorithm:hex`).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest as lc;

/// The digest of a content: what its bytes must hash to.
///
/// Only the algorithms registered by the OCI image specification ("Registered algorithms")
/// are known; any other text is not a digest for us, and its content is treated as unnamed.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub enum Digest {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
    /// SHA-512, 64 bytes.
    Sha512([u8; 64]),
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The part before the colon is none of the registered algorithms.
    #[error("unknown digest algorithm (sha256 and sha512 are known)")]
    Algorithm,
    /// The part after the colon is not the lower-case hex of the right length.
    #[error("the encoded part is not lower-case hex of the algorithm's length")]
    Encoded,
}

/// A running hash of one content.
#[derive(Clone)]
pub struct Hasher {
    context: lc::Context,
    sha512: bool,
}

// === impl Digest ===

impl Digest {
    /// The algorithm's registered name.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// The hash itself.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The encoded part: lower-case hex, two digits a byte.
    #[must_use]
    pub fn hex(&self) -> String {
        to_hex(self.bytes())
    }

    /// The digest of `data`, by the algorithm of this one.
    #[must_use]
    pub fn of_same_kind(&self, data: &[u8]) -> Self {
        let mut hasher = Hasher::like(self);
        hasher.update(data);
        hasher.finish()
    }

    /// The SHA-256 digest of `data`.
    #[must_use]
    pub fn sha256(data: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(data);
        hasher.finish()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Algorithm)?;
        match algorithm {
            "sha256" => from_hex(encoded).map(Self::Sha256),
            "sha512" => from_hex(encoded).map(Self::Sha512),
            _ => return Err(DigestError::Algorithm),
        }
        .ok_or(DigestError::Encoded)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Hasher ===

impl Hasher {
    /// A hash that will yield a [`Digest::Sha256`].
    #[must_use]
    pub fn sha256() -> Self {
        Self { context: lc::Context::new(&lc::SHA256), sha512: false }
    }

    /// A hash of the algorithm that `digest` is of, to be compared with it.
    #[must_use]
    pub fn like(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(_) => Self::sha256(),
            Digest::Sha512(_) => Self { context: lc::Context::new(&lc::SHA512), sha512: true },
        }
    }

    /// Takes in the next bytes of the content.
    pub fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        let out = self.context.finish();
        let bytes = out.as_ref();
        if self.sha512 {
            let mut hash = [0; 64];
            hash.copy_from_slice(bytes);
            Digest::Sha512(hash)
        } else {
            let mut hash = [0; 32];
            hash.copy_from_slice(bytes);
            Digest::Sha256(hash)
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("sha512", &self.sha512).finish_non_exhaustive()
    }
}

/// Lower-case hex of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_known_contents_are_right() {
        // FIPS 180-4 examples: the empty message and "abc".
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::sha256(b"abc").to_string(), abc);
        let mut hasher = Hasher::like(&Digest::Sha512([0; 64]));
        hasher.update(b"a");
        hasher.update(b"bc");
        assert!(hasher.finish().to_string().starts_with("sha512:ddaf35a193617abacc417349"));
    }

    #[test]
    fn text_and_value_agree() {
        let digest = Digest::sha256(b"{}");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.hex().starts_with("44136fa355b3678a"));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(format!("md5:{good}").parse::<Digest>(), Err(DigestError::Algorithm));
        assert_eq!(good.parse::<Digest>(), Err(DigestError::Algorithm));
        for bad in [&good[1..], &good.to_uppercase(), "", &format!("{good}0"), &good.replace('4', "g")] {
            assert_eq!(format!("sha256:{bad}").parse::<Digest>(), Err(DigestError::Encoded), "{bad}");
        }
    }
}
