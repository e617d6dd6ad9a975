//! Pieces on disk, crash-safe index, quota and eviction.
