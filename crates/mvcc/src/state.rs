//! What the index lock protects.

use std::sync::Arc;

use api::RawKv;
use backend::Backend;

use crate::index::Tree;
use crate::{Error, Revision};

/// What a cached value costs beside its bytes: the shared allocation's head.
const OVERHEAD: usize = 64;
/// Leaves the cache's hand passes per call; bounds how long the lock is held.
const HAND_LEAVES: usize = 8;

/// The index and what must be seen together with it.
#[derive(Debug)]
pub(crate) struct State {
    pub tree: Tree,
    /// The revision readers see. Entries of the index may be newer while a large transaction is being published.
    pub current: i64,
    /// Below this nothing can be read; −1 before the first compaction.
    pub compacted: i64,
    /// Where the values are.
    pub backend: Arc<Backend>,
    /// How often the whole content was replaced. A read in several steps must not go on in other content.
    pub epoch: u64,
    pub cache: Cache,
    /// Changes known to the index, tombstones included.
    pub revisions: usize,
}

/// Accounts for the values held by entries.
#[derive(Debug)]
pub(crate) struct Cache {
    pub budget: usize,
    pub bytes: usize,
    /// Where the clock's hand stands.
    hand: Box<[u8]>,
}

fn cost(value: &RawKv) -> usize {
    value.encoded().len() + OVERHEAD
}

impl Cache {
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            bytes: 0,
            hand: Box::default(),
        }
    }

    pub fn added(&mut self, value: &RawKv) {
        self.bytes += cost(value);
    }

    pub fn removed(&mut self, value: Option<&RawKv>) {
        self.bytes -= value.map_or(0, cost);
    }

    /// Whether a value of this size may be held at all.
    pub fn admits(&self, value: &RawKv) -> bool {
        cost(value) <= self.budget / 4
    }
}

impl State {
    pub fn new(
        tree: Tree,
        current: i64,
        compacted: i64,
        backend: Arc<Backend>,
        budget: usize,
    ) -> Self {
        Self {
            tree,
            current,
            compacted,
            backend,
            epoch: 0,
            cache: Cache::new(budget),
            revisions: 0,
        }
    }

    /// The revision a read is about, checked.
    pub fn resolve(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.current {
            return Err(Error::FutureRev);
        }
        let at = if revision <= 0 {
            self.current
        } else {
            revision
        };
        if at < self.compacted {
            Err(Error::Compacted)
        } else {
            Ok(at)
        }
    }

    /// Offers a value read from the backend to the cache; it is taken if it is still the newest.
    pub fn admit(&mut self, key: &[u8], modified: Revision, value: &RawKv) {
        if !self.cache.admits(value) {
            return;
        }
        let Some(entry) = self.tree.get_mut(key) else {
            return;
        };
        if entry.is_live() && entry.head() == modified {
            let old = entry.set_cached(Some(value.clone()));
            self.cache.removed(old.as_ref());
            self.cache.added(value);
        }
    }

    /// Takes values that nobody wanted lately out of the cache until it is within its budget, or for a bounded
    /// number of steps.
    pub fn shrink_cache(&mut self) {
        for _ in 0..HAND_LEAVES {
            if self.cache.bytes <= self.cache.budget {
                return;
            }
            let cache = &mut self.cache;
            let hand = std::mem::take(&mut cache.hand);
            let next = self.tree.sweep_leaf(&hand, &mut |entry| {
                cache.removed(entry.age().as_ref());
                true
            });
            cache.hand = next.unwrap_or_default();
        }
    }
}
