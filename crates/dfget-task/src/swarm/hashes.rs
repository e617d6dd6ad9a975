//! The hashes of pieces: what a verified content tells of itself.

use dfget_core::Hasher;
use dfget_storage::{Entry, ReadError};

use super::state::Layout;

/// The SHA-256 of each piece of a content that is here whole. Blocking.
pub(super) fn hash_all(entry: &Entry, layout: &Layout) -> Result<Vec<[u8; 32]>, ReadError> {
    (0..layout.count).map(|number| hash_piece(entry, layout, number)).collect()
}

/// The SHA-256 of one piece. Blocking.
pub(super) fn hash_piece(entry: &Entry, layout: &Layout, number: u32) -> Result<[u8; 32], ReadError> {
    let (mut hasher, range) = (Hasher::sha256(), layout.range(number));
    let mut next = range.start;
    while next < range.end {
        let mut bytes = entry.read(next, false)?;
        bytes.truncate(usize::try_from(range.end - next).unwrap_or(usize::MAX));
        hasher.update(&bytes);
        next += bytes.len() as u64;
    }
    Ok(finish(hasher))
}

/// The SHA-256 of bytes that lie in parts.
pub(super) fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Hasher::sha256();
    parts.into_iter().for_each(|part| hasher.update(part));
    finish(hasher)
}

fn finish(hasher: Hasher) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = hasher.finish();
    if digest.bytes().len() == hash.len() {
        hash.copy_from_slice(digest.bytes());
    }
    hash
}
