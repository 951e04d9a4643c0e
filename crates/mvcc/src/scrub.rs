//! One compaction: forgetting old changes in the index and deleting their records.

use std::ops::ControlFlow;
use std::time::Duration;

use backend::{Backend, Bucket, Op};
use bytes::Bytes;

use crate::compaction::{FINISHED, Job};
use crate::hash::{CompactionHash, Cursor, Hasher, Keep};
use crate::revision::REVISION_LEN;
use crate::{Error, Revision, Store};

/// Leaves of the index gone through per hold of its lock.
const LEAVES: usize = 4;
/// How often the mark of the compaction is asked for.
const POLL: Duration = Duration::from_millis(2);
/// Records looked at per batch, in multiples of the records deleted.
const LOOKED_AT: usize = 10;

/// Does a compaction. `false` if it was interrupted; it is then resumed at the next start.
///
/// The order makes it safe to stop anywhere: the mark of the scheduled compaction is durable before the first record
/// goes, records needed at the compacted revision or later never go, and the mark of the finished one is written
/// together with the last deletions.
pub(crate) fn run(store: &Store, job: &Job) -> Result<bool, Error> {
    let start = now();
    if let Some(ticket) = &job.ticket {
        // Not simply a wait: if the member stops before the entry has ended, this must stop, too.
        while !ticket.is_done() {
            if !store.compaction.pause(POLL) {
                return Ok(false);
            }
        }
        ticket.wait()?;
    }
    store.pins.wait_below(job.revision);
    tracing::debug!(revision = job.revision, "compact tree index");
    let keep = compact_index(store, job.revision);
    let backend = store.backend();
    let mut records = Records {
        store,
        backend: &backend,
        job,
        keep: Cursor::new(&keep),
        hasher: Hasher::new(job.previous, job.revision, &keep),
        next: vec![0; REVISION_LEN],
        deleted: 0,
    };
    while !records.batch()? {
        if !store.compaction.pause(store.config.compaction_sleep) {
            return Ok(false);
        }
    }
    let (hash, deleted) = (records.hasher.finish(), records.deleted);
    if job.keep_hash {
        let (revision, compact_revision) = (job.revision, job.previous);
        store.hashes.push(CompactionHash {
            hash,
            revision,
            compact_revision,
        });
    } else {
        tracing::info!("previous compaction was interrupted, skip storing compaction hash value");
    }
    tracing::info!(
        "compact-revision" = job.revision,
        took = ?start.elapsed(),
        "number-of-keys-compacted" = deleted,
        hash,
        "current-db-size-bytes" = backend.size(),
        "current-db-size" = backend::human_bytes(backend.size()),
        "current-db-size-in-use-bytes" = backend.size_in_use(),
        "current-db-size-in-use" = backend::human_bytes(backend.size_in_use()),
        "finished scheduled compaction"
    );
    Ok(true)
}

/// For the log line only; nothing depends on it.
#[allow(clippy::disallowed_methods)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Compacts all entries of the index, a few leaves at a time, and tells which changes at or before the revision stay.
fn compact_index(store: &Store, revision: i64) -> Keep {
    let mut kept = Vec::new();
    let mut next = Some(Box::default());
    while next.is_some() {
        let mut state = store.write();
        let state = &mut *state;
        for _ in 0..LEAVES {
            let Some(from) = next.take() else { break };
            let mut freed = 0;
            let cache = &mut state.cache;
            next = state.tree.sweep_leaf(&from, &mut |entry| {
                let before = entry.len();
                let (keep, any) = entry.compact(revision);
                kept.extend(keep);
                freed += before - if any { entry.len() } else { 0 };
                if !any {
                    cache.removed(entry.set_cached(None).as_ref());
                }
                any
            });
            state.revisions = state.revisions.saturating_sub(freed);
        }
    }
    let any = !kept.is_empty();
    Keep::new(kept, any)
}

/// The pass over the records.
struct Records<'a> {
    store: &'a Store,
    backend: &'a Backend,
    job: &'a Job,
    keep: Cursor<'a>,
    hasher: Hasher<'a>,
    /// Where the next batch starts.
    next: Vec<u8>,
    deleted: usize,
}

impl Records<'_> {
    /// Goes through some records; `true` after the last, when the deletions and the mark that says so are durable.
    fn batch(&mut self) -> Result<bool, Error> {
        let limit = self.store.config.compaction_batch_limit.max(1);
        let _no_rewrite = self.backend.maintenance();
        let mut ops = Vec::new();
        let complete = self.collect(limit, &mut ops)?;
        self.deleted += ops.len();
        if complete {
            let mark = Revision::new(self.job.revision, 0).key(false);
            ops.push(Op::Put {
                bucket: Bucket::Meta,
                key: Bytes::from_static(FINISHED),
                value: Bytes::copy_from_slice(mark.as_ref()),
            });
        }
        if !ops.is_empty() {
            self.backend.background(ops).wait()?;
        }
        Ok(complete)
    }

    fn collect(&mut self, limit: usize, ops: &mut Vec<Op>) -> Result<bool, Error> {
        let view = self.backend.view();
        let end = self.job.revision.saturating_add(1).to_be_bytes();
        let mut looked_at = 0;
        let mut complete = true;
        let mut result = Ok(());
        let start = std::mem::take(&mut self.next);
        view.for_each(Bucket::Key, &start, Some(&end), &mut |key, value| {
            if ops.len() >= limit || looked_at >= limit * LOOKED_AT {
                complete = false;
                self.next = key.to_vec();
                return ControlFlow::Break(());
            }
            looked_at += 1;
            result = self.look_at(key, value, ops);
            if result.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        result.map(|()| complete)
    }

    fn look_at(&mut self, key: &[u8], value: &[u8], ops: &mut Vec<Op>) -> Result<(), Error> {
        self.hasher.add(key, value)?;
        let (revision, _) = Revision::parse(key)?;
        if !self.keep.contains(revision) {
            ops.push(Op::Delete {
                bucket: Bucket::Key,
                key: Bytes::copy_from_slice(key),
            });
        }
        Ok(())
    }
}
