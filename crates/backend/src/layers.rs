//! The memory above the file: running entry, open batch, sealed batches.

use std::sync::Arc;

use crate::Bucket;
use crate::layer::{Change, Key, Layer};
use crate::position::Position;
use crate::view::Frozen;

/// Changes of one entry that are kept in a plain list before a tree pays off.
const SMALL: usize = 64;
/// Sealed batches below this many changes are merged when another one follows, so that frequent sealing does not
/// make a long list of layers. Also bounds how long the merge takes, as it runs under the lock.
const MERGE: usize = 256;

/// How much has happened: raft entries ended and background batches taken in. A state of the database is named by
/// the mark up to which it contains everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub entry: u64,
    pub background: u64,
}

impl Mark {
    /// Marks of successive batches grow in at least one part and shrink in none, so the sum orders them.
    fn total(self) -> u64 {
        self.entry + self.background
    }

    pub fn covers(self, other: Self) -> bool {
        self.entry >= other.entry && self.background >= other.background
    }

    pub fn max(self, other: Self) -> Self {
        Self {
            entry: self.entry.max(other.entry),
            background: self.background.max(other.background),
        }
    }
}

/// Changes that reach the file together. Immutable; ends at an entry boundary and then carries the position of that
/// entry, or holds background changes only.
#[derive(Debug)]
pub(crate) struct Batch {
    pub layer: Layer,
    pub mark: Mark,
}

/// Changes of the entry that is being applied. They are visible to lookups, but never sealed before the entry ends.
#[derive(Debug, Default)]
struct Running {
    small: Vec<(Bucket, Key, Change)>,
    layer: Layer,
}

impl Running {
    fn push(&mut self, bucket: Bucket, key: Key, change: Change) {
        self.small.push((bucket, key, change));
        if self.small.len() > SMALL {
            self.spill();
        }
    }

    fn spill(&mut self) {
        for (bucket, key, change) in self.small.drain(..) {
            self.layer.insert(bucket, key, change);
        }
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Change> {
        let recent = self
            .small
            .iter()
            .rev()
            .find(|(b, k, _)| *b == bucket && k[..] == *key);
        recent
            .map(|(_, _, change)| change)
            .or_else(|| self.layer.get(bucket, key))
    }
}

/// What end of an entry or sealing asks the caller to do after it has let go of the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    /// The batch limit was reached: commit now.
    pub full: bool,
    /// Bytes that wait for the file.
    pub pending: usize,
    /// Everything up to here has happened.
    pub mark: Mark,
    /// Whether there is anything but a moved position to commit.
    pub changes: bool,
}

#[derive(Debug)]
pub(crate) struct Layers {
    running: Running,
    open: Layer,
    position: Option<Position>,
    /// All entries ended and all background batches taken in.
    mark: Mark,
    /// The same at the last sealing.
    sealed: Mark,
    /// Batches up to here are being written and must stay as they are.
    taken: Mark,
    frozen: Arc<Frozen>,
    frozen_bytes: usize,
    batch_limit: usize,
}

impl Layers {
    pub fn new(base: bbolt::ReadTx, position: Option<Position>, batch_limit: usize) -> Self {
        Self {
            running: Running::default(),
            open: Layer::default(),
            position,
            mark: Mark::default(),
            sealed: Mark::default(),
            taken: Mark::default(),
            frozen: Arc::new(Frozen {
                batches: Vec::new(),
                base,
                position,
            }),
            frozen_bytes: 0,
            batch_limit: batch_limit.max(1),
        }
    }

    pub fn position(&self) -> Option<Position> {
        self.position
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    pub fn frozen(&self) -> &Arc<Frozen> {
        &self.frozen
    }

    /// Bytes that wait for the file.
    pub fn pending(&self) -> usize {
        self.frozen_bytes + self.open.bytes() + self.running.layer.bytes()
    }

    pub fn push(&mut self, bucket: Bucket, key: Key, change: Change) {
        self.running.push(bucket, key, change);
    }

    /// Whether an entry has changes and has not ended.
    pub fn is_running(&self) -> bool {
        !self.running.small.is_empty() || !self.running.layer.is_empty()
    }

    /// Newest change of the layers that are not frozen.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Change> {
        self.running
            .get(bucket, key)
            .or_else(|| self.open.get(bucket, key))
    }

    /// The running entry's changes in a range, as a layer of their own.
    pub fn running_range(&self, bucket: Bucket, start: &[u8], end: Option<&[u8]>) -> Layer {
        let mut copy = Layer::default();
        for (key, change) in self.running.layer.range(bucket, start, end) {
            copy.insert(bucket, Key::from_slice(key), change.clone());
        }
        for (b, key, change) in &self.running.small {
            if *b == bucket && key[..] >= *start && end.is_none_or(|end| key[..] < *end) {
                copy.insert(bucket, key.clone(), change.clone());
            }
        }
        copy
    }

