//! Hashes that members compare to find out whether they hold the same.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backend::{Bucket, View};

use crate::span::Span;
use crate::{Error, Revision, Store};

/// The hash starts with the name of the bucket.
const SEED: &[u8] = b"key";
/// How many compaction hashes are remembered.
const REMEMBERED: usize = 10;
/// Entries looked at per hold of the index lock.
const STEP: usize = 256;

/// The answer of [`Store::hash_kv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over all records up to `hash_revision` that a compaction at `compact_revision` leaves.
    pub hash: u32,
    /// The compacted revision that was taken into account; −1 if there was none.
    pub compact_revision: i64,
    /// Up to which revision the hash goes.
    pub hash_revision: i64,
    /// The store's revision.
    pub current_revision: i64,
}

/// The hash over what a compaction found, before it deleted anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionHash {
    /// The hash.
    pub hash: u32,
    /// The revision that was compacted.
    pub revision: i64,
    /// The compaction before.
    pub compact_revision: i64,
}

/// The newest compaction hashes.
#[derive(Debug, Default)]
pub(crate) struct Hashes(Mutex<VecDeque<CompactionHash>>);

impl Hashes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<CompactionHash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, hash: CompactionHash) {
        tracing::info!(
            hash = hash.hash,
            revision = hash.revision,
            "compact-revision" = hash.compact_revision,
            "storing new hash"
        );
        let mut hashes = self.lock();
        hashes.push_back(hash);
        hashes.make_contiguous().sort_by_key(|hash| hash.revision);
        while hashes.len() > REMEMBERED {
            hashes.pop_front();
        }
    }

    pub fn all(&self) -> Vec<CompactionHash> {
        self.lock().iter().copied().collect()
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn at(&self, revision: i64) -> Option<CompactionHash> {
        self.lock()
            .iter()
            .find(|hash| hash.revision == revision)
            .copied()
    }
}

/// The revisions of a state that a compaction keeps, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    pub revisions: Vec<Revision>,
    /// Whether anything is kept at all; `revisions` may be cut to those that matter.
    pub any: bool,
}

impl Keep {
    /// From revisions in any order.
    pub fn new(mut revisions: Vec<Revision>, any: bool) -> Self {
        revisions.sort_unstable();
        revisions.dedup();
        Self { revisions, any }
    }
}

/// Looks up revisions that are asked for in ascending order.
pub(crate) struct Cursor<'k> {
    rest: &'k [Revision],
}

impl<'k> Cursor<'k> {
    pub fn new(keep: &'k Keep) -> Self {
        Self {
            rest: &keep.revisions,
        }
    }

    pub fn contains(&mut self, revision: Revision) -> bool {
        let skip = self
            .rest
            .iter()
            .take_while(|kept| **kept < revision)
            .count();
        self.rest = &self.rest[skip..];
        self.rest.first() == Some(&revision)
    }
}

/// Hashes the records of bucket `key`, fed in order.
pub(crate) struct Hasher<'k> {
    crc: u32,
    compacted: i64,
    until: i64,
    any: bool,
    keep: Cursor<'k>,
}

impl<'k> Hasher<'k> {
    /// `compacted`: what lies at or before it counts only if `keep` has it, and no deletion made exactly there does.
    /// Nothing after `until` counts.
    pub fn new(compacted: i64, until: i64, keep: &'k Keep) -> Self {
        Self {
            crc: crc32c::crc32c(SEED),
            compacted,
            until,
            any: keep.any,
            keep: Cursor::new(keep),
        }
    }

    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let (revision, tombstone) = Revision::parse(key)?;
        if revision.main > self.until {
            return Ok(());
        }
        if revision.main <= self.compacted && self.any && !self.keep.contains(revision) {
            return Ok(());
        }
        if revision.main == self.compacted && tombstone {
            return Ok(());
        }
        self.crc = crc32c::crc32c_append(self.crc, key);
        self.crc = crc32c::crc32c_append(self.crc, value);
        Ok(())
    }

    pub fn finish(&self) -> u32 {
        self.crc
    }
}

impl Store {
    /// The hash of the state at `revision` (0: the present one), equal on all members that hold the same. Takes as
    /// long as reading the whole bucket takes. Before the first revision there is nothing: a negative revision
    /// gives the hash of that, as in etcd.
    ///
    /// Fails with [`Error::Compacted`] or [`Error::FutureRev`] if the revision cannot be read.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let stored = if revision > 0 {
            self.hashes.at(revision)
        } else {
            None
        };
        let state = self.read();
        if let Some(CompactionHash {
            hash,
            revision,
            compact_revision,
        }) = stored
        {
            let current_revision = state.current;
            return Ok(HashKv {
                hash,
                compact_revision,
                hash_revision: revision,
                current_revision,
            });
        }
        if revision < 0 {
            return Ok(HashKv {
                hash: crc32c::crc32c(SEED),
                compact_revision: state.compacted,
                hash_revision: revision,
                current_revision: state.current,
            });
        }
        let at = state.resolve(revision)?;
        let (compacted, current, epoch) = (state.compacted, state.current, state.epoch);
        let backend = state.backend.clone();
        // Until the records are pinned, no later compaction may begin to delete them; until the keep set is known,
        // none beyond `at` may change the index.
        let records = self.pins.pin(compacted.min(at));
        let index = self.pins.pin(at);
        drop(state);
        let view = backend.latest(Bucket::Key);
        drop(records);
        let keep = self.keep_at(at, compacted, epoch)?;
        drop(index);
        let hash = hash_records(&view, compacted, at, &keep)?;
        Ok(HashKv {
            hash,
            compact_revision: compacted,
            hash_revision: at,
            current_revision: current,
        })
    }

    /// What a compaction at `at` would keep for the purpose of the hash; of that, what lies at or before `compacted`.
    fn keep_at(&self, at: i64, compacted: i64, epoch: u64) -> Result<Keep, Error> {
        let mut keep = Vec::new();
        let mut any = false;
        if compacted > 0 {
            self.each_entry(epoch, &mut |entry| {
                if let Some(kept) = entry.kept_for_hash(at) {
                    any = true;
                    keep.extend(Some(kept).filter(|kept| kept.main <= compacted));
                }
            })?;
        }
        Ok(Keep::new(keep, any))
    }

    /// Visits all entries of the index in steps. Fails if the content is replaced meanwhile.
    fn each_entry(
        &self,
        epoch: u64,
        visit: &mut dyn FnMut(&crate::index::Entry),
    ) -> Result<(), Error> {
        let mut next = Some(Vec::new());
        while let Some(start) = next.take() {
            let mut budget = STEP;
            let state = self.read();
            if state.epoch != epoch {
                return Err(Error::Closed);
            }
            let span = Span {
                start: &start,
                end: None,
            };
            let _ = state.tree.visit(span, &mut |entry| {
                if budget == 0 {
                    next = Some(entry.key().to_vec());
                    return ControlFlow::Break(());
                }
                budget -= 1;
                visit(entry);
                ControlFlow::Continue(())
            });
        }
        Ok(())
    }
}

fn hash_records(view: &View, compacted: i64, until: i64, keep: &Keep) -> Result<u32, Error> {
    let mut hasher = Hasher::new(compacted, until, keep);
    let mut result = Ok(());
    view.for_each(Bucket::Key, b"", None, &mut |key, value| {
        result = hasher.add(key, value);
        if result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    result.map(|()| hasher.finish())
}
