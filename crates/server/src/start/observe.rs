//! What the storage layers measure, on its way to the metrics.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::StartError;
use crate::core::applier::Event;
use crate::metrics::Metrics;

/// Feeds the metrics. They carry the member's id, which is in the files; what is measured before that is
/// known is not counted.
#[derive(Debug)]
pub(super) struct DiskObserver {
    metrics: OnceLock<Arc<Metrics>>,
    stop: Mutex<Sender<Event>>,
}

impl DiskObserver {
    pub(super) fn new(stop: Sender<Event>) -> Arc<Self> {
        Arc::new(Self {
            metrics: OnceLock::new(),
            stop: Mutex::new(stop),
        })
    }

    pub(super) fn set(&self, metrics: &Arc<Metrics>) {
        // Set once, by the start.
        let _ = self.metrics.set(Arc::clone(metrics));
    }

    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = self.metrics.get() {
            count(metrics);
        }
    }
}

impl backend::Observer for DiskObserver {
    fn committed(&self, took: Duration, parts: &bbolt::CommitStats) {
        self.count(|m| {
            m.disk.backend_commit_duration.observe(took.as_secs_f64());
            m.disk
                .backend_commit_rebalance_duration
                .observe(parts.rebalance.as_secs_f64());
            m.disk
                .backend_commit_spill_duration
                .observe(parts.spill.as_secs_f64());
            m.disk
                .backend_commit_write_duration
                .observe(parts.write.as_secs_f64());
        });
    }

    fn defragmented(&self, took: Duration) {
        self.count(|m| m.disk.backend_defrag_duration.observe(took.as_secs_f64()));
    }

    fn fatal(&self, error: &backend::Error) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        // If nobody listens, the process is ending already.
        let _ = stop.send(Event::Fatal(StartError::Fatal {
            message: "failed to commit tx",
            error: error.to_string(),
        }));
    }
}

impl wal::Observer for DiskObserver {
    fn wal_synced(&self, took: Duration) {
        self.count(|m| m.disk.wal_fsync_duration.observe(took.as_secs_f64()));
    }

    fn wal_written(&self, bytes: u64, took: Duration) {
        self.count(|m| {
            m.disk.wal_write_duration.observe(took.as_secs_f64());
            m.disk.wal_write_bytes.add(bytes as i64);
        });
    }

    fn snap_saved(&self, times: wal::SnapTimes) {
        self.count(|m| m.disk.snap_fsync_duration.observe(times.sync.as_secs_f64()));
    }

    fn snap_db_saved(&self, sync: Duration, total: Duration) {
        self.count(|m| {
            m.disk.snap_db_fsync_duration.observe(sync.as_secs_f64());
            m.disk.snap_db_save_duration.observe(total.as_secs_f64());
        });
    }
}
