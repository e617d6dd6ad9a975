//! Logs, metrics and secrets that cannot be printed.
