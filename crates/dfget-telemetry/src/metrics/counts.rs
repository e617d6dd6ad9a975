//! The counters as numbers, for those who show them otherwise than a scrape does.

use super::Metrics;
use super::labels::{AccessCheck, Source, TaskFailure};

/// What was counted since the start, but for what is stored now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Responses by where they came from.
    pub served: Vec<Served>,
    /// Downloads that were begun.
    pub tasks: u64,
    /// Downloads that failed.
    pub failed_tasks: u64,
    /// Requests that found their content stored, or being fetched already.
    pub cache_hits: u64,
    /// Requests sent to origins.
    pub origin_requests: u64,
    /// Bytes that origins have sent to downloads.
    pub bytes_from_origin: u64,
    /// Bytes that other nodes have sent.
    pub bytes_from_peers: u64,
    /// Bytes sent to other nodes.
    pub bytes_to_peers: u64,
    /// Bytes removed to stay within the quota.
    pub evicted_bytes: u64,
    /// Blocks found changed on disk.
    pub rotten_blocks: u64,
    /// How questions whether a client may have a stored content were answered: the word of the
    /// metric's label and the number.
    pub access_checks: Vec<(&'static str, u64)>,
}

/// Responses of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Served {
    /// `cache`, `origin`, `forwarded`, `shared` or `tunnelled`.
    pub source: &'static str,
    /// How many.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Metrics {
    /// All counters as they are now.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let served = Source::ALL.map(|source| {
            let label = source.label();
            Served {
                source: source.as_str(),
                requests: shared.served_requests.get_or_create(&label).get(),
                bytes: shared.served_bytes.get_or_create(&label).get(),
            }
        });
        let failed =
            TaskFailure::ALL.map(|failure| shared.failed_tasks.get_or_create(&failure.label()).get());
        let checks = AccessCheck::ALL.map(|answer| {
            let label = answer.label();
            (label[0].1, shared.access_checks.get_or_create(&label).get())
        });
        Counts {
            served: served.into(),
            tasks: shared.tasks.get(),
            failed_tasks: failed.iter().sum(),
            cache_hits: shared.cache_hits.get(),
            origin_requests: shared.origin_requests.get(),
            bytes_from_origin: shared.bytes_from_origin.get(),
            bytes_from_peers: shared.bytes_from_peers.get(),
            bytes_to_peers: shared.bytes_to_peers.get(),
            evicted_bytes: shared.evicted_bytes.get(),
            rotten_blocks: shared.rotten_blocks.get(),
            access_checks: checks.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BuildInfo;

    #[test]
    fn counters_are_told_as_numbers() {
        let metrics = Metrics::new(BuildInfo { version: "0.1.0", commit: "" });
        metrics.served(Source::Cache);
        metrics.served_bytes(Source::Cache, 7);
        metrics.access_checked(AccessCheck::Denied);
        metrics.task_failed(TaskFailure::Source);
        metrics.from_peer(3);
        let counts = metrics.counts();
        assert_eq!(counts.served[0], Served { source: "cache", requests: 1, bytes: 7 });
        assert!(counts.access_checks.contains(&("denied", 1)));
        assert_eq!((counts.failed_tasks, counts.bytes_from_peers, counts.tasks), (1, 3, 0));
    }
}
