//! HTTP(S) to registries: pool, ranges, redirects, retry, credentials.
