//! Keys, files and leases.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::buckets::{DEFRAG, DISK, HASH, SNAPSHOT, SNAPSHOT_SAVE, TTL};
use super::maker::Maker;

/// `etcd_mvcc_*` and `etcd_debugging_mvcc_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct MvccMetrics {
    pub puts: IntCounter,
    pub deletes: IntCounter,
    pub ranges: IntCounter,
    pub txns: IntCounter,
    pub hash_duration: Histogram,
    pub hash_rev_duration: Histogram,
}

/// `etcd_disk_*` and `etcd_snap_*`: what is counted as it happens; durations in seconds.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct DiskMetrics {
    pub wal_fsync_duration: Histogram,
    pub wal_write_duration: Histogram,
    pub wal_write_bytes: IntGauge,
    pub backend_commit_duration: Histogram,
    pub backend_commit_rebalance_duration: Histogram,
    pub backend_commit_spill_duration: Histogram,
    pub backend_commit_write_duration: Histogram,
    pub backend_defrag_duration: Histogram,
    pub backend_snapshot_duration: Histogram,
    pub defrag_inflight: IntGauge,
    pub snap_fsync_duration: Histogram,
    pub snap_db_fsync_duration: Histogram,
    pub snap_db_save_duration: Histogram,
}

/// `etcd_debugging_lease_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct LeaseMetrics {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    pub renewed: IntCounter,
    /// Granted TTLs in seconds.
    pub ttl: Histogram,
}

impl MvccMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let counter = |name: &str, help| maker.counter(&format!("etcd_{name}"), help);
        Self {
            puts: counter("mvcc_put_total", "Puts."),
            deletes: counter("mvcc_delete_total", "Deletes."),
            ranges: counter("mvcc_range_total", "Ranges."),
            txns: counter("mvcc_txn_total", "Transactions."),
            hash_duration: maker.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Time it took to hash the whole database.",
                HASH,
            ),
            hash_rev_duration: maker.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time it took to hash the keys at a revision.",
                HASH,
            ),
        }
    }
}

impl DiskMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let seconds = |name: &str, help, buckets| {
            maker.histogram(&format!("etcd_{name}_duration_seconds"), help, buckets)
        };
        Self {
            wal_fsync_duration: seconds("disk_wal_fsync", "Time it took to sync the WAL.", DISK),
            wal_write_duration: seconds(
                "disk_wal_write",
                "Time it took to write to the WAL.",
                DISK,
            ),
            wal_write_bytes: maker.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the WAL.",
            ),
            backend_commit_duration: seconds(
                "disk_backend_commit",
                "Time it took to commit to the database file.",
                DISK,
            ),
            backend_commit_rebalance_duration: seconds(
                "debugging_disk_backend_commit_rebalance",
                "Part of a commit: joining small nodes.",
                DISK,
            ),
            backend_commit_spill_duration: seconds(
                "debugging_disk_backend_commit_spill",
                "Part of a commit: finding pages.",
                DISK,
            ),
            backend_commit_write_duration: seconds(
                "debugging_disk_backend_commit_write",
                "Part of a commit: writing pages.",
                DISK,
            ),
            backend_defrag_duration: seconds(
                "disk_backend_defrag",
                "Time it took to defragment the database file.",
                DEFRAG,
            ),
            backend_snapshot_duration: seconds(
                "disk_backend_snapshot",
                "Time it took to send the database to a client.",
                SNAPSHOT,
            ),
            defrag_inflight: maker.gauge(
                "etcd_disk_defrag_inflight",
                "1 while the database file is defragmented.",
            ),
            snap_fsync_duration: seconds("snap_fsync", "Time it took to sync a .snap file.", DISK),
            snap_db_fsync_duration: seconds(
                "snap_db_fsync",
                "Time it took to sync a received database.",
                DISK,
            ),
            snap_db_save_duration: seconds(
                "snap_db_save_total",
                "Time it took to receive a database.",
                SNAPSHOT_SAVE,
            ),
        }
    }
}

impl LeaseMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let counter =
            |name: &str, help| maker.counter(&format!("etcd_debugging_lease_{name}"), help);
        Self {
            granted: counter("granted_total", "Leases granted."),
            revoked: counter("revoked_total", "Leases revoked."),
            renewed: counter("renewed_total", "Renewals by the leader."),
            ttl: maker.histogram(
                "etcd_debugging_lease_ttl_total",
                "TTLs of leases in seconds.",
                TTL,
            ),
        }
    }
}
