//! What the server measures about this crate.

use std::time::Duration;

/// Receives measurements and marks the points where faults are injected. Every method does nothing
/// unless overridden. They are called on the thread that does the I/O and must be quick.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A sync of a segment is about to start (failpoint `walBeforeSync`).
    fn wal_before_sync(&self) {}
    /// A sync of a segment ended well (failpoint `walAfterSync`, histogram
    /// `etcd_disk_wal_fsync_duration_seconds`).
    fn wal_synced(&self, _took: Duration) {}
    /// Bytes were handed to the operating system (`etcd_disk_wal_write_duration_seconds`,
    /// `etcd_disk_wal_write_bytes_total`).
    fn wal_written(&self, _bytes: u64, _took: Duration) {}
    /// A `.snap` file was saved (`etcd_snap_fsync_duration_seconds` and the two debugging histograms).
    fn snap_saved(&self, _times: SnapTimes) {}
    /// A received database was made durable (`etcd_snap_db_fsync_duration_seconds`,
    /// `etcd_snap_db_save_total_duration_seconds`).
    fn snap_db_saved(&self, _sync: Duration, _total: Duration) {}
}

/// How long the parts of saving a `.snap` file took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapTimes {
    /// Encoding.
    pub marshal: Duration,
    /// The sync.
    pub sync: Duration,
    /// All of it.
    pub total: Duration,
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
