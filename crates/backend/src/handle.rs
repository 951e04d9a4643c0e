//! The shared side of a backend.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::layer::Change;
use crate::position::Position;
use crate::shared::Shared;
use crate::view::Frozen;
use crate::{Bucket, Error, SnapshotImage, Ticket, View, defrag, hash, replace, text, writer};

/// Gets key and value; breaking ends the walk.
type Visitor<'f> = &'f mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// One change that belongs to no raft entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store a value.
    Put {
        /// Where.
        bucket: Bucket,
        /// Under which key.
        key: Bytes,
        /// What.
        value: Bytes,
    },
    /// Delete a key; nothing happens if it is not there.
    Delete {
        /// Where.
        bucket: Bucket,
        /// Which key.
        key: Bytes,
    },
}

/// Excludes a rewrite of the file while it lives; see [`Backend::maintenance`].
#[derive(Debug)]
pub struct Maintenance<'b> {
    _guard: MutexGuard<'b, ()>,
}

/// Reads and maintains the database from any thread.
///
/// Dropping the last handle commits what waits and stops the commit thread, like [`Backend::close`].
#[derive(Debug)]
pub struct Backend {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Backend {
    pub(crate) fn new(shared: Arc<Shared>, thread: Mutex<Option<JoinHandle<()>>>) -> Self {
        Self { shared, thread }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The newest value of a key, including what the running entry wrote.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let layers = self.shared.layers();
        if let Some(change) = layers.get(bucket, key) {
            return Ok(change.clone());
        }
        let frozen = layers.frozen().clone();
        drop(layers);
        frozen.get(bucket, key)
    }

    /// The newest values of many keys of one bucket, in their order. The same as [`Backend::get`] for each, but all
    /// from one moment.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        bucket: Bucket,
        keys: &[K],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let layers = self.shared.layers();
        let above: Vec<Option<Change>> = keys
            .iter()
            .map(|key| layers.get(bucket, key.as_ref()).cloned())
            .collect();
        let frozen = layers.frozen().clone();
        drop(layers);
        let resolve = |(key, change): (&K, Option<Change>)| match change {
            Some(change) => Ok(change),
            None => frozen.get(bucket, key.as_ref()),
        };
        keys.iter().zip(above).map(resolve).collect()
    }

    /// Calls `visit` for each key from `start` on and before `end` (`None`: to the end of the bucket) in key order,
    /// until it breaks. Includes what the running entry wrote.
    pub fn for_each(
        &self,
        bucket: Bucket,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visitor<'_>,
    ) -> Result<(), Error> {
        let mut layers = self.shared.layers_mut();
        layers.seal(false);
        let running = layers.running_range(bucket, start, end);
        let view = View::new(layers.frozen().clone(), Some(running));
        drop(layers);
        view.for_each(bucket, start, end, &mut |key, value| visit(key, value))
    }

