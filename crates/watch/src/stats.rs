//! Counters for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers about watching, kept by the dispatcher.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) streams: AtomicU64,
    pub(crate) watchers: AtomicU64,
    pub(crate) behind: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) full: AtomicU64,
}

/// Values of the counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Open streams.
    pub streams: u64,
    /// Watchers (`etcd_debugging_mvcc_watcher_total`).
    pub watchers: u64,
    /// Watchers that are not up to date (`etcd_debugging_mvcc_slow_watcher_total`).
    pub behind: u64,
    /// Events put into queues so far (`etcd_debugging_mvcc_events_total`).
    pub events: u64,
    /// How often a queue had no room.
    pub full: u64,
}

impl Stats {
    /// The values now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        StatsSnapshot {
            streams: get(&self.streams),
            watchers: get(&self.watchers),
            behind: get(&self.behind),
            events: get(&self.events),
            full: get(&self.full),
        }
    }

    pub(crate) fn add(value: &AtomicU64, n: u64) {
        value.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(value: &AtomicU64, n: u64) {
        value.fetch_sub(n, Ordering::Relaxed);
    }
}
