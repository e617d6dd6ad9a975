//! Names: what an entry is called by its users, and what its file is called on disk.
//!
//! The two differ on purpose. A key changes when a download becomes a published blob; the file
//! keeps its name for life, so publishing moves a row of the index and no file.

use std::{fmt, sync::Arc};

use rustix::rand::{GetRandomFlags, getrandom};

/// The name under which an entry is found again: any text, compared byte for byte.
///
/// Cheap to clone. The store gives it no meaning. It is written to the index as it is and stands in
/// errors and in the log, so whoever makes it keeps credentials out: no header, and no URL with its
/// user part or query.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryKey(Arc<str>);

impl EntryKey {
    /// Makes a key of `name`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for EntryKey {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for EntryKey {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

// === impl FileId ===

/// The name of a data file: 64 random bits, so that no name is ever used twice, not even after a
/// crash that lost the memory of the first use.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct FileId(pub(crate) u64);

impl FileId {
    /// A new random name.
    ///
    /// # Errors
    /// The kernel has no random bytes to give.
    pub(crate) fn random() -> std::io::Result<Self> {
        Ok(Self(u64::from_le_bytes(random_bytes()?)))
    }

    /// The name of the directory and of the file in it.
    pub(crate) fn names(self) -> (String, String) {
        let file = format!("{:016x}", self.0);
        (file[..2].to_owned(), file)
    }

    /// Reads a file name back; `None` for one that this crate would not have written.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(name, 16).ok()?);
        (id.names().1 == name).then_some(id)
    }
}

/// `N` bytes from the kernel's random source.
///
/// # Errors
/// The kernel has none to give.
pub(crate) fn random_bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut have = 0;
    while have < N {
        have += getrandom(&mut bytes[have..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_back() {
        for id in [0, 1, 0xab, u64::MAX] {
            let (dir, file) = FileId(id).names();
            assert_eq!(dir.len(), 2);
            assert!(file.starts_with(&dir));
            assert_eq!(FileId::parse(&file), Some(FileId(id)));
        }
    }

    #[test]
    fn foreign_file_names_are_not_ours() {
        for name in ["", "1", "+000000000000001", "00000000000000AB", "0000000000000001.tmp"] {
            assert_eq!(FileId::parse(name), None, "{name}");
        }
    }
}
