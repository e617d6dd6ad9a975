//! Bodies made from a seed, and their digests.
//!
//! No two seeds give the same body and no block of a body repeats, so that bytes from a wrong place or a wrong blob
//! never compare equal by luck.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest;

/// A body with its digest, cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// `sha256:` and 64 lower-case hex digits, as it stands in a registry's URLs.
    pub digest: String,
}

impl Blob {
    /// The blob of these bytes.
    #[must_use]
    pub fn of(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        Self { bytes, digest }
    }

    /// `len` bytes that follow from `seed` alone.
    #[must_use]
    pub fn random(len: usize, seed: u64) -> Self {
        Self::of(random_bytes(len, seed))
    }

    /// The config blob that every SIF in every registry shares: `{}`.
    #[must_use]
    pub fn empty_config() -> Self {
        Self::of(b"{}".to_vec())
    }

    /// The same bytes but one, at `index`: another content of the same length.
    #[must_use]
    pub fn with_flipped_byte(&self, index: usize) -> Arc<[u8]> {
        let mut bytes = self.bytes.to_vec();
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= 0x40;
        }
        bytes.into()
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// `sha256:` and the digest of `bytes` in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `len` bytes of a xorshift generator started from `seed`.
#[must_use]
pub fn random_bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// `bytes` as one gzip member.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a Vec takes every write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_config_has_the_digest_that_real_registries_show() {
        assert_eq!(
            Blob::empty_config().digest,
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_seed_others() {
        assert_eq!(random_bytes(1000, 7), random_bytes(1000, 7));
        assert_eq!(random_bytes(1000, 7).len(), 1000);
        assert_ne!(random_bytes(1000, 7), random_bytes(1000, 8));
    }

    #[test]
    fn a_flipped_byte_changes_one_place_only() {
        let blob = Blob::random(100, 1);
        let other = blob.with_flipped_byte(40);
        let places: Vec<_> = (0..100).filter(|&i| blob.bytes[i] != other[i]).collect();
        assert_eq!(places, [40]);
    }
}
