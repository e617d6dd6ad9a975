//! The bytes of a stored content, each block compared with its CRC.

use std::sync::Arc;

use bytes::Bytes;
use dfget_console::Reading;
use dfget_storage::Entry;

/// A content that is read from its beginning; it stays readable if it leaves the store meanwhile.
pub(super) struct StoredBytes {
    entry: Arc<Entry>,
    total: u64,
    at: u64,
}

// === impl StoredBytes ===

impl StoredBytes {
    /// `None` if its length is not known.
    pub(super) fn new(entry: Arc<Entry>) -> Option<Self> {
        let total = entry.total()?;
        Some(Self { entry, total, at: 0 })
    }
}

impl Reading for StoredBytes {
    fn total(&self) -> u64 {
        self.total
    }

    fn next(&mut self) -> Result<Bytes, String> {
        if self.at >= self.total {
            return Ok(Bytes::new());
        }
        let bytes = self.entry.read(self.at, false).map_err(|error| error.to_string())?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}