    /// The running entry is complete: its changes move to the open batch and take the position along.
    pub fn end_entry(&mut self, position: Position) -> After {
        let huge = !self.running.layer.is_empty();
        if huge {
            // What earlier entries left is sealed with their position, before this one's is taken over.
            self.seal(false);
        }
        if self.position.is_none_or(|old| position.index > old.index) {
            self.position = Some(position);
        }
        self.mark.entry += 1;
        if huge {
            // Moving a huge entry change by change would keep readers out for long.
            self.running.spill();
            self.open = std::mem::take(&mut self.running.layer);
        } else {
            for (bucket, key, change) in self.running.small.drain(..) {
                self.open.insert(bucket, key, change);
            }
        }
        let full = self.open.ops() >= self.batch_limit;
        if full {
            self.seal(false);
        }
        self.after(full)
    }

    fn after(&self, full: bool) -> After {
        let changes = !self.frozen.batches.is_empty() || !self.open.is_empty();
        After {
            full,
            pending: self.pending(),
            mark: self.mark,
            changes,
        }
    }

    /// Makes the open batch immutable. With `position_too` it is also made when it has no changes but entries have
    /// ended, so that the position gets to the file.
    pub fn seal(&mut self, position_too: bool) -> After {
        let moved = self.mark.entry != self.sealed.entry;
        if !self.open.is_empty() || (position_too && moved) {
            let mut layer = std::mem::take(&mut self.open);
            self.stamp(&mut layer);
            self.freeze(Batch {
                layer,
                mark: self.mark,
            });
        }
        self.after(false)
    }

    fn stamp(&self, layer: &mut Layer) {
        for (key, value) in self.position.into_iter().flat_map(Position::records) {
            layer.insert(Bucket::Meta, Key::from_slice(key), Some(value));
        }
    }

    /// Takes in changes that belong to no entry, on top of everything so far. The position goes with it, or a mark
    /// that counts an entry could be durable before its position.
    pub fn background(&mut self, ops: impl Iterator<Item = (Bucket, Key, Change)>) -> Mark {
        self.seal(true);
        let mut layer = Layer::default();
        for (bucket, key, change) in ops {
            layer.insert(bucket, key, change);
        }
        self.mark.background += 1;
        self.freeze(Batch {
            layer,
            mark: self.mark,
        });
        self.mark
    }

    fn freeze(&mut self, batch: Batch) {
        self.frozen_bytes += batch.layer.bytes();
        self.sealed = batch.mark;
        let mut batches = self.frozen.batches.clone();
        match batches.last_mut() {
            Some(last) if self.mergeable(last, &batch) => {
                let mut layer = last.layer.clone();
                layer.absorb(batch.layer);
                *last = Arc::new(Batch {
                    layer,
                    mark: batch.mark,
                });
            }
            _ => batches.push(Arc::new(batch)),
        }
        let base = self.frozen.base.clone();
        self.frozen = Arc::new(Frozen {
            batches,
            base,
            position: self.position,
        });
    }

    fn mergeable(&self, last: &Batch, next: &Batch) -> bool {
        last.mark.total() > self.taken.total() && last.layer.ops() + next.layer.ops() <= MERGE
    }

    /// Seals and hands out everything that waits for the file. The batches handed out stay visible and unchanged
    /// until [`Layers::committed`].
    pub fn take(&mut self, position_too: bool) -> (Arc<Frozen>, Mark) {
        self.seal(position_too);
        self.taken = self.sealed.max(self.taken);
        (self.frozen.clone(), self.taken)
    }

    /// Everything up to `mark` is in `base` now. Returns what was replaced, to be dropped outside of the lock.
    pub fn committed(&mut self, mark: Mark, base: bbolt::ReadTx) -> Arc<Frozen> {
        let batches: Vec<_> = self
            .frozen
            .batches
            .iter()
            .filter(|batch| !mark.covers(batch.mark))
            .cloned()
            .collect();
        self.frozen_bytes = batches.iter().map(|batch| batch.layer.bytes()).sum();
        let next = Arc::new(Frozen {
            batches,
            base,
            position: self.frozen.position,
        });
        std::mem::replace(&mut self.frozen, next)
    }

    /// The same content lies in another file now.
    pub fn rebase(&mut self, base: bbolt::ReadTx) -> Arc<Frozen> {
        let next = Arc::new(Frozen {
            batches: self.frozen.batches.clone(),
            base,
            position: self.frozen.position,
        });
        std::mem::replace(&mut self.frozen, next)
    }

    /// Whether all sealed batches are in the file. Only the commit thread removes them, while it holds the file.
    pub fn nothing_waits(&self) -> bool {
        self.frozen.batches.is_empty()
    }

    /// Another file with other content is used from now on. What waited for the old one is given up; it counts as
    /// written up to the returned mark. Returns what was replaced, too, to be dropped outside of the lock.
    pub fn replace(
        &mut self,
        base: bbolt::ReadTx,
        position: Option<Position>,
    ) -> (Arc<Frozen>, Mark) {
        self.running = Running::default();
        self.open = Layer::default();
        self.position = position;
        self.sealed = self.mark;
        self.taken = self.mark;
        self.frozen_bytes = 0;
        let next = Arc::new(Frozen {
            batches: Vec::new(),
            base,
            position,
        });
        (std::mem::replace(&mut self.frozen, next), self.mark)
    }
}
