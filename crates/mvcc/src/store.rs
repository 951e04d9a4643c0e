//! The read side.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api::RawKv;
use backend::Backend;

use crate::compaction::Compaction;
use crate::hash::{CompactionHash, Hashes};
use crate::pins::Pins;
use crate::state::State;
use crate::{Error, EventSink};

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of memory for values of living keys; what does not fit is read from the backend when wanted.
    pub value_cache_bytes: usize,
    /// Records a compaction deletes per batch (`--compaction-batch-limit`).
    pub compaction_batch_limit: usize,
    /// Pause between a compaction's batches (`--compaction-sleep-interval`).
    pub compaction_sleep: std::time::Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            value_cache_bytes: 256 << 20,
            compaction_batch_limit: 1000,
            compaction_sleep: std::time::Duration::from_millis(10),
        }
    }
}

/// Numbers about a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that live now.
    pub keys: usize,
    /// Bytes of values held in memory.
    pub cached_bytes: usize,
    /// The present revision.
    pub revision: i64,
    /// The compacted revision; −1 before the first compaction.
    pub compacted: i64,
}

/// All revisions of all keys since the last compaction; readable from any thread.
///
/// The index lock is held for bounded steps only and never during I/O. A read that needs more than one step, or
/// values that are not in memory, pins its revision, so that it sees one state from beginning to end.
pub struct Store {
    pub(crate) config: Config,
    state: RwLock<State>,
    pub(crate) pins: Pins,
    pub(crate) hashes: Hashes,
    pub(crate) compaction: Compaction,
    sink: OnceLock<Arc<dyn EventSink>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(config: Config, state: State) -> Self {
        Self {
            config,
            state: RwLock::new(state),
            pins: Pins::default(),
            hashes: Hashes::default(),
            compaction: Compaction::default(),
            sink: OnceLock::new(),
        }
    }

    /// A panicking reader changes nothing, and the writer's steps do not panic half-way, so a poisoned lock still
    /// protects a whole state.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The write lock if nobody has any; for things that can as well be left.
    pub(crate) fn try_write(&self) -> Option<RwLockWriteGuard<'_, State>> {
        self.state.try_write().ok()
    }

    /// Says who gets the events from now on. Only the first call has an effect.
    pub fn set_sink(&self, sink: Arc<dyn EventSink>) {
        let _ = self.sink.set(sink);
    }

    pub(crate) fn sink(&self) -> Option<&Arc<dyn EventSink>> {
        self.sink.get()
    }

    /// The backend whose content this is.
    pub fn backend(&self) -> Arc<Backend> {
        self.read().backend.clone()
    }

    /// The revision of the newest transaction readers can see; 1 in an empty store.
    pub fn current_revision(&self) -> i64 {
        self.read().current
    }

    /// Below this revision nothing can be read; −1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.read().compacted
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let state = self.read();
        Stats {
            keys: state.tree.live(),
            cached_bytes: state.cache.bytes,
            revision: state.current,
            compacted: state.compacted,
        }
    }

    /// Hashes of the last compactions, oldest first; at most ten.
    pub fn compaction_hashes(&self) -> Vec<CompactionHash> {
        self.hashes.all()
    }

    /// The pair a key had after revision `revision` (0: the present one). `None` if it did not exist then or the
    /// revision cannot be read any more.
    pub fn kv_at(&self, key: &[u8], revision: i64) -> Option<RawKv> {
        let options = crate::RangeOptions {
            revision,
            ..crate::RangeOptions::default()
        };
        match self.range(key, b"", &options) {
            Ok(mut result) => result.kvs.pop(),
            Err(Error::Compacted | Error::FutureRev) => None,
            Err(error) => {
                tracing::error!(error = %error, revision, "failed to read an earlier pair");
                None
            }
        }
    }

    /// Blocks until the compaction at `revision` has deleted what it had to, or its turn will never come.
    pub fn wait_compaction(&self, revision: i64) -> Result<(), Error> {
        self.compaction.wait(revision)
    }
}
