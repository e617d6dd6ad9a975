//! One download for many readers.
