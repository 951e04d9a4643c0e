//! The seam between the store and watching: one's events are the other's history.

use std::sync::Arc;

use api::RawKv;
use bytes::Bytes;
use watch::{History, HistoryChunk, HistoryError, Hub, Revision};

struct StoreHistory(Arc<mvcc::Store>);

/// The store as watchers read it.
pub(super) fn of(store: &Arc<mvcc::Store>) -> Arc<dyn History> {
    Arc::new(StoreHistory(Arc::clone(store)))
}

impl History for StoreHistory {
    fn events_since(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<HistoryChunk, HistoryError> {
        let batch = self.0.events_since(from, max_revisions, max_bytes).map_err(|error| {
            match error {
                mvcc::Error::Compacted => HistoryError::Compacted,
                other => HistoryError::Store(other.to_string()),
            }
        })?;
        let revisions = batch
            .transactions
            .into_iter()
            .map(|(revision, events)| Revision::new(revision, events))
            .collect();
        Ok(HistoryChunk { revisions, next: batch.next })
    }

    fn kv_at(&self, key: &Bytes, revision: i64) -> Option<RawKv> {
        self.0.kv_at(key, revision)
    }

    fn current_revision(&self) -> i64 {
        self.0.current_revision()
    }

    fn compact_revision(&self) -> i64 {
        self.0.compact_revision()
    }
}

struct HubSink(Arc<Hub>);

/// The hub as the store publishes to it.
pub(super) fn sink(hub: &Arc<Hub>) -> Arc<dyn mvcc::EventSink> {
    Arc::new(HubSink(Arc::clone(hub)))
}

impl mvcc::EventSink for HubSink {
    fn publish(&self, revision: i64, events: Arc<[mvcc::Event]>) {
        self.0.publish(revision, events);
    }

    fn compacted(&self, revision: i64) {
        self.0.compacted(revision);
    }
}
