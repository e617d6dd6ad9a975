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
        let mut pieces = Self { words: vec![u64::MAX; (count as usize).div_ceil(64)], count, present: count };
        if let Some(last) = pieces.words.last_mut().filter(|_| !count.is_multiple_of(64)) {
            *last = bit(count) - 1;
        }
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
        numbers(self.words.iter().copied())
    }

    /// Those that are not, in order.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        numbers(self.words.iter().map(|word| !word)).take_while(|&piece| piece < self.count)
    }

    /// Those that are in both sets, in order.
    pub fn both<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        numbers(self.words.iter().zip(&other.words).map(|(one, two)| one & two))
    }

    /// Those that are in this set and not in the other, in order.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let words = other.words.iter().copied().chain(std::iter::repeat(0));
        numbers(self.words.iter().zip(words).map(|(one, two)| one & !two))
    }
}

const fn bit(piece: u32) -> u64 {
    1 << (piece % 64)
}

/// The numbers of the bits that are set.
fn numbers(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
    let bases = (0..u32::MAX).step_by(64);
    words.zip(bases).flat_map(|(word, base)| {
        let rest = std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
        rest.take_while(|word| *word != 0).map(move |word| base + word.trailing_zeros())
    })
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
        for count in [1, 63, 64, 65, 130] {
            assert_eq!(Pieces::from_bytes(&[0xff; 20], count), Pieces::all(count));
            assert_eq!(Pieces::all(count).iter().count(), count as usize);
            assert_eq!(Pieces::all(count).missing().count(), 0);
            assert_eq!(Pieces::none(count).missing().count(), count as usize);
        }
        let other = Pieces::from_bytes(&[1, 1], 70);
        assert_eq!(pieces.both(&other).collect::<Vec<_>>(), [0]);
        assert_eq!(pieces.without(&other).collect::<Vec<_>>(), [9, 63, 69]);
        assert_eq!(other.without(&pieces).collect::<Vec<_>>(), [8]);
    }
}
