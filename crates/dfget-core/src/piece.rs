//! How a content is cut into pieces (Dragonfly v2: the piece length of a standard task).

use crate::ByteRange;

/// The shortest piece, and the length of all pieces of contents up to about 2 GB: 4 MiB.
pub const MIN_PIECE_LENGTH: u64 = 4 << 20;

/// The longest piece: 64 MiB.
pub const MAX_PIECE_LENGTH: u64 = 64 << 20;

/// Contents are cut into about this many pieces at the most, while the length allows.
const WANTED_PIECES: u64 = 500;

/// The length of the pieces, in bytes, of a content of `content_length` bytes.
///
/// The next power of two of a five-hundredth of the content, at least [`MIN_PIECE_LENGTH`],
/// at most [`MAX_PIECE_LENGTH`].
#[must_use]
pub const fn piece_length(content_length: u64) -> u64 {
    let wanted = content_length / WANTED_PIECES;
    if wanted >= MAX_PIECE_LENGTH {
        return MAX_PIECE_LENGTH;
    }
    let length = wanted.next_power_of_two();
    if length < MIN_PIECE_LENGTH { MIN_PIECE_LENGTH } else { length }
}

/// In how many units each piece is cut: of 512 KiB, for contents up to about 2 GB.
pub const UNITS: u32 = 8;

/// The length, in bytes, of what dfget's own daemons ask each other for.
///
/// Whoever has a piece can hand it on, so a swarm is the faster the shorter they are. Other clients of the
/// protocol know pieces only.
#[must_use]
pub const fn unit_length(content_length: u64) -> u64 {
    piece_length(content_length) / UNITS as u64
}

/// How many pieces of `piece_length` bytes a content has; the last may be short.
#[must_use]
pub const fn piece_count(content_length: u64, piece_length: u64) -> u64 {
    content_length.div_ceil(piece_length)
}

/// The bytes of the content that piece `number` (from 0) holds; `None` past the end.
#[must_use]
pub fn piece_range(number: u64, content_length: u64, piece_length: u64) -> Option<ByteRange> {
    let start = number.checked_mul(piece_length)?;
    let end = start.saturating_add(piece_length).min(content_length);
    (start < end).then_some(ByteRange { start, end })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn lengths_grow_by_powers_of_two() {
        let cases = [
            (0, 4 * MIB),
            (1, 4 * MIB),
            (500 * 4 * MIB, 4 * MIB),
            (500 * (4 * MIB + 1), 8 * MIB),
            (500 * 8 * MIB, 8 * MIB),
            (500 * (8 * MIB + 1), 16 * MIB),
            (500 * 64 * MIB, 64 * MIB),
            (u64::MAX, 64 * MIB),
        ];
        for (content, expected) in cases {
            assert_eq!(piece_length(content), expected, "{content}");
        }
    }

    proptest! {
        #[test]
        fn pieces_cover_the_content_without_gap_or_overlap(content in 0..1_u64 << 36) {
            let length = piece_length(content);
            let count = piece_count(content, length);
            let mut next = 0;
            for number in 0..count {
                let piece = piece_range(number, content, length).expect("every counted piece has bytes");
                prop_assert_eq!(piece.start, next);
                next = piece.end;
            }
            prop_assert_eq!(next, content);
            prop_assert_eq!(piece_range(count, content, length), None);
        }
    }
}