    /// The pairs [`Backend::for_each`] would visit, at most `limit` of them (0: all).
    pub fn range(
        &self,
        bucket: Bucket,
        start: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut pairs = Vec::new();
        self.for_each(bucket, start, end, &mut |key, value| {
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if pairs.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(pairs)
    }

    /// Pins the state after the last ended entry.
    pub fn view(&self) -> View {
        let mut layers = self.shared.layers_mut();
        layers.seal(false);
        View::new(layers.frozen().clone(), None)
    }

    /// Pins the present state, with what the running entry has written to one bucket.
    pub fn latest(&self, bucket: Bucket) -> View {
        let mut layers = self.shared.layers_mut();
        layers.seal(false);
        let running = layers.running_range(bucket, b"", None);
        View::new(layers.frozen().clone(), Some(running))
    }

    fn committed(&self) -> Arc<Frozen> {
        self.shared.layers().frozen().clone()
    }

    /// Writes changes that belong to no raft entry: deletions of compacted revisions, the storage version. They are
    /// committed soon; the ticket says when.
    ///
    /// # Panics
    /// On an empty key and on the keys that make up the position, like [`crate::Writer::put`].
    pub fn background(&self, ops: Vec<Op>) -> Ticket {
        let changes = ops.into_iter().map(|op| match op {
            Op::Put { bucket, key, value } => (bucket, writer::checked(bucket, &key), Some(value)),
            Op::Delete { bucket, key } => (bucket, writer::checked(bucket, &key), None),
        });
        let changes: Vec<_> = changes.collect();
        let mark = self.shared.layers_mut().background(changes.into_iter());
        self.shared.control.request(mark, mark);
        Ticket::new(self.shared.control.clone(), mark)
    }

    /// Starts a commit of everything up to the last ended entry.
    pub fn commit(&self) -> Ticket {
        let mark = self.shared.layers().mark();
        self.shared.control.request(mark, mark);
        Ticket::new(self.shared.control.clone(), mark)
    }

    /// Makes everything up to the last ended entry durable.
    pub fn flush(&self) -> Result<(), Error> {
        self.commit().wait()
    }

    /// The last ended entry, durable or not; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        self.shared.layers().position()
    }

    /// Size of the file's used part in bytes: what quota is measured against. As of the last commit.
    pub fn size(&self) -> u64 {
        self.shared.size()
    }

    /// The part of [`Backend::size`] that is not free pages.
    pub fn size_in_use(&self) -> u64 {
        self.shared.in_use()
    }

    /// Bytes of memory that changes not yet in the file take.
    pub fn pending_bytes(&self) -> usize {
        self.shared.layers().pending()
    }

    /// How many states of the file are pinned by readers.
    pub fn open_read_txs(&self) -> u64 {
        self.file_stats().open_readers
    }

    /// What the file engine counts.
    pub fn file_stats(&self) -> bbolt::Stats {
        self.shared.handle().stats()
    }

    /// Why nothing is written any more; `None` while all is well.
    pub fn failure(&self) -> Option<Error> {
        self.shared.control.failure()
    }

    /// Commits everything up to the last ended entry and pins that state as a file image.
    pub fn snapshot(&self) -> Result<SnapshotImage, Error> {
        self.flush()?;
        Ok(SnapshotImage::new(self.committed().base.clone()))
    }

    /// Keeps the file from being rewritten while the guard lives. A compaction holds it for each of its batches, so
    /// that a copy never sees half of one. Waits for a rewrite that runs.
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance {
            _guard: self.shared.maintenance(),
        }
    }

    /// Rewrites the file without its holes. Takes as long as copying takes; reads, writes and commits go on. Blocks
    /// the caller only. After an error the old file is used on, unless [`Backend::failure`] says otherwise.
    pub fn defrag(&self) -> Result<(), Error> {
        defrag::run(&self.shared)
    }

    /// [`Backend::defrag`] if at least `threshold` bytes of the file are free (`--bootstrap-defrag-threshold-megabytes`
    /// at start). Returns whether it was done.
    pub fn defrag_if(&self, threshold: u64) -> Result<bool, Error> {
        let (size, in_use) = (self.size(), self.size_in_use());
        if size.saturating_sub(in_use) < threshold {
            tracing::info!(
                "current-db-size-bytes" = size,
                "current-db-size" = text::human_bytes(size),
                "current-db-size-in-use-bytes" = in_use,
                "current-db-size-in-use" = text::human_bytes(in_use),
                "bootstrap-defrag-threshold-bytes" = threshold,
                "bootstrap-defrag-threshold" = text::human_bytes(threshold),
                "Skipping defragmentation"
            );
            return Ok(false);
        }
        self.defrag().map(|()| true)
    }

    /// Goes on with the content of the database file at `path`, which takes the name of the present one: the state
    /// that a leader has sent. All handles and the [`crate::Writer`] stay what they are; what was written and is not
    /// committed is given up. To be called by the thread that has the writer, between two entries. Returns the new
    /// position. On an error the old content is used on, unless [`Backend::failure`] says otherwise.
    pub fn replace(&self, path: &Path) -> Result<Option<Position>, Error> {
        replace::run(&self.shared, path)
    }

    /// The maintenance service's hash over all buckets, after making everything durable.
    pub fn hash(&self) -> Result<u32, Error> {
        self.flush()?;
        hash::hash_database(&self.committed().base, true)
    }

    /// Commits everything up to the last ended entry and stops the commit thread. Reads go on working, writes stay in
    /// memory.
    pub fn close(&self) -> Result<(), Error> {
        self.shared.control.shutdown();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            return Err(Error::Poisoned("the commit thread panicked".into()));
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
