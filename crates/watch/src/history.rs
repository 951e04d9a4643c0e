//! What the store can tell about revisions that are no longer in the event log.

use std::sync::Arc;

use api::RawKv;
use bytes::Bytes;

use crate::log::Revision;

/// Failure of [`History::events_since`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The wanted revision is compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The store cannot be read.
    #[error("{0}")]
    Store(String),
}

/// A stretch of history.
#[derive(Debug, Clone, Default)]
pub struct HistoryChunk {
    /// Revisions with their events, in order, each complete.
    pub revisions: Vec<Revision>,
    /// The first revision that was not looked at.
    pub next: i64,
}

/// The store, as far as watching needs it. All calls may come from any thread.
pub trait History: Send + Sync {
    /// All events from revision `from` on, as they were: at most `max_revisions` revisions, and no
    /// more than about `max_bytes` bytes from the second on. Covers at least one revision unless
    /// `from` is in the future.
    fn events_since(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<HistoryChunk, HistoryError>;

    /// The state of a key at a revision; `None` if there was none or it is compacted.
    fn kv_at(&self, key: &Bytes, revision: i64) -> Option<RawKv>;

    /// The newest revision.
    fn current_revision(&self) -> i64;

    /// The revision of the last compaction; revisions below it are gone.
    fn compact_revision(&self) -> i64;
}

impl History for mvcc::Store {
    fn events_since(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<HistoryChunk, HistoryError> {
        match Self::events_since(self, from, max_revisions, max_bytes) {
            Ok(batch) => {
                let revision = |(revision, events): (i64, Arc<_>)| Revision::new(revision, events);
                let revisions = batch.transactions.into_iter().map(revision).collect();
                Ok(HistoryChunk {
                    revisions,
                    next: batch.next,
                })
            }
            Err(mvcc::Error::Compacted) => Err(HistoryError::Compacted),
            Err(error) => Err(HistoryError::Store(error.to_string())),
        }
    }

    fn kv_at(&self, key: &Bytes, revision: i64) -> Option<RawKv> {
        Self::kv_at(self, key, revision)
    }

    fn current_revision(&self) -> i64 {
        Self::current_revision(self)
    }

    fn compact_revision(&self) -> i64 {
        Self::compact_revision(self)
    }
}
