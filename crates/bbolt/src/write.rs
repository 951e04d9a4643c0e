use std::sync::Arc;

use crate::bucket::Bucket;
use crate::changes::{BucketId, Changes, ROOT_BUCKET};
use crate::commit::{self, CommitStats};
use crate::cursor::Cursor;
use crate::db::{Shared, Writer};
use crate::error::Error;
use crate::format::Meta;

/// The one open write transaction. It sees its own changes; nobody else does before [`WriteTx::commit`].
/// Dropping it rolls it back.
#[derive(Debug)]
pub struct WriteTx {
    shared: Arc<Shared>,
    /// Present until the end, when it goes back to the next writer.
    writer: Option<Box<Writer>>,
    base: Meta,
    changes: Changes,
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.shared.return_writer(writer);
        }
    }
}

impl WriteTx {
    pub(crate) fn begin(shared: &Arc<Shared>) -> Result<WriteTx, Error> {
        let writer = shared.take_writer()?;
        let (base, map) = shared.committed();
        let changes = Changes::new(map, &base, shared.options.fill_percent);
        Ok(WriteTx {
            shared: shared.clone(),
            writer: Some(writer),
            base,
            changes,
        })
    }

    /// Number that this transaction's state will have.
    pub fn id(&self) -> u64 {
        self.base.txid + 1
    }

    /// A bucket of the first level, for changing it.
    pub fn bucket(&mut self, name: &[u8]) -> Result<Option<BucketMut<'_>>, Error> {
        BucketMut::root(&mut self.changes).into_bucket(name)
    }

    /// A bucket of the first level, for reading it with all changes made so far.
    pub fn view(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, Error> {
        self.changes.view(ROOT_BUCKET)?.bucket(name)
    }

    /// The names of the buckets of the first level, ascending.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.changes
            .view(ROOT_BUCKET)?
            .buckets()
            .map(|name| name.map(<[u8]>::to_vec))
            .collect()
    }

    /// Creates a bucket of the first level; an error if it exists.
    pub fn create_bucket(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        BucketMut::root(&mut self.changes).into_created(name)
    }

    /// Creates a bucket of the first level unless it exists.
    pub fn create_bucket_if_missing(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        BucketMut::root(&mut self.changes).into_created_if_missing(name)
    }

    /// Removes a bucket of the first level with all in it; an error if it is missing.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.changes.delete_bucket(ROOT_BUCKET, name)
    }

    /// Makes the changes durable and visible. A transaction without changes writes nothing and keeps the
    /// number of the last one.
    ///
    /// After an error nothing of the transaction is visible to new readers. If a write or sync failed, it
    /// is not known what the file has: every later [`crate::Db::write`] fails with [`Error::Poisoned`].
    pub fn commit(mut self) -> Result<CommitStats, Error> {
        let Some(writer) = self.writer.as_mut() else {
            return Err(Error::Closed);
        };
        commit::commit(&self.shared, writer, &self.base, &mut self.changes)
    }

    /// Forgets all changes.
    pub fn rollback(self) {
        drop(self);
    }
}

/// A bucket of a write transaction.
#[derive(Debug)]
pub struct BucketMut<'a> {
    changes: &'a mut Changes,
    id: BucketId,
}

impl<'a> BucketMut<'a> {
    fn root(changes: &'a mut Changes) -> Self {
        Self {
            changes,
            id: ROOT_BUCKET,
        }
    }

    fn into_bucket(self, name: &[u8]) -> Result<Option<BucketMut<'a>>, Error> {
        let id = self.changes.bucket(self.id, name)?;
        Ok(id.map(|id| BucketMut {
            changes: self.changes,
            id,
        }))
    }

    fn into_created(self, name: &[u8]) -> Result<BucketMut<'a>, Error> {
        let id = self.changes.create_bucket(self.id, name)?;
        Ok(BucketMut {
            changes: self.changes,
            id,
        })
    }

    fn into_created_if_missing(self, name: &[u8]) -> Result<BucketMut<'a>, Error> {
        match self.changes.bucket(self.id, name)? {
            Some(id) => Ok(BucketMut {
                changes: self.changes,
                id,
            }),
            None => self.into_created(name),
        }
    }

    fn reborrow(&mut self) -> BucketMut<'_> {
        BucketMut {
            changes: self.changes,
            id: self.id,
        }
    }

    /// Sets the value of a key. Keys that come in ascending order are fastest. An error if the key is
    /// empty, the key or the value is too long, or the key is the name of a nested bucket.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.changes.put(self.id, key, value)
    }

    /// Removes a key; says whether it was there. An error if it is the name of a nested bucket.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Error> {
        self.changes.delete(self.id, key)
    }

    /// The value of a key; none for a missing key or a nested bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        self.changes.view(self.id)?.get(key)
    }

    /// This bucket for reading, with all changes made so far.
    pub fn view(&self) -> Result<Bucket<'_>, Error> {
        self.changes.view(self.id)
    }

    /// A cursor over this bucket, with all changes made so far.
    pub fn cursor(&self) -> Result<Cursor<'_>, Error> {
        Ok(self.changes.view(self.id)?.cursor())
    }

    /// A nested bucket.
    pub fn bucket(&mut self, name: &[u8]) -> Result<Option<BucketMut<'_>>, Error> {
        self.reborrow().into_bucket(name)
    }

    /// Creates a nested bucket; an error if it exists.
    pub fn create_bucket(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        self.reborrow().into_created(name)
    }

    /// Creates a nested bucket unless it exists.
    pub fn create_bucket_if_missing(&mut self, name: &[u8]) -> Result<BucketMut<'_>, Error> {
        self.reborrow().into_created_if_missing(name)
    }

    /// Removes a nested bucket with all in it; an error if it is missing.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.changes.delete_bucket(self.id, name)
    }

    /// The number kept with the bucket.
    pub fn sequence(&self) -> u64 {
        self.changes.buckets[self.id].sequence
    }

    /// Sets the number kept with the bucket.
    pub fn set_sequence(&mut self, sequence: u64) {
        let state = &mut self.changes.buckets[self.id];
        state.sequence = sequence;
        state.dirty = true;
    }

    /// How full (0.1 to 1.0) pages of this bucket are made when one is split in this transaction. Use 0.9
    /// when keys are appended in order.
    pub fn set_fill_percent(&mut self, fill_percent: f64) {
        self.changes.buckets[self.id].fill_percent = fill_percent;
    }
}
