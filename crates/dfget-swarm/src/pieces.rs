//! A set of pieces of one content.

/// Which pieces somebody has, of a content whose number of pieces is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pieces {
    words: Vec<u64>,
    count: u32,
    present: u32,
}

impl Pieces {
    /// None of `count` pieces.
    #[must_use]
    pub fn none(count: u32) -> Self {
        Self { words: vec![0; (count as usize).div_ceil(64)], count, present: 0 }
    }

    /// All of `count` pieces.
    #[must_use]
    pub fn all(count: u32) -> Self {
        let mut pieces = Self::none(count);
        (0..count).for_each(|piece| {
            pieces.insert(piece);
        });
        pieces
    }

    /// Reads the form of the wire: piece n is bit n % 8, from the lowest, of byte n / 8. Bits
    /// beyond the last piece are ignored, missing bytes mean nothing is there.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], count: u32) -> Self {
        let mut pieces = Self::none(count);
        for (at, byte) in bytes.iter().enumerate().take((count as usize).div_ceil(8)) {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                pieces.insert(u32::try_from(at * 8 + bit).unwrap_or(u32::MAX));
            }
        }
        pieces
    }

    /// The form of the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take((self.count as usize).div_ceil(8)).collect()
    }

    /// How many pieces the content has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How many are in the set.
    #[must_use]
    pub const fn present(&self) -> u32 {
        self.present
    }

    /// Whether all are.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.present == self.count
    }

    /// Whether `piece` is.
    #[must_use]
    pub fn contains(&self, piece: u32) -> bool {
        piece < self.count && self.words.get(piece as usize / 64).is_some_and(|word| word & bit(piece) != 0)
    }

    /// Adds a piece; `true` if it is one of the content and was not there.
    pub fn insert(&mut self, piece: u32) -> bool {
        let fresh = piece < self.count && !self.contains(piece);
        if let Some(word) = self.words.get_mut(piece as usize / 64).filter(|_| fresh) {
            *word |= bit(piece);
            self.present += 1;
        }
        fresh
    }

    /// Takes a piece out; `true` if it was there.
    pub fn remove(&mut self, piece: u32) -> bool {
        let there = self.contains(piece);
        if let Some(word) = self.words.get_mut(piece as usize / 64).filter(|_| there) {
            *word &= !bit(piece);
            self.present -= 1;
        }
        there
    }

    /// Those that are there, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|&piece| self.contains(piece))
    }

    /// Those that are not, in order.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|&piece| !self.contains(piece))
    }
}

const fn bit(piece: u32) -> u64 {
    1 << (piece % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_keeps_what_is_there_and_nothing_beyond_the_end() {
        let mut pieces = Pieces::none(70);
        for piece in [0, 9, 63, 64, 69, 69, 70, 1000] {
            pieces.insert(piece);
        }
        assert_eq!(pieces.present(), 5);
        let bytes = pieces.to_bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (9, 1, 2));
        assert_eq!(Pieces::from_bytes(&bytes, 70), pieces);
        assert!(Pieces::from_bytes(&[0xff; 100], 70).is_full());
        assert_eq!(Pieces::from_bytes(&[], 70), Pieces::none(70));
        assert!(pieces.remove(64) && !pieces.remove(64) && !pieces.contains(64));
        assert_eq!(pieces.missing().count() + pieces.iter().count(), 70);
        assert!(Pieces::all(0).is_full());
    }
}
